"""Estimates of memory and how durations are said; PyTorch's own use of memory is compared in tests/torch."""

import pytest

from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.parameters import trainable_names
from wav2vec2_core.training.estimates import memory_of, spoken_time

BASE = Wav2Vec2Config(vocab_size=32, hidden_dropout=0.0, attention_dropout=0.0, activation_dropout=0.1)
SECOND = 16_000


def estimate(samples, longest=5 * SECOND, *, config=BASE, frozen="feature_encoder", **options):
    return memory_of(config, "ForCTC", trainable_names(config, "ForCTC", frozen=frozen), samples, longest, **options)


def test_parameters_of_base_and_what_adam_keeps_of_them():
    found = estimate(5 * SECOND)
    assert found.parameters == 4 * 94_396_320
    assert found.optimizer == 2 * found.gradients
    convolutions = 4 * (512 * 10 + 4 * 512 * 512 * 3 + 2 * 512 * 512 * 2 + 2 * 512)
    assert found.gradients == found.parameters - convolutions
    alone = estimate(5 * SECOND, frozen="base_model")
    assert alone.gradients == 4 * (768 * 32 + 32)
    assert found.total == found.parameters + found.gradients + found.optimizer + found.activations


def test_activations_of_base():
    frames = 20 * SECOND // 320
    assert estimate(20 * SECOND, keeps_attention=False).activations == 4 * 12 * frames * (8 * 768 + 3 * 3072)
    with_weights = 4 * 12 * frames * 2 * 12 * 249
    assert estimate(20 * SECOND).activations - estimate(20 * SECOND, keeps_attention=False).activations == with_weights
    half = estimate(20 * SECOND, dtype="bfloat16")
    assert 2 * half.activations == estimate(20 * SECOND).activations
    assert half.parameters == estimate(20 * SECOND).parameters


def test_dropout_keeps_its_draws_and_trained_convolutions_their_outputs():
    plain = estimate(20 * SECOND, keeps_attention=False).activations
    dropping = estimate(20 * SECOND, config=BASE.replace(hidden_dropout=0.1), keeps_attention=False).activations
    assert dropping - plain == 4 * 12 * 1000 * 2 * 768
    everything = estimate(20 * SECOND, frozen=None, keeps_attention=False).activations
    first = 4 * 3 * 512 * 64_000
    assert everything - plain > 2 * first


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0655, "0.066 s"), (9.96, "10 s"), (70, "70 s"), (150, "2.5 min"), (9000, "2.5 h"), (200_000, "2.31 days")],
)
def test_durations(seconds, text):
    assert spoken_time(seconds) == text


def test_an_estimate_is_a_line():
    found = memory_of(BASE, "ForCTC", trainable_names(BASE, "ForCTC", frozen="base_model"), SECOND, SECOND)
    assert str(found) == "418 MB: parameters 378 MB, gradients 0 MB, Adam 0 MB, activations 40 MB"
