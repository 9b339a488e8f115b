"""Loading, saving, adapters and the hub."""

import json
import logging
import tracemalloc

import numpy as np
import pytest
import torch
from torch_models import NORMS, TINY, relative, tiny, waveforms
from vocabulary_cases import check_labels_are_warned_of, check_resizing

from wav2vec2_core.checkpoint import write_adapter
from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.errors import CheckpointError, ConfigError, InputError, OutputError, ParameterMismatchError
from wav2vec2_core.parameters import num_parameters
from wav2vec2_torch import (
    Wav2Vec2ForCTC,
    Wav2Vec2ForPreTraining,
    Wav2Vec2ForSequenceClassification,
    Wav2Vec2Model,
)

MMS = {**NORMS["layer-pre"], "adapter_attn_dim": 6}


def same_parameters(first, second):
    assert first.state_dict().keys() == second.state_dict().keys()
    return all(torch.equal(value, second.state_dict()[name]) for name, value in first.state_dict().items())


def test_round_trip(tmp_path):
    model = tiny("ForCTC")
    model.config.extra["custom"] = {"kept": True}
    model.save_pretrained(tmp_path)
    again = Wav2Vec2ForCTC.from_pretrained(tmp_path)
    assert same_parameters(model, again)
    assert not again.training
    assert again.config == model.config.replace(architectures=("Wav2Vec2ForCTC",), dtype="float32")
    assert again.loading.new == again.loading.ignored == ()
    assert all(parameter.requires_grad for parameter in again.parameters())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]


def test_shards(tmp_path):
    model = tiny("ForPreTraining")
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 3
    assert same_parameters(model, Wav2Vec2ForPreTraining.from_pretrained(tmp_path))
    model.save_pretrained(tmp_path)  # back to one file: the shards go
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    with pytest.raises(InputError, match="max_shard_size='huge' is no size"):
        model.save_pretrained(tmp_path / "other", max_shard_size="huge")
    assert not (tmp_path / "other").exists()


def test_dtypes(tmp_path):
    model = tiny("ForCTC").bfloat16()
    model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["dtype"] == "bfloat16"
    load = Wav2Vec2ForCTC.from_pretrained
    assert load(tmp_path).dtype == torch.float32
    assert same_parameters(load(tmp_path, dtype="auto"), model)
    for given in ({"dtype": "float16"}, {"dtype": torch.float16}, {"torch_dtype": torch.float16}):
        loaded = load(tmp_path, **given)
        assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float16}
        assert relative(loaded.lm_head.weight.float(), model.lm_head.weight.float()) < 1e-3
    with pytest.raises(ConfigError, match="dtype='int8' is no type for parameters: use 'auto' or one of float32"):
        load(tmp_path, dtype=torch.int8)


def test_another_head_is_new_and_named_once(tmp_path, caplog):
    tiny("ForPreTraining").save_pretrained(tmp_path)
    torch.manual_seed(3)
    with caplog.at_level(logging.WARNING, logger="wav2vec2_torch"):
        model = Wav2Vec2ForCTC.from_pretrained(tmp_path, vocab_size=7)
    assert model.lm_head.weight.shape == (7, 32)
    assert model.loading.new == ("lm_head.weight", "lm_head.bias")
    assert "quantizer.codevectors" in model.loading.ignored
    (record,) = caplog.records
    assert "lm_head.weight, lm_head.bias: newly initialised, train them before use" in record.getMessage()
    torch.manual_seed(3)
    assert same_parameters(model, Wav2Vec2ForCTC.from_pretrained(tmp_path, vocab_size=7))
    assert not same_parameters(model, Wav2Vec2ForCTC.from_pretrained(tmp_path, vocab_size=7))


def test_the_body_loads_from_a_head_and_the_other_way_round(tmp_path):
    model = tiny("ForCTC")
    model.save_pretrained(tmp_path / "head")
    body = Wav2Vec2Model.from_pretrained(tmp_path / "head")
    assert same_parameters(body, model.wav2vec2)
    body.save_pretrained(tmp_path / "body")
    assert same_parameters(Wav2Vec2ForCTC.from_pretrained(tmp_path / "body").wav2vec2, body)


def test_config_overrides(tmp_path):
    tiny("ForCTC").save_pretrained(tmp_path)
    assert Wav2Vec2ForCTC.from_pretrained(tmp_path, masked_group_norm=True, layerdrop=0.3).config.layerdrop == 0.3
    with pytest.raises(ConfigError, match="config field 'layer_drop' is unknown: did you mean 'layerdrop'"):
        Wav2Vec2ForCTC.from_pretrained(tmp_path, layer_drop=0.3)
    config = Wav2Vec2Config(**TINY, attention_dropout=0.7)
    assert Wav2Vec2ForCTC.from_pretrained(tmp_path, config=config).config == config


def test_wrong_sizes(tmp_path):
    tiny("ForSequenceClassification").save_pretrained(tmp_path)
    load = Wav2Vec2ForSequenceClassification.from_pretrained
    with pytest.raises(ParameterMismatchError, match=r"classifier.weight: ours \(3, 14\), theirs \(5, 14\)"):
        load(tmp_path, num_labels=3)
    model = load(tmp_path, num_labels=3, ignore_mismatched_sizes=True)
    assert model.loading.new == ("classifier.weight", "classifier.bias")
    with pytest.raises(ParameterMismatchError, match="missing"):
        load(tmp_path, num_hidden_layers=3)


def test_missing_files(tmp_path):
    with pytest.raises(CheckpointError, match=r"has no config.json"):
        Wav2Vec2Model.from_pretrained(tmp_path)
    Wav2Vec2Config(**TINY).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="has no weights"):
        Wav2Vec2Model.from_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="does not exist"):
        Wav2Vec2Model.from_pretrained(tmp_path / "nowhere")


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot create folder"):
        tiny().save_pretrained(tmp_path / "file" / "model")


def test_loading_needs_no_second_copy(tmp_path):
    config = Wav2Vec2Config(**{**TINY, "hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 12})
    Wav2Vec2ForCTC(config).save_pretrained(tmp_path)
    size = 4 * num_parameters(config, "ForCTC")
    assert size > 30e6
    tracemalloc.start()  # numpy reports its arrays, and the parameters are numpy's memory
    model = Wav2Vec2ForCTC.from_pretrained(tmp_path)
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept > 0.95 * size, "the test does not see the parameters"
    assert peak < 1.1 * size
    assert model.dtype == torch.float32


# ---- language adapters ----------------------------------------------------------------------------------------------


@pytest.fixture
def mms(tmp_path):
    """A folder with a model and the adapters ``abc`` (11 letters) and ``xyz`` (17)."""
    tiny("ForCTC", **MMS).save_pretrained(tmp_path)
    for seed, (language, letters) in enumerate({"abc": 11, "xyz": 17}.items(), 5):
        tiny("ForCTC", seed=seed, **MMS, vocab_size=letters).save_adapter(tmp_path, language)
    return tmp_path


def test_adapters_replace_adapters_and_vocabulary(mms):
    model = Wav2Vec2ForCTC.from_pretrained(mms)
    body = {name: value.clone() for name, value in model.state_dict().items()}
    model.load_adapter("xyz")
    assert model.config.vocab_size == model.wav2vec2.config.vocab_size == model.lm_head.out_features == 17
    other = tiny("ForCTC", seed=6, **MMS, vocab_size=17)
    adapters = set(model.adapter_parameters())
    assert len(adapters) == 2 * 6 + 2
    for name, value in model.state_dict().items():
        expected = other.state_dict()[name] if name in adapters else body[name]
        assert torch.equal(value, expected), name
    assert model(waveforms()).logits.shape[-1] == 17
    model.load_adapter("abc")
    assert model.lm_head.out_features == 11


def test_target_lang(mms):
    model = Wav2Vec2ForCTC.from_pretrained(mms, target_lang="xyz")
    expected = Wav2Vec2ForCTC.from_pretrained(mms)
    expected.load_adapter("xyz")
    assert same_parameters(model, expected)
    assert not model.training


def test_an_adapter_makes_up_for_a_missing_head(mms, caplog):
    Wav2Vec2Model.from_pretrained(mms).save_pretrained(mms / "body")
    for language in ("abc", "xyz"):
        (mms / f"adapter.{language}.safetensors").rename(mms / "body" / f"adapter.{language}.safetensors")
    model = Wav2Vec2ForCTC.from_pretrained(mms / "body", target_lang="xyz")
    assert model.loading.new == ()
    assert caplog.records == []


def test_adapters_take_over_type_and_freezing(mms):
    model = Wav2Vec2ForCTC.from_pretrained(mms, dtype="bfloat16")
    model.set_trainable(model.parameter_table().keys() - {"lm_head.weight", "lm_head.bias"})
    model.load_adapter("xyz")

    assert model.trainable_names() == model.parameter_table().keys() - {"lm_head.weight", "lm_head.bias"}
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize("language", ["../abc", "/etc/passwd", "a/b", "", "..", "a\0b"])
def test_hostile_languages(mms, language):
    with pytest.raises(InputError, match="must be letters, digits, '_' and '-'"):
        Wav2Vec2ForCTC.from_pretrained(mms, target_lang=language)


def test_unknown_language_lists_the_known(mms):
    with pytest.raises(InputError, match=r"no adapter for language 'xyy': did you mean 'xyz'\? use one of abc, xyz"):
        Wav2Vec2ForCTC.from_pretrained(mms, target_lang="xyy")


@pytest.mark.parametrize("fault", ["shape", "missing", "unexpected"])
def test_a_wrong_adapter_changes_nothing(mms, fault):
    good = tiny("ForCTC", seed=6, **MMS, vocab_size=17)
    tensors = {name: value.detach().numpy() for name, value in good.adapter_parameters().items()}
    name = "wav2vec2.encoder.layers.1.adapter_layer.linear_1.weight"
    if fault == "shape":
        tensors[name] = np.zeros((3, 3), np.float32)
    elif fault == "missing":
        del tensors[name]
    else:
        tensors["wav2vec2.encoder.layers.9.adapter_layer.norm.bias"] = np.zeros(3, np.float32)
    write_adapter(mms, "bad", tensors)
    model = Wav2Vec2ForCTC.from_pretrained(mms)
    before = Wav2Vec2ForCTC.from_pretrained(mms)
    with pytest.raises(ParameterMismatchError):
        model.load_adapter("bad")
    assert same_parameters(model, before)
    assert model.config == before.config


def test_labels_that_train_a_model_badly_are_warned_of():
    model = tiny("ForCTC")
    check_labels_are_warned_of(lambda labels: model(waveforms(), labels=torch.tensor(labels)))


def test_another_vocabulary_keeps_the_rows_of_shared_letters():
    check_resizing(tiny("ForCTC"), lambda model: model(waveforms()).logits)


def test_models_with_another_head_take_the_adapters_alone(mms):
    expected = Wav2Vec2ForCTC.from_pretrained(mms, target_lang="xyz")
    body = Wav2Vec2Model.from_pretrained(mms, target_lang="xyz")
    assert same_parameters(body, expected.wav2vec2)
    assert body.config.vocab_size == 11


def test_adapters_of_a_new_model(mms):
    model = Wav2Vec2ForCTC(Wav2Vec2Config(**TINY, **MMS))
    with pytest.raises(InputError, match="does not know where to look"):
        model.load_adapter("abc")
    model.load_adapter("abc", source=mms)
    assert torch.equal(model.lm_head.bias, tiny("ForCTC", seed=5, **MMS).lm_head.bias)


def test_models_without_adapters_say_so(tmp_path):
    for model in (tiny("ForCTC"), tiny("ForCTC", adapter_attn_dim=6)):
        for action in (
            model.init_adapter_layers,
            model.adapter_parameters,
            lambda m=model: m.save_adapter(tmp_path, "a"),
        ):
            with pytest.raises(InputError, match="a model without attention adapters: set adapter_attn_dim"):
                action()
    assert list(tmp_path.iterdir()) == []


def test_new_adapters_for_a_new_language():
    model = tiny("ForCTC", **MMS)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.init_adapter_layers()
    model.freeze_base_model()
    model.freeze_all_but_adapters()
    adapters = set(model.adapter_parameters())
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad == (name in adapters)
        assert torch.equal(parameter, before[name]) == (name not in adapters), name
    model.train()(waveforms(), labels=torch.ones(3, 4, dtype=torch.long)).loss.backward()
    assert all(parameter.grad is not None for parameter in model.adapter_parameters().values())


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
            same = same_parameters(Wav2Vec2ForCTC.from_pretrained(folder_path), model)
            calls.append(("upload", repo_id, same, commit_message, create_pr))
            return "commit"

    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    model = tiny("ForCTC")
    assert model.push_to_hub("digits", private=True, token="secret", create_pr=True) == "commit"
    assert calls == [
        ("token", "secret"),
        ("create", "digits", True, True),
        ("upload", "me/digits", True, "Upload Wav2Vec2ForCTC", True),
    ]


def test_an_adapter_that_is_there_is_kept_on_request(mms):
    model = Wav2Vec2ForCTC.from_pretrained(mms, target_lang="abc")
    loaded = model.arrays()["lm_head.weight"].copy()
    model.init_adapter_layers()
    changed = model.arrays()["lm_head.weight"].copy()
    model.load_adapter("abc", force_load=False)
    assert np.array_equal(model.arrays()["lm_head.weight"], changed)
    model.load_adapter("abc")
    assert np.array_equal(model.arrays()["lm_head.weight"], loaded)
    assert not np.array_equal(loaded, changed)
