"""Adam in every back end after more parameters are trained than before: each parameter counts its own updates."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from conformance.cases import find
from wav2vec2_core.checkpoint import Checkpoint
from wav2vec2_core.parameters import initial_values, parameter_table, trainable_names
from wav2vec2_core.training.recipe import read_recipe
from wav2vec2_core.training.steps import StepValues

HEAD = "ForCTC"
#: Updates of the head alone, then of all but the feature encoder.
FROZEN, TRAINED = 3, 2
LIMIT = 1e-5  # of the largest change of all parameters


def changes(backend: str, folder: Path) -> dict[str, np.ndarray]:
    """What the updates changed. The large epsilon keeps rounding out: a change follows its gradient."""
    config = find("ForCTC-base-even").config.replace(
        hidden_dropout=0.0, attention_dropout=0.0, activation_dropout=0.0, feat_proj_dropout=0.0, final_dropout=0.0,
        layerdrop=0.0, mask_time_prob=0.0, mask_feature_prob=0.0, ctc_loss_reduction="mean",
    )  # fmt: skip
    before = dict(initial_values(parameter_table(config, HEAD), 1))
    recipe = read_recipe("1h").changed(["optimizer.epsilon=1"])
    finetuning = importlib.import_module(f"wav2vec2_{backend}.finetuning")
    trainer = finetuning.new_trainer(Checkpoint.of(before), config, recipe, head=HEAD, device="cpu")
    for number in range(FROZEN + TRAINED):
        frozen = "base_model" if number < FROZEN else "feature_encoder"
        trainer.set_trainable(trainable_names(config, HEAD, frozen=frozen))
        generator = np.random.default_rng(number)
        batch = {
            "input_values": generator.standard_normal((2, 1500), np.float32),
            "labels": generator.integers(1, config.vocab_size, (2, 4), np.int32),
        }
        trainer.step([batch], number, StepValues(1e-2, 2.0))
    trainer.save_pretrained(folder)
    return {name: array - before[name] for name, array in load_file(folder / "model.safetensors").items()}


@pytest.mark.parametrize("backend", ["flax", "tf"])
def test_what_is_trained_later_counts_its_own_updates(backend: str, tmp_path: Path) -> None:
    expected, found = changes("torch", tmp_path / "torch"), changes(backend, tmp_path / backend)
    largest = max(np.abs(change).max() for change in expected.values())
    assert np.abs(expected["wav2vec2.encoder.layers.0.attention.v_proj.weight"]).max() > 1000 * LIMIT * largest
    errors = {name: float(np.abs(found[name] - change).max() / largest) for name, change in expected.items()}
    assert max(errors.values()) <= LIMIT, max(errors, key=errors.__getitem__)
