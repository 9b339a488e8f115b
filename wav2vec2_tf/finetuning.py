"""A trainer for fine-tuning, from the files of a model."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from wav2vec2_core.checkpoint import Checkpoint
from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.parameters import initial_values
from wav2vec2_core.training.recipe import Recipe
from wav2vec2_tf import heads
from wav2vec2_tf.inference import device_named
from wav2vec2_tf.train import Trainer
from wav2vec2_tf.weights import fill_weights

#: Whether batches should have few shapes, as where a step is compiled for each.
FEW_SHAPES = True


def new_trainer(
    checkpoint: Checkpoint, config: Wav2Vec2Config, recipe: Recipe, *, head: str, device: str = "auto"
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
        BackendError: the device is not available.
    """
    kind: Any = getattr(heads, f"TFWav2Vec2{head}")
    with tf.device(device_named(device)):
        model = kind.from_source(None, config=config, checkpoint=checkpoint, dtype="float32")
        table = model.parameter_table()
        new = {name: table[name] for name in (model.loading.new if model.loading else ())}
        fill_weights(model, initial_values(new, recipe.seed))
        adam = recipe.optimizer
        optimizer = keras.optimizers.Adam(beta_1=adam.beta1, beta_2=adam.beta2, epsilon=adam.epsilon)
        return Trainer(model, optimizer, seed=recipe.seed)
