"""The program that decodes containers with PyAV in a process of its own, which a damaged file may take down.

It is started as a script, imports numpy and PyAV alone, and takes one request after the other from standard input:
"q", the length of a JSON object, the object, and the bytes of the file where it holds ``"bytes"``. "s" stops the
reading that is going on. Answers are a letter, a length and that many bytes:

    R rate, channels     a run begins: 2 unsigned integers of 32 bits
    B samples            float32, mono
    H, N, X, I           JSON: damage, a note, an error (the last answer but E), information
    K                    still at work
    E                    the request is done
"""

from __future__ import annotations

import collections
import contextlib
import importlib.util
import io
import json
import os
import select
import struct
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

_BLOCK = 1 << 16  # samples sent at a time
_GAP = 0.1  # seconds by which times may jump before silence is put in
_SLACK = 0.5  # seconds by which a stated length may exceed the samples (encoder delay, edits)
_LONGEST_GAP = 6 * 3600.0  # seconds; a longer jump is another clock
_MOST_BEFORE = 5.0  # seconds of sound before the clock's zero that are left out: what encoders put there
_MOST_PADDING = 4096  # samples behind the stated end that an encoder may add
_LAST_PACKETS = 8  # decoded for the length of a recording: the last packet's own is often unknown
_AAC_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350)
_PLANES = 8  # of this many or more PyAV reads planes past the end of their table: it looks for a null behind the last
_ALIVE = 2.0  # seconds between signs of life
# Containers whose clock begins at 0, and those where it begins with the first of their streams. Others have no clock.
_FROM_ZERO = ("mov", "matroska", "avi")
_FROM_FIRST = ("mpegts", "mpeg", "flv", "asf", "ogg", "nut", "rm", "mxf")


class RefusedError(Exception):
    """The request cannot be fulfilled; the message completes a sentence that starts with the recording's name."""


class StoppedError(Exception):
    """The remaining answers are no longer wanted."""


class Answers:
    """Writes answers and checks for stop requests in between."""

    def __init__(self, source: int, target: int) -> None:
        self._source, self._target = source, target
        self._last = time.monotonic()

    def send(self, kind: str, data: bytes | memoryview = b"") -> None:
        header = kind.encode() + struct.pack("<I", len(data))
        for piece in (header, data):
            view = memoryview(piece)
            while len(view):
                view = view[os.write(self._target, view) :]
        self._last = time.monotonic()

    def tell(self, kind: str, value: Any) -> None:
        self.send(kind, json.dumps(value).encode())

    def look(self) -> None:
        """Raises ``StoppedError``."""
        if select.select([self._source], [], [], 0)[0]:
            os.read(self._source, 1)
            raise StoppedError
        if time.monotonic() - self._last > _ALIVE:
            self.send("K")


class Output:
    """Collects the samples of runs, and mixes and sends them in blocks."""

    def __init__(self, answers: Answers, channel: str | int, until: float | None) -> None:
        self._answers, self._channel, self._until = answers, channel, until
        self._form: tuple[int, int] | None = None
        self._mixer: Any = None
        self._waiting: list[Any] = []
        self._count = 0
        self.seconds = 0.0  # sent and waiting
        self.cancelled = 0.0

    @property
    def is_enough(self) -> bool:
        return self._until is not None and self.seconds > self._until

    def begin(self, rate: int, channels: int) -> None:
        """A run of this form, unless it goes on."""
        if self._form == (rate, channels):
            return
        self.flush()
        self._answers.send("R", struct.pack("<II", rate, channels))
        self._form, self._mixer = (rate, channels), MIXING.Mixer(self._channel)

    def silence(self, seconds: float) -> None:
        rate, channels = self._form or (1, 1)
        left = round(seconds * rate)
        while left > 0:
            self.add(numpy.zeros((min(left, _BLOCK), channels), numpy.float32))
            left -= _BLOCK

    def add(self, samples: Any) -> None:
        """(samples, channels) of any type."""
        rate, channels = self._form or (1, 1)
        if not len(samples) or (MIXING.channel_number(self._channel) or 0) >= channels:
            return  # the other side refuses the run
        if self._waiting and samples.dtype != self._waiting[0].dtype:
            self._mix()
        self._waiting.append(samples)
        self._count += len(samples)
        self.seconds += len(samples) / rate
        if self._count >= _BLOCK:
            self._mix()

    def flush(self) -> None:
        """Send what waits."""
        if self._mixer is not None:
            self._mix()
            self._send(self._mixer.flush())
            self.cancelled += self._mixer.cancelled / (self._form or (1, 1))[0]
            self._mixer.cancelled = 0

    def _mix(self) -> None:
        if self._waiting:
            block, self._waiting, self._count = numpy.concatenate(self._waiting), [], 0
            self._send(self._mixer.feed(_floats(block)))

    def _send(self, samples: Any) -> None:
        if len(samples):
            self._answers.send("B", samples.data.cast("B"))
        self._answers.look()


class Clock:
    """Where frames belong by their times: silence to put in front of one, or samples of it to drop.

    Attributes:
        counts: whether the container has a clock at all.
        now: seconds up to the end of what has come.
    """

    def __init__(self, container: Any, stream: Any) -> None:
        kinds = container.format.name.split(",")
        self.counts = any(kind in _FROM_ZERO + _FROM_FIRST for kind in kinds)
        first = container.start_time
        self._origin = first / 1_000_000 if first is not None and any(kind in _FROM_FIRST for kind in kinds) else 0.0
        self._has_start_only = bool(
            {"avi", "ogg"} & set(kinds)
        )  # no times, or none to rely on, but that of the beginning
        self._interpolates = any(kind in ("mpegts", "mpeg") for kind in kinds)
        self._rate: int | None = None
        self.now = 0.0

    def goes_on(self, rate: int) -> None:
        """Broadcast formats time few frames; the times between are wrong once the rate is not that of the beginning."""
        if self._interpolates and rate != (self._rate or rate):
            self.counts = False
        self._rate = self._rate or rate

    def gap(self, time: float | None) -> float:
        """Seconds of silence to put in front of a frame that begins at ``time``; negative: to drop at its beginning."""
        if not self.counts or time is None:
            return 0.0
        gap = time - self._origin - self.now
        self.counts = not self._has_start_only
        if self.now == 0:
            if -_MOST_BEFORE <= gap <= _LONGEST_GAP:
                return gap
        elif abs(gap) <= _GAP:
            return 0.0
        elif 0 < gap <= _LONGEST_GAP:
            return gap
        self._origin += gap  # the clock itself has jumped: joined files, a broadcast that began again
        return 0.0

    def passes(self, time: float | None, seconds: float) -> None:
        """A packet of so many seconds."""
        self.now += max(0.0, self.gap(time))
        if not self.reaches(time, seconds):
            self.now += seconds

    def reaches(self, time: float | None, seconds: float) -> bool:
        """Set ``now`` to the end of what begins at ``time``; whether there is such a time."""
        if not self.counts or time is None:
            return False
        self.now = max(self.now, time - self._origin + seconds)
        return True


def main() -> None:
    """Serve requests until standard input ends."""
    source, target = os.dup(0), os.dup(1)
    quiet = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(quiet, number)
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    answers = Answers(source, target)
    while letter := os.read(source, 1):
        if letter != b"q":
            continue  # a stop request for a finished reading
        request = json.loads(_exactly(source, struct.unpack("<I", _exactly(source, 4))[0]))
        data = _exactly(source, request["bytes"]) if request.get("bytes") else None
        try:
            _serve(answers, request, data)
        except StoppedError:
            pass
        except RefusedError as error:
            answers.tell("X", str(error))
        except BrokenPipeError:
            return
        except Exception as error:
            reason = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
            answers.tell(
                "X", f"cannot be decoded as audio ({reason[:100]}): download it again or convert it to wav or flac"
            )
        answers.send("E")


def _serve(answers: Answers, request: dict[str, Any], data: bytes | None) -> None:
    file: BinaryIO = io.BytesIO(data) if data is not None else Path(request["path"]).open("rb")  # noqa: SIM115
    window = SCANNING.Window(file, request["begin"], request["end"])
    # A playlist could name other files and addresses; without any protocol nothing but this file is opened.
    with file, av.open(window, options={"protocol_whitelist": "none"}) as container:
        stream = _track(container, request["track"], answers)
        if request["do"] == "read":
            _read(answers, container, stream, request)
        else:
            answers.tell("I", {"channels": stream.channels, "duration": _duration(answers, container, stream)})


def _track(container: Any, wanted: int | str | None, answers: Answers) -> Any:
    streams = list(container.streams.audio)
    if not streams:
        raise RefusedError("holds no audio: name a recording, or a video with sound")
    default = next((stream for stream in streams if _is_default(stream)), streams[0])
    names = [stream.metadata.get("language", "") for stream in streams]
    listed = ", ".join(f"{index}{f' ({name[:12]})' if name else ''}" for index, name in enumerate(names[:16]))
    if wanted is None:
        if len(streams) > 1:
            read = f"track {streams.index(default)} is read (choose with audio-track)"
            answers.tell("N", f"has {len(streams)} audio tracks: {listed}; {read}")
        return default
    if isinstance(wanted, str):
        index = next((index for index, name in enumerate(names) if name.casefold() == wanted.casefold()), -1)
    else:
        index = wanted
    if not 0 <= index < len(streams):
        raise RefusedError(f"has no audio track {str(wanted)[:20]!r:.100}: it has {listed}")
    return streams[index]


def _is_default(stream: Any) -> bool:
    """By the lowest bit of the stream's disposition, which older releases of PyAV do not know."""
    return bool(getattr(getattr(stream, "disposition", 0), "value", 0) & 1)


def _read(answers: Answers, container: Any, stream: Any, request: dict[str, Any]) -> None:
    output = Output(answers, request["channel"], request["until"])
    clock, padding = Clock(container, stream), Padding(_stated(container, stream))
    problem, corrupt = None, 0
    for frame in _frames(container, stream, answers):
        if isinstance(frame, Exception):
            problem = problem or (frame, output.seconds)
            continue
        corrupt += frame.is_corrupt
        rate, samples = frame.sample_rate, _samples(frame)
        output.begin(rate, samples.shape[1])
        clock.goes_on(rate)
        gap = clock.gap(frame.time)
        if gap > 0:
            if output.seconds and gap > _GAP:
                answers.tell("N", f"has no sound for {gap:.2f} s at second {output.seconds:.2f}")
            output.silence(gap)
            clock.now += gap
        elif gap < 0:
            samples = samples[round(-gap * rate) :]
        clock.now += len(samples) / rate
        output.add(padding.without(samples, rate, clock.now))
        if output.is_enough:
            break
    output.flush()
    if output.cancelled:
        answers.tell("N", {"cancelled": output.cancelled})
    if corrupt:
        answers.tell("N", f"lacks bytes in {corrupt} places: what is heard there may be wrong")
    if problem is not None:
        reason = getattr(problem[0], "strerror", None) or str(problem[0])
        where = f"at second {problem[1]:.2f} it cannot be decoded ({reason[:100]})"
        answers.tell("H", [f"is damaged or truncated: {where}", output.seconds])
    stated = padding.stated
    if not output.is_enough and stated is not None and output.seconds < stated - _SLACK:
        reason = f"is truncated: it promises {stated:.1f} seconds and holds {output.seconds:.1f}"
        answers.tell("H", [reason, output.seconds])


class Padding:
    """Drops what an encoder put behind the end that a container states, as players do; more than that is sound."""

    def __init__(self, stated: float | None) -> None:
        self.stated = stated
        self._held: list[Any] = []

    def without(self, samples: Any, rate: int, now: float) -> Any:
        """What is sure to be sound of the samples that end at ``now``, and of those held before."""
        if self.stated is None:
            return samples
        behind = min(len(samples), max(0, round((now - self.stated) * rate)))
        if not behind and not self._held:
            return samples
        self._held.append(samples[len(samples) - behind :])
        if sum(map(len, self._held)) <= _MOST_PADDING:
            return samples[: len(samples) - behind]
        held, self._held, self.stated = self._held, [], None
        return numpy.concatenate([*held[:-1], samples])


def _frames(container: Any, stream: Any, answers: Answers) -> Iterator[Any]:
    """Decoded frames, and exceptions in the place of those that cannot be decoded."""
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            return
        except FFmpegError as error:
            yield error
            return
        answers.look()
        try:
            yield from packet.decode()
        except EOFError:
            return
        except FFmpegError as error:
            if packet.size:
                yield error


def _samples(frame: Any) -> Any:
    """(samples, channels) of a frame, in its own type."""
    layout = frame.layout
    channels = layout.nb_channels if hasattr(layout, "nb_channels") else len(layout.channels)  # PyAV before 13
    if not frame.format.is_planar:
        return frame.to_ndarray().reshape(-1, channels)
    if channels < _PLANES:
        return frame.to_ndarray().T
    packed = av.AudioResampler(format="flt", layout=frame.layout, rate=frame.sample_rate).resample(frame)
    return numpy.concatenate([part.to_ndarray() for part in packed], axis=1).reshape(-1, channels)


def _floats(samples: Any) -> Any:
    """Samples of any type as float32 of full scale 1."""
    if samples.dtype.kind == "f":
        if not numpy.isfinite(samples).all():
            raise RefusedError("holds samples that are NaN or infinite: export it again")
        return samples.astype(numpy.float32, copy=False)
    if samples.dtype == numpy.uint8:
        return (samples.astype(numpy.float32) - 128) / 128
    return samples.astype(numpy.float32) * numpy.float32(0.5 ** (8 * samples.dtype.itemsize - 1))


def _stated(container: Any, stream: Any) -> float | None:
    """Where the sound ends by the tables of mp4 and mov, which name every sample: there a length is a promise."""
    if "mov" not in container.format.name.split(",") or not stream.duration or stream.time_base is None:
        return None
    return float(((stream.start_time or 0) + stream.duration) * stream.time_base)


def _duration(answers: Answers, container: Any, stream: Any) -> float | None:
    """Seconds, from the tables of mp4 or from the times and lengths of all packets, of which the last are decoded.

    ``None`` where the packets state no lengths either.
    """
    stated = _stated(container, stream)
    if stated is not None:
        return stated
    clock, last, are_stated = Clock(container, stream), collections.deque(maxlen=_LAST_PACKETS), True
    for packet in container.demux(stream):
        answers.look()
        if packet.size and packet.time_base is not None:
            last.append(packet)
            seconds, rate = _lasts(packet, stream)
            are_stated = are_stated and seconds > 0
            clock.goes_on(rate)
            clock.passes(_time(packet), seconds)
    if not clock.counts and not are_stated:
        return None
    for packet in [*last, None] if clock.counts else ():
        with contextlib.suppress(EOFError, FFmpegError):
            for frame in packet.decode() if packet is not None else stream.codec_context.decode(None):
                if not clock.reaches(frame.time, frame.samples / frame.sample_rate) and packet is None:
                    clock.now += frame.samples / frame.sample_rate
    return max(0.0, clock.now)


def _lasts(packet: Any, stream: Any) -> tuple[float, int]:
    """Seconds of a packet, and its rate. AAC in a stream states both itself; the container knows the first rate."""
    if stream.codec_context.name == "aac":
        header = bytes(packet)[:7]
        if len(header) == 7 and header[0] == 0xFF and header[1] & 0xF6 == 0xF0:
            rate = _AAC_RATES[min(header[2] >> 2 & 15, len(_AAC_RATES) - 1)]
            return 1024 * ((header[6] & 3) + 1) / rate, rate
    return float((packet.duration or 0) * packet.time_base), 0


def _time(packet: Any) -> float | None:
    """When a packet begins, in seconds."""
    return None if packet.pts is None or packet.time_base is None else float(packet.pts * packet.time_base)


def _exactly(source: int, count: int) -> bytes:
    pieces = []
    while count:
        piece = os.read(source, min(count, 1 << 20))
        if not piece:
            os._exit(0)
        pieces.append(piece)
        count -= len(piece)
    return b"".join(pieces)


def _end_with_parent(parent: int) -> None:
    """A decoder that hangs must not outlive the command that asked for it."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(0)


def _beside(name: str) -> Any:
    """A module of this folder without the package around it, whose import would cost more than all else here."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    if spec is None or spec.loader is None:
        raise ImportError(name)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    import av
    import numpy
    from av.error import FFmpegError

    MIXING, SCANNING = _beside("mixing"), _beside("scanning")
    main()
