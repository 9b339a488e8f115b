"""Closed, full or abandoned standard streams: lost results are an error, lost notes are not."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

from wav2vec2_core.errors import InputError

_CLOSED = "it is closed"


class ResultsLost(Exception):  # noqa: N818 (an event; no Wav2Vec2Error, as it stops a command and not one recording)
    """stdout cannot be written; the message is one line."""


@contextmanager
def standard_streams() -> Iterator[None]:
    """Watch the standard streams of a command.

    A failed write to stdout raises ``ResultsLost``, at the latest on ``flush``. A failed write to stderr is ignored.
    Reading from a closed stdin raises ``InputError``.
    """
    before = sys.stdin, sys.stdout, sys.stderr
    _occupy_closed_descriptors()
    sys.stdout = _Results(before[1])  # type: ignore[assignment]
    sys.stderr = _Notes(before[2])  # type: ignore[assignment]
    if before[0] is None:
        sys.stdin = _ClosedInput()  # type: ignore[assignment]
    try:
        yield
    finally:
        with suppress(ResultsLost):
            sys.stdout.flush()
        sys.stderr.flush()
        sys.stdin, sys.stdout, sys.stderr = before


def _occupy_closed_descriptors() -> None:
    """Keep closed standard descriptors from being reused: the next opened file would be number 1, where libraries
    print.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


class _Watched:
    """A text stream, or none, whose errors go to ``_failed``."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self.encoding: str = getattr(stream, "encoding", None) or "utf-8"
        self.errors: str | None = getattr(stream, "errors", None)

    def write(self, text: str) -> int:
        if self._stream is None:
            self._failed(_CLOSED)
            return len(text)
        try:
            return self._stream.write(text)
        except OSError as error:
            self._give_up(error)
            return len(text)

    def flush(self) -> None:
        if self._stream is None:
            return
        try:
            self._stream.flush()
        except OSError as error:
            self._give_up(error)

    def isatty(self) -> bool:
        return self._stream is not None and self._stream.isatty()

    def _give_up(self, error: OSError) -> None:
        """Discard what is buffered, so that it does not fail again when Python exits."""
        with suppress(OSError, ValueError, AttributeError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())  # type: ignore[union-attr]
            os.close(nowhere)
        self._failed(error.strerror or str(error))

    def _failed(self, reason: str) -> None:
        raise NotImplementedError

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _Results(_Watched):
    def _failed(self, reason: str) -> None:
        raise ResultsLost(
            f"cannot write to standard output ({reason}): send it to a file or program that takes all of it"
        )


class _Notes(_Watched):
    def _failed(self, reason: str) -> None:
        pass


class _ClosedInput:
    """Replaces a closed stdin."""

    def isatty(self) -> bool:
        return False

    @property
    def buffer(self) -> Any:
        raise InputError(f"cannot read standard input ({_CLOSED}): send a recording or text to it, or name a file")
