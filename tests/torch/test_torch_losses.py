"""The losses against slow, obvious computations."""

import itertools
import math

import numpy as np
import pytest
import torch
from loss_cases import (
    BITS,
    check_contrastive_terms,
    check_frames_without_label,
    check_half_precision,
    check_perplexities,
)
from regression_cases import check_regression
from torch_models import FRAMES, relative, tiny, waveforms

from wav2vec2_torch import Wav2Vec2ForSequenceClassification, layers, losses


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


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
    logits = torch.randn(3, 5, 4, generator=generator())
    letters = [letter for letter in range(4) if letter != blank]
    texts = [[letters[0], letters[0]], [letters[1]], [letters[2], letters[0], letters[1]]]
    labels = torch.tensor([[texts[0][0], -100, texts[0][1]], [-1, -1, texts[1][0]], texts[2]])  # padding anywhere
    lengths = torch.tensor([5, 3, 4])
    options = {"blank": blank, "zero_infinity": False}
    each = losses.ctc_loss(logits, lengths, labels, reduction="none", **options)
    log_probs = logits.double().log_softmax(-1).numpy()
    expected = [ctc_by_enumeration(log_probs[row, : lengths[row]], text, blank) for row, text in enumerate(texts)]
    np.testing.assert_allclose(each.numpy(), expected, rtol=1e-5)
    total = losses.ctc_loss(logits, lengths, labels, reduction="sum", **options)
    assert relative(total, each.sum()) <= 1e-6
    mean = losses.ctc_loss(logits, lengths, labels, reduction="mean", **options)
    assert relative(mean, (each / torch.tensor([2, 1, 3])).mean()) <= 1e-6


def tensor(array):
    """Of the same type; PyTorch does not read numpy's bfloat16."""
    return (
        torch.from_numpy(array.astype(np.float32)).bfloat16() if "bfloat" in str(array.dtype) else torch.tensor(array)
    )


@pytest.mark.parametrize("dtype", BITS)
def test_losses_in_half_precision(dtype):
    check_half_precision(losses, tensor, lambda values: values.double().numpy(), dtype)


def test_frames_without_label_do_not_count():
    model = tiny("ForAudioFrameClassification")
    ignored = np.zeros((3, FRAMES), bool)
    ignored[1, 40:] = ignored[2, 20:] = True
    with torch.no_grad():
        logits = model(waveforms()).logits.double().numpy()
        check_frames_without_label(lambda labels: model(waveforms(), labels=tensor(labels)).loss, logits, ignored)


def test_ctc_of_impossible_labels():
    logits, labels = torch.randn(1, 3, 4, generator=generator(), requires_grad=True), torch.tensor([[1, 1, 1]])
    options = {"blank": 0, "reduction": "sum"}
    assert losses.ctc_loss(logits, torch.tensor([3]), labels, zero_infinity=False, **options).isinf()
    loss = losses.ctc_loss(logits, torch.tensor([3]), labels, zero_infinity=True, **options)
    loss.backward()
    assert loss == 0
    assert not logits.grad.any()


def test_contrastive_terms():
    check_contrastive_terms(losses, torch.from_numpy, lambda tensor: tensor.numpy())


def test_contrastive_gradient_is_finite_where_every_distractor_is_equal():
    quantized = torch.ones(1, 3, 4, requires_grad=True)
    similarity = losses.similarities(torch.randn(1, 3, 4, generator=generator()), quantized, 0.1)
    competing = losses.competitors(torch.zeros(1, 3, 2), torch.ones(1, 3, 3))
    loss = losses.contrastive_loss_of_frames(similarity, competing, torch.ones(1, 3, dtype=torch.bool))
    loss.backward()
    assert loss == 0
    assert torch.isfinite(quantized.grad).all()


def test_similarities_are_float32_under_autocast():
    one, other = torch.randn(1, 5, 64, generator=generator()), torch.randn(1, 5, 64, generator=generator(1))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        narrow = losses.similarities(one, other, 0.1)
    assert torch.equal(narrow, losses.similarities(one, other, 0.1))


def test_perplexity_counts_codevectors_in_use():
    check_perplexities(losses, torch.from_numpy, lambda tensor: tensor.numpy())


def test_diversity_loss():
    mask = torch.tensor([[True, True, False], [True, False, False]])
    loss = losses.diversity_loss(torch.tensor(16.0), 64, mask)
    assert loss.item() == pytest.approx(3 * (64 - 16) / 64)


def test_am_softmax_loss():
    embeddings, weight = torch.randn(3, 6, generator=generator()), torch.randn(6, 4, generator=generator(1))
    labels = torch.tensor([2, 0, 3])
    expected = []
    for vector, label in zip(embeddings.double(), labels.tolist(), strict=True):
        cosines = [float(vector @ column / vector.norm() / column.norm()) for column in weight.double().T]
        scores = [30 * (cosine - 0.4 * (index == label)) for index, cosine in enumerate(cosines)]
        expected.append(np.logaddexp.reduce(scores) - scores[label])
    assert losses.am_softmax_loss(embeddings, weight, labels).item() == pytest.approx(np.mean(expected), rel=1e-5)


def test_hard_gumbel_softmax_is_one_hot_with_the_gradient_of_the_softmax():
    logits = torch.randn(5, 6, generator=generator(), requires_grad=True)
    noise = torch.randn(5, 6, generator=generator(1))
    weights = torch.randn(5, 6, generator=generator(2))
    choice = layers.hard_gumbel_softmax(logits, noise, 0.7)
    assert torch.equal(choice.argmax(-1), (logits + noise).argmax(-1))
    assert torch.allclose(choice.detach().sort(-1).values, torch.tensor([0.0] * 5 + [1.0]).expand(5, 6), atol=1e-6)
    (choice * weights).sum().backward()
    hard_gradient, logits.grad = logits.grad, None
    (((logits + noise) / 0.7).softmax(-1) * weights).sum().backward()
    assert relative(hard_gradient, logits.grad) <= 1e-6


def test_gumbel_noise_has_the_right_distribution():
    torch.manual_seed(0)
    noise = layers.gumbel_noise_like(torch.zeros(200_000))
    assert noise.mean().item() == pytest.approx(np.euler_gamma, abs=0.02)
    assert noise.std().item() == pytest.approx(math.pi / math.sqrt(6), abs=0.02)


def test_masked_statistics_do_not_overflow_in_half_precision():
    values = 200 + 300 * torch.rand(1, 2000, 3, generator=generator())
    mask = torch.ones(1, 2000, dtype=torch.bool)
    for half, full in zip(
        layers.masked_mean_and_std(values.half(), mask), layers.masked_mean_and_std(values, None), strict=True
    ):
        assert half.dtype == torch.float16
        assert relative(half.float(), full) <= 1e-2


def test_masked_statistics():
    values = torch.randn(2, 7, 5, generator=generator())
    values[0, :, 2] = 1.5  # constant: deviation 0, gradient 0
    values.requires_grad_()
    lengths = torch.tensor([4, 7])
    mask = layers.frame_mask(lengths, 7)
    assert mask.sum(1).tolist() == [4, 7]
    mean, std = layers.masked_mean_and_std(values, mask)
    for row, length in enumerate(lengths):
        assert torch.allclose(mean[row], values[row, :length].mean(0), atol=1e-6)
        assert torch.allclose(std[row], values[row, :length].std(0), atol=1e-6)
    std.sum().backward()
    assert torch.isfinite(values.grad).all()
    assert not values.grad[0, 4:].any()


def test_regression():
    check_regression(Wav2Vec2ForSequenceClassification, torch.from_numpy, lambda value: value.detach().numpy())
