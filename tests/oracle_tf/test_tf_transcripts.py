"""The TensorFlow back end writes what the PyTorch back end writes, text for text, and times and confidences with it."""

from pathlib import Path

import pytest

from wav2vec2_core.transcription import Transcriber

pytestmark = pytest.mark.oracle

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared" / "data"
RECORDINGS = [*sorted((ROOT / "samples").glob("*.flac")), *sorted(SHARED.rglob("*.flac"))[:40]]


def test_transcripts():
    torch, tf = (Transcriber(backend=backend, device="cpu") for backend in ("torch", "tf"))
    heard = set()
    for path in RECORDINGS:
        one, other = torch.transcribe(path), tf.transcribe(path)
        assert other.text == one.text, path
        assert [(word.text, word.start, word.end) for word in other.words] == [
            (word.text, word.start, word.end) for word in one.words
        ]
        for left, right in zip(other.words, one.words, strict=True):
            assert left.confidence == pytest.approx(right.confidence, abs=1e-4)
        heard.add(one.text)
    assert len(heard) > 1
