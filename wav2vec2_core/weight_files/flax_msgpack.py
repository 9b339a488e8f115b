"""Reading ``flax_model.msgpack`` array by array, and writing it.

The file is a MessagePack map of maps whose leaves are extension values of type 1 that hold (shape, type name, bytes).
Names and layouts are Flax's and are converted to a checkpoint's: ``kernel`` and ``scale`` become ``weight``, and the
axes of a kernel are reversed, for linear layers and convolutions alike.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from wav2vec2_core.errors import CheckpointError
from wav2vec2_core.files import atomic_path
from wav2vec2_core.weight_files.arrays import DTYPE_NAMES, ArrayLike, LazyArray, little_endian_bytes, read_range

#: Last part of a name in Flax -> (in a checkpoint, whether the axes are in reverse order there).
LEAVES = {"kernel": ("weight", True), "scale": ("weight", False)}
_ARRAY = 1  # extension type of an array in flax.serialization
_DEEPEST = 32  # maps within maps
_LONGEST = 2**16  # bytes of a name
# First byte -> format of the length that follows it.
_LENGTHS = {
    "map": {0xDE: ">H", 0xDF: ">I"},
    "array": {0xDC: ">H", 0xDD: ">I"},
    "text": {0xD9: ">B", 0xDA: ">H", 0xDB: ">I"},
    "bytes": {0xC4: ">B", 0xC5: ">H", 0xC6: ">I"},
    "extension": {0xC7: ">B", 0xC8: ">H", 0xC9: ">I"},
    "number": {0xCC: ">B", 0xCD: ">H", 0xCE: ">I", 0xCF: ">Q"},
}
# First bytes that hold the length themselves: (lowest, highest).
_SHORT = {"map": (0x80, 0x8F), "array": (0x90, 0x9F), "text": (0xA0, 0xBF), "number": (0x00, 0x7F)}
_FIXED_EXTENSIONS = {0xD4: 1, 0xD5: 2, 0xD6: 4, 0xD7: 8, 0xD8: 16}


class FlaxFile:
    """An open ``flax_model.msgpack``; see ``arrays.WeightFile``."""

    def __init__(self, path: Path) -> None:
        """Locate every array. Raises ``CheckpointError`` if the file is not one, is damaged, or holds anything else."""
        self.path = path
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.dtypes: dict[str, str] = {}
        self._places: dict[str, tuple[int, tuple[int, ...], bool]] = {}
        try:
            with path.open("rb") as file:
                self._size = os.fstat(file.fileno()).st_size
                for name, shape, dtype, offset in self._map(file, ()):
                    self._add(name, shape, dtype, offset)
        except OSError as error:
            if isinstance(error, CheckpointError):
                raise
            raise CheckpointError(f"{path} cannot be read ({error.strerror}): check its permissions") from error

    def read(self, name: str) -> np.ndarray:
        """A fresh, writable, C-contiguous array in the checkpoint's layout. Raises ``CheckpointError``."""
        offset, shape, reverse = self._places[name]
        array = read_range(self.path, offset, shape, self.dtypes[name])
        return np.ascontiguousarray(array.T) if reverse else array

    def _add(self, path: tuple[str, ...], shape: tuple[int, ...], dtype: str, offset: int) -> None:
        name, reverse = flax_name(path)
        if name in self.shapes:
            raise CheckpointError(f"{self.path} holds {name!r:.100} twice: export the checkpoint again")
        self.shapes[name] = shape[::-1] if reverse else shape
        self.dtypes[name] = dtype
        self._places[name] = offset, shape, reverse

    # ---- MessagePack ------------------------------------------------------------------------------------------

    def _map(
        self, file: BinaryIO, path: tuple[str, ...]
    ) -> Iterator[tuple[tuple[str, ...], tuple[int, ...], str, int]]:
        """(name, shape, type, offset) of every array in the map that starts here."""
        if len(path) > _DEEPEST:
            raise self._damaged("maps are nested too deeply")
        for _ in range(self._length(file, "map")):
            name = self._text(file)
            first = self._take(file, 1)[0]
            file.seek(-1, os.SEEK_CUR)
            if _starts("map", first):
                yield from self._map(file, (*path, name))
            else:
                yield (*path, name), *self._array(file)

    def _array(self, file: BinaryIO) -> tuple[tuple[int, ...], str, int]:
        """Shape, type and offset of the array that starts here; leaves the file at its end."""
        first = self._take(file, 1)[0]
        if first in _FIXED_EXTENSIONS:
            size = _FIXED_EXTENSIONS[first]
        elif first in _LENGTHS["extension"]:
            size = self._number(file, _LENGTHS["extension"][first])
        else:
            raise self._damaged(f"byte {first:#x} starts no map and no array")
        if self._take(file, 1)[0] != _ARRAY:
            raise self._damaged("an extension is not an array")
        end = file.tell() + size
        if self._length(file, "array") != 3:
            raise self._damaged("an array is not (shape, type, bytes)")
        shape = tuple(self._length(file, "number") for _ in range(self._length(file, "array")))
        dtype = self._text(file)
        count = self._length(file, "bytes")
        offset = file.tell()
        if dtype not in DTYPE_NAMES:
            raise self._damaged(f"arrays of type {dtype!r:.100} are not known")
        itemsize = 2 if dtype == "bfloat16" else np.dtype(dtype).itemsize
        if count != itemsize * math.prod(shape) or offset + count != end or end > self._size:
            raise self._damaged("an array has another size than it says")
        file.seek(end)
        return shape, dtype, offset

    def _length(self, file: BinaryIO, kind: str) -> int:
        first = self._take(file, 1)[0]
        if first in _LENGTHS[kind]:
            return self._number(file, _LENGTHS[kind][first])
        if not _starts(kind, first):
            raise self._damaged(f"byte {first:#x} starts no {kind}")
        return first - _SHORT[kind][0]

    def _text(self, file: BinaryIO) -> str:
        length = self._length(file, "text")
        if length > _LONGEST:
            raise self._damaged("a name is too long")
        try:
            return self._take(file, length).decode()
        except UnicodeDecodeError as error:
            raise self._damaged("a name is not UTF-8") from error

    def _number(self, file: BinaryIO, layout: str) -> int:
        return struct.unpack(layout, self._take(file, struct.calcsize(layout)))[0]

    def _take(self, file: BinaryIO, count: int) -> bytes:
        found = file.read(count)
        if len(found) != count:
            raise self._damaged("it ends early")
        return found

    def _damaged(self, why: str) -> CheckpointError:
        return CheckpointError(f"{self.path} is no flax_model.msgpack or damaged ({why}): download or copy it again")


def _starts(kind: str, first: int) -> bool:
    low, high = _SHORT.get(kind, (1, 0))
    return low <= first <= high or first in _LENGTHS[kind]


def flax_params(tensors: Mapping[str, ArrayLike]) -> dict[str, Any]:
    """The nested dictionary of Flax's names and layouts for arrays by checkpoint name; lazy arrays stay lazy."""
    tree: dict[str, Any] = {}
    for name, array in tensors.items():
        *owner, leaf = name.split(".")
        if leaf == "weight" and owner[-1] != "objective":  # the objective's is a parameter of the head itself
            leaf = "scale" if owner[-1].endswith("norm") else "kernel"
        inner = tree
        for part in owner:
            inner = inner.setdefault(part, {})
        inner[leaf] = array.T if LEAVES.get(leaf, (leaf, False))[1] else array
    return tree


def flax_name(path: tuple[str, ...]) -> tuple[str, bool]:
    """The checkpoint name of a Flax parameter, and whether its axes are reversed there."""
    leaf, reverse = LEAVES.get(path[-1], (path[-1], False))
    return ".".join((*path[:-1], leaf)), reverse


# ---- writing ----------------------------------------------------------------------------------------------------


def write_flax_file(path: Path, params: Mapping[str, Any]) -> None:
    """Write a nested dictionary of arrays in Flax's names and layouts, as ``flax.serialization.to_bytes`` would.

    Raises:
        OutputError: the file cannot be written.
    """
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        _write_map(file, params)


def _write_map(file: BinaryIO, tree: Mapping[str, Any]) -> None:
    file.write(_head("map", len(tree)))
    for name, item in tree.items():
        file.write(_packed_text(name))
        if isinstance(item, Mapping):
            _write_map(file, item)
        else:
            _write_array(file, item if isinstance(item, LazyArray) else np.asarray(item))


def _write_array(file: BinaryIO, array: ArrayLike) -> None:
    head = _head("array", 3) + _head("array", array.ndim) + b"".join(_packed_number(size) for size in array.shape)
    head += _packed_text(array.dtype.name) + b"\xc6" + struct.pack(">I", array.nbytes)
    file.write(b"\xc9" + struct.pack(">IB", len(head) + array.nbytes, _ARRAY) + head)
    file.write(little_endian_bytes(array))


def _packed_text(text: str) -> bytes:
    data = text.encode()
    return b"\xda" + struct.pack(">H", len(data)) + data if len(data) > 31 else bytes([0xA0 + len(data)]) + data


def _packed_number(number: int) -> bytes:
    return bytes([number]) if number < 128 else b"\xce" + struct.pack(">I", number)


def _head(kind: str, length: int) -> bytes:
    low, high = _SHORT[kind]
    if length <= high - low:
        return bytes([low + length])
    return {"map": b"\xde", "array": b"\xdc"}[kind] + struct.pack(">H", length)
