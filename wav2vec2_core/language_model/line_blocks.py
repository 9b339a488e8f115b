"""Large text files, plain or gzipped, in blocks of whole lines."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import NoReturn

from wav2vec2_core.errors import CheckpointError

BLOCK = 4_000_000
#: Longer lines are no text; a compressed file could otherwise fill the memory with one line.
MAX_LINE = 16_000_000
#: gzip shrinks nothing more than this.
GZIP_RATIO = 1032


class LineBlocks:
    """Reads a file once. line: number of the next line, from 1; text_size: bytes of text that there can be at most."""

    def __init__(self, path: Path) -> None:
        """Open ``path``. Raises ``CheckpointError`` if it cannot be read."""
        self.path, self.line = path, 1
        self._buffer, self._start = b"", 0
        try:
            self._file = path.open("rb")
            self.size = os.fstat(self._file.fileno()).st_size
            zipped = self._file.read(2) == b"\x1f\x8b"
            self._file.seek(0)
        except OSError as error:
            raise CheckpointError(f"cannot read {path} ({error.strerror or error}): check the path") from error
        self._source = gzip.GzipFile(fileobj=self._file) if zipped else self._file
        self.text_size = self.size * (GZIP_RATIO if zipped else 1)

    def __enter__(self) -> LineBlocks:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()

    def progress(self) -> float:
        """Part of the file that was read, 0 to 1."""
        return self._file.tell() / max(self.size, 1)

    def fail(self, what: str, remedy: str, line: int | None = None) -> NoReturn:
        """Raise ``CheckpointError`` that names the file and the line, by default the next one."""
        raise CheckpointError(f"{self.path}, line {self.line if line is None else line}: {what}: {remedy}")

    def next_line(self) -> bytes | None:
        """The next line without its end, or None after the last."""
        end = self._line_end()
        if end == self._start:
            return None
        line = self._buffer[self._start : end].rstrip(b"\r\n")
        self._start = end
        self.line += 1
        return line

    def until(self, mark: bytes) -> Iterator[bytes]:
        """Blocks of whole lines up to a line that starts with ``mark``, which stays unread, or the end of the file.

        Lines end in a newline alone. Whoever takes a block counts its lines into ``line``.
        """
        while True:
            end = self._line_end()
            if end == self._start or self._buffer.startswith(mark, self._start):
                return
            stop = self._buffer.find(b"\n" + mark, self._start) + 1
            end = stop or max(self._buffer.rfind(b"\n") + 1, end)
            block = self._buffer[self._start : end]
            self._start = end
            yield block.replace(b"\r\n", b"\n") if b"\r" in block else block

    def _line_end(self) -> int:
        """Position after the next line in the buffer, which is filled as needed; the start if there is no line."""
        while True:
            end = self._buffer.find(b"\n", self._start) + 1
            if end:
                return end
            if len(self._buffer) - self._start > MAX_LINE:
                self.fail(f"the line is longer than {MAX_LINE} bytes", "this is no text file")
            chunk = self._read()
            if not chunk:
                return len(self._buffer)
            self._buffer, self._start = self._buffer[self._start :] + chunk, 0

    def _read(self) -> bytes:
        try:
            return self._source.read(BLOCK)
        except (OSError, EOFError, zlib.error) as error:
            raise CheckpointError(
                f"{self.path} cannot be read to its end ({error}): it is truncated or damaged, copy or build it again"
            ) from error
