"""Trainers for fine-tuning, from the files of a model."""

import jax
import pytest
from finetuning_cases import check_adapter_of_a_new_language, check_new_head, check_resume, make_steps, trainer_of

from wav2vec2_core.errors import InputError
from wav2vec2_flax import finetuning


@pytest.mark.parametrize("frozen", ["base_model", "feature_encoder"])
def test_a_run_goes_on_from_its_state(tmp_path, frozen):
    check_resume(finetuning, tmp_path, frozen=frozen, tolerance=0)


def test_a_new_head_has_the_values_of_the_seed(tmp_path):
    check_new_head(finetuning, tmp_path)


def test_the_adapter_of_a_new_language(tmp_path):
    check_adapter_of_a_new_language(finetuning, tmp_path)


def losses_with(*settings):
    trainer = trainer_of(finetuning, settings=settings)
    return trainer, [make_steps(trainer, number, number + 1) for number in range(3)]


@pytest.fixture(scope="module")
def plain():
    return losses_with()[1]


def test_computing_in_bfloat16(plain):
    """Parameters and the optimizer stay float32, and the losses stay those of float32."""
    trainer, narrow = losses_with('compute.dtype="bfloat16"')
    state = trainer.state
    kept = jax.tree.leaves((state.params, state.opt_state.mean, state.opt_state.square))
    assert {array.dtype.name for array in kept} == {"float32"}
    assert trainer.model.dtype == "bfloat16"
    assert narrow == pytest.approx(plain, rel=2e-2)
    assert narrow != pytest.approx(plain, rel=1e-6)


def test_a_loop_over_layers_that_computes_again_changes_no_number(plain):
    trainer, found = losses_with("flax.scan_layers=true", 'flax.remat="dots"')
    assert trainer.model.wav2vec2.encoder.scan
    assert trainer.model.is_gradient_checkpointing
    assert found == pytest.approx(plain, rel=1e-5)


def test_a_mesh_that_the_devices_do_not_make():
    with pytest.raises(InputError, match="data=3 times fsdp=1 is not the number of devices, 1: choose other sizes"):
        trainer_of(finetuning, settings=["flax.data=3"])
