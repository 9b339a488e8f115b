"""Folders, first values, msgpack, adapters."""

import json
import logging

import jax
import numpy as np
import pytest
from flax_models import model_class, relative, same_params, tiny, waveforms
from model_cases import NORMS, TINY, VARIANTS, legal_cases
from vocabulary_cases import check_labels_are_warned_of, check_resizing

from wav2vec2_core.checkpoint import open_checkpoint, open_model
from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.errors import CheckpointError, ConfigError, InputError, ParameterMismatchError
from wav2vec2_core.parameters import initial_values, parameter_table
from wav2vec2_flax import FlaxWav2Vec2ForCTC, FlaxWav2Vec2ForPreTraining, FlaxWav2Vec2Model
from wav2vec2_flax.weights import export_weights, fill_weights, places

MMS = {**NORMS["layer-pre"], "adapter_attn_dim": 6}


@pytest.mark.parametrize(("head", "norm", "variant"), list(legal_cases()))
def test_parameters_are_the_table(head, norm, variant):
    config = Wav2Vec2Config(**{**TINY, **NORMS[norm], **VARIANTS[variant]})
    model = model_class(head)(config, _do_init=False)
    table = parameter_table(config, head)
    assert {name: place.shape for name, place in places(model).items()} == {
        name: row.shape for name, row in table.items()
    }


def test_first_values_come_from_the_core():
    for seed in (0, 5):
        model = model_class("ForXVector")(Wav2Vec2Config(**TINY), seed=seed)
        expected = dict(initial_values(model.parameter_table(), seed))
        exported = export_weights(model)
        assert exported.keys() == expected.keys()
        assert all(np.array_equal(exported[name], value) for name, value in expected.items())


def test_filling_checks_names_and_shapes():
    model = tiny("ForCTC")
    with pytest.raises(ParameterMismatchError, match=r"'lm_head.kernel' is not one of FlaxWav2Vec2ForCTC's"):
        fill_weights(model, [("lm_head.kernel", np.zeros((32, 11), np.float32))])
    with pytest.raises(ParameterMismatchError, match=r"shape \(11, 32\), the given array \(32, 11\)"):
        fill_weights(model, [("lm_head.weight", np.zeros((32, 11), np.float32))])


@pytest.mark.parametrize("scan", [False, True])
def test_round_trip(scan, tmp_path):
    model = tiny("ForCTC", scan_layers=scan)
    model.save_pretrained(tmp_path)
    again = FlaxWav2Vec2ForCTC.from_pretrained(tmp_path, scan_layers=not scan)
    assert same_params(model, again)
    assert again.config == model.config.replace(architectures=("Wav2Vec2ForCTC",), dtype="float32")
    assert again.loading.new == again.loading.ignored == ()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]


def test_params_of_a_training_state_can_be_saved(tmp_path):
    model, other = tiny("ForCTC"), tiny("ForCTC", seed=1)
    model.save_pretrained(tmp_path, params=other.params)
    assert same_params(FlaxWav2Vec2ForCTC.from_pretrained(tmp_path), other)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_msgpack(dtype, tmp_path):
    model = tiny("ForPreTraining", param_dtype=dtype)
    model.save_pretrained(tmp_path)
    model.save_pretrained(tmp_path, safe_serialization=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "flax_model.msgpack"]
    assert json.loads((tmp_path / "config.json").read_text())["dtype"] == dtype
    assert same_params(FlaxWav2Vec2ForPreTraining.from_pretrained(tmp_path, param_dtype="auto"), model)


def test_msgpack_is_that_of_flax(tmp_path):
    from flax import serialization

    model = tiny("ForCTC")
    model.save_pretrained(tmp_path, safe_serialization=False)
    path = tmp_path / "flax_model.msgpack"
    tree = serialization.msgpack_restore(path.read_bytes())
    jax.tree.map(np.testing.assert_array_equal, tree, jax.device_get(model.params))
    path.write_bytes(serialization.to_bytes(jax.device_get(model.params)))
    checkpoint = open_checkpoint(open_model(tmp_path))
    for name, array in export_weights(model).items():
        assert np.array_equal(checkpoint.read(name), array), name
        assert checkpoint.read(name).flags.c_contiguous


def test_msgpack_in_shards(tmp_path):
    from flax import serialization

    from wav2vec2_flax.weights import flatten, nest

    model = tiny("ForCTC")
    flat = flatten(jax.device_get(model.params))
    paths, names = list(flat), ["flax_model-00001-of-00002.msgpack", "flax_model-00002-of-00002.msgpack"]
    for name, part in zip(names, (paths[::2], paths[1::2]), strict=True):
        (tmp_path / name).write_bytes(serialization.to_bytes(nest({path: flat[path] for path in part})))
    weight_map = {"/".join(path): names[number % 2] for number, path in enumerate(paths)}
    (tmp_path / "flax_model.msgpack.index.json").write_text(json.dumps({"weight_map": weight_map}))
    model.config.save_pretrained(tmp_path)
    assert same_params(FlaxWav2Vec2ForCTC.from_pretrained(tmp_path), model)


def test_dtypes(tmp_path):
    tiny("ForCTC").save_pretrained(tmp_path)
    model = FlaxWav2Vec2ForCTC.from_pretrained(tmp_path, dtype="bfloat16")
    assert (model.dtype.name, model.param_dtype.name) == ("bfloat16", "float32")
    model = FlaxWav2Vec2ForCTC.from_pretrained(tmp_path, param_dtype="float16")
    assert {leaf.dtype.name for leaf in jax.tree.leaves(model.params)} == {"float16"}
    with pytest.raises(ConfigError, match="dtype='int8' is no type for parameters"):
        FlaxWav2Vec2ForCTC.from_pretrained(tmp_path, dtype="int8")


def test_another_head_is_new_and_named_once(tmp_path, caplog):
    tiny("ForPreTraining").save_pretrained(tmp_path)
    with caplog.at_level(logging.WARNING, logger="wav2vec2_flax"):
        model = FlaxWav2Vec2ForCTC.from_pretrained(tmp_path, vocab_size=7, seed=3)
    assert model.params["lm_head"]["kernel"].shape == (32, 7)
    assert model.loading.new == ("lm_head.weight", "lm_head.bias")
    (record,) = caplog.records
    assert "lm_head.weight, lm_head.bias: newly initialised, train them before use" in record.getMessage()
    assert same_params(model, FlaxWav2Vec2ForCTC.from_pretrained(tmp_path, vocab_size=7, seed=3))
    assert not same_params(model, FlaxWav2Vec2ForCTC.from_pretrained(tmp_path, vocab_size=7, seed=4))


def test_missing_files_and_wrong_configurations(tmp_path):
    with pytest.raises(CheckpointError, match=r"has no config.json"):
        FlaxWav2Vec2Model.from_pretrained(tmp_path)
    tiny("ForCTC").save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="did you mean 'layerdrop'"):
        FlaxWav2Vec2ForCTC.from_pretrained(tmp_path, layer_drop=0.3)
    with pytest.raises(ParameterMismatchError, match="missing"):
        FlaxWav2Vec2ForCTC.from_pretrained(tmp_path, num_hidden_layers=3)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="has no weights"):
        FlaxWav2Vec2Model.from_pretrained(tmp_path)


# ---- language adapters --------------------------------------------------------------------------------------------


@pytest.fixture
def mms(tmp_path):
    """A folder with a model and the adapters ``abc`` (11 letters) and ``xyz`` (17)."""
    tiny("ForCTC", **MMS).save_pretrained(tmp_path)
    for seed, (language, letters) in enumerate({"abc": 11, "xyz": 17}.items(), 5):
        tiny("ForCTC", seed=seed, **MMS, vocab_size=letters).save_adapter(tmp_path, language)
    return tmp_path


def test_adapters_replace_adapters_and_vocabulary(mms):
    model = FlaxWav2Vec2ForCTC.from_pretrained(mms)
    body = export_weights(model)
    model.load_adapter("xyz")
    assert model.config.vocab_size == model.wav2vec2.config.vocab_size == 17
    other = export_weights(tiny("ForCTC", seed=6, **MMS, vocab_size=17))
    adapters = set(model.adapter_parameters())
    assert len(adapters) == 2 * 6 + 2
    for name, value in export_weights(model).items():
        assert np.array_equal(value, other[name] if name in adapters else body[name]), name
    assert jax.jit(lambda model: model(waveforms()).logits)(model).shape[-1] == 17
    assert same_params(FlaxWav2Vec2ForCTC.from_pretrained(mms, target_lang="xyz"), model)
    model.load_adapter("abc")
    assert model.params["lm_head"]["bias"].shape == (11,)


def test_unknown_and_hostile_languages(mms):
    with pytest.raises(InputError, match=r"no adapter for language 'xyy': did you mean 'xyz'\?"):
        FlaxWav2Vec2ForCTC.from_pretrained(mms, target_lang="xyy")
    with pytest.raises(InputError, match="must be letters, digits, '_' and '-'"):
        FlaxWav2Vec2ForCTC.from_pretrained(mms, target_lang="../abc")


def test_a_wrong_adapter_changes_nothing(mms):
    from wav2vec2_core.checkpoint import write_adapter

    good = tiny("ForCTC", seed=6, **MMS, vocab_size=17)
    tensors = {name: value for name, value in export_weights(good).items() if name in good.adapter_parameters()}
    tensors["wav2vec2.encoder.layers.1.adapter_layer.linear_1.weight"] = np.zeros((3, 3), np.float32)
    write_adapter(mms, "bad", tensors)
    model, before = FlaxWav2Vec2ForCTC.from_pretrained(mms), FlaxWav2Vec2ForCTC.from_pretrained(mms)
    with pytest.raises(ParameterMismatchError):
        model.load_adapter("bad")
    assert same_params(model, before)
    assert model.config == before.config


def test_labels_that_train_a_model_badly_are_warned_of():
    model = tiny("ForCTC")
    check_labels_are_warned_of(lambda labels: model(waveforms(), labels=labels))


def test_another_vocabulary_keeps_the_rows_of_shared_letters():
    check_resizing(tiny("ForCTC"), lambda model: model(waveforms()).logits)


def test_adapters_of_a_new_model(mms):
    model = FlaxWav2Vec2ForCTC(Wav2Vec2Config(**{**TINY, **MMS}))
    with pytest.raises(InputError, match="does not know where to look"):
        model.load_adapter("abc")
    model.load_adapter("abc", source=mms)
    assert np.array_equal(model.params["lm_head"]["bias"], tiny("ForCTC", seed=5, **MMS).params["lm_head"]["bias"])


def test_models_without_adapters_say_so(tmp_path):
    model = tiny("ForCTC")
    for action in (
        model.init_adapter_layers,
        model.adapter_parameters,
        model.freeze_all_but_adapters,
        lambda: model.save_adapter(tmp_path, "a"),
    ):
        with pytest.raises(InputError, match="a model without attention adapters: set adapter_attn_dim"):
            action()


def test_new_adapters_for_a_new_language():
    model = tiny("ForCTC", **MMS)
    before = export_weights(model)
    model.init_adapter_layers(seed=9)
    adapters = set(model.adapter_parameters())
    for name, value in export_weights(model).items():
        assert np.array_equal(value, before[name]) == (name not in adapters), name
    model.freeze_base_model()
    model.freeze_all_but_adapters()
    assert sum(jax.tree.leaves(model.trainable)) == len(adapters)


def test_pushing_to_the_hub_uploads_what_saving_writes(monkeypatch):
    calls = []

    class Hub:
        def __init__(self, token):
            self.token = token

        def create_repo(self, repo_id, *, private, exist_ok):
            return type("Repo", (), {"repo_id": f"me/{repo_id}"})()

        def upload_folder(self, *, repo_id, folder_path, commit_message, create_pr):
            same = same_params(FlaxWav2Vec2ForCTC.from_pretrained(folder_path), model)
            calls.append((repo_id, same, commit_message))
            return "commit"

    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    model = tiny("ForCTC")
    assert model.push_to_hub("digits") == "commit"
    assert calls == [("me/digits", True, "Upload FlaxWav2Vec2ForCTC")]
    assert relative(model.params["lm_head"]["bias"], model.params["lm_head"]["bias"]) == 0


def test_an_adapter_that_is_there_is_kept_on_request(mms):
    model = FlaxWav2Vec2ForCTC.from_pretrained(mms, target_lang="abc")
    loaded = model.arrays()["lm_head.weight"].copy()
    model.init_adapter_layers()
    changed = model.arrays()["lm_head.weight"].copy()
    model.load_adapter("abc", force_load=False)
    assert np.array_equal(model.arrays()["lm_head.weight"], changed)
    model.load_adapter("abc")
    assert np.array_equal(model.arrays()["lm_head.weight"], loaded)
    assert not np.array_equal(loaded, changed)
