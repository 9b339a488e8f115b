"""wav2vec 2.0 in TensorFlow and Keras 3: the body and its five heads, from and to the checkpoints of Hugging Face."""

import wav2vec2_tf._keras_backend  # noqa: F401  first: it says what is wrong with Keras
from wav2vec2_tf.auto import (
    TFAutoModel,
    TFAutoModelForAudioClassification,
    TFAutoModelForAudioFrameClassification,
    TFAutoModelForAudioXVector,
    TFAutoModelForCTC,
    TFAutoModelForPreTraining,
)
from wav2vec2_tf.heads import (
    TFWav2Vec2ForAudioFrameClassification,
    TFWav2Vec2ForCTC,
    TFWav2Vec2ForPreTraining,
    TFWav2Vec2ForSequenceClassification,
    TFWav2Vec2ForXVector,
)
from wav2vec2_tf.model import TFWav2Vec2Model
from wav2vec2_tf.pretrained import TFWav2Vec2PreTrainedModel

__all__ = [
    "TFAutoModel",
    "TFAutoModelForAudioClassification",
    "TFAutoModelForAudioFrameClassification",
    "TFAutoModelForAudioXVector",
    "TFAutoModelForCTC",
    "TFAutoModelForPreTraining",
    "TFWav2Vec2ForAudioFrameClassification",
    "TFWav2Vec2ForCTC",
    "TFWav2Vec2ForPreTraining",
    "TFWav2Vec2ForSequenceClassification",
    "TFWav2Vec2ForXVector",
    "TFWav2Vec2Model",
    "TFWav2Vec2PreTrainedModel",
]
