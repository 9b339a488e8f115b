"""Containers that need PyAV (mp4, m4a, mkv, webm, aac ...), decoded in a separate process.

A decoder written in C can crash on a damaged file. Only the process of ``media_worker``
then ends, which is an error for that file, and a new one is started for the next file. Idle processes are reused.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import select
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from wav2vec2_core.audio.part import Part
from wav2vec2_core.audio.reading import Reading, Run, check_form
from wav2vec2_core.errors import AudioError

_PATIENCE = 120.0  # seconds without a sign of life after which a decoder counts as hung
_MOST_IDLE = 2
_PIPE = 1 << 20  # bytes
_TAIL = 2.0  # seconds decoded behind a stretch, for the resampling


def media_runs(source: Path | bytes, part: Part, reading: Reading, before: float) -> Iterator[Run]:
    """The runs of a part; ``before``: seconds read of parts before it.

    Raises:
        AudioError: the part cannot be decoded, or is damaged.
    """
    if part.missing is not None and not reading.keep:
        reading.harm(part.missing, before)
    asked = {
        "do": "read",
        "channel": reading.channel,
        "track": reading.track,
        "until": None if reading.until is None else reading.until - before + _TAIL,
    }
    with _answers(source, part, reading.name, asked) as answers:
        following: list[tuple[int, int]] = []
        rate, seconds = 1, [before]

        def blocks() -> Iterator[np.ndarray]:
            for kind, data in answers:
                if kind == "R":
                    following.append(struct.unpack("<II", data))
                    return
                if kind == "B":
                    yield (block := np.frombuffer(data, np.float32))
                    seconds[0] += len(block) / rate
                else:
                    _report(kind, data, reading, before)

        yield from ()
        for _ in blocks():
            pass
        while following:
            rate, channels = following.pop()
            check_form(reading.name, rate, channels)
            reading.mixer(channels)  # refuses a channel that is not there
            rest = blocks()
            yield Run(rate, 0, rest)
            for _ in rest:
                pass
    if part.missing is not None:
        reading.harm(part.missing, seconds[0])
    if part.note is not None:
        reading.note(f"{reading.name} {part.note}")
    if part.left_over:
        reading.note(f"{reading.name}: {part.left_over} bytes at its end are no part of its sound and are not read")


def media_facts(source: Path | bytes, part: Part, reading: Reading, before: float) -> tuple[float, int]:
    """Seconds and channels of a part, decoded only where nothing else tells its length. Raises ``AudioError``."""
    if part.missing is not None and not reading.keep:
        reading.harm(part.missing, before)
    facts: dict[str, Any] = {}
    with _answers(source, part, reading.name, {"do": "facts", "track": reading.track}) as answers:
        for kind, data in answers:
            if kind == "I":
                facts = json.loads(data)
            elif kind == "X":
                raise AudioError(f"{reading.name} {json.loads(data)}")
    seconds = facts["duration"]
    if seconds is None:
        runs = media_runs(source, part, reading, before)
        seconds = sum(sum(map(len, run.blocks)) / run.rate for run in runs)
    return seconds, facts["channels"]


def _report(kind: str, data: bytes, reading: Reading, before: float) -> None:
    value = json.loads(data)
    if kind == "X":
        raise AudioError(f"{reading.name} {value}")
    if kind == "H":
        reading.harm(value[0], before + value[1])
    elif isinstance(value, dict):
        reading.note_cancelled(value["cancelled"])
    elif kind == "N":
        reading.note(f"{reading.name} {value}")


# ---- the process ----------------------------------------------------------------------------------------------------

_idle: list[_Worker] = []
_lock = threading.Lock()


class _Worker:
    """A process that decodes one part at a time."""

    def __init__(self) -> None:
        environment = dict(os.environ)
        environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
        environment.setdefault("OPENBLAS_NUM_THREADS", "1")
        self.owner = os.getpid()
        self._process = subprocess.Popen(
            [sys.executable, "-S", "-P", str(Path(__file__).with_name("media_worker.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            env=environment,
            start_new_session=True,  # Ctrl-C is for the command, which then ends this
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(OSError, AttributeError, ImportError):  # fewer turns between the two processes
            import fcntl

            fcntl.fcntl(self._process.stdout, fcntl.F_SETPIPE_SZ, _PIPE)
        self._to, self._from = self._process.stdin.fileno(), self._process.stdout.fileno()

    def ask(self, request: dict[str, Any], data: bytes | None) -> None:
        text = json.dumps(request).encode()
        for piece in (b"q" + struct.pack("<I", len(text)) + text, data or b""):
            view = memoryview(piece)
            while len(view):
                view = view[os.write(self._to, view) :]

    def answer(self) -> tuple[str, bytes]:
        """The next answer. Raises ``EOFError`` if the process has ended, ``TimeoutError`` if it hangs."""
        header = self._exactly(5)
        return chr(header[0]), self._exactly(int.from_bytes(header[1:], "little"))

    def stop(self) -> bool:
        """End the request that is going on; whether the process can take another."""
        try:
            os.write(self._to, b"s")
            while self.answer()[0] != "E":
                pass
        except (OSError, EOFError):
            return False
        return True

    def end(self) -> int:
        """End the process; its exit code."""
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        return self._process.wait()

    def fate(self) -> str:
        """Describe how the process ended by itself."""
        try:
            code = self._process.wait(5)
        except subprocess.TimeoutExpired:
            return "it closed its output"
        return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"

    def _exactly(self, count: int) -> bytes:
        held = bytearray(count)
        view = memoryview(held)
        while len(view):
            if not select.select([self._from], [], [], _PATIENCE)[0]:
                raise TimeoutError
            got = os.readv(self._from, [view])
            if not got:
                raise EOFError
            view = view[got:]
        return bytes(held) if count < 64 else held  # pyright: ignore[reportReturnType]


@contextmanager
def _answers(
    source: Path | bytes, part: Part, name: str, request: dict[str, Any]
) -> Iterator[Iterator[tuple[str, bytes]]]:
    """The answers to a request, up to the last; the process is stopped where not all of them are taken."""
    if find_spec("av") is None:
        raise AudioError(
            f"{name} is not a recording that libsndfile reads: for video, m4a and other containers "
            'run pip install "wav2vec2-frameworks[media]", otherwise convert it to wav or flac'
        )
    is_data = isinstance(source, bytes)
    request |= {"begin": part.begin, "end": part.end} | ({"bytes": len(source)} if is_data else {"path": str(source)})
    worker = _take()
    is_done = False

    def answers() -> Iterator[tuple[str, bytes]]:
        nonlocal is_done
        try:
            while (answer := worker.answer())[0] != "E":
                if answer[0] != "K":
                    yield answer
            is_done = True
        except (EOFError, TimeoutError) as error:
            _lost(name, worker, error)

    try:
        try:
            worker.ask(request, source if is_data else None)
        except OSError as error:
            _lost(name, worker, error)
        yield answers()
        is_done = is_done or worker.stop()
    except AudioError:
        is_done = is_done or worker.stop()
        raise
    except GeneratorExit:
        is_done = is_done or worker.stop()
        raise
    finally:
        _give_back(worker) if is_done else worker.end()


def _lost(name: str, worker: _Worker, error: BaseException) -> NoReturn:
    fate = f"hung for {_PATIENCE:.0f} s" if isinstance(error, TimeoutError) else f"crashed ({worker.fate()})"
    raise AudioError(f"{name} cannot be decoded: the decoder {fate}; convert it to wav or flac") from error


def _take() -> _Worker:
    with _lock:
        while _idle:
            worker = _idle.pop()
            if worker.owner == os.getpid():  # a process that was forked must not share it
                return worker
    return _Worker()


def _give_back(worker: _Worker) -> None:
    with _lock:
        if len(_idle) < _MOST_IDLE:
            _idle.append(worker)
            return
    worker.end()


@atexit.register
def _end_all() -> None:
    with _lock:
        while _idle:
            worker = _idle.pop()
            if worker.owner == os.getpid():
                worker.end()
