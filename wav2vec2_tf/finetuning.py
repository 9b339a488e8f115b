"""A trainer for fine-tuning, from the files of a model."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from wav2vec2_core.checkpoint import Checkpoint
from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.errors import InputError
from wav2vec2_core.parameters import initial_values
from wav2vec2_core.training.recipe import TrainingRecipe
from wav2vec2_tf import heads
from wav2vec2_tf.distributed import open_strategy
from wav2vec2_tf.inference import device_named
from wav2vec2_tf.optimizers import Adam
from wav2vec2_tf.train import Trainer
from wav2vec2_tf.weights import fill_weights

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
        device: where to compute; ``"auto"`` is the GPU where there is one, or what ``tf.strategy`` says.

    Raises:
        CheckpointError: the checkpoint does not fit.
        BackendError: the device is not available.
        InputError: ``tf.strategy`` does not fit the device or TF_CONFIG.
    """
    strategy = open_strategy(recipe.tf.strategy)
    alone = recipe.tf.strategy == "none"
    if not alone and device != "auto":
        raise InputError(
            f"device is {device} and tf.strategy is {recipe.tf.strategy}, which chooses devices itself: leave one out"
        )
    kind: Any = getattr(heads, f"TFWav2Vec2{head}")
    policy = "mixed_bfloat16" if recipe.compute.dtype == "bfloat16" else "float32"
    with strategy.scope(), tf.device(device_named(device) if alone else None):
        model = kind.from_source(None, config=config, checkpoint=checkpoint, dtype=policy)
        model.compute_head_exactly()
        table = model.parameter_table()
        new = {name: table[name] for name in (model.loading.new if model.loading else ())}
        fill_weights(model, initial_values(new, recipe.seed))
        adam = recipe.optimizer
        optimizer = Adam(
            beta_1=adam.beta1, beta_2=adam.beta2, epsilon=adam.epsilon, weight_decay=adam.weight_decay or None
        )
        return Trainer(model, optimizer, seed=recipe.seed)
