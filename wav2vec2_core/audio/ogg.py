"""Ogg page by page: where chained streams begin, pages that are missing, and streams that end without a last page."""

from __future__ import annotations

import zlib

from wav2vec2_core.audio.part import Part
from wav2vec2_core.audio.scanning import Scan

_FIRST, _LAST = 2, 4  # flags of a page
_REVERSED = bytes(int(f"{value:08b}"[::-1], 2) for value in range(256))


class _Link:
    """Streams that run side by side, up to where others begin."""

    def __init__(self, begin: int) -> None:
        self.begin, self.end = begin, begin
        self.streams: dict[int, int] = {}  # serial number -> number of its next page
        self.has_data = False
        self.lost = 0  # pages that are missing
        self.left_over = 0  # bytes that are no page
        self.last = (begin, 0, 0)  # offset, size and flags of the last page

    def take(self, offset: int, size: int, header: bytes) -> None:
        """A page."""
        serial, number = int.from_bytes(header[14:18], "little"), int.from_bytes(header[18:22], "little")
        self.lost += max(0, min(number - self.streams.get(serial, number), 1 << 20))
        self.streams[serial] = number + 1
        self.has_data = self.has_data or not header[5] & _FIRST
        self.last, self.end = (offset, size, header[5]), offset + size

    def part(self, scan: Scan, cut: int) -> Part:
        """``cut``: bytes that the page behind it lacks."""
        offset, size, flags = self.last
        patches, note, missing = (), None, None
        if not flags & _LAST and size and len(self.streams) == 1:
            patches = _as_last(offset, scan.at(offset, size))  # libsndfile refuses Opus that just ends
            note = "ends without a last page: it may have been cut"
        if cut:
            missing = f"is truncated: its last page lacks {cut} bytes"
        elif self.lost:
            missing = f"is damaged: {self.lost} of its pages are missing"
        return Part(
            self.begin,
            self.end,
            patches,
            missing=missing,
            note=note if missing is None else None,
            left_over=self.left_over,
            is_media=len(self.streams) > 1,
        )


def ogg_parts(scan: Scan, begin: int) -> list[Part]:
    """The links of a chain; usually one."""
    found: list[Part] = []
    link, offset, cut = _Link(begin), begin, 0
    while offset < scan.size:
        header = scan.at(offset, 27)
        if header[:4] != b"OggS"[: len(header)]:
            following = scan.find(b"OggS", offset)
            if following < 0:
                link.left_over += 0 if scan.is_zero(offset) or scan.at(offset, 3) == b"TAG" else scan.size - offset
                break
            link.left_over, offset = link.left_over + following - offset, following
            continue
        table = scan.at(offset + 27, header[26]) if len(header) == 27 else b""
        size = 27 + len(table) + sum(table)
        if len(header) < 27 or len(table) < header[26] or offset + size > scan.size:
            cut = max(1, offset + size - scan.size)
            break
        if header[5] & _FIRST and link.has_data:
            found.append(link.part(scan, 0))
            link = _Link(offset)
        link.take(offset, size, header)
        offset += size
    return [*found, link.part(scan, cut)]


def _as_last(offset: int, page: bytes) -> tuple[tuple[int, bytes], ...]:
    """The patches that make a page the last of its stream: its flag and its checksum."""
    flags = bytes([page[5] | _LAST])
    changed = page[:5] + flags + page[6:22] + bytes(4) + page[26:]
    return (offset + 5, flags), (offset + 22, _checksum(changed).to_bytes(4, "little"))


def _checksum(data: bytes) -> int:
    """Of 32 bits with zlib's polynomial, but with the bits of every byte in the other order and without inversion."""
    value = zlib.crc32(data.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{value:032b}"[::-1], 2)
