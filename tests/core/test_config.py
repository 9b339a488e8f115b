"""Wav2Vec2Config: rules, round trips, presets, frame counts."""

import copy
import json
import pickle

import numpy as np
import pytest

from wav2vec2_core.config import PRESETS, Wav2Vec2Config
from wav2vec2_core.errors import CheckpointError, ConfigError, InputError


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


def test_unknown_keywords_are_kept_as_those_of_a_file_are():
    config = Wav2Vec2Config(gradient_checkpointing=True, feature_grad_mult=0.1, torch_dtype="torch.float16")
    assert config.gradient_checkpointing is True
    assert config.to_dict()["feature_grad_mult"] == 0.1
    assert (config.dtype, config.torch_dtype) == ("float16", "float16")
    assert pickle.loads(pickle.dumps(config)) == config


def test_one_warning_for_a_keyword_that_looks_like_a_field():
    with pytest.warns(UserWarning, match="'hiden_size' is no field .* did you mean 'hidden_size'") as caught:
        config = Wav2Vec2Config(hiden_size=8, something_else=1)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert config.hiden_size == 8
    with pytest.warns(UserWarning, match="did you mean 'conv_dim'"):
        config.conv_dims = [1]


def test_a_file_is_not_warned_about():
    Wav2Vec2Config.from_dict({"hiden_size": 8, "hidden_dropout_prob": 0.1})


def test_assignments_are_complete():
    config = Wav2Vec2Config()
    config.num_labels = 3
    assert config.id2label == {0: "LABEL_0", 1: "LABEL_1", 2: "LABEL_2"}
    assert config.label2id == {"LABEL_0": 0, "LABEL_1": 1, "LABEL_2": 2}
    config.id2label = {"0": "no", "1": "yes"}
    assert (config.num_labels, config.id2label, config.label2id) == (2, {0: "no", 1: "yes"}, {"no": 0, "yes": 1})
    config.hidden_size = 64  # not divisible by the 12 heads until the next line
    config.num_attention_heads = 4
    assert config.output_hidden_size == 64
    config.conv_dim = [8, 8]
    config.conv_kernel, config.conv_stride = [10, 3], [5, 2]
    assert config.num_feat_extract_layers == 2
    config.torch_dtype = "float16"
    assert config.dtype == "float16"
    config.validate()
    assert config == Wav2Vec2Config(**config.to_dict())


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("hidden_size", "8", "hidden_size='8' must be of type int"),
        ("layerdrop", 2.0, "layerdrop=2.0 must be a probability"),
        ("num_labels", -1, "num_labels=-1"),
        ("head_dim", 8, "head_dim=8 follows from other fields"),
        ("num_feat_extract_layers", 8, "num_feat_extract_layers=8 follows"),
    ],
)
def test_a_wrong_assignment_is_refused_at_its_line(field, value, message):
    config = Wav2Vec2Config()
    with pytest.raises(ConfigError, match=message):
        setattr(config, field, value)
    assert config == Wav2Vec2Config()


def test_update_changes_everything_or_nothing():
    config = Wav2Vec2Config()
    config.update({"vocab_size": 40, "pad_token_id": 39, "anything": 1})
    assert (config.vocab_size, config.pad_token_id, config.anything) == (40, 39, 1)
    with pytest.raises(ConfigError, match="layerdrop"):
        config.update({"vocab_size": 50, "layerdrop": 2.0})
    assert config.vocab_size == 40


def test_fields_that_do_not_fit_are_refused_by_whoever_uses_them(tmp_path):
    config = Wav2Vec2Config()
    config.hidden_size = 770
    with pytest.raises(ConfigError, match="must be divisible"):
        config.save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="must be divisible"):
        config.bound(())
    assert not any(tmp_path.iterdir())


def test_the_configuration_of_a_model_is_its_own_and_refuses_what_it_cannot_follow():
    ours = Wav2Vec2Config()
    config = ours.bound({"ctc_loss_reduction", "mask_time_prob", "apply_spec_augment"})
    assert config.bound({"hidden_size"}) is config
    config.ctc_loss_reduction = "mean"
    config.note = "anything"
    assert ours.ctc_loss_reduction == "sum"
    for field, value in (("hidden_size", 24), ("num_labels", 3), ("hidden_dropout", 0.5)):
        with pytest.raises(ConfigError, match=f"{field}=.* cannot be set: the model was built with"):
            setattr(config, field, value)
    with pytest.raises(ConfigError, match="whether a model has a mask embedding"):
        config.mask_time_prob = 0.0
    with pytest.raises(ConfigError, match=r"call model\.gradient_checkpointing_enable"):
        config.gradient_checkpointing = True
    config.apply_spec_augment = False
    with pytest.raises(ConfigError, match="apply_spec_augment=True cannot be set"):
        config.apply_spec_augment = True


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda config: pickle.loads(pickle.dumps(config))])
def test_a_copy_of_a_models_configuration_is_free(copied):
    config = Wav2Vec2Config(id2label={0: "a", 1: "b"}, anything=[1]).bound(())
    again = copied(config)
    assert again == config
    again.hidden_dropout = 0.5
    again.id2label[0] = "changed"
    again.anything.append(2)
    assert (config.hidden_dropout, config.id2label[0], config.anything) == (0.1, "a", [1])


def test_json_files(tmp_path):
    config = Wav2Vec2Config(vocab_size=40, num_labels=11, anything=1)
    config.to_json_file(tmp_path / "whole.json")
    assert Wav2Vec2Config.from_json_file(tmp_path / "whole.json") == config
    assert Wav2Vec2Config.from_pretrained(tmp_path / "whole.json") == config
    assert set(config.to_diff_dict()) == {"model_type", "vocab_size", "id2label", "label2id", "anything"}
    assert json.loads(config.to_json_string(use_diff=True))["vocab_size"] == 40
    assert Wav2Vec2Config(hidden_size=24, num_conv_pos_embedding_groups=2).to_diff_dict()["hidden_size"] == 24
    assert list(config.to_dict()["id2label"]) == list(range(11))


def test_what_is_unknown_to_from_pretrained(tmp_path):
    Wav2Vec2Config().save_pretrained(tmp_path)
    config, unused = Wav2Vec2Config.from_pretrained(
        tmp_path, return_unused_kwargs=True, vocab_size=40, mine=1, trust_remote_code=True, use_auth_token=None
    )
    assert (config.vocab_size, unused, config.name_or_path) == (40, {"mine": 1}, str(tmp_path))
    assert Wav2Vec2Config.from_pretrained(tmp_path, mine=1).mine == 1
    with pytest.raises(InputError, match=r"subfolder='a' is not supported here: name the folder itself"):
        Wav2Vec2Config.from_pretrained(tmp_path, subfolder="a")
    with pytest.raises(InputError, match="save_pretrained has no option 'colour'"):
        config.save_pretrained(tmp_path / "new", colour=1)
    assert not (tmp_path / "new").exists()


def test_another_librarys_configuration():
    class Theirs:
        model_type = "wav2vec2"

        def to_dict(self):
            return {"model_type": "wav2vec2", "vocab_size": 40, "max_length": 20}

    config = Wav2Vec2Config.of(Theirs())
    assert (config.vocab_size, config.max_length) == (40, 20)
    assert Wav2Vec2Config.of(config) is config
    with pytest.raises(ConfigError, match="config is a dict: make a Wav2Vec2Config"):
        Wav2Vec2Config.of({"vocab_size": 40})
