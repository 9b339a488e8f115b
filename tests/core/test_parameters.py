"""The parameter table: known totals, groups, first values."""

import numpy as np
import pytest

from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.errors import InputError
from wav2vec2_core.parameters import (
    HEADS,
    check_trainable,
    head_of,
    initial_values,
    num_parameters,
    parameter_table,
    trainable_names,
)


@pytest.mark.parametrize(
    ("preset", "head", "total"),
    [
        ("base", "ForPreTraining", 95_044_608),
        ("base", "Model", 94_371_712),
        ("base", "ForCTC", 94_396_320),
        ("large", "ForPreTraining", 317_380_864),
        ("large-lv60", "ForPreTraining", 317_390_592),
        ("large-lv60", "Model", 315_438_720),
        ("large-lv60", "ForCTC", 315_471_520),
    ],
)
def test_published_totals(preset, head, total):
    assert num_parameters(Wav2Vec2Config.preset(preset), head) == total


@pytest.mark.parametrize(("norm", "bias", "total"), [("group", False, 4_200_448), ("layer", True, 4_210_176)])
def test_feature_encoder_totals(norm, bias, total):
    table = parameter_table(Wav2Vec2Config(feat_extract_norm=norm, conv_bias=bias))
    assert sum(row.size for row in table.values() if row.group == "feature_encoder") == total


def test_attention_adapters_exist_in_pre_norm_encoders_only():
    post = parameter_table(Wav2Vec2Config(adapter_attn_dim=16))
    pre = parameter_table(Wav2Vec2Config(adapter_attn_dim=16, do_stable_layer_norm=True))
    assert not [name for name in post if "adapter_layer" in name]
    adapters = {name for name, row in pre.items() if row.group == "attention_adapter"}
    assert len(adapters) == 12 * 6
    assert set(pre) - set(post) == adapters


@pytest.mark.parametrize("head", HEADS)
def test_heads_are_recognised_by_their_parameters(head):
    assert head_of(None, parameter_table(Wav2Vec2Config(), head)) == head
    assert head_of([f"FlaxWav2Vec2{head}"], ()) == head


def test_unknown_head():
    with pytest.raises(InputError, match="head 'CTC' is unknown: use one of Model, ForPreTraining"):
        parameter_table(Wav2Vec2Config(), "CTC")


def test_first_values_repeat_and_have_their_distribution():
    config = Wav2Vec2Config(hidden_size=128, num_attention_heads=4, num_hidden_layers=1, intermediate_size=64)
    table = parameter_table(config, "ForPreTraining")
    values = dict(initial_values(table, seed=3))
    again = dict(initial_values(table, seed=3))
    other = dict(initial_values(table, seed=4))
    assert list(values) == list(table)
    for name, row in table.items():
        assert values[name].shape == row.shape, name
        assert values[name].dtype == np.float32, name
        np.testing.assert_array_equal(values[name], again[name])
    assert not np.array_equal(values["project_q.weight"], other["project_q.weight"])

    assert values["quantizer.codevectors"].min() >= 0 < 0.9 < values["quantizer.codevectors"].max() <= 1
    assert values["quantizer.weight_proj.weight"].std() == pytest.approx(1, rel=0.02)
    assert values["wav2vec2.encoder.layers.0.attention.q_proj.weight"].std() == pytest.approx(0.02, rel=0.05)
    assert np.all(values["wav2vec2.encoder.layers.0.attention.q_proj.bias"] == 0)
    direction = values["wav2vec2.encoder.pos_conv_embed.conv.weight_v"]
    gain = values["wav2vec2.encoder.pos_conv_embed.conv.weight_g"]
    assert direction.std() == pytest.approx(2 / np.sqrt(128 * 128), rel=0.05)
    np.testing.assert_allclose(gain[0, 0], np.sqrt((direction.astype(np.float64) ** 2).sum((0, 1))), rtol=1e-5)


# ---- what training changes ----------------------------------------------------------------------------------------

MMS = {"adapter_attn_dim": 4, "do_stable_layer_norm": True}


def test_parts_that_are_frozen():
    config = Wav2Vec2Config(**MMS)
    names = parameter_table(config, "ForCTC").keys()
    assert trainable_names(config, "ForCTC") == names
    frozen = names - trainable_names(config, "ForCTC", frozen="feature_encoder")
    assert frozen == {name for name in names if name.startswith("wav2vec2.feature_extractor.")}
    assert trainable_names(config, "ForCTC", frozen="base_model") == {"lm_head.weight", "lm_head.bias"}
    adapters = {name for name in names if ".adapter_layer." in name}
    assert len(adapters) == 6 * config.num_hidden_layers
    assert trainable_names(config, "ForCTC", frozen="all_but_adapters") == adapters | {"lm_head.weight", "lm_head.bias"}
    assert trainable_names(config, "ForXVector", frozen="all_but_adapters") == adapters
    bare = parameter_table(config, "Model").keys()
    assert trainable_names(config, "Model", frozen="base_model") == bare  # it has no head


def test_every_head_keeps_something_to_train():
    for head in HEADS[1:]:
        names = trainable_names(Wav2Vec2Config(), head, frozen="base_model")
        table = parameter_table(Wav2Vec2Config(), head)
        assert names == {name for name in table if not name.startswith("wav2vec2.")} != set()


def test_the_mask_embedding_is_trained_where_it_is_used():
    for head, name in (("Model", "masked_spec_embed"), ("ForCTC", "wav2vec2.masked_spec_embed")):
        assert name in trainable_names(Wav2Vec2Config(), head)
        config = Wav2Vec2Config(apply_spec_augment=False)
        assert parameter_table(config, head).keys() - trainable_names(config, head) == {name}
        assert check_trainable(config, head, parameter_table(config, head)) == trainable_names(config, head)


def test_what_cannot_be_frozen():
    with pytest.raises(InputError, match="frozen='body' is unknown: use one of feature_encoder, base_model"):
        trainable_names(Wav2Vec2Config(), "ForCTC", frozen="body")
    with pytest.raises(InputError, match="a model without attention adapters: set adapter_attn_dim"):
        trainable_names(Wav2Vec2Config(adapter_attn_dim=4), "ForCTC", frozen="all_but_adapters")
    with pytest.raises(InputError, match=r"head\.weight is no parameter of a Wav2Vec2ForCTC: use names of"):
        check_trainable(Wav2Vec2Config(), "ForCTC", {"head.weight", "lm_head.weight"})
