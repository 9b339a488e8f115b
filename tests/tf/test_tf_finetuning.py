"""Trainers for fine-tuning, from the files of a model."""

import pytest
from finetuning_cases import (
    CONFIG,
    check_adapter_of_a_new_language,
    check_new_head,
    check_resume,
    make_steps,
    trainer_of,
)

from wav2vec2_core.checkpoint import Checkpoint
from wav2vec2_core.errors import InputError
from wav2vec2_core.training.recipe import read_recipe
from wav2vec2_tf import finetuning


@pytest.mark.parametrize("frozen", ["base_model", "feature_encoder"])
def test_a_run_goes_on_from_its_state(tmp_path, frozen):
    check_resume(finetuning, tmp_path, frozen=frozen, tolerance=1e-6)


def test_a_new_head_has_the_values_of_the_seed(tmp_path):
    check_new_head(finetuning, tmp_path)


def test_the_adapter_of_a_new_language(tmp_path):
    check_adapter_of_a_new_language(finetuning, tmp_path)


def losses_in(dtype):
    trainer = trainer_of(finetuning, settings=[f'compute.dtype="{dtype}"'])
    return trainer, [make_steps(trainer, number, number + 1) for number in range(4)]


def test_computing_in_bfloat16():
    """Parameters and the optimizer stay float32, and the losses stay those of float32."""
    trainer, narrow = losses_in("bfloat16")
    assert {variable.dtype for variable in (*trainer.model.trainable_variables, *trainer.optimizer.variables[2:])} == {
        "float32"
    }
    _, wide = losses_in("float32")
    assert narrow == pytest.approx(wide, rel=2e-2)
    assert narrow != pytest.approx(wide, rel=1e-6)


def test_a_strategy_chooses_the_devices():
    recipe = read_recipe("1h").changed(['tf.strategy="mirrored"'])
    with pytest.raises(InputError, match=r"device is cpu and tf\.strategy is mirrored, which chooses devices itself"):
        finetuning.new_trainer(Checkpoint.of({}), CONFIG, recipe, head="ForCTC", device="cpu")
