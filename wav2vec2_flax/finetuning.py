"""A trainer for fine-tuning, from the files of a model."""

from __future__ import annotations

import optax

from wav2vec2_core.checkpoint import Checkpoint
from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_flax.heads import FlaxWav2Vec2ForCTC
from wav2vec2_flax.train import Trainer

#: Whether batches should have few shapes, as where a step is compiled for each.
FEW_SHAPES = True


def new_trainer(
    checkpoint: Checkpoint, config: Wav2Vec2Config, *, beta1: float, beta2: float, epsilon: float, seed: int
) -> Trainer:
    """A trainer of a CTC model in float32 with Adam, on the accelerator where there is one.

    Args:
        checkpoint: weights; a head that it lacks gets first values from ``seed``, the same in every back end.
        config: of the model.
        beta1, beta2, epsilon: Adam's.
        seed: of dropout too.

    Raises:
        CheckpointError: the checkpoint does not fit.
    """
    model = FlaxWav2Vec2ForCTC.from_source(None, config=config, checkpoint=checkpoint, seed=seed)
    return Trainer(model, optax.adam(1.0, b1=beta1, b2=beta2, eps=epsilon), seed=seed)
