"""Operations counted from a configuration."""

import pytest

from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.errors import InputError
from wav2vec2_core.flops import PARTS, forward_flops, training_flops

BASE = Wav2Vec2Config()
LARGE = Wav2Vec2Config(hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16)


@pytest.mark.parametrize(
    ("config", "seconds", "expected"),
    [(BASE, 10, 14.8e9), (BASE, 30, 16.7e9), (BASE, 300, 41.6e9), (LARGE, 10, 38.4e9)],
)
def test_operations_for_a_second_of_audio(config, seconds, expected):
    """Counted by hand for the two released sizes; attention grows with the square of the length."""
    parts = forward_flops(config, "Model", 16_000 * seconds)
    assert tuple(parts) == PARTS
    assert sum(parts.values()) / seconds == pytest.approx(expected, rel=0.01)


def test_shares_of_the_parts_of_base():
    parts = forward_flops(BASE, "Model", 160_000)
    convolutions = parts["feature_encoder"] + parts["positional_convolution"]
    shares = [part / sum(parts.values()) for part in (convolutions, parts["linear_layers"], parts["attention"])]
    assert shares == pytest.approx([0.36, 0.57, 0.06], abs=0.01)


def test_a_first_convolution_by_hand():
    one = Wav2Vec2Config(conv_dim=(8,), conv_kernel=(10,), conv_stride=(5,), hidden_size=16, num_hidden_layers=1,
                         num_attention_heads=2, intermediate_size=32, num_conv_pos_embeddings=4,
                         num_conv_pos_embedding_groups=2)  # fmt: skip
    parts = forward_flops(one, "ForCTC", 100)  # 19 frames
    assert parts["feature_encoder"] == 2 * 19 * 8 * 10
    assert parts["positional_convolution"] == 2 * 19 * 16 * 8 * 4
    assert parts["linear_layers"] == 2 * 19 * (8 * 16 + 4 * 16 * 16 + 2 * 16 * 32)
    assert parts["attention"] == 2 * (2 * 19 * 19 * 16)
    assert parts["head"] == 2 * 19 * 16 * one.vocab_size


def test_a_backward_pass_is_twice_a_forward_pass_of_what_is_trained():
    parts = forward_flops(BASE, "ForPreTraining", 250_000, masked=380, negatives=100)
    assert training_flops(BASE, "ForPreTraining", 250_000, masked=380, negatives=100) == 3 * sum(parts.values())
    frozen = training_flops(BASE, "ForCTC", 250_000, train_feature_encoder=False)
    whole = training_flops(BASE, "ForCTC", 250_000)
    assert whole - frozen == pytest.approx(2 * parts["feature_encoder"])


def test_comparing_all_pairs_costs_more_than_some():
    few, all_pairs = (forward_flops(BASE, "ForPreTraining", 250_000, masked=380, negatives=n)["head"] for n in (100, 0))
    assert all_pairs - few == 2.0 * 380 * (380 - 101) * BASE.proj_codevector_dim


@pytest.mark.parametrize("head", ["ForSequenceClassification", "ForAudioFrameClassification", "ForXVector", "ForCTC"])
def test_every_head_adds_something(head):
    adapter = head in ("ForXVector", "ForCTC")
    config = BASE.replace(add_adapter=adapter)
    assert forward_flops(config, head, 16_000)["head"] > 0


def test_what_cannot_be_counted_is_refused():
    with pytest.raises(InputError, match="399 samples are shorter than a frame, which needs 400"):
        forward_flops(BASE, "ForCTC", 399)
    with pytest.raises(InputError, match="head 'ForFun' is unknown"):
        forward_flops(BASE, "ForFun", 16_000)
