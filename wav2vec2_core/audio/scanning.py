"""Reading a file at any place, and as a file of its own that begins, ends or reads differently from the whole."""

from __future__ import annotations

import io
import os
from typing import BinaryIO

_PIECE = 1 << 20  # bytes searched at a time


class Scan:
    """Bytes of a seekable file by their offset."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.size = file.seek(0, os.SEEK_END)

    def at(self, offset: int, count: int) -> bytes:
        """``count`` bytes from ``offset``; fewer at the end of the file, none before its start."""
        if not 0 <= offset < self.size or count <= 0:
            return b""
        self._file.seek(offset)
        return self._file.read(count)

    def number(self, offset: int, count: int, order: str = "big") -> int:
        """An unsigned integer of ``count`` bytes."""
        return int.from_bytes(self.at(offset, count), "big" if order == "big" else "little")

    def find(self, pattern: bytes, offset: int) -> int:
        """Where ``pattern`` comes next from ``offset``, or -1."""
        while len(piece := self.at(offset, _PIECE)) >= len(pattern):
            if (index := piece.find(pattern)) >= 0:
                return offset + index
            offset += len(piece) - len(pattern) + 1
        return -1

    def is_zero(self, offset: int) -> bool:
        """Whether all bytes from ``offset`` are zero."""
        while piece := self.at(offset, _PIECE):
            if piece.count(0) != len(piece):
                return False
            offset += len(piece)
        return True


class Window(io.RawIOBase):
    """Bytes ``begin`` to ``end`` of a file as a file.

    ``patches``: (offset in the whole, bytes) that are read instead of the file's; ``prefix``: bytes put in front.
    """

    def __init__(
        self,
        file: BinaryIO,
        begin: int,
        end: int,
        patches: tuple[tuple[int, bytes], ...] = (),
        prefix: bytes = b"",
    ) -> None:
        super().__init__()
        self._file, self._begin, self._end, self._patches, self._prefix = file, begin, end, patches, prefix
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        size = len(self._prefix) + self._end - self._begin
        self._position = max(0, offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: size}[whence])
        return self._position

    def readinto(self, buffer: bytearray | memoryview) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        view = memoryview(buffer)
        data = self._prefix[self._position : self._position + len(view)] or self._from_file(len(view))
        view[: len(data)] = data
        self._position += len(data)
        return len(data)

    def _from_file(self, count: int) -> bytes | bytearray:
        first = self._begin + self._position - len(self._prefix)
        if min(count, self._end - first) <= 0:
            return b""
        self._file.seek(first)
        data = self._file.read(min(count, self._end - first))
        for offset, patch in self._patches:
            low, high = max(first, offset), min(first + len(data), offset + len(patch))
            if low < high:
                data = data[: low - first] + patch[low - offset : high - offset] + data[high - first :]
        return data
