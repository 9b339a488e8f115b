"""A transcriber over the model in numpy, so that the pipeline is tested without a framework."""

import json
from types import SimpleNamespace

import numpy as np
import soundfile
from numpy_model import NumpyModel

from wav2vec2_core import Wav2Vec2CTCTokenizer, Wav2Vec2FeatureExtractor, Wav2Vec2Processor
from wav2vec2_core.transcription import Transcriber

RATE = 1000
TOKENS = ["<pad>", "|", "a", "b", "c", "d", "e", "f"]


def save_processor(folder, **options):
    """A processor for ``NumpyModel`` at 1000 Hz."""
    folder.mkdir(exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({token: index for index, token in enumerate(TOKENS)}))
    none = {"bos_token": None, "eos_token": None, "unk_token": None}
    tokenizer = Wav2Vec2CTCTokenizer(folder / "vocab.json", **none)
    Wav2Vec2Processor(Wav2Vec2FeatureExtractor(sampling_rate=RATE, **options), tokenizer).save_pretrained(folder)
    return folder


def make_transcriber(folder, monkeypatch, model=None, **options):
    """A ``Transcriber`` whose back end gives ``model``."""
    model = model or NumpyModel()
    backend = SimpleNamespace(inference=SimpleNamespace(load_model=lambda source, **given: model))
    monkeypatch.setattr("wav2vec2_core.pipeline.load_backend", lambda name: backend)
    return Transcriber(save_processor(folder / "model"), **options)


def recording(seconds, seed=0):
    """Noise whose level drifts."""
    samples = np.random.default_rng(seed).normal(0.1, 0.2, round(seconds * RATE))
    return (samples * np.linspace(0.3, 1, len(samples))).clip(-1, 1).astype(np.float32)


def write(path, samples):
    soundfile.write(path, samples, RATE, subtype="FLOAT")
    return path
