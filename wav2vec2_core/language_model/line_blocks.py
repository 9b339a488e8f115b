"""Large text files, plain or compressed (gzip, bzip2, xz), in blocks of whole lines."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, NoReturn

from wav2vec2_core.errors import CheckpointError

BLOCK = 4_000_000
#: Longest line accepted, in bytes; otherwise one line of a compressed file could fill the memory.
MAX_LINE = 16_000_000
#: How compressed files end, whatever is in them.
COMPRESSED_SUFFIXES = (".gz", ".bz2", ".xz")
#: What compressed files start with.
_READERS = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}
#: gzip shrinks nothing more than this, and the others shrink no text more than this.
MAX_RATIO = 1032


class LineBlocks:
    """Reads a file once. line: number of the next line, from 1; text_size: upper bound of the text's size in bytes.

    size: bytes of the file, 0 for a stream.
    """

    def __init__(self, path: Path, file: BinaryIO | None = None) -> None:
        """Open ``path``, or read ``file``, such as stdin, which messages call ``path``. Raises ``CheckpointError``."""
        self.path, self.line = path, 1
        self._buffer, self._start = b"", 0
        try:
            opened = io.BufferedReader(io.FileIO(path) if file is None else file)  # type: ignore[arg-type]
            start = opened.peek(6)
            self.size = os.fstat(opened.fileno()).st_size if file is None else 0
        except OSError as error:
            raise CheckpointError(f"cannot read {path} ({error.strerror or error}): check the path") from error
        self._file = opened
        reader = next((reader for magic, reader in _READERS.items() if start.startswith(magic)), None)
        self._source = opened if reader is None else reader(opened)  # type: ignore[arg-type]
        self.text_size = self.size * (1 if reader is None else MAX_RATIO)

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
        """Raise ``CheckpointError`` with the name of the file and the line, by default the next one."""
        raise CheckpointError(f"{self.path}, line {self.line if line is None else line}: {what}: {remedy}")

    def next_line(self) -> bytes | None:
        """The next line without its newline, or None at the end."""
        end = self._line_end()
        if end == self._start:
            return None
        line = self._buffer[self._start : end].rstrip(b"\r\n")
        self._start = end
        self.line += 1
        return line

    def blocks(self, until: bytes | None = None) -> Iterator[bytes]:
        """Yield blocks of whole lines up to the end, or up to a line that starts with ``until``, which is not consumed.

        Lines end in a newline only. The caller adds the lines of a block to ``line``.
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

    def text_blocks(self) -> Iterator[str]:
        """Yield the remaining text in blocks of whole lines. Raises ``CheckpointError`` if it is not UTF-8."""
        for block in self.blocks():
            text = self.decoded(block)
            yield text if text.endswith("\n") else f"{text}\n"
            self.line += block.count(b"\n")

    def texts(self) -> Iterator[str]:
        """Yield the remaining lines without their newlines. Raises ``CheckpointError`` if they are not UTF-8."""
        for block in self.text_blocks():
            yield from block[:-1].split("\n")

    def decoded(self, block: bytes) -> str:
        """A block as text. Raises ``CheckpointError`` if it is not UTF-8."""
        try:
            return block.decode("utf-8")
        except UnicodeDecodeError as error:
            line = self.line + block.count(b"\n", 0, error.start)
            self.fail("the text is not UTF-8", "convert it with iconv -t UTF-8", line)

    def _line_end(self) -> int:
        """End of the next line in the buffer, which is filled as needed; the start position if there is no line."""
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
        except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
            raise CheckpointError(
                f"{self.path} cannot be read to its end ({error}): it is truncated or damaged, copy or build it again"
            ) from error


def open_text(text: Path | BinaryIO) -> LineBlocks:
    """The lines of a file, or of a stream. Raises ``CheckpointError``."""
    return LineBlocks(text) if isinstance(text, Path) else LineBlocks(Path("stdin"), text)
