"""The handler of Inference Endpoints over a model in numpy."""

import base64
import io
from types import SimpleNamespace

import pytest
import soundfile
from numpy_model import NumpyModel
from numpy_transcriber import RATE, make_transcriber, recording, save_processor

from wav2vec2_core.errors import AudioError, InputError
from wav2vec2_core.serving.endpoint import EndpointHandler


@pytest.fixture
def handler(tmp_path, monkeypatch):
    monkeypatch.setattr("wav2vec2_core.serving.engine.head_of_source", lambda source: "ForCTC")
    backend = SimpleNamespace(inference=SimpleNamespace(load_model=lambda source, **given: NumpyModel()))
    monkeypatch.setattr("wav2vec2_core.pipeline.load_backend", lambda name: backend)
    with EndpointHandler(save_processor(tmp_path / "model")) as one:
        yield one


def wav():
    target = io.BytesIO()
    soundfile.write(target, recording(3), RATE, format="WAV", subtype="FLOAT")
    return target.getvalue()


def test_bytes_and_base64_get_the_text_and_its_times(handler, tmp_path, monkeypatch):
    expected = make_transcriber(tmp_path, monkeypatch, NumpyModel()).transcribe((recording(3), RATE))
    assert expected.text
    encoded = base64.b64encode(wav()).decode()
    for inputs in (wav(), encoded, {"audio": encoded}, f"data:audio/wav;base64,{encoded}"):
        assert handler({"inputs": inputs}) == {"text": expected.text}
    timed = handler({"inputs": wav(), "parameters": {"return_timestamps": "word"}})
    assert [chunk["text"] for chunk in timed["chunks"]] == [word.text for word in expected.words]
    assert timed["chunks"][0]["timestamp"] == [
        round(expected.timed_words[0].start, 3), round(expected.timed_words[0].end, 3)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("call", "error", "part"),
    [
        ({"inputs": b"junk" * 100}, AudioError, "cannot"),
        ({"inputs": "?"}, InputError, "no base64"),
        ({}, InputError, "no recording"),
        (7, InputError, "no JSON object"),
        ({"inputs": wav(), "parameters": {"top_p": 1}}, InputError, "'top_p' is unknown"),
        ({"inputs": wav(), "parameters": {"return_timestamps": "char"}}, InputError, "'char'"),
    ],
)
def test_wrong_calls(handler, call, error, part):
    with pytest.raises(error, match=part):
        handler(call)
    assert handler._engine.waiting == 0
