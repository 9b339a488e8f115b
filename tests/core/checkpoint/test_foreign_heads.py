"""Models of the community whose heads no class here computes: refused by name, with what to do."""

import json

import numpy as np
import pytest
from model_cases import TINY
from random_models import random_tensors

from wav2vec2_core.checkpoint import open_checkpoint, open_model, plan_loading, write_checkpoint
from wav2vec2_core.classification import Classifier
from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.errors import CheckpointError, ParameterMismatchError
from wav2vec2_core.parameters import parameter_table

#: Whose model -> the class that its config.json names, and its last layer.
MODELS = {
    "audeering's": ("Wav2Vec2ForSpeechClassification", "classifier.out_proj"),
    "ehcalabres'": ("Wav2Vec2ForSequenceClassification", "classifier.output"),
}


@pytest.fixture(params=MODELS)
def model(request, tmp_path):
    """A file in the layout of such a model, tiny: a dense layer of the body's width, tanh, three outputs."""
    architecture, last = MODELS[request.param]
    config = Wav2Vec2Config(**{**TINY, "num_labels": 3})
    width = config.hidden_size
    tensors = {f"wav2vec2.{name}": array for name, array in random_tensors(config, "Model").items()}
    for name, shape in (("classifier.dense", (width, width)), (last, (3, width))):
        tensors |= {f"{name}.weight": np.ones(shape, np.float32), f"{name}.bias": np.ones(shape[:1], np.float32)}
    write_checkpoint(tmp_path, tensors)
    (tmp_path / "config.json").write_text(json.dumps({**config.to_dict(), "architectures": [architecture]}))
    return request.param, tmp_path, config


def test_classification_names_the_model_and_the_way_out(model):
    whose, folder, config = model
    checkpoint = open_checkpoint(open_model(folder))
    message = rf"has the head of {whose} .*with tanh between them.* take the hidden states of its body .*wav2vec2 embed"
    with pytest.raises(ParameterMismatchError, match=message) as caught:
        plan_loading(parameter_table(config, "ForSequenceClassification"), checkpoint)
    assert "\n" not in str(caught.value)
    with pytest.raises(CheckpointError, match=message):
        Classifier(folder)


def test_the_body_is_read(model):
    _, folder, config = model
    plan = plan_loading(parameter_table(config, "Model"), open_checkpoint(open_model(folder)))
    assert not plan.new
    assert {name.partition(".")[0] for name in plan.ignored} == {"classifier"}
