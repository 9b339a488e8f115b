"""JAX models in programs that were written for transformers."""

import copy
import pickle

import jax
import numpy as np
import pytest
from dropin_checks import check_loading, check_questions, check_refusals, check_resized_heads, check_saving
from flax_models import TINY, tiny, waveforms

from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.errors import ConfigError
from wav2vec2_flax import FlaxWav2Vec2ForCTC


def test_loading(tmp_path):
    check_loading(tiny("ForCTC"), tmp_path)
    check_resized_heads(tiny("ForSequenceClassification"), tmp_path)


def test_saving(tmp_path):
    check_saving(tiny("ForCTC"), tmp_path, "flax_model.msgpack")


def test_questions():
    check_questions(tiny("ForCTC"))
    assert (tiny().framework, tiny().supports_gradient_checkpointing) == ("flax", True)


def test_parameters_apart(tmp_path):
    model = tiny("ForCTC")
    model.save_pretrained(tmp_path)
    loaded, params = FlaxWav2Vec2ForCTC.from_pretrained(tmp_path, _do_init=False)
    values = waveforms(1)
    assert np.array_equal(loaded(values, params=params).logits, model(values).logits)


@pytest.mark.parametrize(
    "copied", [lambda model: model, copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))]
)
def test_compiled_code_holds_the_configuration_so_nothing_of_it_changes(copied):
    model = copied(tiny("ForCTC"))
    jax.jit(lambda model, values: model(values).logits)(model, waveforms(1))
    check_refusals(model)
    with pytest.raises(ConfigError, match="ctc_loss_reduction='mean' cannot be set"):
        model.config.ctc_loss_reduction = "mean"


def test_gradient_checkpointing_from_the_configuration():
    model = FlaxWav2Vec2ForCTC(Wav2Vec2Config(**TINY, gradient_checkpointing=True))
    assert model.is_gradient_checkpointing
    assert "gradient_checkpointing" not in model.config.to_dict()
