"""Results as the bodies of answers, in the fields of OpenAI's API where it has some."""

from __future__ import annotations

import math
import zlib
from collections.abc import Collection
from typing import Any

from wav2vec2_core.alignment import Alignment
from wav2vec2_core.captions import Segment, TimedWord
from wav2vec2_core.serving.engine import Labels
from wav2vec2_core.transcription import Transcript

#: Formats of a transcription -> type of the content.
FORMATS = {
    "json": "application/json",
    "text": "text/plain; charset=utf-8",
    "srt": "text/plain; charset=utf-8",
    "vtt": "text/vtt; charset=utf-8",
    "verbose_json": "application/json",
}


def usage(seconds: float) -> dict[str, Any]:
    """What a request cost: the seconds of its recording, rounded up."""
    return {"type": "duration", "seconds": math.ceil(seconds)}


def transcription(transcript: Transcript, response_format: str, granularities: Collection[str]) -> dict[str, Any] | str:
    """A transcript in one of ``FORMATS``; ``granularities``: of ``verbose_json``, ``word`` and ``segment``."""
    match response_format:
        case "json":
            return {"text": transcript.text, "usage": usage(transcript.duration)}
        case "text":
            return transcript.text + "\n"
        case "verbose_json":
            return _verbose(transcript, granularities)
    return transcript.render(response_format)


def done(transcript: Transcript, *, response_format: str, granularities: Collection[str]) -> dict[str, Any]:
    """The last event of a stream: the text, and all fields of ``verbose_json`` where that was asked for."""
    if response_format == "verbose_json":
        fields = _verbose(transcript, granularities)
    else:
        fields = {"text": transcript.text, "usage": usage(transcript.duration)}
    return {"type": "transcript.text.done", **fields}


def delta(word: TimedWord, *, is_first: bool) -> dict[str, Any]:
    """The event of a word that is final: the next piece of the text, and its seconds."""
    text = word.text if is_first or word.joined else f" {word.text}"
    return {
        "type": "transcript.text.delta", "delta": text, "start": round(word.start, 3), "end": round(word.end, 3)
    }  # fmt: skip


def _verbose(transcript: Transcript, granularities: Collection[str]) -> dict[str, Any]:
    segments = transcript.segments
    found: dict[str, Any] = {
        "task": "transcribe",
        "language": transcript.language or "und",
        "duration": round(transcript.duration, 3),
        "text": transcript.text,
        "usage": usage(transcript.duration),
    }
    if "word" in granularities:
        found["words"] = [_word(word) for segment in segments for word in segment.words]
    if "segment" in granularities:
        found["segments"] = [_segment(number, segment) for number, segment in enumerate(segments)]
    if transcript.damage is not None:
        found["damage"] = {"seconds": transcript.damage.seconds, "reason": transcript.damage.reason}
    return found


def _segment(number: int, segment: Segment) -> dict[str, Any]:
    """With all fields of whisper's; ``avg_logprob`` is the mean over the words."""
    logs = [math.log(max(word.probability, 1e-10)) for word in segment.words]
    content = segment.text.encode()
    return {
        "id": number,
        "seek": 0,
        "start": round(segment.start, 3),
        "end": round(segment.end, 3),
        "text": segment.text,
        "tokens": [],
        "temperature": 0.0,
        "avg_logprob": round(sum(logs) / max(1, len(logs)), 4),
        "compression_ratio": round(len(content) / len(zlib.compress(content)), 4),
        "no_speech_prob": 0.0,
    }


def _word(word: TimedWord) -> dict[str, Any]:
    return {
        "word": word.text,
        "start": round(word.start, 3),
        "end": round(word.end, 3),
        "probability": round(word.probability, 4),
    }


def alignment(found: Alignment) -> dict[str, Any]:
    """Words and their characters in seconds."""
    words = [
        {
            **_word(word),
            "characters": [
                {"character": one.pop("word"), **one} for one in (_word(character) for character in word.characters)
            ],
        }
        for word in found.words
    ]
    segments = [
        {"start": round(one.start, 3), "end": round(one.end, 3), "text": one.text, "words": len(one.words)}
        for one in found.segments
    ]
    duration = round(found.duration, 3)
    return {"duration": duration, "words": words, "segments": segments, "usage": usage(duration)}


def classification(found: Labels) -> dict[str, Any]:
    """Labels of a recording, of stretches of it, or the vector of a speaker."""
    if found.labels is not None:
        return {"labels": [{"label": name, "score": round(score, 6)} for name, score in found.labels]}
    if found.spans is not None:
        return {
            "spans": [
                {"label": name, "start": round(start, 3), "end": round(end, 3), "score": round(score, 6)}
                for name, start, end, score in found.spans
            ]
        }
    assert found.speaker is not None
    return {"speaker": [float(value) for value in found.speaker]}


def embeddings(found: dict[int, Any], model: str) -> dict[str, Any]:
    """A vector for each layer, as OpenAI's embeddings with ``layer`` beside ``index``."""
    data = [
        {"object": "embedding", "index": index, "layer": layer, "embedding": [float(value) for value in vector]}
        for index, (layer, vector) in enumerate(found.items())
    ]
    return {"object": "list", "data": data, "model": model}
