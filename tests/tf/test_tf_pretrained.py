"""Loading, saving, adapters and the hub."""

import json
import logging

import numpy as np
import pytest
import tensorflow as tf
from tf_models import NORMS, TINY, tiny, waveforms
from vocabulary_cases import check_labels_are_warned_of, check_resizing

from wav2vec2_core.checkpoint import write_adapter
from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.errors import CheckpointError, ConfigError, InputError, OutputError, ParameterMismatchError
from wav2vec2_tf import (
    TFWav2Vec2ForCTC,
    TFWav2Vec2ForPreTraining,
    TFWav2Vec2ForSequenceClassification,
    TFWav2Vec2Model,
)
from wav2vec2_tf.weights import export_weights

MMS = {**NORMS["layer-pre"], "adapter_attn_dim": 6}


def same_parameters(first, second):
    one, other = export_weights(first), export_weights(second)
    assert one.keys() == other.keys()
    return all(np.array_equal(value, other[name]) for name, value in one.items())


@pytest.mark.parametrize("safe_serialization", [True, False], ids=["safetensors", "h5"])
def test_round_trip(tmp_path, safe_serialization):
    model = tiny("ForCTC")
    model.config.extra["custom"] = {"kept": True}
    model.save_pretrained(tmp_path, safe_serialization=safe_serialization)
    again = TFWav2Vec2ForCTC.from_pretrained(tmp_path)
    assert same_parameters(model, again)
    assert again.config == model.config.replace(architectures=("Wav2Vec2ForCTC",), dtype="float32")
    assert again.loading.new == again.loading.ignored == ()
    file = "model.safetensors" if safe_serialization else "tf_model.h5"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", file]


def test_shards(tmp_path):
    model = tiny("ForPreTraining")
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 3
    assert same_parameters(model, TFWav2Vec2ForPreTraining.from_pretrained(tmp_path))


def test_dtypes(tmp_path):
    model = tiny("ForCTC", dtype="bfloat16")
    model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["dtype"] == "bfloat16"
    load = TFWav2Vec2ForCTC.from_pretrained
    assert load(tmp_path).variable_dtype == "float32"
    assert same_parameters(load(tmp_path, dtype="auto"), model)
    mixed = load(tmp_path, dtype="mixed_bfloat16")
    assert mixed.wav2vec2.encoder.layers[0].attention.q_proj.dtype_policy.name == "mixed_bfloat16"
    assert {weight.dtype for weight in mixed.weights} == {"float32"}
    with pytest.raises(ConfigError, match="dtype='int8' is no type for parameters: use 'auto' or one of float32"):
        load(tmp_path, dtype="int8")
    with pytest.raises(InputError, match=r"has type bfloat16, tf_model.h5 cannot store it"):
        model.save_pretrained(tmp_path / "other", safe_serialization=False)
    assert not (tmp_path / "other").exists()


def test_another_head_is_new_and_named_once(tmp_path, caplog):
    tiny("ForPreTraining").save_pretrained(tmp_path)
    with caplog.at_level(logging.WARNING, logger="wav2vec2_tf"):
        model = TFWav2Vec2ForCTC.from_pretrained(tmp_path, vocab_size=7)
    assert model.lm_head.kernel.shape == (32, 7)
    assert model.lm_head.kernel.numpy().any()
    assert model.loading.new == ("lm_head.weight", "lm_head.bias")
    assert "quantizer.codevectors" in model.loading.ignored
    (record,) = (record for record in caplog.records if record.name == "wav2vec2_tf")
    assert "lm_head.weight, lm_head.bias: newly initialised, train them before use" in record.getMessage()


def test_the_body_loads_from_a_head_and_the_other_way_round(tmp_path):
    model = tiny("ForCTC")
    model.save_pretrained(tmp_path / "head")
    body = TFWav2Vec2Model.from_pretrained(tmp_path / "head")
    assert same_parameters(body, model.wav2vec2)
    for folder, safe in (("body", True), ("h5", False)):
        body.save_pretrained(tmp_path / folder, safe_serialization=safe)
        assert same_parameters(TFWav2Vec2ForCTC.from_pretrained(tmp_path / folder).wav2vec2, body)


def test_wrong_sizes_and_overrides(tmp_path):
    tiny("ForSequenceClassification").save_pretrained(tmp_path)
    load = TFWav2Vec2ForSequenceClassification.from_pretrained
    with pytest.raises(ParameterMismatchError, match=r"classifier.weight: ours \(3, 14\), theirs \(5, 14\)"):
        load(tmp_path, num_labels=3)
    model = load(tmp_path, num_labels=3, ignore_mismatched_sizes=True)
    assert model.loading.new == ("classifier.weight", "classifier.bias")
    with pytest.raises(ParameterMismatchError, match="missing"):
        load(tmp_path, num_hidden_layers=3)
    with pytest.raises(ConfigError, match="config field 'layer_drop' is unknown: did you mean 'layerdrop'"):
        load(tmp_path, layer_drop=0.3)


def test_missing_files(tmp_path):
    with pytest.raises(CheckpointError, match=r"has no config.json"):
        TFWav2Vec2Model.from_pretrained(tmp_path)
    Wav2Vec2Config(**TINY).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="has no weights"):
        TFWav2Vec2Model.from_pretrained(tmp_path)
    (tmp_path / "file").touch()
    for safe in (True, False):
        with pytest.raises(OutputError, match="cannot create folder"):
            tiny().save_pretrained(tmp_path / "file" / "model", safe_serialization=safe)


# ---- language adapters ----------------------------------------------------------------------------------------------


@pytest.fixture
def mms(tmp_path):
    """A folder with a model and the adapters ``abc`` (11 letters) and ``xyz`` (17)."""
    tiny("ForCTC", **MMS).save_pretrained(tmp_path)
    for seed, (language, letters) in enumerate({"abc": 11, "xyz": 17}.items(), 5):
        tiny("ForCTC", seed=seed, **MMS, vocab_size=letters).save_adapter(tmp_path, language)
    return tmp_path


def test_adapters_replace_adapters_and_vocabulary(mms):
    model = TFWav2Vec2ForCTC.from_pretrained(mms)
    before, count = export_weights(model), len(model.weights)
    model.load_adapter("xyz")
    assert model.config.vocab_size == model.wav2vec2.config.vocab_size == model.lm_head.units == 17
    other = export_weights(tiny("ForCTC", seed=6, **MMS, vocab_size=17))
    adapters = set(model.adapter_parameters())
    assert len(adapters) == 2 * 6 + 2
    for name, value in export_weights(model).items():
        assert np.array_equal(value, other[name] if name in adapters else before[name]), name
    assert model(waveforms()).logits.shape[-1] == 17
    assert len(model.weights) == count  # the old lm_head is gone
    model.load_adapter("abc")
    assert model.lm_head.units == 11
    assert same_parameters(TFWav2Vec2ForCTC.from_pretrained(mms, target_lang="abc"), model)


def test_adapters_keep_type(mms):
    model = TFWav2Vec2ForCTC.from_pretrained(mms, dtype="bfloat16", target_lang="xyz")
    assert {weight.dtype for weight in model.weights} == {"bfloat16"}


@pytest.mark.parametrize("language", ["../abc", "/etc/passwd", "", "a\0b"])
def test_hostile_languages(mms, language):
    with pytest.raises(InputError, match="must be letters, digits, '_' and '-'"):
        TFWav2Vec2ForCTC.from_pretrained(mms, target_lang=language)


def test_unknown_language_lists_the_known(mms):
    with pytest.raises(InputError, match=r"no adapter for language 'xyy': did you mean 'xyz'\? use one of abc, xyz"):
        TFWav2Vec2ForCTC.from_pretrained(mms, target_lang="xyy")


def test_a_wrong_adapter_changes_nothing(mms):
    good = tiny("ForCTC", seed=6, **MMS, vocab_size=17)
    tensors = {name: export_weights(good)[name] for name in good.adapter_parameters()}
    tensors["wav2vec2.encoder.layers.1.adapter_layer.linear_1.weight"] = np.zeros((3, 3), np.float32)
    write_adapter(mms, "bad", tensors)
    model = TFWav2Vec2ForCTC.from_pretrained(mms)
    with pytest.raises(ParameterMismatchError):
        model.load_adapter("bad")
    assert same_parameters(model, TFWav2Vec2ForCTC.from_pretrained(mms))
    assert model.lm_head.units == 11


def test_labels_that_train_a_model_badly_are_warned_of():
    model = tiny("ForCTC")
    check_labels_are_warned_of(lambda labels: model(waveforms(), labels=tf.constant(labels)))


def test_another_vocabulary_keeps_the_rows_of_shared_letters():
    check_resizing(tiny("ForCTC"), lambda model: model(waveforms()).logits)


def test_models_without_adapters_or_source_say_so(mms):
    with pytest.raises(InputError, match="a model without attention adapters: set adapter_attn_dim"):
        tiny("ForCTC").init_adapter_layers()
    model = TFWav2Vec2ForCTC(Wav2Vec2Config(**TINY, **MMS))
    with pytest.raises(InputError, match="does not know where to look"):
        model.load_adapter("abc")
    model.load_adapter("abc", source=mms)
    assert np.array_equal(
        export_weights(model)["lm_head.bias"], export_weights(tiny("ForCTC", seed=5, **MMS))["lm_head.bias"]
    )


def test_new_adapters_for_a_new_language():
    model = tiny("ForCTC", **MMS, mask_time_prob=0.0)
    before = export_weights(model)
    model.init_adapter_layers()
    after = export_weights(model)
    model.freeze_base_model()
    model.freeze_all_but_adapters()
    adapters = model.adapter_parameters()
    assert {id(weight) for weight in model.trainable_weights} == {id(variable) for variable in adapters.values()}
    for name, value in after.items():
        assert np.array_equal(value, before[name]) == (name not in adapters), name
    model.compile("sgd")
    model.fit(waveforms(), np.ones((3, 4), np.int32), verbose=0)
    trained = export_weights(model)
    for name, value in trained.items():
        assert np.array_equal(value, after[name]) == (name not in adapters), name


# ---- the hub ------------------------------------------------------------------------------------------------------


def test_push_to_hub(monkeypatch):
    calls = []

    class Hub:
        def __init__(self, token):
            calls.append(("token", token))

        def create_repo(self, repo_id, *, private, exist_ok):
            calls.append(("create", repo_id, private, exist_ok))
            return type("Repo", (), {"repo_id": f"me/{repo_id}"})()

        def upload_folder(self, *, repo_id, folder_path, commit_message, create_pr):
            same = same_parameters(TFWav2Vec2ForCTC.from_pretrained(folder_path), model)
            calls.append(("upload", repo_id, same, commit_message, create_pr))
            return "commit"

    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    model = tiny("ForCTC")
    assert model.push_to_hub("digits", private=True, token="secret", create_pr=True) == "commit"
    assert calls == [
        ("token", "secret"),
        ("create", "digits", True, True),
        ("upload", "me/digits", True, "Upload TFWav2Vec2ForCTC", True),
    ]


def test_an_adapter_that_is_there_is_kept_on_request(mms):
    model = TFWav2Vec2ForCTC.from_pretrained(mms, target_lang="abc")
    loaded = model.arrays()["lm_head.weight"].copy()
    model.init_adapter_layers()
    changed = model.arrays()["lm_head.weight"].copy()
    model.load_adapter("abc", force_load=False)
    assert np.array_equal(model.arrays()["lm_head.weight"], changed)
    model.load_adapter("abc")
    assert np.array_equal(model.arrays()["lm_head.weight"], loaded)
    assert not np.array_equal(loaded, changed)
