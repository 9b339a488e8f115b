"""Reading and writing one ``.safetensors`` file: 8 bytes header length, a JSON header, then the raw arrays.

The safetensors library checks the header (lengths, offsets without gap or overlap, types, sizes); the arrays are then
read one by one into memory of their own, so a large file is never in memory twice.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from wav2vec2_core.errors import CheckpointError, InputError
from wav2vec2_core.weight_files.arrays import DTYPE_NAMES, ArrayLike, little_endian_bytes, read_range

#: The format's type names for ours.
_TYPE_NAMES = {
    "float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16",
    "int64": "I64", "int32": "I32", "int16": "I16", "int8": "I8",
    "uint64": "U64", "uint32": "U32", "uint16": "U16", "uint8": "U8", "bool": "BOOL",
}  # fmt: skip
_DTYPES = {theirs: ours for ours, theirs in _TYPE_NAMES.items()}


class SafetensorsFile:
    """An open ``.safetensors`` file (a ``WeightFile``).

    Raises:
        CheckpointError: the file cannot be read, is damaged, or stores a type that is not in ``DTYPE_NAMES``.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        header, start = _read_header(path)
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.dtypes: dict[str, str] = {}
        self._offsets: dict[str, int] = {}
        for name, entry in header.items():
            if entry["dtype"] not in _DTYPES:
                raise CheckpointError(
                    f"{path} stores {name!r:.100} as {entry['dtype']}, which this library does not read: convert the "
                    "checkpoint to float32, float16 or bfloat16"
                )
            self.shapes[name] = tuple(entry["shape"])
            self.dtypes[name] = _DTYPES[entry["dtype"]]
            self._offsets[name] = start + entry["data_offsets"][0]

    def read(self, name: str) -> np.ndarray:
        """A fresh array, read straight from the file. Raises ``CheckpointError``."""
        return read_range(self.path, self._offsets[name], self.shapes[name], self.dtypes[name])


def write_safetensors(path: Path, tensors: Mapping[str, ArrayLike]) -> None:
    """Write a whole file, one array at a time, with the metadata ``{"format": "pt"}`` that transformers requires.

    A ``LazyArray`` is read when its turn comes. ``path`` is written in place: callers pass a temporary path. Raises
    ``OSError``, and ``InputError`` for a type that the format cannot store.
    """
    # Wide types first, then by name, like the safetensors library, so that every array is aligned.
    names = sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name))
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name in names:
        array, begin = tensors[name], end
        end = begin + array.nbytes
        header[name] = {"dtype": type_name(name, array), "shape": list(array.shape), "data_offsets": [begin, end]}
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little"))
        file.write(text)
        for name in names:
            file.write(little_endian_bytes(tensors[name]))


def check_tensors(tensors: Mapping[str, ArrayLike]) -> None:
    """Raise ``InputError`` unless the format can store every tensor."""
    for name, array in tensors.items():
        type_name(name, array)


def type_name(name: str, array: ArrayLike) -> str:
    """The format's name for the type of ``array``. Raises ``InputError`` naming the tensor for other types."""
    dtype = array.dtype.name
    if dtype not in _TYPE_NAMES:
        raise InputError(f"tensor {name!r:.100} has type {dtype}: convert it to one of {', '.join(DTYPE_NAMES)}")
    return _TYPE_NAMES[dtype]


def _read_header(path: Path) -> tuple[dict[str, Any], int]:
    """The checked header without its metadata, and the position of the first array."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy"):
            pass
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length).decode(), object_pairs_hook=_without_duplicates)
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise CheckpointError(
            f"{path} is not a complete safetensors file ({reason}): download or copy it again"
        ) from error
    header.pop("__metadata__", None)
    return header, 8 + length


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice!r:.100} appears twice in the header")
    return dict(pairs)
