"""Emotion models of the community: their heads are told by the names of their parameters, or refused."""

import json
import re

import numpy as np
import pytest
from emotion_models import LAYOUTS, write_emotion_model
from model_cases import TINY
from random_models import random_tensors

from wav2vec2_core.checkpoint import open_checkpoint, open_model, plan_loading, with_head_of, write_checkpoint
from wav2vec2_core.classification import Classifier, head_of_source
from wav2vec2_core.cli.info import info
from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.conversion import convert
from wav2vec2_core.errors import CheckpointError, ConfigError
from wav2vec2_core.parameters import parameter_table

HEAD = "ForSequenceClassification"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_head_is_told_by_its_parameters(layout, tmp_path, capsys):
    tensors = write_emotion_model(tmp_path, layout)
    source = open_model(tmp_path)
    checkpoint = open_checkpoint(source)
    assert head_of_source(source) == HEAD
    read = Wav2Vec2Config.from_source(source)
    assert read.classifier_head == "linear", "config.json does not say so"
    config = with_head_of(read, HEAD, checkpoint.shapes)
    assert config == read.replace(classifier_head="tanh")
    for other in ("Model", "ForCTC", "ForAudioFrameClassification"):
        assert with_head_of(read, other, checkpoint.shapes) == read
    plan = plan_loading(parameter_table(config, HEAD), checkpoint)
    assert not plan.new
    assert not plan.ignored
    np.testing.assert_array_equal(checkpoint.read("classifier.out_proj.weight"), tensors["classifier.last.weight"])
    body = plan_loading(parameter_table(read, "Model"), checkpoint)
    assert {name.partition(".")[0] for name in body.ignored} == {"classifier"}
    info(str(tmp_path), offline=True)
    printed = capsys.readouterr().out
    assert "Wav2Vec2ForSequenceClassification, with a layer of tanh" in printed
    assert re.search("^complete +yes$", printed, re.MULTILINE)


def test_what_is_written_says_what_its_head_is(tmp_path):
    tensors = write_emotion_model(tmp_path / "theirs", "ehcalabres")
    convert(tmp_path / "theirs", tmp_path / "ours", verify=False)
    written = json.loads((tmp_path / "ours" / "config.json").read_text())
    assert written["classifier_head"] == "tanh"
    checkpoint = open_checkpoint(open_model(tmp_path / "ours"))
    np.testing.assert_array_equal(checkpoint.read("classifier.out_proj.weight"), tensors["classifier.last.weight"])


def test_another_way_of_pooling_is_refused(tmp_path):
    write_emotion_model(tmp_path, "audeering", pooling_mode="max")
    source = open_model(tmp_path)
    with pytest.raises(ConfigError, match="pooling_mode='max' is not computed: frames are pooled by their mean; take"):
        with_head_of(Wav2Vec2Config.from_source(source), HEAD, open_checkpoint(source).shapes)


def test_two_heads_in_one_model_are_refused_by_name(tmp_path):
    """audeering's models of age and gender."""
    config = Wav2Vec2Config(**TINY)
    tensors = {f"wav2vec2.{name}": array for name, array in random_tensors(config, "Model").items()}
    for head, outputs in (("age", 1), ("gender", 3)):
        for layer, rows in (("dense", 32), ("out_proj", outputs)):
            tensors[f"{head}.{layer}.weight"] = np.ones((rows, 32), np.float32)
            tensors[f"{head}.{layer}.bias"] = np.ones(rows, np.float32)
    write_checkpoint(tmp_path, tensors)
    (tmp_path / "config.json").write_text(json.dumps({**config.to_dict(), "architectures": ["AgeGenderModel"]}))
    with pytest.raises(CheckpointError, match=r"has two heads, for age and gender, .* take the hidden states .*embed"):
        Classifier(tmp_path)
    plan = plan_loading(parameter_table(config, "Model"), open_checkpoint(open_model(tmp_path)))
    assert not plan.new, "the body is read"
