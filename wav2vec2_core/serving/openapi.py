"""The server's OpenAPI document."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.metadata import version
from typing import Any

from wav2vec2_core.captions import FORMATS

_TEXT = {"type": "string"}
_FIELDS: dict[str, dict[str, Any]] = {
    "file": {"type": "string", "format": "binary", "description": "A recording or video of any format."},
    "model": {**_TEXT, "description": "The model that is served; by default that one."},
    "language": {**_TEXT, "description": "Of an MMS model: its code, or that of ISO 639-1."},
    "prompt": {**_TEXT, "description": "Words to prefer where the sound allows it."},
    "keywords": {"type": "array", "items": _TEXT, "description": "As prompt."},
    "response_format": {**_TEXT, "description": "json, text, srt, vtt, verbose_json; of embeddings json, npz."},
    "temperature": {"type": "number", "minimum": 0, "maximum": 2, "description": "Accepted, without effect."},
    "timestamp_granularities": {"type": "array", "items": {"type": "string", "enum": ["word", "segment"]}},
    "stream": {"type": "boolean", "description": "Server-sent events, as the text becomes final."},
    "chunking_strategy": {"type": "string", "enum": ["auto"], "description": "Accepted, without effect."},
    "text": {**_TEXT, "description": "What is said: lines, SRT or WebVTT."},
    "top_k": {"type": "integer", "minimum": 1, "description": "How many labels; by default all."},
    "layers": {**_TEXT, "description": "Numbers with commas: 0 is the transformer's input, -1 its last layer."},
}


def form_of(*names: str) -> dict[str, Any]:
    """The request body of an operation: a recording and fields; ``text`` is needed where it is among them."""
    properties = {name: _FIELDS[name] for name in ("file", *names)}
    schema = {
        "type": "object",
        "properties": properties,
        "required": ["file", *(name for name in names if name == "text")],
        "additionalProperties": False,
    }
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}


_WORD = {"word": _TEXT, "start": {"type": "number"}, "end": {"type": "number"}, "probability": {"type": "number"}}
_SEGMENT = {"text": _TEXT, "start": {"type": "number"}, "end": {"type": "number"}}
_CAPTIONS = {
    "type": "object",
    "properties": {
        "words": {"type": "array", "items": {"type": "object", "properties": _WORD}},
        "segments": {"type": "array", "items": {"type": "object", "properties": _SEGMENT}},
        "duration": {"type": "number"},
        "language": _TEXT,
        "name": _TEXT,
        "response_format": {**_TEXT, "enum": list(FORMATS)},
    },
    "required": ["words", "segments", "response_format"],
}
#: The request body of captions: an answer, as it was sent or corrected.
CAPTIONS: dict[str, Any] = {"requestBody": {"required": True, "content": {"application/json": {"schema": _CAPTIONS}}}}


def document(operations: Iterable[tuple[str, str, Any, Mapping[str, Any]]]) -> dict[str, Any]:
    """The document of operations: method, path, handler with a docstring, and request body, where there is one."""
    paths: dict[str, Any] = {}
    for method, path, handler, body in operations:
        name = path.replace(":path", "")
        given = [{"name": part[:-1], "in": "path", "required": True, "schema": _TEXT} for part in name.split("{")[1:]]
        described = {"summary": handler.__doc__, "operationId": handler.__name__, "parameters": given, **body}
        described["responses"] = {"200": {"description": "Done."}, "default": {"description": "An error, as OpenAI's."}}
        paths.setdefault(name, {})[method.lower()] = described
    info = {"title": "wav2vec2", "version": version("wav2vec2-frameworks")}
    return {"openapi": "3.1.0", "info": info, "paths": paths}
