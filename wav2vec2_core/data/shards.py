"""Tar shards in WebDataset's layout: ``key.flac``, ``key.txt``, ``key.json``; and their index, ``shards.json``."""

from __future__ import annotations

import glob
import json
import re
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

from wav2vec2_core.audio.selection import SUFFIXES
from wav2vec2_core.data.manifest import TEXT_COLUMNS, Utterance
from wav2vec2_core.data.tar import Member, read_tar
from wav2vec2_core.errors import AudioError, InputError, Wav2Vec2Error, brief, listed
from wav2vec2_core.files import read_json

#: The index that ``wav2vec2 data shard`` writes beside its shards.
INDEX = "shards.json"
#: Ends of names of compressed tars, which are refused.
COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tar.lz4", ".zip")
_TEXT, _COLUMNS = "txt", "json"
_MOST_SHARDS = 100_000  # that a pattern stands for
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")


def find_shards(pattern: str) -> list[Path]:
    """The tars that a name stands for: a path, braces (``train-{000..127}.tar``, ``{a,b}.tar``), ``*``, ``?``, ``[]``.

    Raises:
        InputError: there is none, one of those that braces name is missing, or one is no plain tar.
    """
    found: list[Path] = []
    for name in [pattern] if Path(pattern).exists() else _without_braces(pattern):
        is_pattern = any(mark in name for mark in "*?[") and not Path(name).exists()
        paths = sorted(Path(match) for match in glob.iglob(name, recursive=True)) if is_pattern else [Path(name)]  # noqa: PTH207  (may be absolute)
        if not paths or not all(path.exists() for path in paths):
            raise InputError(f"{brief(name)} matches no file: check the pattern and the folder")
        found += paths
    for path in found:
        if path.name.lower().endswith(COMPRESSED):
            raise InputError(f"{path} is compressed: unpack it to a plain .tar, whose files can be read by their place")
        if path.suffix.lower() != ".tar" or not path.is_file():
            raise InputError(f"{path} is no .tar: the pattern must match shards only")
    return found


def read_shards(paths: Sequence[Path]) -> list[Utterance]:
    """The utterances of tar shards, in their order.

    A key is a name up to its first dot. ``key.txt`` is its text, ``key.json`` has its columns, and its text where there
    is no ``key.txt``. Recordings stay where they are: ``Utterance.recording`` reads them by their place.

    Raises:
        AudioError: shards are damaged; the message names all of them.
        InputError: a shard has no recording, a key has two, or a text cannot be read.
    """
    utterances: list[Utterance] = []
    damaged: list[Wav2Vec2Error] = []
    for path in paths:
        try:
            utterances += _read_shard(path)
        except AudioError as error:
            damaged.append(error)
    if len(damaged) == 1:
        raise damaged[0]
    if damaged:
        raise AudioError(f"{len(damaged)} of {len(paths)} shards are damaged: " + "; ".join(map(str, damaged[:12])))
    return utterances


def read_index(folder: Path) -> list[Utterance]:
    """The utterances of the shards in a folder, from its ``shards.json`` alone: no shard is read.

    Raises:
        InputError: writing was not finished, or a shard is missing or of another size than the index says.
        CheckpointError: the index is not readable.
    """
    path = folder / INDEX
    index = read_json(path)
    remedy = "run wav2vec2 data shard --resume again, or name the tars themselves (FOLDER/*.tar)"
    if index.get("complete") is not True:
        raise InputError(f"{path} is of shards that are not complete: {remedy}")
    utterances: list[Utterance] = []
    try:
        for shard in index["shards"]:
            tar = folder / shard["file"]
            size = tar.stat().st_size if tar.is_file() else None
            if size != shard["bytes"]:
                is_now = "is missing" if size is None else f"has {size} bytes"
                raise InputError(f"{tar} {is_now}, {path} says {shard['bytes']}: {remedy}")
            for name, offset, size, samples, text, columns in shard["rows"]:
                member = Member(tar, name, offset, size)
                utterances.append(Utterance(tar / name, text, samples=samples, columns=columns, content=member))
        if not utterances:
            raise InputError(f"{path} names no utterances: none could be read when it was written")
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, Wav2Vec2Error):
            raise
        raise InputError(f"{path} is not what wav2vec2 data shard writes ({brief(str(error))}): {remedy}") from error
    return utterances


def _without_braces(pattern: str) -> list[str]:
    names = [pattern]
    while any(_BRACES.search(name) for name in names):
        expanded = (longer for name in names for longer in _first_braces(name))
        names = list(islice(expanded, _MOST_SHARDS + 1))
        if len(names) > _MOST_SHARDS:
            raise InputError(f"{brief(pattern)} stands for more than {_MOST_SHARDS} names: shorten its ranges")
    return names


def _first_braces(name: str) -> Iterator[str]:
    braces = _BRACES.search(name)
    if braces is None:
        yield name
        return
    between = _RANGE.fullmatch(braces[1])
    if between is None:
        choices: Iterator[str] | list[str] = braces[1].split(",")
    else:
        first, last = int(between[1]), int(between[2])
        if not first <= last < first + _MOST_SHARDS:
            raise InputError(f"{{{brief(braces[1])[1:-1]}}} must count up, to at most {_MOST_SHARDS} numbers")
        choices = (str(number).zfill(len(between[1])) for number in range(first, last + 1))
    for choice in choices:
        yield name[: braces.start()] + choice + name[braces.end() :]


def _read_shard(path: Path) -> Iterator[Utterance]:
    samples: dict[str, dict[str, Any]] = {}
    ends: set[str] = set()
    for member, content in read_tar(path, lambda name: _split(name)[1] in (_TEXT, _COLUMNS)):
        key, end = _split(member.name)
        if PurePosixPath(key).name.startswith(("_", ".")) or not PurePosixPath(key).name:
            continue
        kind = "audio" if f".{end}" in SUFFIXES else end
        ends.add(end)
        if kind not in ("audio", _TEXT, _COLUMNS):
            continue
        sample = samples.setdefault(key, {})
        if kind in sample:
            raise InputError(
                f"{path}: key {brief(key)} has two files for its {kind}: names up to the first dot must differ"
            )
        sample[kind] = member if kind == "audio" else _text(content or b"", member)
    if not any("audio" in sample for sample in samples.values()):
        raise InputError(
            f"{path} holds no recording: it has names that end in {listed(sorted(ends)) or 'nothing'}; shards hold "
            "key.flac, key.wav or the like, and a key ends at the first dot of a name"
        )
    for key, sample in samples.items():
        yield _utterance(path, key, sample)


def _split(name: str) -> tuple[str, str]:
    """Key and end of a member's name, which meet at the first dot of its last part."""
    folder, slash, last = name.rpartition("/")
    stem, _, end = last.partition(".")
    return folder + slash + stem, end.lower()


def _text(content: bytes, member: Member) -> str:
    try:
        return content.decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise InputError(f"{member.tar}: {brief(member.name)} is not UTF-8: write its text as UTF-8") from error


def _utterance(path: Path, key: str, sample: dict[str, Any]) -> Utterance:
    columns = {}
    if _COLUMNS in sample:
        try:
            columns = json.loads(sample[_COLUMNS])
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path}: the .json of {brief(key)} is not JSON ({brief(str(error))}): mend it") from error
        if not isinstance(columns, dict):
            raise InputError(f"{path}: the .json of {brief(key)} is a JSON {type(columns).__name__}: write an object")
    text = sample.get(_TEXT)
    column = next((name for name in TEXT_COLUMNS if isinstance(columns.get(name), str)), None)
    if column is not None and text in (None, columns[column].strip()):
        text = columns.pop(column).strip()
    member = sample.get("audio") or _Absent(path, key)
    name = member.name if isinstance(member, Member) else key
    return Utterance(path / name.lstrip("/"), text, columns=columns, content=member)


class _Absent:
    """Stands for the recording of a key that has none: a row that cannot be read."""

    def __init__(self, tar: Path, key: str) -> None:
        self._tar, self._key = tar, key

    def __call__(self) -> bytes:
        raise AudioError(f"{self._tar} has a text for {brief(self._key)} and no recording: write the shard again")
