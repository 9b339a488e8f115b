"""What the losses of every back end must give in half precision: float64's numbers for the rounded inputs."""

import ml_dtypes
import numpy as np

from conformance import reference_losses
from conformance.autodiff import Tensor
from conformance.tolerances import tolerance

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
