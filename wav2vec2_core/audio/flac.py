"""The length of a FLAC stream from its last frame, for headers that do not state it or state too little."""

from __future__ import annotations

import re
from functools import cache
from itertools import pairwise

from wav2vec2_core.audio.scanning import Scan

_TAIL = 1 << 16  # bytes looked at first; a frame of few channels is smaller
_WHOLE_TAIL = 1 << 21
_FEW_BYTES = 4096
_SYNC = re.compile(rb"\xff[\xf8\xf9]")  # begins the header of a frame
_SIZES = (0, 192, 576, 1152, 2304, 4608, 0, 0, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768)


def flac_samples(scan: Scan, start: int, end: int) -> tuple[int, int] | None:
    """Samples of each channel up to the end of the last frame before ``end``, and how many bytes lie behind it.

    ``start``: of the stream. Frames are found by their headers, which have a checksum; the last two must follow each
    other, so that no chance pattern is taken for one. The last one is taken to be as large as the largest.
    ``None`` where none is found.
    """
    info = scan.at(start + 8, 34)
    if len(info) < 34:
        return None
    largest, most_bytes = int.from_bytes(info[2:4], "big"), int.from_bytes(info[7:10], "big")
    for size in (_TAIL, _WHOLE_TAIL):
        begin = max(start + 42, end - size)
        frames = _frames(scan.at(begin, min(size, end - start - 42)), largest)
        for (_, first, length), (offset, second, last) in reversed(list(pairwise(frames))):
            if first + length == second:
                return second + last, _behind(end - begin - offset, most_bytes)
        if len(frames) == 1 and frames[0][1] == 0:
            return frames[0][2], _behind(end - begin - frames[0][0], most_bytes)
    return None


def _behind(size: int, most_bytes: int) -> int:
    """Bytes behind a frame, 0 unless they are too many for a wrong statement of the largest frame's size."""
    return size - most_bytes if most_bytes and size - most_bytes > _FEW_BYTES else 0


def _frames(data: bytes, largest: int) -> list[tuple[int, int, int]]:
    """Offset, first sample and length of what looks like a frame's header; ``largest``: samples of a fixed size."""
    headers = ((match.start(), data[match.start() : match.start() + 16]) for match in _SYNC.finditer(data))
    found = ((offset, _frame(header, largest)) for offset, header in headers if len(header) > 6)
    return [(offset, *frame) for offset, frame in found if frame is not None]


def _frame(header: bytes, largest: int) -> tuple[int, int] | None:
    code, rate = header[2] >> 4, header[2] & 15
    if code == 0 or rate == 15 or header[3] >> 4 > 10 or header[3] & 1:
        return None
    number, place = _coded(header, 4)
    if number is None:
        return None
    length = _SIZES[code]
    if code in (6, 7):
        length = int.from_bytes(header[place : place + code - 5], "big") + 1
        place += code - 5
    place += {12: 1, 13: 2, 14: 2}.get(rate, 0)
    if place >= len(header) or _checksum(header[:place]) != header[place]:
        return None
    return (number if header[1] & 1 else number * largest), length


def _coded(header: bytes, place: int) -> tuple[int | None, int]:
    """A number coded as UTF-8 codes characters, of up to 36 bits, and where it ends."""
    first = header[place]
    ones = 8 - (first ^ 0xFF).bit_length()
    if ones == 0:
        return first, place + 1
    if ones == 1 or ones == 8 or place + ones > len(header):
        return None, place
    number = first & ((1 << (7 - ones)) - 1) if ones < 7 else 0
    for byte in header[place + 1 : place + ones]:
        if byte >> 6 != 2:
            return None, place
        number = number << 6 | byte & 63
    return number, place + ones


def _checksum(data: bytes) -> int:
    value = 0
    for byte in data:
        value = _table()[value ^ byte]
    return value


@cache
def _table() -> tuple[int, ...]:
    """Of the checksum of 8 bits with the polynomial x^8 + x^2 + x + 1."""
    table = []
    for value in range(256):
        for _ in range(8):
            value = (value << 1) ^ (0x107 if value & 0x80 else 0)
        table.append(value)
    return tuple(table)
