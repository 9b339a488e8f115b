"""The handler of Hugging Face's Inference Endpoints, in the container that installs this package.

The model's repository holds a file ``handler.py`` with one line::

    from wav2vec2_core.serving.endpoint import EndpointHandler
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Self

from wav2vec2_core.audio import Recording
from wav2vec2_core.serving.engine import Engine
from wav2vec2_core.serving.invocations import begin, read_call
from wav2vec2_core.transcription import EMBEDDED_MODEL


class EndpointHandler:
    """Answers calls with the fields of transformers' pipelines, from any number of threads at once."""

    def __init__(self, path: str | os.PathLike[str] = "", **options: Any) -> None:
        """Load the model of a folder; by default the embedded one.

        ``options``: as ``Engine`` takes them. Raises as ``Engine``.
        """
        self._engine = Engine(path or EMBEDDED_MODEL, **options)

    def __call__(self, data: Mapping[str, Any]) -> Any:
        """One call: ``{"inputs": BYTES or base64, "parameters": {...}}``, see ``invocations``.

        Raises:
            InputError: the call or a parameter is wrong.
            AudioError: the recording cannot be read or is too long.
            Busy: the queue is full.
        """
        audio, parameters = read_call(data)
        with self._engine.place() as place:
            future, answer = begin(self._engine, place, Recording.from_bytes(audio), parameters)
            return answer(future.result())

    def close(self) -> None:
        """Finish what was accepted, and end the threads."""
        self._engine.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
