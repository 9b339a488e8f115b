"""What pretraining starts from: first values, or a model that goes on."""

import numpy as np
import pytest
from pretraining_cases import recipe
from safetensors.numpy import save_file

from wav2vec2_core.errors import CheckpointError, InputError
from wav2vec2_core.feature_extraction import Wav2Vec2FeatureExtractor
from wav2vec2_core.parameters import initial_values, parameter_table
from wav2vec2_core.source import open_model
from wav2vec2_core.training.pretraining_start import fresh_start, start_from


def write_model(folder, head="ForPreTraining", **fields):
    """A model of the recipe's architecture, from another seed."""
    config = recipe().architecture.config().replace(**fields)
    folder.mkdir()
    config.save_pretrained(folder)
    Wav2Vec2FeatureExtractor(do_normalize=False).save_pretrained(folder)
    values = dict(initial_values(parameter_table(config, head), 7))
    save_file(values, folder / "model.safetensors")
    return values


def start(folder):
    return start_from(open_model(folder), recipe())


def test_a_model_goes_on_with_its_heads_and_its_configuration(tmp_path):
    written = write_model(tmp_path / "model", layer_norm_eps=1e-6, num_negatives=3, mask_time_length=2)
    found = start(tmp_path / "model")
    assert found.notes == ()
    assert found.config.layer_norm_eps == 1e-6
    assert found.config.num_negatives == recipe().objective.num_negatives
    assert found.config.mask_time_length == recipe().model.mask_time_length
    assert found.config.feature_gradient_scale == 0.5
    assert not found.feature_extractor.do_normalize
    assert found.checkpoint.shapes.keys() == written.keys()
    name = "quantizer.codevectors"
    assert np.array_equal(found.checkpoint.read(name), written[name])


def test_a_model_of_another_task_gets_the_recipes_quantizer(tmp_path):
    write_model(tmp_path / "model", "ForCTC", codevector_dim=48, proj_codevector_dim=48)
    found = start(tmp_path / "model")
    assert found.config.codevector_dim == recipe().architecture.codevector_size
    (note,) = found.notes
    assert note.startswith("warning: model '")
    assert note.endswith(" has no project_hid, project_q, quantizer: these start anew from seed 0")


def test_another_architecture_is_refused(tmp_path):
    write_model(tmp_path / "model", hidden_size=48, num_hidden_layers=3, num_codevectors_per_group=4)
    message = (
        r"model '.*' has another architecture than the preset: hidden_size is 48 and 32; num_hidden_layers is 3 and 2; "
        r"num_codevectors_per_group is 4 and 8; use the preset of the model's own architecture, or leave out --model"
    )
    with pytest.raises(InputError, match=message):
        start(tmp_path / "model")


def test_a_folder_without_weights_is_refused(tmp_path):
    write_model(tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"has no weights to go on from: name a pretrained model, or leave out"):
        start(tmp_path / "model")


def test_a_fresh_model_is_that_of_the_seed():
    found = fresh_start(recipe("seed=3"))
    expected = dict(initial_values(parameter_table(recipe().config(), "ForPreTraining"), 3))
    assert all(np.array_equal(found.checkpoint.read(name), array) for name, array in expected.items())
    assert found.feature_extractor.do_normalize
    assert found.notes == ()
