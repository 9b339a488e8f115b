"""Classes of transformers that pick a model by its ``config.json``, over ours; see ``wav2vec2_core.auto``."""

from wav2vec2_core.auto import AutoModelClass
from wav2vec2_torch.heads import (
    Wav2Vec2ForAudioFrameClassification,
    Wav2Vec2ForCTC,
    Wav2Vec2ForPreTraining,
    Wav2Vec2ForSequenceClassification,
    Wav2Vec2ForXVector,
)
from wav2vec2_torch.model import Wav2Vec2Model


class AutoModel(AutoModelClass):
    """The body, without a head."""

    model_class = Wav2Vec2Model


class AutoModelForPreTraining(AutoModelClass):
    """Models for pretraining."""

    model_class = Wav2Vec2ForPreTraining


class AutoModelForCTC(AutoModelClass):
    """Models that transcribe."""

    model_class = Wav2Vec2ForCTC


class AutoModelForAudioClassification(AutoModelClass):
    """Models with labels for whole recordings."""

    model_class = Wav2Vec2ForSequenceClassification


class AutoModelForAudioFrameClassification(AutoModelClass):
    """Models with labels for frames."""

    model_class = Wav2Vec2ForAudioFrameClassification


class AutoModelForAudioXVector(AutoModelClass):
    """Models with vectors for speakers."""

    model_class = Wav2Vec2ForXVector
