"""One function that opens training data of every kind."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from wav2vec2_core.audio.recording import is_address
from wav2vec2_core.audio.selection import recordings_in
from wav2vec2_core.data.folders import read_folder
from wav2vec2_core.data.manifest import Utterance, read_manifest, to_json
from wav2vec2_core.data.shards import COMPRESSED, INDEX, find_shards, read_index, read_shards
from wav2vec2_core.data.tables import read_table
from wav2vec2_core.errors import InputError, brief, listed


def open_rows(source: str | os.PathLike[str] | Sequence[Any]) -> list[Utterance]:
    """The utterances of any data; recordings are not read yet.

    Args:
        source: a manifest (see ``read_manifest``); a folder of recordings (``read_folder``) or of shards; tar shards: a
            path, or a pattern with braces or ``*`` (``read_shards``); rows of mappings with an ``audio``, such as a
            ``datasets.Dataset`` (``read_table``); or utterances.

    Raises:
        InputError: there is no such data, it is empty, or something in it breaks a rule.
        AudioError: a shard is damaged.
    """
    if isinstance(source, str | os.PathLike):
        return _open_path(os.fspath(source))
    if isinstance(source, Mapping):
        raise InputError(
            f"the data set has the splits {listed(source)}: choose one, as in data[{brief(next(iter(source), ''))}]"
        )
    if not (hasattr(source, "__len__") and hasattr(source, "__getitem__")):
        raise InputError(
            f"{type(source).__name__} is no data with rows by number: give a path, a list of mappings or a data set "
            "that is loaded without streaming"
        )
    if not hasattr(source, "column_names") and len(source) and isinstance(source[0], Utterance):
        return list(source)
    return read_table(source)


def digest_of(rows: Sequence[Utterance]) -> str:
    """Hexadecimal digest of what rows say, with names of files but not of folders: data may move."""
    digest = hashlib.sha256()
    for row in rows:
        said = [row.path.name, row.text, row.offset, row.duration, dict(row.columns)]
        digest.update(to_json(said) + b"\n")
    return digest.hexdigest()


def name_of_source(source: str | os.PathLike[str] | Sequence[Any]) -> str:
    """What a source is called in messages and records."""
    return os.fspath(source) if isinstance(source, str | os.PathLike) else f"{len(source)} rows"


def _open_path(name: str) -> list[Utterance]:
    path = Path(name)
    if not name:
        raise InputError("the name of the data is empty: name a manifest, a folder or tar shards")
    if is_address(name):
        raise InputError(f"{brief(name)} is an address, only files are read: download it and name the folder")
    if path.is_dir():
        return _open_folder(path)
    if path.name == INDEX and path.is_file():
        return read_index(path.parent)
    is_tar = name.lower().endswith((".tar", *COMPRESSED))
    if is_tar or (not path.exists() and any(mark in name for mark in "{*?[")):
        return read_shards(find_shards(name))
    return list(read_manifest(path))


def _open_folder(folder: Path) -> list[Utterance]:
    if (folder / INDEX).is_file():
        return read_index(folder)
    tars = sorted(path for path in folder.glob("*.tar") if path.is_file())
    if not tars:
        return read_folder(folder)
    if next(recordings_in(folder, recursive=True), None) is not None:
        raise InputError(f"folder {folder} holds recordings and tars: name {folder}/*.tar for the tars, or move them")
    return read_shards(tars)
