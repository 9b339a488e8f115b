"""Wav2Vec2Config: rules, round trips, presets, frame counts."""

import json
import pickle

import numpy as np
import pytest

from wav2vec2_core.config import PRESETS, Wav2Vec2Config
from wav2vec2_core.errors import CheckpointError, ConfigError


def test_defaults_are_the_released_base_model():
    config = Wav2Vec2Config()
    assert (config.receptive_field, config.inputs_to_logits_ratio, config.head_dim) == (400, 320, 64)
    assert config.output_hidden_size == config.hidden_size
    assert config.id2label == {0: "LABEL_0", 1: "LABEL_1"}
    assert config == Wav2Vec2Config.preset("base")


@pytest.mark.parametrize(
    ("samples", "frames"),
    [(399, 0), (400, 1), (16_000, 49), (32_000, 99), (250_000, 781), (320_000, 999), (480_000, 1499)],
)
def test_frames_of_the_released_models(samples, frames):
    assert Wav2Vec2Config().num_frames(samples) == frames
    assert Wav2Vec2Config().num_frames(np.array([samples])) == [frames]


def test_frames_with_conv_adapter_follow_the_convolution():
    config = Wav2Vec2Config(add_adapter=True, num_adapter_layers=3, adapter_stride=2)
    assert config.num_frames(16_000) == 7  # 49 -> 25 -> 13 -> 7
    assert config.num_frames(16_000, add_adapter=False) == 49


def test_every_field_survives_a_round_trip(tmp_path):
    config = Wav2Vec2Config(
        hidden_size=32,
        num_attention_heads=4,
        conv_dim=[8, 8],
        conv_stride=[5, 2],
        conv_kernel=[10, 3],
        id2label={0: "no", 1: "yes", 2: "ü"},
        masked_group_norm=True,
        extra={"gradient_checkpointing": True, "nested": {"a": [1, None]}},
        architectures=["Wav2Vec2ForCTC"],
        dtype="float16",
    )
    config.save_pretrained(tmp_path)
    again = Wav2Vec2Config.from_pretrained(tmp_path)
    assert again == config
    assert again.nested == {"a": [1, None]}
    assert again.label2id == {"no": 0, "yes": 1, "ü": 2}
    assert pickle.loads(pickle.dumps(config)) == config
    stored = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    assert stored["model_type"] == "wav2vec2"
    assert stored["num_feat_extract_layers"] == 2
    assert stored["gradient_checkpointing"] is True
    assert "extra" not in stored


def test_unknown_fields_of_a_file_are_kept_and_readable():
    config = Wav2Vec2Config.from_dict({"model_type": "wav2vec2", "feature_grad_mult": 0.1, "torch_dtype": "float16"})
    assert config.feature_grad_mult == 0.1
    assert config.dtype == "float16"
    assert config.to_dict()["feature_grad_mult"] == 0.1
    with pytest.raises(AttributeError, match="no field 'nothing'"):
        _ = config.nothing


def test_replace_validates_and_follows():
    config = Wav2Vec2Config().replace(num_labels=3, hidden_size=1024, num_attention_heads=16)
    assert config.id2label == {0: "LABEL_0", 1: "LABEL_1", 2: "LABEL_2"}
    assert config.output_hidden_size == 1024
    assert config.replace(id2label={0: "a"}).num_labels == 1
    with pytest.raises(ConfigError, match=r"'hiden_size' is unknown: did you mean 'hidden_size'"):
        config.replace(hiden_size=8)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"conv_dim": [512] * 6}, r"conv_dim has 6, conv_stride has 7, conv_kernel has 7 entries: .* same length"),
        ({"conv_dim": [], "conv_stride": [], "conv_kernel": []}, r"conv_dim has 0"),
        ({"tdnn_kernel": [5]}, r"tdnn_dim has 5, tdnn_kernel has 1"),
        ({"feat_extract_norm": "batch"}, r"feat_extract_norm='batch' is unknown: use one of 'group', 'layer'"),
        ({"hidden_act": "prelu"}, r"hidden_act='prelu' is unknown"),
        ({"ctc_loss_reduction": "avg"}, r"ctc_loss_reduction='avg'"),
        ({"dtype": "int8"}, r"dtype='int8'"),
        ({"hidden_size": 770}, r"hidden_size=770 must be divisible by num_attention_heads=12"),
        ({"num_conv_pos_embedding_groups": 7}, r"must be divisible by num_conv_pos_embedding_groups=7"),
        ({"codevector_dim": 255}, r"codevector_dim=255 must be divisible by num_codevector_groups=2"),
        ({"hidden_size": "768"}, r"hidden_size='768' must be of type int, not str"),
        ({"hidden_size": 768.0}, r"hidden_size=768.0 must be of type int"),
        ({"conv_bias": 1}, r"conv_bias=1 must be of type bool, not int"),
        ({"vocab_size": True}, r"vocab_size=True must be of type int, not bool"),
        ({"conv_dim": 512}, r"conv_dim=512 must be a list"),
        ({"layerdrop": 1.5}, r"layerdrop=1.5 must be a probability"),
        ({"vocab_size": 0}, r"vocab_size=0 must be positive"),
        ({"conv_stride": [5, 2, 0, 2, 2, 2, 2]}, r"conv_stride=.* must be positive"),
        ({"num_hidden_layers": -1}, r"num_hidden_layers=-1 must be 0 or more"),
        ({"num_labels": 3, "id2label": {0: "a"}}, r"num_labels=3 contradicts id2label, which names 1 labels"),
        ({"num_labels": -1}, r"num_labels=-1"),
        ({"id2label": {"x": "a"}}, r"id2label=.* must map class numbers"),
    ],
)
def test_bad_values_name_field_value_and_rule(values, message):
    with pytest.raises(ConfigError, match=message) as caught:
        Wav2Vec2Config(**values)
    assert "\n" not in str(caught.value)


def test_another_model_type_is_refused():
    with pytest.raises(ConfigError, match="model_type is 'hubert'"):
        Wav2Vec2Config.from_dict({"model_type": "hubert"})


def test_unknown_preset_lists_the_known():
    with pytest.raises(ConfigError, match=f"choose one of {', '.join(PRESETS)}"):
        Wav2Vec2Config.preset("huge")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000])
def test_damaged_config_file(tmp_path, content):
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"config\.json .*(restore|download)"):
        Wav2Vec2Config.from_pretrained(tmp_path)


@pytest.mark.parametrize("field", ["num_hidden_layers", "num_adapter_layers", "num_labels"])
def test_sizes_that_only_damage_explains(field):
    with pytest.raises(ConfigError, match=field):
        Wav2Vec2Config(**{field: 10**12})
