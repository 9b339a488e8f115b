"""A trainer for fine-tuning, from the files of a model."""

from __future__ import annotations

from typing import Any

import torch

from wav2vec2_core.checkpoint import Checkpoint
from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.parameters import initial_values
from wav2vec2_core.training.recipe import TrainingRecipe
from wav2vec2_torch import distributed, heads
from wav2vec2_torch.inference import device_named
from wav2vec2_torch.train import Trainer
from wav2vec2_torch.weights import fill_weights

#: Whether batches should have few shapes, as where a step is compiled for each.
FEW_SHAPES = False


def new_trainer(
    checkpoint: Checkpoint, config: Wav2Vec2Config, recipe: TrainingRecipe, *, head: str, device: str = "auto"
) -> Trainer:
    """A trainer of a model with the recipe's optimizer.

    Args:
        checkpoint: weights; a head that it lacks gets first values from the recipe's seed, the same in every back end.
        config: of the model.
        recipe: its seed, optimizer, computation and the section of this back end are used.
        head: the class of the model, without its prefix.
        device: where to compute; ``"auto"`` is the GPU where there is one.

    Raises:
        CheckpointError: the checkpoint does not fit.
        BackendError: the device is not available, or another process has ended.
    """
    kind: Any = getattr(heads, f"Wav2Vec2{head}")
    model = kind.from_source(None, config=config, checkpoint=checkpoint, device_map=device_named(device))
    table = model.parameter_table()
    new = {name: table[name] for name in (model.loading.new if model.loading else ())}
    fill_weights(model, initial_values(new, recipe.seed))
    adam = recipe.optimizer
    parts = recipe.torch.sharding == "fsdp" and distributed.processes()[1] > 1
    if parts:
        distributed.shard(model)
    fused = not parts  # a GPU then refuses a step by itself; a processor is faster too
    kind = torch.optim.AdamW if adam.weight_decay > 0 else torch.optim.Adam
    betas = adam.beta1, adam.beta2
    optimizer = kind(model.parameters(), betas=betas, eps=adam.epsilon, weight_decay=adam.weight_decay, fused=fused)
    return Trainer(model, optimizer, seed=recipe.seed, dtype=getattr(torch, recipe.compute.dtype))
