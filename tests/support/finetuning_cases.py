"""What every back end's module ``finetuning`` must do, on a tiny model."""

import numpy as np
import pytest
from model_cases import QUIET, TINY
from random_models import FAMILIES, make_folder

from wav2vec2_core.checkpoint import Checkpoint, adapter_table, open_checkpoint, open_model, read_adapter
from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.parameters import initial_values, parameter_table, trainable_names
from wav2vec2_core.training.recipe import read_recipe
from wav2vec2_core.training.steps import StepValues
from wav2vec2_core.training.tasks import OpenedModel
from wav2vec2_core.training.tasks.ctc_start import choose_start

# No masks: what a batch does not hold, a model draws by itself, and not from the number of the step.
CONFIG = Wav2Vec2Config(
    **{**TINY, **QUIET, "hidden_dropout": 0.1, "mask_time_prob": 0.0, "ctc_loss_reduction": "mean", "pad_token_id": 0}
)


def trainer_of(finetuning, *, without_head=False, seed=5, settings=()):
    arrays = dict(initial_values(parameter_table(CONFIG, "ForCTC"), 1))
    if without_head:
        arrays = {name: array for name, array in arrays.items() if not name.startswith("lm_head")}
    recipe = read_recipe("1h").changed([f"seed={seed}", *settings])
    return finetuning.new_trainer(Checkpoint.of(arrays), CONFIG, recipe, head="ForCTC")


def make_steps(trainer, first, end):
    """Updates on noise that depends on the number of the step; the last loss."""
    loss = None
    for number in range(first, end):
        generator = np.random.default_rng(number)
        batch = {
            "input_values": generator.standard_normal((2, 1500), np.float32),
            "labels": generator.integers(1, 11, (2, 6), np.int32),
        }
        loss = trainer.fetch(trainer.step([batch], number, StepValues(1e-3, 2.0)))["loss"]
    return loss


def parameters(trainer, folder):
    trainer.save_pretrained(folder)
    from safetensors.numpy import load_file

    return load_file(folder / "model.safetensors")


def check_resume(finetuning, folder, *, frozen, tolerance):
    """Two steps, a checkpoint, two more; and the same from the checkpoint with a new trainer."""
    names = trainable_names(CONFIG, "ForCTC", frozen=frozen)
    one = trainer_of(finetuning)
    one.set_trainable(names)
    make_steps(one, 0, 2)
    one.save_state(folder / "state")()
    loss = make_steps(one, 2, 4)
    other = trainer_of(finetuning)
    other.set_trainable(names)
    other.load_state(folder / "state")
    assert make_steps(other, 2, 4) == pytest.approx(loss, rel=tolerance)
    expected, found = parameters(one, folder / "one"), parameters(other, folder / "other")
    start = dict(initial_values(parameter_table(CONFIG, "ForCTC"), 1))
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, rtol=0, atol=tolerance, err_msg=name)
        assert np.array_equal(array, start[name]) == (name not in names or name.endswith("masked_spec_embed")), name


def check_new_head(finetuning, folder):
    """A head that the checkpoint lacks starts with the values of the seed, in every back end the same."""
    found = parameters(trainer_of(finetuning, without_head=True), folder / "model")
    table = parameter_table(CONFIG, "ForCTC")
    new = {name: row for name, row in table.items() if name.startswith("lm_head")}
    for name, array in initial_values(new, 5):
        assert np.array_equal(found[name], array), name


def check_adapter_of_a_new_language(finetuning, folder):
    """Adapters and head start with the values of the seed and alone change; the result is saved as an adapter."""
    fields = {**QUIET, **FAMILIES["mms"], "mask_time_prob": 0.0}
    make_folder(folder / "mms", vocabulary=None, **fields)
    source = open_model(folder / "mms")
    opened = OpenedModel(source, Wav2Vec2Config.from_source(source), open_checkpoint(source), seed=5)
    start = choose_start(opened, ["abc"], adapter="xyz")
    recipe = read_recipe("1h").changed(["seed=5"])
    trainer = finetuning.new_trainer(start.checkpoint, start.config, recipe, head="ForCTC")
    before = parameters(trainer, folder / "before")
    new = adapter_table(start.config, "ForCTC")
    given = dict(initial_values(new, 5))
    for name, array in before.items():
        expected = given[name] if name in new else opened.checkpoint.read(name)
        assert np.array_equal(array, expected), name
    trainer.set_trainable(trainable_names(start.config, "ForCTC", frozen=start.frozen))
    generator = np.random.default_rng(0)
    for number in range(2):
        batch = {
            "input_values": generator.standard_normal((2, 1500), np.float32),
            "labels": generator.integers(5, 8, (2, 6), np.int32),
        }
        trainer.step([batch], number, StepValues(1e-3, 2.0))
    after = parameters(trainer, folder / "after")
    start.save(folder / "after")
    written = open_checkpoint(open_model(folder / "after"))
    adapter = read_adapter(open_model(folder / "after"), "xyz")
    assert set(adapter.shapes) == set(new)
    for name, array in after.items():
        assert np.array_equal(array, before[name]) == (name not in new), name
        assert name not in new or np.array_equal(adapter.read(name), written.read(name)), name
