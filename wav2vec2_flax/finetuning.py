"""A trainer for fine-tuning, from the files of a model."""

from __future__ import annotations

from typing import Any

import jax
import optax

from wav2vec2_core.checkpoint import Checkpoint
from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.training.recipe import TrainingRecipe
from wav2vec2_flax import heads
from wav2vec2_flax.compiled import keep_compiled_code
from wav2vec2_flax.distributed import make_mesh
from wav2vec2_flax.inference import device_named
from wav2vec2_flax.train import Trainer, adam

#: Whether batches should have few shapes, as where a step is compiled for each.
FEW_SHAPES = True


def new_trainer(
    checkpoint: Checkpoint, config: Wav2Vec2Config, recipe: TrainingRecipe, *, head: str, device: str = "auto"
) -> Trainer:
    """A trainer of a model with the recipe's optimizer.

    Args:
        checkpoint: weights; a head that it lacks gets first values from the recipe's seed, the same in every back end.
        config: of the model.
        recipe: its seed, optimizer, computation and the section of this back end are used.
        head: the class of the model, without its prefix.
        device: where to compute; ``"auto"`` is the accelerator where there is one, and all of the processes'.

    Raises:
        CheckpointError: the checkpoint does not fit.
        BackendError: the device is not available.
        InputError: the recipe's mesh is not one of the devices.
    """
    keep_compiled_code()
    kind: Any = getattr(heads, f"FlaxWav2Vec2{head}")
    chosen, given = device_named(device), recipe.flax
    everywhere = device == "auto" or ":" not in device
    mesh = make_mesh(
        data=given.data or None,
        fsdp=given.fsdp,
        devices=jax.devices(chosen.platform) if everywhere else [chosen],
    )
    with jax.default_device(chosen):
        model = kind.from_source(
            None,
            config=config,
            checkpoint=checkpoint,
            seed=recipe.seed,
            dtype=recipe.compute.dtype,
            scan_layers=given.scan_layers,
            remat=None if given.remat == "none" else given.remat,
        )
        numbers = recipe.optimizer
        optimizer = adam(numbers.beta1, numbers.beta2, numbers.epsilon)
        if numbers.weight_decay > 0:
            optimizer = optax.chain(optimizer, optax.add_decayed_weights(-numbers.weight_decay))
        return Trainer(model, optimizer, seed=recipe.seed, mesh=mesh)
