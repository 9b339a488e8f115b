"""Large text files, plain or gzipped, in blocks of whole lines."""

from __future__ import annotations

import gzip
import io
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, NoReturn

from wav2vec2_core.errors import CheckpointError

BLOCK = 4_000_000
#: Longer lines are no text; a compressed file could otherwise fill the memory with one line.
MAX_LINE = 16_000_000
#: gzip shrinks nothing more than this.
GZIP_RATIO = 1032


class LineBlocks:
    """Reads a file once. line: number of the next line, from 1; text_size: bytes of text that there can be at most."""

    def __init__(self, path: Path, file: BinaryIO | None = None) -> None:
        """Open ``path``, or take ``file``, such as stdin, for which ``path`` is only a name. Raises ``CheckpointError``."""
        self.path, self.line = path, 1
        self._buffer, self._start = b"", 0
        try:
            opened = io.BufferedReader(io.FileIO(path)) if file is None else io.BufferedReader(file)  # type: ignore[arg-type]
            self.size = os.fstat(opened.fileno()).st_size
            zipped = opened.peek(2)[:2] == b"\x1f\x8b"
        except OSError as error:
            raise CheckpointError(f"cannot read {path} ({error.strerror or error}): check the path") from error
        self._file = opened
        self._source = gzip.GzipFile(fileobj=opened) if zipped else opened
        self.text_size = self.size * (GZIP_RATIO if zipped else 1)

    def __enter__(self) -> LineBlocks:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()

    def progress(self) -> float:
        """Part of the file that was read, 0 to 1."""
        return min(self.read / self.size, 1) if self.size else 0.0

    @property
    def read(self) -> int:
        """Bytes of the file that were read, 0 for a pipe."""
        return self._file.tell() if self._file.seekable() else 0

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

    def blocks(self, until: bytes | None = None) -> Iterator[bytes]:
        """Blocks of whole lines to the end of the file, or up to a line that starts with ``until``, which stays unread.

        Lines end in a newline alone. Whoever takes a block counts its lines into ``line``.
        """
        while True:
            end = self._line_end()
            if end == self._start or (until and self._buffer.startswith(until, self._start)):
                return
            stop = self._buffer.find(b"\n" + until, self._start) + 1 if until else 0
            end = stop or max(self._buffer.rfind(b"\n") + 1, end)
            block = self._buffer[self._start : end]
            self._start = end
            yield block.replace(b"\r\n", b"\n") if b"\r" in block else block

    def texts(self) -> Iterator[str]:
        """The lines that are left as text, without their ends. Raises ``CheckpointError`` where they are not UTF-8."""
        for block in self.blocks():
            yield from self.decoded(block).removesuffix("\n").split("\n")
            self.line += block.count(b"\n")

    def decoded(self, block: bytes) -> str:
        """A block as text. Raises ``CheckpointError`` where it is not UTF-8."""
        try:
            return block.decode("utf-8")
        except UnicodeDecodeError as error:
            line = self.line + block.count(b"\n", 0, error.start)
            self.fail("the text is not UTF-8", "convert it with iconv -t UTF-8", line)

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
