"""What every back end draws for a training step: as many spans, as long, as often as the configuration says."""

import numpy as np
import pytest

ROWS, FRAMES, FEATURES = 400, 74, 32
#: Of an utterance too short for all of its spans.
SHORT = 3
OFF = {"mask_time_prob": 0.0, "mask_feature_prob": 0.0, "layerdrop": 0.0}
#: A probability that leaves the number of spans to the least number of them.
RARE = 1e-9


def check_draws(draw):
    """``draw(fields, lengths)``: time mask (rows, FRAMES), feature mask (rows, FEATURES) and layers kept, or None.

    ``fields`` are those of the configuration, ``lengths`` the valid frames of each row.
    """
    full = np.full(ROWS, FRAMES)
    for kind, row, size in (("time", 0, FRAMES), ("feature", 1, FEATURES)):
        other = "feature" if kind == "time" else "time"

        def masks(lengths=full, *, kind=kind, row=row, other=other, **options):
            of_the_other = {f"mask_{other}_{name}": value for name, value in (("length", 11), ("min_masks", 5))}
            fields = {**OFF, **of_the_other, **{f"mask_{kind}_{name}": value for name, value in options.items()}}
            drawn = draw(fields, lengths)
            assert drawn[1 - row] is drawn[2] is None, "what is switched off is not drawn"
            return drawn[row]

        # Spans of one frame do not overlap, so their number is seen: prob * size, rounded up or down at random.
        counts = masks(prob=0.3, length=1, min_masks=0).sum(1)
        exact = 0.3 * size
        assert set(counts) == {int(exact), int(exact) + 1}
        part = exact - int(exact)
        assert counts.mean() == pytest.approx(exact, abs=5 * np.sqrt(part * (1 - part) / ROWS))
        assert set(masks(prob=RARE, length=1, min_masks=3).sum(1)) == {3}
        spans = masks(prob=RARE, length=7, min_masks=1)
        starts = spans.argmax(1)
        assert (spans == [(start <= np.arange(size)) & (np.arange(size) < start + 7) for start in starts]).all()
        assert (starts.min(), starts.max()) == (0, size - 7 - 1)
        assert np.abs(np.bincount(starts, minlength=size - 7) - ROWS / (size - 7)).max() < 6 * np.sqrt(
            ROWS / (size - 7)
        )

        if kind == "time":
            lengths = np.where(np.arange(ROWS) % 2, SHORT, FRAMES)
            counts = masks(lengths, prob=RARE, length=1, min_masks=5).sum(1)
            assert set(counts[::2]) == {5}
            assert set(counts[1::2]) == {SHORT - 1}, "as many as fit"


def check_layer_drop(draw, layers):
    """``draw`` as for ``check_draws``, of a model with this many layers."""
    kept = np.stack([draw({**OFF, "layerdrop": 0.3}, np.array([FRAMES]))[2] for _ in range(600 // layers)])
    assert kept.shape == (600 // layers, layers)
    assert kept.mean() == pytest.approx(0.7, abs=5 * np.sqrt(0.21 / kept.size))
    alike = (kept[:, 0] == kept[:, 1]).mean()
    assert alike == pytest.approx(0.58, abs=5 * np.sqrt(0.25 / len(kept))), "each layer for itself"
