"""MPEG audio (mp1, mp2, mp3) frame by frame: where streams that were joined begin, and how long each is.

A file of MPEG audio has no header of its own. A first frame that is marked Xing, Info or VBRI may state the number of
frames, which is a promise; any other length is an estimate from the bit rate.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from struct import unpack_from

from wav2vec2_core.audio.part import Part
from wav2vec2_core.audio.scanning import Scan

_PIECE = 1 << 20  # bytes read at a time
_MASK = 0xFFFEFEC0  # of a frame's header: all but protection, private bit, and what changes between frames
_MARKS = (b"Xing", b"Info", b"VBRI")
_FEW = 4  # frames: fewer behind the promised number are a wrong number, not another stream
_DELAY = 529  # samples of a decoder's delay that libsndfile leaves out where the number of frames is stated
_GARBAGE = 4096  # bytes between frames that are worth an error
# Kilobits per second by the index in a header, from 1: MPEG 1 layers I, II, III; MPEG 2 layer I, layers II and III.
_BIT_RATES = (
    (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
)


@dataclass(frozen=True)
class _Form:
    """The properties that must not change within a stream."""

    layer: int
    is_mpeg1: bool
    rate: int
    is_mono: bool

    @property
    def samples(self) -> int:
        """Samples of a frame."""
        return 384 if self.layer == 1 else 1152 if self.layer == 2 or self.is_mpeg1 else 576


@dataclass
class _Run:
    """Consecutive frames that are decoded as one stream."""

    begin: int
    form: int
    end: int = 0
    frames: int = 0
    promised: int | None = None
    first: int = 0  # where its frames of sound begin, or the one before them that states their number
    has_mark: bool = False
    count_at: int = 0  # where that number stands
    cut: int = 0  # bytes that its last frame lacks
    garbage: int = 0  # bytes behind it that are neither frames nor tags


def skip_tag(scan: Scan, offset: int) -> int:
    """Where an ID3v2 tag at ``offset`` ends; ``offset`` where there is none."""
    while len(header := scan.at(offset, 10)) == 10 and header[:3] == b"ID3" and max(header[6:]) < 128:
        size = header[6] << 21 | header[7] << 14 | header[8] << 7 | header[9]
        offset += 10 + size + (10 if header[5] & 16 else 0)
    return offset


def mpeg_parts(scan: Scan, begin: int) -> list[Part]:
    """The parts of a file of MPEG audio; none where it is something else."""
    forms = _table()[1]
    offset = skip_tag(scan, begin)
    if not _is_frame(scan, offset, 3 if offset == begin else 2):
        return []
    runs = _runs(scan, offset)
    found = []
    for index, run in enumerate(runs):
        form, is_last = forms[run.form], index == len(runs) - 1
        prefix = b"" if run.promised is not None else _mark(scan.at(run.begin, 4), run.frames, form)
        length = max(1, run.frames * form.samples - (_DELAY if prefix else 0))
        missing, patches = None, ()
        if run.promised == run.frames + 1 and not run.cut:  # the frame that states the number is counted too
            patches = ((run.count_at, run.frames.to_bytes(4, "big")),)
        if run.promised is not None and run.frames + 1 < run.promised:
            missing = f"is truncated: it promises {run.promised} frames and holds {run.frames}"
        found.append(
            Part(
                begin if index == 0 and not prefix else run.first,
                scan.size if is_last and _is_tag(scan, run.end) else run.end,
                patches=patches,
                prefix=prefix,
                is_promise=run.promised is not None,
                length=None if run.promised is not None else length,
                missing=missing,
                left_over=run.garbage,
            )
        )
    return found


def _runs(scan: Scan, offset: int | None) -> list[_Run]:
    runs: list[_Run] = []
    while offset is not None:
        run = _walk(scan, offset)
        previous = runs[-1] if runs else None
        if (
            previous
            and run.form == previous.form
            and not run.has_mark
            and run.begin == previous.end
            and run.frames < _FEW
        ):
            previous.end = run.end  # a number of frames that was wrong by a few
            run = previous
        elif run.frames:
            runs.append(run)
        following = _next_frame(scan, run.end)
        between = (following if following is not None else scan.size) - run.end
        if between and not run.cut and not _is_tag(scan, run.end) and not scan.is_zero(run.end) and between > _GARBAGE:
            run.garbage += between
        offset = following
    return runs


def _walk(scan: Scan, offset: int) -> _Run:
    """Frames from ``offset`` on up to another form, a frame that begins a stream, or something else."""
    lengths, _ = _table()
    base, position = offset, 0
    buffer = scan.at(base, _PIECE)
    value = lengths[unpack_from(">I", buffer)[0] & _MASK]
    run = _Run(offset, value >> 16)
    promised, size, run.has_mark = _promise(buffer, value)
    run.promised = promised
    run.count_at = offset + (50 if buffer[36:40] == b"VBRI" else 12 + _side(_table()[1][value >> 16]))
    limit = promised if promised else 1 << 62
    stated_end = offset + size if size else 1 << 62
    form, frames, get = value >> 16, 0, lengths.get
    if run.has_mark:
        position = value & 0xFFFF
    run.first = offset if promised is not None else offset + position
    mark = _next_mark(buffer, position)
    while True:
        if position + 4 > len(buffer):
            base, position = base + position, 0
            buffer = scan.at(base, _PIECE)
            mark = _next_mark(buffer, 0)
            if len(buffer) < 4:
                break
        value = get(unpack_from(">I", buffer, position)[0] & _MASK)
        if value is None or value >> 16 != form or frames >= limit or base + position == stated_end:
            break
        length = value & 0xFFFF
        if position + length > mark:
            if _promise(buffer[position:], value)[2]:
                break
            mark = _next_mark(buffer, mark + 1)
        position += length
        frames += 1
    run.frames, run.end = frames, min(base + position, scan.size)
    if base + position > scan.size:
        run.frames, run.cut = frames - 1, base + position - scan.size
    return run


def _promise(frame: bytes, value: int) -> tuple[int | None, int, bool]:
    """Frames and bytes that the first frame of a stream states, and whether it is such a frame."""
    form = _table()[1][value >> 16]
    if form.layer != 3:
        return None, 0, False
    at = 4 + _side(form)
    if frame[at : at + 4] in (b"Xing", b"Info") and len(frame) >= at + 16:
        flags = int.from_bytes(frame[at + 4 : at + 8], "big")
        frames = int.from_bytes(frame[at + 8 : at + 12], "big") if flags & 1 else 0
        place = at + (12 if flags & 1 else 8)
        size = int.from_bytes(frame[place : place + 4], "big") if flags & 2 else 0
        return frames or None, size, True
    if frame[36:40] == b"VBRI" and len(frame) >= 54:
        return int.from_bytes(frame[50:54], "big") or None, int.from_bytes(frame[46:50], "big"), True
    return None, 0, False


def _mark(header: bytes, frames: int, form: _Form) -> bytes:
    """A frame that states the number of frames. Without one libsndfile reads as far as it guesses from the bit rate."""
    if form.layer != 3:
        return b""
    header = bytes([header[0], header[1] | 1, 9 << 4 | header[2] & 0x0C, header[3]])  # no checksum, a middle bit rate
    size = _table()[0][int.from_bytes(header, "big") & _MASK] & 0xFFFF
    text = b"Xing" + (1).to_bytes(4, "big") + frames.to_bytes(4, "big")
    return (header + bytes(_side(form)) + text).ljust(size, b"\0")


def _side(form: _Form) -> int:
    """Bytes of a frame of layer III between its header and its samples."""
    return (17 if form.is_mono else 32) if form.is_mpeg1 else (9 if form.is_mono else 17)


def _next_mark(buffer: bytes, position: int) -> int:
    return min((at for mark in _MARKS if (at := buffer.find(mark, position)) >= 0), default=1 << 62)


def _is_frame(scan: Scan, offset: int, count: int) -> bool:
    """Whether ``count`` frames of one form follow each other from ``offset``, or fewer up to the end of the file."""
    lengths, _ = _table()
    form = None
    for index in range(count):
        header = scan.at(offset, 4)
        value = lengths.get(int.from_bytes(header, "big") & _MASK) if len(header) == 4 else None
        if value is None:
            return index > 0 and offset >= scan.size
        if form is not None and value >> 16 != form:
            return False
        form, offset = value >> 16, offset + (value & 0xFFFF)
    return True


def _next_frame(scan: Scan, offset: int) -> int | None:
    """The offset of the next frames, skipping tags and other bytes."""
    while offset < scan.size:
        offset = skip_tag(scan, offset)
        if _is_frame(scan, offset, 1) and _is_frame(scan, offset, 2):
            return offset
        found = scan.find(b"\xff", offset + 1)
        tag = scan.find(b"ID3", offset) if scan.at(offset, 1) != b"\xff" else -1
        if found < 0:
            return None
        offset = tag if offset < tag < found else found
    return None


def _is_tag(scan: Scan, offset: int) -> bool:
    return scan.at(offset, 11).startswith((b"TAG", b"APETAGEX", b"LYRICSBEGIN", b"ID3"))


@cache
def _table() -> tuple[dict[int, int], list[_Form]]:
    """Header -> bytes of the frame and, above 16 bits, the index of its form; the forms."""
    lengths: dict[int, int] = {}
    forms: list[_Form] = []
    for version in (0, 2, 3):  # MPEG 2.5, 2, 1
        for layer in (1, 2, 3):
            kilobits = _BIT_RATES[layer - 1 if version == 3 else 3 if layer == 1 else 4]
            for index, rate in enumerate((44100, 48000, 32000)):
                rate //= {3: 1, 2: 2, 0: 4}[version]
                for mode in range(4):
                    form = _Form(layer, version == 3, rate, mode == 3)
                    if form not in forms:
                        forms.append(form)
                    number = forms.index(form)
                    for bits, kilo in enumerate(kilobits, 1):
                        for padding in (0, 1):
                            head = 0xFFE00000 | version << 19 | (4 - layer) << 17 | bits << 12 | index << 10
                            head |= padding << 9 | mode << 6
                            if layer == 1:
                                size = (12000 * kilo // rate + padding) * 4
                            else:
                                size = form.samples // 8 * 1000 * kilo // rate + padding
                            lengths[head & _MASK] = number << 16 | size
    return lengths, forms
