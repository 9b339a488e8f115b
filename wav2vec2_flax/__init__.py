"""wav2vec 2.0 in JAX: the body and its five heads as flax.nnx modules, from and to the usual checkpoint files."""

from wav2vec2_flax.auto import (
    FlaxAutoModel,
    FlaxAutoModelForAudioClassification,
    FlaxAutoModelForAudioFrameClassification,
    FlaxAutoModelForAudioXVector,
    FlaxAutoModelForCTC,
    FlaxAutoModelForPreTraining,
)
from wav2vec2_flax.heads import (
    FlaxWav2Vec2ForAudioFrameClassification,
    FlaxWav2Vec2ForCTC,
    FlaxWav2Vec2ForPreTraining,
    FlaxWav2Vec2ForSequenceClassification,
    FlaxWav2Vec2ForXVector,
)
from wav2vec2_flax.model import FlaxWav2Vec2Model
from wav2vec2_flax.pretrained import FlaxWav2Vec2PreTrainedModel

__all__ = [
    "FlaxAutoModel",
    "FlaxAutoModelForAudioClassification",
    "FlaxAutoModelForAudioFrameClassification",
    "FlaxAutoModelForAudioXVector",
    "FlaxAutoModelForCTC",
    "FlaxAutoModelForPreTraining",
    "FlaxWav2Vec2ForAudioFrameClassification",
    "FlaxWav2Vec2ForCTC",
    "FlaxWav2Vec2ForPreTraining",
    "FlaxWav2Vec2ForSequenceClassification",
    "FlaxWav2Vec2ForXVector",
    "FlaxWav2Vec2Model",
    "FlaxWav2Vec2PreTrainedModel",
]
