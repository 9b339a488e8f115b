"""A trainer for fine-tuning, from the files of a model."""

from __future__ import annotations

import keras

from wav2vec2_core.checkpoint import Checkpoint
from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.parameters import initial_values
from wav2vec2_tf.heads import TFWav2Vec2ForCTC
from wav2vec2_tf.train import Trainer
from wav2vec2_tf.weights import fill_weights

#: Whether batches should have few shapes, as where a step is compiled for each.
FEW_SHAPES = True


def new_trainer(
    checkpoint: Checkpoint, config: Wav2Vec2Config, *, beta1: float, beta2: float, epsilon: float, seed: int
) -> Trainer:
    """A trainer of a CTC model in float32 with Adam, on the GPU where there is one.

    Args:
        checkpoint: weights; a head that it lacks gets first values from ``seed``, the same in every back end.
        config: of the model.
        beta1, beta2, epsilon: Adam's.
        seed: of dropout too.

    Raises:
        CheckpointError: the checkpoint does not fit.
    """
    model = TFWav2Vec2ForCTC.from_source(None, config=config, checkpoint=checkpoint, dtype="float32")
    table = model.parameter_table()
    new = {name: table[name] for name in (model.loading.new if model.loading else ())}
    fill_weights(model, initial_values(new, seed))
    return Trainer(model, keras.optimizers.Adam(beta_1=beta1, beta_2=beta2, epsilon=epsilon), seed=seed)
