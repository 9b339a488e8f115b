"""Classes of transformers that pick a model by its ``config.json``, over ours; see ``wav2vec2_core.auto``."""

from wav2vec2_core.auto import AutoModelClass
from wav2vec2_flax.heads import (
    FlaxWav2Vec2ForAudioFrameClassification,
    FlaxWav2Vec2ForCTC,
    FlaxWav2Vec2ForPreTraining,
    FlaxWav2Vec2ForSequenceClassification,
    FlaxWav2Vec2ForXVector,
)
from wav2vec2_flax.model import FlaxWav2Vec2Model


class FlaxAutoModel(AutoModelClass):
    """The body, without a head."""

    model_class = FlaxWav2Vec2Model


class FlaxAutoModelForPreTraining(AutoModelClass):
    """Models for pretraining."""

    model_class = FlaxWav2Vec2ForPreTraining


class FlaxAutoModelForCTC(AutoModelClass):
    """Models that transcribe."""

    model_class = FlaxWav2Vec2ForCTC


class FlaxAutoModelForAudioClassification(AutoModelClass):
    """Models with labels for whole recordings."""

    model_class = FlaxWav2Vec2ForSequenceClassification


class FlaxAutoModelForAudioFrameClassification(AutoModelClass):
    """Models with labels for frames."""

    model_class = FlaxWav2Vec2ForAudioFrameClassification


class FlaxAutoModelForAudioXVector(AutoModelClass):
    """Models with vectors for speakers."""

    model_class = FlaxWav2Vec2ForXVector
