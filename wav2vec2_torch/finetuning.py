"""A trainer for fine-tuning, from the files of a model."""

from __future__ import annotations

import torch

from wav2vec2_core.checkpoint import Checkpoint
from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.parameters import initial_values
from wav2vec2_torch.heads import Wav2Vec2ForCTC
from wav2vec2_torch.train import Trainer
from wav2vec2_torch.weights import fill_weights

#: Whether batches should have few shapes, as where a step is compiled for each.
FEW_SHAPES = False


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
    model = Wav2Vec2ForCTC.from_source(None, config=config, checkpoint=checkpoint, device_map="auto")
    table = model.parameter_table()
    new = {name: table[name] for name in (model.loading.new if model.loading else ())}
    fill_weights(model, initial_values(new, seed))
    fused = model.device.type == "cuda"  # so that the GPU can refuse a step by itself
    optimizer = torch.optim.Adam(model.parameters(), betas=(beta1, beta2), eps=epsilon, fused=fused)
    return Trainer(model, optimizer, seed=seed)
