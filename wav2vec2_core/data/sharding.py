"""Writing training data to tar shards of FLAC, in WebDataset's layout, with an index."""

from __future__ import annotations

import io
import json
import os
import re
import tarfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from wav2vec2_core.data.checking import name_of
from wav2vec2_core.data.manifest import Utterance, to_json
from wav2vec2_core.data.opening import digest_of
from wav2vec2_core.data.shards import INDEX, read_shards
from wav2vec2_core.data.tar import Member
from wav2vec2_core.errors import AudioError, InputError, OutputError
from wav2vec2_core.files import atomic_path, make_folder, read_json, write_json, write_text

#: Hertz of the recordings in shards.
RATE = 16_000
_FULL_SCALE = 1 << 15
_FORMAT = 1
_LONGEST_STEM = 60  # characters of a recording's name in its key
_KEY = re.compile(r"(\d+)-")


@dataclass(frozen=True)
class Sharded:
    """What was written: shards, utterances in them and their seconds; left_out: rows that cannot be read, and why."""

    shards: int
    utterances: int
    seconds: float
    left_out: tuple[tuple[Utterance, str], ...]


@dataclass(frozen=True)
class _Encoded:
    key: str
    files: tuple[tuple[str, bytes], ...]
    seconds: float

    @property
    def size(self) -> int:
        return sum(len(content) for _, content in self.files)


def write_shards(
    rows: Sequence[Utterance],
    folder: str | os.PathLike[str],
    *,
    shard_seconds: float = 3600.0,
    shard_mb: float | None = None,
    resume: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Sharded:
    """Write utterances to ``shard-00000.tar`` and so on: FLAC (16 kHz, mono, 16 bits), texts and columns.

    Rows keep their order; the same rows make the same bytes. A shard appears when it is complete, ``shards.json`` is
    complete when all of them are. Rows that cannot be read are left out.

    Args:
        rows: as ``open_rows`` returns them.
        folder: new or empty; with ``resume`` one where this was begun.
        shard_seconds: of audio in a shard, at most, unless a single row is longer.
        shard_mb: millions of bytes in a shard, at most, where given.
        resume: go on after the last complete shard.
        progress: is told how many more rows are done.

    Raises:
        InputError: a limit is not positive, or what was begun is of other data or limits.
        OutputError: the folder holds other data, or a file cannot be written.
    """
    for name, value in (("shard_seconds", shard_seconds), ("shard_mb", shard_mb)):
        if value is not None and not 0 < value < float("inf"):
            raise InputError(f"{name}={value} must be a number above 0")
    folder = make_folder(folder)
    plan = {
        "format": _FORMAT,
        "source": digest_of(rows),
        "sampling_rate": RATE,
        "shard_seconds": shard_seconds,
        "shard_mb": shard_mb,
    }
    is_done = _begin(folder, plan, resume)
    shards = _complete_shards(folder)
    numbers = [_number(utterance) for path in shards for utterance in read_shards([path])]
    first = len(rows) if is_done else max(numbers, default=-1) + 1
    there = set(numbers)
    gone = [row for number, row in enumerate(islice(rows, first)) if number not in there]
    left_out = [(row, f"{name_of(row)} could not be read when its shard was written") for row in gone]
    if progress is not None:
        progress(first)
    if not is_done:
        readable = _readable(_encoded(rows, first, progress), islice(rows, first, None), left_out)
        shards += _write(readable, folder, len(shards), shard_seconds, shard_mb)
        _write_index(folder / INDEX, plan, shards, len(left_out))
    index = read_json(folder / INDEX)
    return Sharded(len(shards), index["utterances"], index["seconds"], tuple(left_out))


def _begin(folder: Path, plan: dict[str, Any], resume: bool) -> bool:
    """Whether the shards are complete already. Refuses a folder with other data."""
    path = folder / INDEX
    if path.exists():
        if not resume:
            raise OutputError(f"{folder} holds shards: go on with them (--resume), or name a new folder")
        index = read_json(path)
        for name, value in plan.items():
            if index.get(name) != value:
                what = "other rows" if name == "source" else f"{name}={index.get(name)}, not {value}"
                raise InputError(
                    f"{path} was begun with {what}: go on with what it was begun with, or name a new folder"
                )
        return index.get("complete") is True
    others = sorted(folder.glob("*.tar"))
    if others:
        raise OutputError(f"{folder} holds {others[0].name}, and no {INDEX}: name a new folder")
    write_json(path, plan | {"complete": False})
    return False


def _complete_shards(folder: Path) -> list[Path]:
    """The shards that are there, up to the first that is missing."""
    shards: list[Path] = []
    while (path := _shard(folder, len(shards))).is_file():
        shards.append(path)
    return shards


def _shard(folder: Path, number: int) -> Path:
    return folder / f"shard-{number:05d}.tar"


def _number(utterance: Utterance) -> int:
    """The number of the row that a sample was made of."""
    found = _KEY.match(utterance.path.name)
    if found is None:
        raise InputError(f"{utterance.path} has another name than this command writes: name a new folder")
    return int(found[1])


def _readable(
    encoded: Iterator[_Encoded | AudioError], rows: Iterator[Utterance], left_out: list[tuple[Utterance, str]]
) -> Iterator[_Encoded]:
    """What could be encoded of ``rows``, in order; the others go to ``left_out``."""
    for row, found in zip(rows, encoded, strict=True):
        if isinstance(found, AudioError):
            left_out.append((row, str(found)))
        else:
            yield found


def _encoded(
    rows: Sequence[Utterance], first: int, progress: Callable[[int], None] | None
) -> Iterator[_Encoded | AudioError]:
    """Rows from ``first`` on, decoded and encoded by several threads a little ahead."""
    workers = os.cpu_count() or 1
    waiting: deque[Future[_Encoded | AudioError]] = deque()
    with ThreadPoolExecutor(workers) as threads:
        try:
            for number in range(first, len(rows)):
                waiting.append(threads.submit(_encode, rows[number], number))
                if len(waiting) >= 4 * workers:
                    yield waiting.popleft().result()
                    if progress is not None:
                        progress(1)
            while waiting:
                yield waiting.popleft().result()
                if progress is not None:
                    progress(1)
        finally:
            threads.shutdown(wait=True, cancel_futures=True)


def _encode(row: Utterance, number: int) -> _Encoded | AudioError:
    import soundfile

    try:
        samples = row.recording(sampling_rate=RATE).read()
    except AudioError as error:
        return error
    whole = np.clip(np.rint(samples * _FULL_SCALE), -_FULL_SCALE, _FULL_SCALE - 1).astype(np.int16)
    flac = io.BytesIO()
    soundfile.write(flac, whole, RATE, format="FLAC", subtype="PCM_16")
    stem = re.sub(r"[^0-9A-Za-z_-]+", "-", row.path.stem)[:_LONGEST_STEM]
    files = [("flac", flac.getvalue())]
    if row.text is not None:
        files.append(("txt", row.text.encode("utf-8", "backslashreplace")))
    if row.columns:
        files.append(("json", to_json(row.columns)))
    return _Encoded(f"{number:08d}-{stem}", tuple(files), len(samples) / RATE)


def _write(
    rows: Iterator[_Encoded], folder: Path, first: int, shard_seconds: float, shard_mb: float | None
) -> list[Path]:
    """Write shards from number ``first`` on; their paths."""
    most = float("inf") if shard_mb is None else shard_mb * 1e6
    shards: list[Path] = []
    row = next(rows, None)
    while row is not None:
        path = _shard(folder, first + len(shards))
        with atomic_path(path) as temporary, temporary.open("wb") as file, _tar(file) as tar:
            seconds, size = 0.0, 0
            while row is not None and (
                size == 0 or (seconds + row.seconds <= shard_seconds and size + row.size <= most)
            ):
                _add(tar, row)
                seconds, size = seconds + row.seconds, size + row.size
                row = next(rows, None)
        shards.append(path)
    return shards


def _tar(file: BinaryIO) -> tarfile.TarFile:
    return tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT)


def _add(tar: tarfile.TarFile, row: _Encoded) -> None:
    for end, content in row.files:
        info = tarfile.TarInfo(f"{row.key}.{end}")
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))


def _write_index(path: Path, plan: dict[str, Any], shards: Sequence[Path], left_out: int) -> None:
    """Write ``shards.json``: what the shards hold and where, as they are on the disk now."""
    described: list[dict[str, Any]] = []
    for shard in shards:
        rows: list[list[Any]] = []
        for utterance in read_shards([shard]):
            member = utterance.content
            assert isinstance(member, Member)
            rows.append([member.name, member.offset, member.size, _samples(member), utterance.text, utterance.columns])
        described.append({"file": shard.name, "bytes": shard.stat().st_size, "rows": rows})
    samples = [row[3] for shard in described for row in shard["rows"]]
    totals = {"utterances": len(samples), "seconds": sum(samples) / RATE, "left_out": left_out}
    index = plan | {"complete": True} | totals | {"shards": described}
    write_text(path, json.dumps(index, ensure_ascii=False) + "\n")


def _samples(member: Member) -> int:
    """The number of samples that a FLAC file states: the last 36 of bits 64 to 128 of its first block."""
    with member.tar.open("rb") as file:
        file.seek(member.offset + 18)
        return int.from_bytes(file.read(8), "big") & ((1 << 36) - 1)
