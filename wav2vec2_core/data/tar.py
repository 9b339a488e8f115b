"""Tar files: where their members are. Nothing is unpacked, and nothing outside the file is ever read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from wav2vec2_core.errors import AudioError, InputError, brief

_BLOCK = 512
_LARGEST_HEADER = 1 << 20  # bytes of a long name or of extended headers
_REGULAR, _LINKS, _LONG_NAME, _EXTENDED = b"0\x007", b"12", b"L", b"x"
_WITHOUT_DATA = b"123456"  # links, devices, folders, pipes: their size means nothing
_SPARSE = b"S"
_COMPRESSED = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"PK\x03\x04": "zip",
}


@dataclass(frozen=True)
class Member:
    """A file in a tar: ``size`` bytes from ``offset`` of the tar at ``tar``. Calling it reads them."""

    tar: Path
    name: str
    offset: int
    size: int

    def __call__(self) -> bytes:
        """Its bytes. Raises ``AudioError`` where the tar has changed."""
        try:
            with self.tar.open("rb") as file:
                file.seek(self.offset)
                content = file.read(self.size)
        except OSError as error:
            raise AudioError(f"{self.tar} cannot be read ({error.strerror}): check the path") from error
        if len(content) != self.size:
            raise AudioError(f"{self.tar} has become shorter, {self.name} is cut: download or write it again")
        return content


def read_tar(
    path: Path, wanted: Callable[[str], bool] = lambda name: False, largest: int = 1 << 20
) -> Iterator[tuple[Member, bytes | None]]:
    """The files in a tar, in their order.

    Args:
        path: of the tar: ustar, GNU's or pax's format, not compressed.
        wanted: whether a file of this name is read.
        largest: bytes of a file that is read.

    Yields:
        Each file, and its bytes where they are ``wanted``.

    Raises:
        AudioError: the tar cannot be read, is damaged or does not end where tars end.
        InputError: it is compressed, has links or sparse files, or a wanted file is too large.
    """
    try:
        with path.open("rb") as file:
            yield from _Reader(path, file).files(wanted, largest)
    except OSError as error:
        raise AudioError(f"{path} cannot be read ({error.strerror}): check the path and its permissions") from error


class _Reader:
    """Headers of a tar, one after the other."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path, self._file = path, file
        self._size = file.seek(0, 2)

    def files(self, wanted: Callable[[str], bool], largest: int) -> Iterator[tuple[Member, bytes | None]]:
        """See ``read_tar``."""
        position, long_name, extended = 0, None, {}
        while (header := self._header(position)) is not None:
            kind = header[156:157]
            size = 0 if kind in _WITHOUT_DATA else _number(header[124:136])
            if kind in _REGULAR:
                size = _decimal(extended.get(b"size"), size)
            begin = position + _BLOCK
            if size is None or begin + size > self._size:
                raise self._damaged(position, "a file begins that reaches beyond the end of the tar")
            if kind in _LONG_NAME + _EXTENDED:
                content = self._read(size, _LARGEST_HEADER, "a header")
                if kind == _LONG_NAME:
                    long_name = content.rstrip(b"\0")
                else:
                    extended = self._records(content, position)
            else:
                name = extended.get(b"path") or long_name or _name(header)
                member = Member(self._path, name.decode("utf-8", "surrogateescape"), begin, size)
                if any(key.startswith(b"GNU.sparse") for key in extended) or kind in _SPARSE + _LINKS:
                    raise InputError(
                        f"{self._path}: {brief(member.name)} is a link or a sparse file, which has no bytes here: "
                        "write the tar with --dereference --hard-dereference"
                    )
                if kind in _REGULAR and not name.endswith(b"/"):
                    content = self._read(size, largest, brief(member.name)) if wanted(member.name) else None
                    yield member, content
                long_name, extended = None, {}
            position = begin + -(-size // _BLOCK) * _BLOCK

    def _header(self, position: int) -> bytes | None:
        """The header at ``position``; ``None`` at the end. Raises ``AudioError`` and ``InputError``."""
        self._file.seek(position)
        header = self._file.read(_BLOCK)
        if position == 0:
            for mark, name in _COMPRESSED.items():
                if header.startswith(mark):
                    raise InputError(
                        f"{self._path} is compressed ({name}): unpack it, only files of a plain .tar have a place"
                    )
        if len(header) < _BLOCK:
            raise self._damaged(position, "it ends without the zeros that mark the end of a tar")
        if not any(header):
            self._check_end(position)
            return None
        stated = _number(header[148:156])
        others = header[:148] + b" " * 8 + header[156:]
        if stated not in (sum(others), sum(others) - 256 * sum(byte > 127 for byte in others)):
            raise self._damaged(position, "there is no header of a file" if position else "it does not begin as a tar")
        return header

    def _check_end(self, position: int) -> None:
        """Refuse what comes after the end, such as a second tar. Raises ``AudioError``."""
        while piece := self._file.read(1 << 20):
            if piece.count(0) != len(piece):
                raise self._damaged(position, "it has an end, and more bytes after it (tars that were joined?)")

    def _read(self, size: int, largest: int, what: str) -> bytes:
        """What follows the header that was read last. Raises ``InputError`` where it is too large."""
        if size > largest:
            raise InputError(
                f"{self._path}: {what} has {size} bytes, at most {largest} are read: is it what it should be?"
            )
        return self._file.read(size)

    def _records(self, content: bytes, position: int) -> dict[bytes, bytes]:
        """Extended headers: length, space, key, ``=``, value, line break, one after the other."""
        records: dict[bytes, bytes] = {}
        while content.strip(b"\0"):
            digits, _, _ = content[:20].partition(b" ")
            length = _decimal(digits, 0)
            key, equals, value = content[len(digits) + 1 : length].partition(b"=")
            if not length or len(content) < length or not equals or not value.endswith(b"\n"):
                raise self._damaged(position, "an extended header has no sense")
            records[key], content = value[:-1], content[length:]
        return records

    def _damaged(self, position: int, what: str) -> AudioError:
        return AudioError(f"{self._path} is damaged: at byte {position} {what}; download or write it again")


def _name(header: bytes) -> bytes:
    name = header[:100].partition(b"\0")[0]
    prefix = header[345:500].partition(b"\0")[0] if header[257:263] == b"ustar\0" else b""
    return prefix + b"/" + name if prefix else name


def _number(field: bytes) -> int | None:
    """Octal digits, or binary where the first bit is set; ``None`` if it is neither."""
    if field[:1] == b"\x80":
        return int.from_bytes(field[1:], "big")
    digits = field.strip(b" \0")
    try:
        return int(digits, 8) if digits.isdigit() else 0 if not digits else None
    except ValueError:  # digits 8 and 9
        return None


def _decimal(field: bytes | None, otherwise: int | None) -> int | None:
    return otherwise if field is None else int(field) if field.isdigit() and len(field) < 19 else None
