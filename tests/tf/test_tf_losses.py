"""The losses against slow, obvious computations."""

import importlib.util
import itertools
import math

import numpy as np
import pytest
import tensorflow as tf
from loss_cases import (
    BITS,
    check_contrastive_terms,
    check_frames_without_label,
    check_half_precision,
    check_perplexities,
)
from regression_cases import check_regression
from tf_models import FRAMES, relative, tiny, waveforms

from wav2vec2_tf import TFWav2Vec2ForSequenceClassification, layers, losses


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def ctc_by_enumeration(log_probs, letters, blank):
    """-log of the summed probability of every path of frames that collapses to ``letters``."""
    total = -math.inf
    frames, vocab = log_probs.shape
    for path in itertools.product(range(vocab), repeat=frames):
        collapsed = [letter for letter, _ in itertools.groupby(path) if letter != blank]
        if collapsed == letters:
            total = np.logaddexp(total, sum(log_probs[frame, letter] for frame, letter in enumerate(path)))
    return -total


@pytest.mark.parametrize("blank", [0, 2])
def test_ctc_sums_over_all_paths(blank):
    logits = normal(4, 5, 4)
    letters = [letter for letter in range(4) if letter != blank]
    texts = [[letters[0], letters[0]], [letters[1]], [letters[2], letters[0], letters[1]], []]
    labels = np.array([[texts[0][0], -100, texts[0][1]], [-1, -1, texts[1][0]], texts[2], [-1, -1, -1]])
    lengths = np.array([5, 3, 4, 2])
    options = {"blank": blank, "zero_infinity": False}
    each = losses.ctc_loss(logits, lengths, labels, reduction="none", **options)
    log_probs = logits.astype(np.float64)
    log_probs -= np.logaddexp.reduce(log_probs, axis=-1, keepdims=True)
    expected = [ctc_by_enumeration(log_probs[row, : lengths[row]], text, blank) for row, text in enumerate(texts)]
    np.testing.assert_allclose(each, expected, rtol=1e-5)
    total = losses.ctc_loss(logits, lengths, labels, reduction="sum", **options)
    assert relative(total, sum(expected)) <= 1e-5
    mean = losses.ctc_loss(logits, lengths, labels, reduction="mean", **options)
    assert relative(mean, np.mean(expected / np.array([2, 1, 3, 1]))) <= 1e-5


@pytest.mark.parametrize("dtype", BITS)
def test_losses_in_half_precision(dtype):
    check_half_precision(losses, tf.constant, lambda values: tf.cast(values, tf.float64).numpy(), dtype)


def test_frames_without_label_do_not_count():
    model = tiny("ForAudioFrameClassification")
    ignored = np.zeros((3, FRAMES), bool)
    ignored[1, 40:] = ignored[2, 20:] = True
    logits = model(waveforms()).logits.numpy().astype(np.float64)
    check_frames_without_label(lambda labels: model(waveforms(), labels=labels).loss, logits, ignored)


def test_ctc_gradient_is_the_slope():
    logits, lengths = normal(2, 6, 5), np.array([6, 4])
    labels = np.array([[1, 1, 3], [4, -1, -1]])

    def loss(values):
        return losses.ctc_loss(values, lengths, labels, blank=0, reduction="sum", zero_infinity=False)

    values = tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch(values)
        target = loss(values)
    gradient = tape.gradient(target, values).numpy()
    assert not gradient[1, 4:].any()
    direction = normal(2, 6, 5, seed=1)
    slope = (loss(logits + 1e-2 * direction) - loss(logits - 1e-2 * direction)) / 2e-2
    assert float(slope) == pytest.approx((gradient * direction).sum(), rel=1e-2)


def test_ctc_of_impossible_labels():
    labels, options = np.array([[1, 1, 1]]), {"blank": 0, "reduction": "sum"}
    logits = tf.constant(normal(1, 3, 4))
    assert np.isinf(losses.ctc_loss(logits, np.array([3]), labels, zero_infinity=False, **options))
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = losses.ctc_loss(logits, np.array([3]), labels, zero_infinity=True, **options)
    assert loss == 0
    assert not tape.gradient(loss, logits).numpy().any()


def test_contrastive_terms():
    check_contrastive_terms(losses, tf.constant, lambda tensor: tensor.numpy())


def test_contrastive_gradient_is_finite_where_every_distractor_is_equal():
    quantized, predicted = tf.ones((1, 3, 4)), tf.constant(normal(1, 3, 4))
    with tf.GradientTape() as tape:
        tape.watch(quantized)
        similarity = losses.similarities(predicted, quantized, 0.1)
        competing = losses.competitors(tf.zeros((1, 3, 2), tf.int32), tf.ones((1, 3, 3), tf.int32))
        loss = losses.contrastive_loss_of_frames(similarity, competing, tf.ones((1, 3), tf.bool))
    assert loss == 0
    assert np.isfinite(tape.gradient(loss, quantized)).all()


def test_perplexity_counts_codevectors_in_use():
    check_perplexities(losses, tf.constant, lambda tensor: tensor.numpy())


def test_am_softmax_loss():
    embeddings, weight, labels = normal(3, 6), normal(6, 4, seed=1), np.array([2, 0, 3])
    expected = []
    for vector, label in zip(embeddings, labels, strict=True):
        cosines = [vector @ column / np.linalg.norm(vector) / np.linalg.norm(column) for column in weight.T]
        scores = [30 * (cosine - 0.4 * (index == label)) for index, cosine in enumerate(cosines)]
        expected.append(np.logaddexp.reduce(scores) - scores[label])
    assert float(losses.am_softmax_loss(embeddings, weight, labels)) == pytest.approx(np.mean(expected), rel=1e-5)


def test_cross_entropy_leaves_out_ignored_labels():
    logits = normal(3, 5)
    kept = losses.cross_entropy(logits[:2], np.array([1, 4]))
    assert relative(losses.cross_entropy(logits, np.array([1, 4, -100])), kept) <= 1e-6


def test_gumbel_noise_has_the_right_distribution():
    noise = layers.gumbel_noise_like(tf.zeros(200_000)).numpy()
    assert noise.mean() == pytest.approx(np.euler_gamma, abs=0.02)
    assert noise.std() == pytest.approx(math.pi / math.sqrt(6), abs=0.02)


def test_masked_statistics():
    values = normal(2, 7, 5)
    values[0, :, 2] = 1.5  # constant: deviation 0, gradient 0
    lengths = [4, 7]
    mask = layers.frame_mask(tf.constant(lengths), 7)
    tensor = tf.constant(values)
    with tf.GradientTape() as tape:
        tape.watch(tensor)
        mean, std = layers.masked_mean_and_std(tensor, mask)
        total = tf.reduce_sum(std)
    for row, length in enumerate(lengths):
        assert np.allclose(mean[row], values[row, :length].mean(0), atol=1e-6)
        assert np.allclose(std[row], values[row, :length].std(0, ddof=1), atol=1e-6)
    gradient = tape.gradient(total, tensor).numpy()
    assert np.isfinite(gradient).all()
    assert not gradient[0, 4:].any()


def test_regression():
    check_regression(TFWav2Vec2ForSequenceClassification, tf.constant, np.asarray)


def test_ctc_has_gradients_in_eager_mode_after_a_graph():
    """As after ``fit``: in a module of its own, in which nothing has run before."""
    spec = importlib.util.spec_from_file_location("fresh_losses", losses.__file__)
    fresh = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fresh)
    logits, labels = tf.constant(normal(3, 30, 6)), tf.constant([[1, 2], [3, -100], [4, 4]])

    def gradient(logits, labels):
        lengths = tf.fill(tf.shape(logits)[:1], tf.shape(logits)[1])
        with tf.GradientTape() as tape:
            tape.watch(logits)
            loss = fresh.ctc_loss(logits, lengths, labels, blank=0, reduction="sum", zero_infinity=False)
        return tape.gradient(loss, logits)

    signature = [tf.TensorSpec((None, None, 6)), tf.TensorSpec((None, None), tf.int32)]
    in_graph = tf.function(gradient, input_signature=signature)(logits, labels)
    for _ in range(2):
        assert relative(gradient(logits, labels), in_graph) <= 1e-5
