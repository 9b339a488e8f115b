"""Random draws of training: the paper's statistics, and no surprise on short input."""

import numpy as np
import pytest
from training_draws import FEATURES, FRAMES, check_draws, check_layer_drop

from wav2vec2_core.masking import count_negatives, feature_mask, layer_keep, negative_indices, time_mask


def rng(seed=0):
    return np.random.default_rng(seed)


def runs(row):
    edges = np.flatnonzero(np.diff(np.concatenate([[0], row, [0]]).astype(int)))
    return edges[1::2] - edges[::2]


def test_masked_share_and_span_lengths_of_the_paper():
    """Paper section 4.2: 15 s, p 0.065, M 10 mask about 49 % of the frames in runs of 14.7 frames, median 10."""
    masks = time_mask([749] * 1500, 749, prob=0.65, length=10, min_masks=0, generator=rng())
    lengths = np.concatenate([runs(row) for row in masks])
    assert masks.mean() == pytest.approx(0.49, abs=0.005)
    assert lengths.mean() == pytest.approx(14.7, abs=0.2)
    assert np.median(lengths) == 10
    assert lengths.min() >= 10


def test_masks_stay_within_each_utterance():
    masks = time_mask([100, 37, 11, 10, 1, 0], 100, prob=0.9, length=10, min_masks=2, generator=rng())
    for row, valid in zip(masks, [100, 37, 11, 10, 1, 0], strict=True):
        assert not row[valid:].any()
    assert masks[1].sum() >= 11  # two spans at least, on different starts
    assert masks[2].sum() == 10  # one start fits
    assert not masks[3:].any()  # nothing fits, nothing raises


def test_min_masks():
    masks = time_mask([200] * 50, 200, prob=0.0, length=10, min_masks=2, generator=rng())
    assert (masks.sum(1) > 10).all()
    assert not time_mask([200] * 50, 200, prob=0.0, length=10, min_masks=0, generator=rng()).any()


def test_spans_follow_their_options():
    def draw(fields, lengths):
        def options(kind):
            return {name: fields[f"mask_{kind}_{name}"] for name in ("prob", "length", "min_masks")}

        time, feature = (fields[f"mask_{kind}_prob"] > 0 for kind in ("time", "feature"))
        return (
            time_mask(lengths, FRAMES, **options("time"), generator=generator) if time else None,
            feature_mask(len(lengths), FEATURES, **options("feature"), generator=generator) if feature else None,
            None,
        )

    generator = rng()
    check_draws(draw)
    check_layer_drop(lambda fields, lengths: (None, None, layer_keep(4, 0.3, generator)), 4)


def test_feature_mask():
    masks = feature_mask(400, 768, prob=0.25, length=64, min_masks=0, generator=rng())
    assert masks.shape == (400, 768)
    assert 0.15 < masks.mean() < 0.26


def test_draws_repeat_with_the_generator():
    first = time_mask([300], 300, prob=0.5, length=10, min_masks=0, generator=rng(7))
    np.testing.assert_array_equal(first, time_mask([300], 300, prob=0.5, length=10, min_masks=0, generator=rng(7)))
    assert (first != time_mask([300], 300, prob=0.5, length=10, min_masks=0, generator=rng(8))).any()


def test_negatives_are_other_masked_frames_of_the_same_utterance():
    mask = rng().random((3, 40)) < 0.4
    mask[2] = False
    mask[2, 5] = True
    negatives = negative_indices(mask, 50, rng(1))
    assert negatives.shape == (3, 40, 50)
    assert negatives.dtype == np.int64
    for row in range(2):
        masked = set(np.flatnonzero(mask[row]) + row * 40)
        for frame in np.flatnonzero(mask[row]):
            assert set(negatives[row, frame]) <= masked - {frame + row * 40}
        drawn = set(negatives[row][mask[row]].ravel())
        assert drawn == masked  # every other frame is drawn sooner or later
    assert (negatives[2, 5] == 2 * 40 + 5).all()  # alone: its own distractor, by contract
    assert (negatives[~mask] // 40 == np.repeat(np.arange(3), (~mask).sum(1))[:, None]).all()


def test_two_masked_frames_are_each_others_distractors():
    mask = np.zeros((1, 6), bool)
    mask[0, [1, 4]] = True
    negatives = negative_indices(mask, 3, rng())
    assert (negatives[0, [1, 4]] == [[4], [1]]).all()


def test_no_masked_frame_at_all():
    assert (negative_indices(np.zeros((1, 4), bool), 3, rng()) == 0).all()


def test_layer_keep():
    kept = np.mean([layer_keep(12, 0.25, rng(seed)).mean() for seed in range(300)])
    assert kept == pytest.approx(0.75, abs=0.02)
    assert layer_keep(12, 0.0, rng()).all()
    assert not layer_keep(12, 1.0, rng()).any()


def test_distractors_are_counted():
    mask = np.zeros((2, 7), bool)
    mask[0, 1:5] = mask[1, [2, 6]] = True
    for number, kind in ((9, np.uint8), (300, np.int32)):
        negatives = negative_indices(mask, number, np.random.default_rng(0))
        counts = count_negatives(negatives)
        assert counts.dtype == kind
        for row, frame, other in np.ndindex(2, 7, 7):
            assert counts[row, frame, other] == (negatives[row, frame] == 7 * row + other).sum()
