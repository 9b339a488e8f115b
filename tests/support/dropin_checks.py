"""What programs written for transformers pass to a model and ask of it; the same for every back end."""

import json
import math

import numpy as np
import pytest

from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.errors import CheckpointError, ConfigError, InputError, ParameterMismatchError
from wav2vec2_core.loading_options import IGNORED_IN_LOADING, REFUSED_IN_LOADING, REFUSED_IN_SAVING


class TheirConfig:
    """As much of a ``transformers.Wav2Vec2Config`` as is read."""

    model_type = "wav2vec2"

    def __init__(self, config):
        self.values = config.to_dict()

    def to_dict(self):
        return {**self.values, "transformers_version": "4.57.6", "max_length": 20}


def check_loading(model, folder):
    """Every keyword of transformers' ``from_pretrained`` is honoured, ignored or refused in one line."""
    model.save_pretrained(folder)
    kind, values = type(model), model.arrays()

    def load(name=folder, **options):
        return kind.from_pretrained(name, **options)

    def same(loaded):
        return all(np.array_equal(array, values[name]) for name, array in loaded.arrays().items())

    nothing = {name: harmless[0] for name, (harmless, _) in REFUSED_IN_LOADING.items()}
    ignored = {name: "anything" for name in IGNORED_IN_LOADING if name != "use_safetensors"}
    assert same(kind.from_pretrained(pretrained_model_name_or_path=folder, **ignored, **nothing))
    for name in REFUSED_IN_LOADING.keys() - set(kind.own_options):
        with pytest.raises(InputError, match=rf"{name}='something' is not supported here: ") as caught:
            load(**{name: "something"})
        assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match="'colour' is unknown"):
        load(colour="red")

    assert load(torch_dtype="float16").arrays().popitem()[1].dtype == load(dtype="float16").arrays().popitem()[1].dtype
    loaded, info = load(output_loading_info=True)
    assert same(loaded)
    assert info == {"missing_keys": [], "unexpected_keys": [], "mismatched_keys": [], "error_msgs": []}
    assert same(load(use_safetensors=True))
    with pytest.raises(CheckpointError, match="other weights than use_safetensors=False asks for"):
        load(use_safetensors=False)
    assert loaded.name_or_path == loaded.config.name_or_path == str(folder)
    assert same(load(config=TheirConfig(model.config)))
    assert same(load(config=str(folder)))
    assert kind(TheirConfig(model.config)).config == model.config.replace().of(TheirConfig(model.config))
    with pytest.raises(ConfigError, match="config is a int"):
        kind(3)

    halves = {name: array / 2 for name, array in values.items()}
    for loaded in (load(state_dict=halves), load(None, config=model.config, state_dict=halves)):
        assert all(np.array_equal(array, halves[name]) for name, array in loaded.arrays().items())
    with pytest.raises(InputError, match="needs config and state_dict"):
        load(None, config=model.config)
    with pytest.raises(InputError, match="state_dict must map names to arrays"):
        load(state_dict=[1])


def check_resized_heads(classifier, folder):
    """A head of another size: new on request, and said so."""
    classifier.save_pretrained(folder)
    loaded, info = type(classifier).from_pretrained(
        folder, num_labels=3, ignore_mismatched_sizes=True, output_loading_info=True
    )
    width = classifier.config.classifier_proj_size
    assert info["mismatched_keys"] == [("classifier.weight", (5, width), (3, width)), ("classifier.bias", (5,), (3,))]
    assert info["missing_keys"] == []
    assert loaded.config.num_labels == len(loaded.config.id2label) == 3


def check_saving(model, folder, own_file):
    """Every keyword of transformers' ``save_pretrained``."""
    kind, values = type(model), model.arrays()
    model.save_pretrained(folder / "none", is_main_process=False)
    assert not (folder / "none").exists()
    ignored = {"save_function": print, "save_peft_format": True, "push_to_hub": False, "token": None}
    model.save_pretrained(folder / "shards", max_shard_size="20KB", safe_serialization=True, **ignored)
    assert (folder / "shards" / "model.safetensors.index.json").exists()
    model.save_pretrained(folder / "own", safe_serialization=False)
    assert sorted(path.name for path in (folder / "own").iterdir()) == sorted(["config.json", own_file])
    halves = {name: array / 2 for name, array in values.items()}
    model.save_pretrained(folder / "halves", state_dict=halves)
    assert json.loads((folder / "halves" / "config.json").read_text())["architectures"] == [f"Wav2Vec2{kind.head}"]
    for name, expected in (("shards", values), ("own", values), ("halves", halves)):
        loaded = kind.from_pretrained(folder / name).arrays()
        assert all(np.array_equal(loaded[one], expected[one]) for one in expected), name
    for name in REFUSED_IN_SAVING:
        with pytest.raises(InputError, match=rf"{name}='something' is not supported here: "):
            model.save_pretrained(folder / "never", **{name: "something"})
    with pytest.raises(InputError, match="save_pretrained has no option 'colour'"):
        model.save_pretrained(folder / "never", colour="red")
    with pytest.raises(ParameterMismatchError, match="state_dict does not fit the model"):
        model.save_pretrained(folder / "never", state_dict={"lm_head.bias": np.zeros(3)})
    assert not (folder / "never").exists()


def check_questions(model):
    """Attributes and methods that training scripts read."""
    sizes = {name: math.prod(row.shape) for name, row in model.parameter_table().items()}
    assert model.num_parameters() == sum(sizes.values())
    model.freeze_feature_extractor()
    frozen = sum(size for name, size in sizes.items() if ".feature_extractor." in name)
    unused = 0 if model.config.apply_spec_augment else model.config.hidden_size
    assert model.num_parameters(only_trainable=True) == sum(sizes.values()) - frozen - unused
    assert model._get_feat_extract_output_lengths(1500) == model.config.num_frames(1500)
    assert model.get_output_embeddings() is getattr(model, "lm_head", None)
    assert (model.base_model_prefix, model.main_input_name) == ("wav2vec2", "input_values")
    assert model.config_class is Wav2Vec2Config
    assert not model.can_generate()


def check_refusals(model):
    """What a model was built with does not change under it."""
    for name, value in (("hidden_dropout", 0.5), ("num_labels", 3), ("masked_group_norm", True), ("vocab_size", 7)):
        before = getattr(model.config, name)
        with pytest.raises(ConfigError, match=rf"{name}={value} cannot be set: the model was built with {before}"):
            setattr(model.config, name, value)
        assert getattr(model.config, name) == before
    assert model.config.replace(hidden_dropout=0.5).hidden_dropout == 0.5
