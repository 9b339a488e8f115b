"""``pipeline(task, model=...)`` of programs written for transformers, with its arguments and results, over our own."""

from wav2vec2_core.pipelines.audio_classification import AudioClassificationPipeline
from wav2vec2_core.pipelines.base import KeyDataset, Pipeline
from wav2vec2_core.pipelines.making import pipeline
from wav2vec2_core.pipelines.speech_recognition import AutomaticSpeechRecognitionPipeline

__all__ = [
    "AudioClassificationPipeline",
    "AutomaticSpeechRecognitionPipeline",
    "KeyDataset",
    "Pipeline",
    "pipeline",
]
