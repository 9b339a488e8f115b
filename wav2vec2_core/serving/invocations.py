"""One model, one call: what SageMaker's containers and Hugging Face's Inference Endpoints ask for.

A call is a recording, as bytes or within JSON as base64, and parameters; the answer has the fields of transformers'
pipelines for the head that the model has.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any

from wav2vec2_core.audio import Recording
from wav2vec2_core.classification import FRAMES, SPEAKERS, UTTERANCES
from wav2vec2_core.errors import InputError, brief, listed
from wav2vec2_core.serving.answers import classification
from wav2vec2_core.serving.engine import Engine, Place
from wav2vec2_core.serving.fields import words_of
from wav2vec2_core.transcription import Transcript

#: What a call may ask for.
PARAMETERS = ("language", "prompt", "return_timestamps", "top_k")
#: Names under which JSON holds the recording.
_AUDIO = ("inputs", "audio", "data")


def read_call(content: Any) -> tuple[bytes, Mapping[str, Any]]:
    """The recording and the parameters of a call in JSON.

    ``{"inputs": AUDIO, "parameters": {...}}``, where AUDIO is base64, also within an object of its own. Bytes are taken
    as they are.

    Raises:
        InputError: there is no recording, or it is no base64.
    """
    if not isinstance(content, Mapping):
        raise InputError('the call is no JSON object: send {"inputs": "<base64 of a recording>"}')
    parameters = content.get("parameters") or {}
    if not isinstance(parameters, Mapping):
        raise InputError(f'"parameters" is {brief(parameters)}: send an object')
    audio = _audio_in(content)
    if isinstance(audio, Mapping):
        audio = _audio_in(audio)
    if isinstance(audio, bytes | bytearray):
        return bytes(audio), parameters
    if not isinstance(audio, str) or not audio:
        raise InputError('the call holds no recording: send {"inputs": "<base64 of a recording>"}')
    try:
        return base64.b64decode(audio.partition(";base64,")[2] or audio, validate=True), parameters
    except (binascii.Error, ValueError) as error:
        raise InputError('"inputs" is no base64: encode the bytes of a recording') from error


def begin(
    engine: Engine, place: Place, recording: Recording, parameters: Mapping[str, Any]
) -> tuple[Future[Any], Callable[[Any], Any]]:
    """Start a call: the future of its result, and what makes the answer, ready for JSON, of it.

    Raises:
        InputError: a parameter is unknown or has an impossible value.
    """
    unknown = [name for name in parameters if name not in PARAMETERS]
    if unknown:
        raise InputError(f"parameter {brief(unknown[0])} is unknown: use {listed(PARAMETERS)}")
    if engine.head == "ForCTC":
        language, prompt = parameters.get("language"), parameters.get("prompt") or ""
        for name, value in (("language", language or ""), ("prompt", prompt)):
            if not isinstance(value, str):
                raise InputError(f"parameter {name} is {brief(value)}: send a text")
        timestamps = parameters.get("return_timestamps", False)
        if timestamps not in (False, True, "word"):
            raise InputError(f'parameter return_timestamps is {brief(timestamps)}: send true, false or "word"')
        own = engine.check_language(language or None)
        future: Future[Any] = place.transcribe(recording, language=own, hotwords=words_of([prompt]))
        return future, lambda transcript: _transcript(transcript, timestamps)
    if engine.head in (UTTERANCES, FRAMES, SPEAKERS):
        top = parameters.get("top_k")
        if top is not None and (isinstance(top, bool) or not isinstance(top, int) or top < 1):
            raise InputError(f"parameter top_k is {brief(top)}: send a number of 1 or more")
        return place.classify(recording, top), lambda found: next(iter(classification(found).values()))
    return place.embed(recording), lambda found: [float(value) for value in next(iter(found.values()))]


def _audio_in(content: Mapping[str, Any]) -> Any:
    return next((content[name] for name in _AUDIO if content.get(name)), None)


def _transcript(transcript: Transcript, timestamps: bool | str) -> dict[str, Any]:
    found: dict[str, Any] = {"text": transcript.text}
    if timestamps:
        pieces = transcript.segments
        timed = [word for piece in pieces for word in piece.words] if timestamps == "word" else pieces
        found["chunks"] = [{"text": one.text, "timestamp": [round(one.start, 3), round(one.end, 3)]} for one in timed]
    return found
