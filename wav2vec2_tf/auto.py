"""Classes of transformers that pick a model by its ``config.json``, over ours; see ``wav2vec2_core.auto``."""

from wav2vec2_core.auto import AutoModelClass
from wav2vec2_tf.heads import (
    TFWav2Vec2ForAudioFrameClassification,
    TFWav2Vec2ForCTC,
    TFWav2Vec2ForPreTraining,
    TFWav2Vec2ForSequenceClassification,
    TFWav2Vec2ForXVector,
)
from wav2vec2_tf.model import TFWav2Vec2Model


class TFAutoModel(AutoModelClass):
    """The body, without a head."""

    model_class = TFWav2Vec2Model


class TFAutoModelForPreTraining(AutoModelClass):
    """Models for pretraining."""

    model_class = TFWav2Vec2ForPreTraining


class TFAutoModelForCTC(AutoModelClass):
    """Models that transcribe."""

    model_class = TFWav2Vec2ForCTC


class TFAutoModelForAudioClassification(AutoModelClass):
    """Models with labels for whole recordings."""

    model_class = TFWav2Vec2ForSequenceClassification


class TFAutoModelForAudioFrameClassification(AutoModelClass):
    """Models with labels for frames."""

    model_class = TFWav2Vec2ForAudioFrameClassification


class TFAutoModelForAudioXVector(AutoModelClass):
    """Models with vectors for speakers."""

    model_class = TFWav2Vec2ForXVector
