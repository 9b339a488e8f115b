"""What the losses of every back end must give in half precision: float64's numbers for the rounded inputs."""

import ml_dtypes
import numpy as np
import pytest

from conformance import reference_losses
from conformance.autodiff import Tensor
from conformance.tolerances import tolerance
from wav2vec2_core import masking

#: Significant bits of a number, the hidden one included.
BITS = {"float16": 11, "bfloat16": 8}


def check_half_precision(losses, tensor, array, dtype):
    """Losses are float32, and as exact as from float32.

    ``tensor(array)``: the framework's, in the array's type; ``array(tensor)``: float64.
    """
    generator = np.random.default_rng(0)
    half = np.dtype(dtype if dtype == "float16" else ml_dtypes.bfloat16)

    def draw(*shape, scale=1.0):
        rounded = (scale * generator.standard_normal(shape)).astype(half)
        return tensor(rounded), Tensor(rounded.astype(np.float64))

    def check(found, exact):
        assert "float32" in str(found.dtype)
        limit = tolerance("loss").limit
        np.testing.assert_allclose(array(found), exact.data, rtol=limit, atol=0)

    given, exact = draw(2, 60, 30, scale=4.0)
    labels, lengths = generator.integers(1, 30, (2, 9)), np.array([60, 47])
    options = {"blank": 0, "reduction": "sum", "zero_infinity": False}
    check(
        losses.ctc_loss(given, tensor(lengths), tensor(labels), **options),
        reference_losses.ctc_loss(exact, lengths, labels, **options),
    )

    given, exact = draw(300, 40, scale=3.0)
    classes = generator.integers(0, 40, 300)
    classes[::7] = -100
    check(losses.cross_entropy(given, tensor(classes)), reference_losses.cross_entropy(exact, classes))

    given, exact = draw(60, 3)
    values = generator.normal(0, 2, (60, 3)).astype(np.float32)
    total, count = losses.squared_error_sum(given, tensor(values))
    check(total / float(count), reference_losses.squared_error(exact, values))

    given, exact = draw(200, 48)
    weight, directions = draw(48, 12)
    speakers = generator.integers(0, 12, 200)
    check(
        losses.am_softmax_loss(given, weight, tensor(speakers)),
        reference_losses.am_softmax_loss(exact, directions, speakers),
    )

    (given, exact), (target, true), (others, false) = draw(2, 50, 256), draw(1, 2, 50, 256), draw(9, 2, 50, 256)
    logits = losses.contrastive_logits(target, others, given, 0.5)
    assert dtype in str(logits.dtype), "similarities are of the model's type"
    unit = [reference_losses.unit(x, 1e-8).data for x in (exact, true, false)]
    cosines = (unit[0] * np.concatenate([unit[1], unit[2]])).sum(-1) / 0.5
    spacing = 2.0 ** (np.floor(np.log2(np.abs(cosines))) + 1 - BITS[dtype])
    # Rounded once: half a unit in the last place, and what float32 is off before that.
    assert (np.abs(array(logits) - cosines) <= 0.5 * spacing + 1e-6).all()

    given, exact = draw(10, 2, 50, scale=3.0)
    mask, same = generator.random((2, 50)) < 0.6, generator.random((9, 2, 50)) < 0.1
    competing = np.where(np.concatenate([np.zeros_like(same[:1]), same]), -np.inf, exact.data)
    surprise = np.logaddexp.reduce(competing, axis=0) - exact.data[0]
    check(losses.contrastive_loss(given, tensor(same), tensor(mask)), Tensor(surprise[mask].sum()))

    (given, exact), (target, true) = draw(2, 50, 256), draw(2, 50, 256)
    mask, codes = generator.random((2, 50)) < 0.6, generator.integers(0, 4, (2, 50, 2))
    indices = masking.negative_indices(mask, 9, generator)
    similarity = losses.similarities(given, target, 0.1)
    competing = losses.competitors(tensor(codes), losses.count_distractors(tensor(indices)))
    others = true.reshape(-1, 256)[indices]
    same = (codes.reshape(-1, 2)[indices] == codes[:, :, None]).all(-1)
    check(
        losses.contrastive_loss_of_frames(similarity, competing, tensor(mask)),
        reference_losses.contrastive_loss(exact, true, others, same, mask, 0.1),
    )
    logits = reference_losses.contrastive_logits(exact, true, others, 0.1).data
    check(
        losses.contrastive_accuracy(similarity, competing, tensor(mask)),
        Tensor(reference_losses.contrastive_accuracy(logits, same, mask)),
    )


def check_contrastive_terms(losses, tensor, array):
    """Equal distractors, ties, masks and frames with nothing to tell apart, in the loss and in the accuracy.

    ``tensor(array)``: the framework's; ``array(tensor)``: numpy's.
    """
    # Frame 0 is the nearest to its own vector, frame 1 as near to that of frame 2, frame 2 to that of frame 0.
    similarity = np.array([[[3.0, 1.0, 2.0], [0.0, 1.0, 1.0], [4.0, 0.0, 2.0]]], np.float32)
    codes = np.array([[[0, 1], [1, 1], [2, 1]]])
    indices = np.array([[[1, 1, 2], [0, 2, 2], [0, 0, 1]]])
    mask, whole = np.array([[True, True, True]]), losses.count_distractors(tensor(indices))
    assert array(whole).tolist() == [[[0, 2, 1], [1, 0, 2], [2, 1, 0]]]

    def terms(codes, mask, similarity=similarity):
        competing = losses.competitors(tensor(codes), whole)
        arguments = tensor(similarity), competing, tensor(mask)
        return float(array(losses.contrastive_loss_of_frames(*arguments))), float(
            array(losses.contrastive_accuracy(*arguments))
        )

    def surprise(true, *others):
        return np.logaddexp.reduce([true, *others]) - true

    frames = [surprise(3, 1, 1, 2), surprise(1, 0, 1, 1), surprise(2, 4, 4, 0)]
    loss, accuracy = terms(codes, mask)
    assert loss == pytest.approx(sum(frames), rel=1e-6)
    assert accuracy == pytest.approx(1 / 3)  # a tie is not right
    loss, accuracy = terms(codes, np.array([[True, True, False]]))
    assert loss == pytest.approx(frames[0] + frames[1], rel=1e-6)
    assert accuracy == pytest.approx(1 / 2)
    half = codes.copy()
    half[0, 2] = half[0, 0]  # frames 0 and 2 do not compete with each other
    loss, accuracy = terms(half, mask)
    assert loss == pytest.approx(surprise(3, 1, 1) + frames[1] + surprise(2, 0), rel=1e-6)
    assert accuracy == pytest.approx(2 / 3)
    collapsed = np.zeros_like(codes)
    assert terms(collapsed, mask) == (0.0, 0.0)  # nothing to tell apart is no success
    assert terms(codes, np.zeros_like(mask)) == (0.0, 0.0)


def check_perplexities(losses, tensor, array):
    """Effective numbers of codevectors, group by group, of the frames that count."""
    uniform = np.full((2, 5, 3, 8), 1 / 8, np.float32)
    collapsed = np.zeros((2, 5, 3, 8), np.float32)
    collapsed[..., 2] = 1
    mixed = collapsed.copy()
    mixed[0, 1, 0] = np.roll(mixed[0, 1, 0], 1)  # two entries among the masked frames, in one group
    mixed[1] = uniform[1]  # not masked: must not count
    mask = np.zeros((2, 5), bool)
    mask[0, :2] = True
    for given, counted, expected in (
        (uniform, None, [8, 8, 8]),
        (collapsed, None, [1, 1, 1]),
        (mixed, mask, [2, 1, 1]),
        (uniform, np.zeros_like(mask), [1, 1, 1]),
    ):
        found = losses.codevector_perplexities(tensor(given), None if counted is None else tensor(counted))
        np.testing.assert_allclose(array(found), expected, rtol=1e-4)
    np.testing.assert_allclose(array(losses.codevector_perplexity(tensor(mixed), tensor(mask))), 4, rtol=1e-4)


def check_frames_without_label(loss, logits, ignored):
    """``loss(labels)`` of a frame classifier with these ``logits``: rows of -100 (at ``ignored``) do not count.

    ``logits``: (batch, frames, labels) float64; ``ignored``: (batch, frames) bool, some and not all.
    """
    generator = np.random.default_rng(0)
    batch, frames, labels = logits.shape
    classes = generator.integers(0, labels, (batch, frames))
    given = np.eye(labels, dtype=np.int64)[classes]
    given[ignored] = -100
    classes[ignored] = -100
    exact = reference_losses.cross_entropy(Tensor(logits.reshape(-1, labels)), classes.reshape(-1)).data
    assert abs(float(loss(given)) / exact - 1) <= tolerance("loss").limit
