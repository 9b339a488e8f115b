"""Trainers for fine-tuning, from the files of a model."""

import pytest
from finetuning_cases import check_adapter_of_a_new_language, check_new_head, check_resume

from wav2vec2_flax import finetuning


@pytest.mark.parametrize("frozen", ["base_model", "feature_encoder"])
def test_a_run_goes_on_from_its_state(tmp_path, frozen):
    check_resume(finetuning, tmp_path, frozen=frozen, tolerance=0)


def test_a_new_head_has_the_values_of_the_seed(tmp_path):
    check_new_head(finetuning, tmp_path)


def test_the_adapter_of_a_new_language(tmp_path):
    check_adapter_of_a_new_language(finetuning, tmp_path)
