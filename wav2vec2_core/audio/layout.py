"""Reading a file's headers before decoding: its parts, the guaranteed length of each, and what is missing.

A length counts as a promise only where the format guarantees it. Writers to a pipe cannot know it and leave a number
that means "unknown"; others estimate it from the bit rate. Files that were joined have a part for each.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from wav2vec2_core.audio.flac import flac_samples
from wav2vec2_core.audio.mpeg import mpeg_parts, skip_tag
from wav2vec2_core.audio.ogg import ogg_parts
from wav2vec2_core.audio.part import Part
from wav2vec2_core.audio.scanning import Scan

_FLAC_STREAMINFO = (b"fLaC\x00\x00\x00\x22", b"fLaC\x80\x00\x00\x22")
_FLAC_UNKNOWN = (1 << 36) - 1
_W64 = bytes.fromhex("f3acd3118cd100c04f8edb8a")  # ends the identifier of every chunk but the first
_W64_RIFF = bytes.fromhex("726966662e91cf11a5d628db04c10000")
_ASF = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_FLV = b"FLV\x01"
_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
_ISO_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"styp", b"moof")


def parts(scan: Scan) -> Iterator[Part]:
    """The parts of a file, in order; what lies behind the first is looked at when the second is asked for."""
    begin = 0
    while begin < scan.size:
        found = _part(scan, begin)
        if isinstance(found, list):
            yield from found
            return
        if isinstance(found, Part):
            yield found
            begin = found.end
        else:
            begin = yield from found
        if begin < scan.size and not _is_start(scan, begin):
            return


def _part(scan: Scan, begin: int) -> Part | list[Part] | Iterator[Part]:
    start = scan.at(begin, 16)
    form, kind = start[:4], start[8:12]
    if form in (b"RIFF", b"RIFX", b"RF64", b"BW64") and kind == b"WAVE":
        return _wave(scan, begin, "big" if form == b"RIFX" else "little")
    if form == b"FORM" and kind in (b"AIFF", b"AIFC"):
        return _aiff(scan, begin)
    if form == b"RIFF" and kind == b"AVI ":
        return _avi(scan, begin)
    if start == _W64_RIFF:
        return _w64(scan, begin)
    if form in (b".snd", b"dns."):
        return _au(scan, begin, "big" if form == b".snd" else "little")
    if start[:8] == b"NIST_1A\n" and scan.at(begin + 8, 8).strip().isdigit():
        return _nist(scan, begin)
    if form == b"caff":
        return _caf(scan, begin)
    if form == b"OggS":
        return ogg_parts(scan, begin)
    if form == _EBML:
        return _matroska(scan, begin)
    if start == _ASF:
        return _asf(scan, begin)
    if form == _FLV:
        return _flv(scan, begin)
    if start[4:8] in _ISO_BOXES:
        return _iso(scan, begin)
    if scan.at(begin, 20) == b"Creative Voice File\x1a":  # libsndfile takes headers of blocks for samples
        return Part(begin, scan.size, is_media=True)
    if scan.at(skip_tag(scan, begin), 8) in _FLAC_STREAMINFO:
        return _flac(scan, begin)
    return mpeg_parts(scan, begin) or [Part(begin, scan.size)]


def _is_start(scan: Scan, offset: int) -> bool:
    """Whether another recording of a kind that can be joined begins here."""
    start = scan.at(offset, 16)
    return (
        start[:4] in (b"RIFF", b"RIFX", b"RF64", b"BW64", b"FORM", b"caff", b".snd", b"OggS", _EBML)
        or start[:8] == b"NIST_1A\n"
        or _is_flv(scan.at(offset, 13))
        or start in (_W64_RIFF, _ASF)
        or start[4:8] == b"ftyp"
        or scan.at(skip_tag(scan, offset), 8) in _FLAC_STREAMINFO
    )


# ---- samples behind a header that states their size -----------------------------------------------------------------


def _is_unknown(size: int) -> bool:
    """Sizes of 32 bits that writers to a pipe leave in the header."""
    return size == 0 or 0x7FFF0000 <= size <= 0x80010000 or size >= 0xFFFF0000


def _sized(scan: Scan, begin: int, data: int, size: int, unknown: bool, patches: tuple, end: int) -> Part:
    """``data``: where the samples begin; ``end``: of what the header says, where the size is known."""
    found = scan.size - data
    if unknown:
        return Part(begin, scan.size, patches)
    if found < size:
        missing = f"is truncated: its header promises {size} bytes of samples and it holds {found}"
        return Part(begin, scan.size, patches, missing=missing)
    rest = scan.size - end
    left_over = rest if rest > 0 and not _is_start(scan, end) and not scan.is_zero(end) else 0
    return Part(begin, scan.size if left_over or rest <= 0 else end, left_over=left_over)


def _wave(scan: Scan, begin: int, order: str) -> Part:
    """RIFF, RIFX, RF64 and BW64; the latter two state large sizes in a chunk "ds64"."""
    offset, large = begin + 12, None
    while len(header := scan.at(offset, 8)) == 8 and header[:4] != b"data":
        size = int.from_bytes(header[4:], "big" if order == "big" else "little")
        if header[:4] == b"ds64":
            large = offset + 16  # behind its own header and the size of the file
        offset += 8 + size + size % 2  # chunks start at even offsets
    if header[:4] != b"data" or len(header) < 8:
        return Part(begin, scan.size)
    data, found = offset + 8, scan.size - offset - 8
    size = scan.number(offset + 4, 4, order)
    if large is not None and size == 0xFFFFFFFF:
        size = scan.number(large, 8, "little")
        unknown = size in (0, 0xFFFFFFFF) or size >= 1 << 62
        patches = ((large - 8, (scan.size - begin - 8).to_bytes(8, "little")), (large, found.to_bytes(8, "little")))
        patches += ((large + 8, bytes(8)),)
    else:
        unknown = _is_unknown(size) and not (size == 0 and _has_chunks(scan, data, order))
        # A size of 32 bits turns over after 4 GiB.
        unknown = unknown or (found > size and (found - size) % (1 << 32) == 0)
        written = min(found, 0xFFFFFFFF).to_bytes(4, "big" if order == "big" else "little")
        patches = ((offset + 4, written),)
    end = data + size + size % 2
    while not unknown and len(header := scan.at(end, 8)) == 8 and header[:4].isascii() and not _is_start(scan, end):
        size_after = int.from_bytes(header[4:], "big" if order == "big" else "little")
        if end + 8 + size_after > scan.size:
            break
        end += 8 + size_after + size_after % 2
    return _sized(scan, begin, data, size, unknown, patches, end)


def _has_chunks(scan: Scan, offset: int, order: str) -> bool:
    """Whether nothing but whole chunks follows up to the end."""
    while len(header := scan.at(offset, 8)) == 8:
        size = int.from_bytes(header[4:], "big" if order == "big" else "little")
        if not (header[:4].isascii() and header[:4].isalnum()):
            return False
        offset += 8 + size + size % 2
    return scan.size <= offset <= scan.size + 1


def _aiff(scan: Scan, begin: int) -> Part:
    offset, common = begin + 12, None
    while len(header := scan.at(offset, 8)) == 8 and header[:4] != b"SSND":
        size = int.from_bytes(header[4:], "big")
        common = offset if header[:4] == b"COMM" else common
        offset += 8 + size + size % 2
    if header[:4] != b"SSND" or len(header) < 8:
        return Part(begin, scan.size)
    size, found = int.from_bytes(header[4:], "big"), scan.size - offset - 8
    unknown = (_is_unknown(size) or size == 8) and found > 8  # 8: no more than its own fields
    end = max(offset + 8 + size + size % 2, begin + 8 + scan.number(begin + 4, 4))
    return _sized(
        scan, begin, offset + 8, size, unknown, ((offset + 4, min(found, 0x7FFFFFFF).to_bytes(4, "big")),), end
    )


def _w64(scan: Scan, begin: int) -> Part:
    offset = begin + 40
    while len(header := scan.at(offset, 24)) == 24 and header[:4] != b"data":
        size = int.from_bytes(header[16:], "little")
        if header[4:16] != _W64 or size < 24:
            return Part(begin, scan.size)
        offset += (size + 7) // 8 * 8
    if len(header) < 24:
        return Part(begin, scan.size)
    size = int.from_bytes(header[16:], "little")
    unknown = size <= 24 or size >= 1 << 62
    patches = ((offset + 16, (scan.size - offset).to_bytes(8, "little")),)
    end = max(offset + (size + 7) // 8 * 8, begin + scan.number(begin + 16, 8, "little")) if not unknown else scan.size
    return _sized(scan, begin, offset + 24, size - 24, unknown, patches, min(end, scan.size))


def _au(scan: Scan, begin: int, order: str) -> Part:
    start, size = scan.number(begin + 4, 4, order), scan.number(begin + 8, 4, order)
    patches = ((begin + 8, b"\xff" * 4),)
    return _sized(scan, begin, begin + start, size, _is_unknown(size), patches, begin + start + size)


def _nist(scan: Scan, begin: int) -> Part:
    """SPHERE, as corpora of speech have it: a header of text."""
    header = scan.at(begin, min(1 << 16, int(scan.at(begin + 8, 8).strip() or b"0")))
    fields = dict(re.findall(rb"(sample_count|channel_count|sample_n_bytes) -i (\d+)", header))
    size = int(fields.get(b"sample_count", 0)) * int(fields.get(b"sample_n_bytes", 0))
    size *= int(fields.get(b"channel_count", 1))
    data = begin + len(header)
    return _sized(scan, begin, data, size, size == 0, (), data + size)


def _caf(scan: Scan, begin: int) -> Part:
    offset = begin + 8
    while len(header := scan.at(offset, 12)) == 12 and header[:4] != b"data":
        offset += 12 + int.from_bytes(header[4:], "big")
    if len(header) < 12:
        return Part(begin, scan.size)
    size, found = int.from_bytes(header[4:], "big"), scan.size - offset - 12
    unknown = size == 0 or size >= 1 << 62
    end = offset + 12 + size
    while not unknown and len(header := scan.at(end, 12)) == 12 and not _is_start(scan, end):
        end += 12 + int.from_bytes(header[4:], "big")
    return _sized(
        scan, begin, offset + 12, size, unknown, ((offset + 4, found.to_bytes(8, "big")),), min(end, scan.size)
    )


# ---- compressed streams ---------------------------------------------------------------------------------------------


def _flac(scan: Scan, begin: int) -> Iterator[Part]:
    """A total of 0 samples means "unknown": then the last frame tells. Returns where the next part begins."""
    start, end = skip_tag(scan, begin), scan.size
    if scan.at(end - 128, 3) == b"TAG":
        end -= 128
    stated = scan.number(start + 21, 5)
    total = stated & _FLAC_UNKNOWN
    if total:
        found, behind = flac_samples(scan, start, end) or (0, 0)
        if found <= total:
            following = None if found == total and not behind else _flac_follows(scan, start)
            yield Part(begin, following or end, left_over=behind if found == total and not following else 0)
            total = -1
    following = _flac_follows(scan, start) or scan.size
    if total >= 0:
        until = following if following < scan.size else end
        samples, behind = flac_samples(scan, start, until) or (None, 0)
        if following < scan.size:
            samples = total or samples
        written = (stated - total + (samples or _FLAC_UNKNOWN)).to_bytes(5, "big")
        yield Part(begin, until, ((start + 21, written),), is_promise=samples is not None, left_over=behind)
    return following


def _flac_follows(scan: Scan, start: int) -> int | None:
    """Where another FLAC stream begins behind the one at ``start``."""
    return min((at for mark in _FLAC_STREAMINFO if (at := scan.find(mark, start + 42)) >= 0), default=None)


# ---- containers that only PyAV reads --------------------------------------------------------------------------------


def _media(scan: Scan, begin: int, end: int) -> Part:
    if end > scan.size:
        missing = f"is truncated: its header promises {end - begin} bytes and it holds {scan.size - begin}"
        return Part(begin, scan.size, missing=missing, is_media=True)
    if end == scan.size or _is_start(scan, end):
        return Part(begin, end, is_media=True)
    left_over = 0 if scan.is_zero(end) else scan.size - end
    return Part(begin, scan.size, left_over=left_over, is_media=True)


def _iso(scan: Scan, begin: int) -> Part:
    """mp4, m4a, mov: boxes with their sizes; 0 is "to the end". A second "ftyp" begins another file."""
    offset = begin
    while len(header := scan.at(offset, 16)) >= 8:
        size = int.from_bytes(header[:4], "big")
        if (header[4:8] == b"ftyp" and offset > begin) or not header[4:8].isascii() or _is_start_of_other(header):
            break
        if size == 1 and len(header) == 16:
            size = int.from_bytes(header[8:], "big")
        if size == 0:
            offset = scan.size
            break
        if size < 8 or (offset + size > scan.size and not _is_box(header[4:8])):
            break
        offset += size
    return _media(scan, begin, offset)


def _is_box(kind: bytes) -> bool:
    """Whether a box of this kind stands at the top of a file; text behind the last one reads as a box of gigabytes."""
    return kind in _ISO_BOXES or kind in (b"sidx", b"mfra", b"meta", b"uuid", b"emsg", b"prft", b"pdin", b"udta")


def _is_start_of_other(header: bytes) -> bool:
    return header[:4] in (b"RIFF", b"OggS", b"fLaC", _EBML)


def _matroska(scan: Scan, begin: int) -> Part:
    """Elements with their sizes; all bits of a size set is "unknown"."""
    offset = begin
    for wanted in (_EBML, _SEGMENT):
        while (header := scan.at(offset, 16)) and header[:4] != wanted:
            if header[:1] != b"\xec":  # anything but padding
                return Part(begin, scan.size, is_media=True)
            size, width = _vint(header[1:])
            if size is None:
                return Part(begin, scan.size, is_media=True)
            offset += 1 + width + size
        size, width = _vint(header[4:])
        if size is None:  # a live stream: another one begins where its header comes again
            following = scan.find(_EBML, offset + 4)
            while following > 0 and not _is_ebml(scan.at(following, 16)):
                following = scan.find(_EBML, following + 4)
            return Part(begin, following if following > 0 else scan.size, is_media=True)
        offset += 4 + width + size
    return _media(scan, begin, offset)


def _is_ebml(header: bytes) -> bool:
    """Whether a header of EBML is followed by one of its elements, which all begin with 0x42."""
    size, width = _vint(header[4:])
    return size is not None and header[4 + width : 5 + width] == b"\x42"


def _vint(data: bytes) -> tuple[int | None, int]:
    """A number of EBML and its bytes; ``None`` where it is unknown or no number."""
    if not data or not data[0]:
        return None, 1
    width = 9 - data[0].bit_length()
    value = int.from_bytes(data[:width], "big") & ((1 << 7 * width) - 1)
    return (None if value == (1 << 7 * width) - 1 or len(data) < width else value), width


def _avi(scan: Scan, begin: int) -> Part:
    offset = begin
    while scan.at(offset, 4) == b"RIFF" and scan.at(offset + 8, 4) in (b"AVI ", b"AVIX"):
        size = scan.number(offset + 4, 4, "little")
        if (offset > begin and scan.at(offset + 8, 4) == b"AVI ") or _is_unknown(size):
            break
        offset += 8 + size + size % 2
    if offset == begin:
        return Part(begin, scan.size, is_media=True)
    return _media(scan, begin, min(offset, scan.size + 1) if offset == scan.size + 1 else offset)


def _flv(scan: Scan, begin: int) -> Part:
    following = scan.find(_FLV, begin + 4)
    while following > 0 and not _is_flv(scan.at(following, 13)):
        following = scan.find(_FLV, following + 4)
    return Part(begin, following if following > 0 else scan.size, is_media=True)


def _is_flv(header: bytes) -> bool:
    return (
        header[:4] == _FLV
        and header[4:5] in (b"\x01", b"\x04", b"\x05")
        and header[5:] == bytes((0, 0, 0, 9, 0, 0, 0, 0))
    )


def _asf(scan: Scan, begin: int) -> Part:
    """The size of the file stands in an object of the header; 0 is "unknown"."""
    at = scan.at(begin, min(scan.number(begin + 16, 8, "little"), 1 << 16)).find(
        bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
    )
    size = scan.number(begin + at + 40, 8, "little") if at >= 0 else 0
    live = bool(scan.number(begin + at + 88, 4, "little") & 1) if at >= 0 else True
    return Part(begin, scan.size, is_media=True) if live or size == 0 else _media(scan, begin, begin + size)
