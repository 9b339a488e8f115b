"""Rows of mappings with an ``audio`` column: data sets of the ``datasets`` library, which is not needed, and lists."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from wav2vec2_core.data.manifest import PATH_COLUMNS, TEXT_COLUMNS, Utterance
from wav2vec2_core.errors import AudioError, InputError, brief, listed

_AUDIO = "audio"


def read_table(rows: Any) -> list[Utterance]:
    """The utterances of a table; recordings are fetched from it when they are read.

    Args:
        rows: a sequence of mappings. ``audio`` is ``{"array", "sampling_rate"}``, ``{"bytes", "path"}`` or a path; one
            column may hold texts, named as in manifests; the others become ``Utterance.columns``. Of a
            ``datasets.Dataset`` the bytes of recordings are taken, and decoded as those of any file.

    Raises:
        InputError: a row is no mapping, or there is no ``audio``, or a text is none.
    """
    if len(rows) == 0:
        raise InputError("the data set has no rows: choose a split that has some")
    names = getattr(rows, "column_names", None) or list(_mapping(rows[0], 0))
    if _AUDIO not in names:
        raise InputError(
            f"the data set has no column 'audio', it has {listed(names)}: rename the one with the recordings"
        )
    text = next((name for name in TEXT_COLUMNS if name in names), None)
    rows = _undecoded(rows)
    others = rows.remove_columns(_AUDIO) if hasattr(rows, "remove_columns") else rows  # without reading the recordings
    utterances: list[Utterance] = []
    for number in range(len(rows)):
        entry = {name: value for name, value in _mapping(others[number], number).items() if name != _AUDIO}
        value = None if text is None else entry.pop(text, None)
        if value is not None and not isinstance(value, str):
            raise InputError(f"row {number} has {text}={brief(value)}: it must be text")
        path = next((entry[name] for name in PATH_COLUMNS if isinstance(entry.get(name), str)), f"row {number}")
        utterances.append(Utterance(Path(path), value, columns=entry, content=_Cell(rows, number)))
    return utterances


def _undecoded(rows: Any) -> Any:
    """A data set whose ``audio`` is bytes or a path: what it would decode is decoded here, like any other recording."""
    feature: Any = (getattr(rows, "features", None) or {}).get(_AUDIO)
    if getattr(feature, "decode", False) and hasattr(rows, "cast_column"):
        return rows.cast_column(_AUDIO, replace(feature, decode=False))
    return rows


def _mapping(row: Any, number: int) -> Mapping[str, Any]:
    if not isinstance(row, Mapping):
        raise InputError(f"row {number} is a {type(row).__name__}: rows are mappings with an 'audio' and maybe a text")
    return row


@dataclass(frozen=True)
class _Cell:
    """The ``audio`` of a row. Calling it returns bytes, samples with their rate, or a path."""

    rows: Any
    number: int

    def __call__(self) -> bytes | tuple[np.ndarray, int] | Path:
        value = self.rows[self.number][_AUDIO]
        found = audio_in(value)
        if found is None:
            raise AudioError(
                f"row {self.number} has audio={brief(value)}: it must hold bytes, a path, or array and sampling_rate"
            )
        return found


def audio_in(value: Any) -> bytes | tuple[np.ndarray, int] | Path | None:
    """What a cell with a recording holds: the bytes of a file, (samples,) or (samples, channels) with their rate in
    hertz, or a path; ``None`` where it holds none of them. A cell is a path, a mapping or a decoder of ``datasets``.
    """
    if isinstance(value, str | Path):
        return Path(value)
    found = value.get if isinstance(value, Mapping) else lambda name: _item(value, name)
    if (content := found("bytes")) is not None:
        return bytes(content)
    samples, rate = found("array"), found("sampling_rate")
    if samples is not None and rate is not None:
        return as_floats(np.asarray(samples)), rate
    path = found("path")
    return Path(path) if isinstance(path, str) else None


def _item(value: Any, name: str) -> Any:
    """An item of an object that is no mapping, such as a decoder of ``datasets``."""
    try:
        return value[name]
    except (KeyError, IndexError, TypeError):
        return None


def as_floats(samples: np.ndarray) -> np.ndarray:
    """Samples of whole numbers as floats from -1 to 1; others as they are."""
    if not np.issubdtype(samples.dtype, np.signedinteger):
        return samples
    return (samples / -float(np.iinfo(samples.dtype).min)).astype(np.float32)
