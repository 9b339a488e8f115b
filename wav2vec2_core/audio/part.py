"""A part of a file, which a decoder reads as a separate file."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Part:
    """A range of bytes that a decoder reads as a separate file.

    Attributes:
        begin, end: offsets in the file.
        patches: (offset, bytes) that the decoder reads instead of the file's: lengths that mean "unknown".
        prefix: bytes that the decoder reads in front of the part: a header that the file lacks.
        is_promise: whether the length that the decoder states is guaranteed by the format.
        length: samples of each channel where the headers of all frames tell, whatever the decoder states.
        missing: "is truncated: ..." where the headers promise what the file does not hold.
        note: a note for the user; completes a sentence that starts with the recording's name.
        left_over: bytes behind it that no decoder reads, other than tags and zeros.
        is_media: a container that only PyAV reads.
    """

    begin: int
    end: int
    patches: tuple[tuple[int, bytes], ...] = ()
    prefix: bytes = b""
    is_promise: bool = True
    length: int | None = None
    missing: str | None = None
    note: str | None = None
    left_over: int = 0
    is_media: bool = False
