"""Writing files that ``torch.load(path, weights_only=True)`` reads, without PyTorch, one tensor at a time.

The layout is that of ``torch.save`` since 1.6: a zip file without compression, ``archive/data.pkl`` with the structure
as a pickle of protocol 2 and ``archive/data/<key>`` with the numbers of one tensor each. The few pickle instructions
that dicts, lists, text, numbers and tensors need are written here directly.
"""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from wav2vec2_core.errors import InputError
from wav2vec2_core.weight_files.arrays import ArrayLike, LazyArray, little_endian_bytes
from wav2vec2_core.weight_files.inert_pickle import STORAGES

_STORAGE_OF = {dtype: storage for storage, dtype in STORAGES.items()}
_ALIGNMENT = 64  # bytes; torch.save starts every tensor at a multiple of it, for memory mapping
_LOCAL_HEADER, _ZIP64_EXTRA = 30, 20  # bytes of a zip entry's header before its name, and of the sizes of a large one
_LARGE = 1 << 31  # bytes from which on an entry gets the fields for large files
_PADDING = b"FB"  # name of the extra field that torch.save fills up with
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the same content gives the same file


def check_torch_tensors(tensors: Mapping[str, ArrayLike]) -> None:
    """Raise ``InputError`` unless the format can store every tensor."""
    for name, array in tensors.items():
        if array.dtype.name not in _STORAGE_OF:
            raise InputError(f"{name!r} has type {array.dtype.name}: convert it to one of {', '.join(_STORAGE_OF)}")


def write_torch_file(path: Path, value: Any) -> None:
    """Write a value of dicts, lists, tuples, text, numbers, None and arrays, as ``torch.save`` would.

    ``path`` is written in place: callers pass a temporary path. Raises ``OSError``, and ``InputError`` for a value that
    is none of these.
    """
    arrays: list[ArrayLike] = []
    structure = b"\x80\x02" + _pickled(value, arrays) + b"."
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        _add(archive, "data.pkl", structure)
        _add(archive, "byteorder", b"little")
        for key, array in enumerate(arrays):
            _add(archive, f"data/{key}", array)
        _add(archive, "version", b"3\n")


def _add(archive: zipfile.ZipFile, name: str, content: bytes | ArrayLike) -> None:
    entry = zipfile.ZipInfo(f"archive/{name}", _EPOCH)
    size = len(content) if isinstance(content, bytes) else content.nbytes
    large = size >= _LARGE
    start = archive.start_dir + _LOCAL_HEADER + len(entry.filename) + 4 + (_ZIP64_EXTRA if large else 0)
    fill = -start % _ALIGNMENT
    entry.extra = _PADDING + struct.pack("<H", fill) + b"Z" * fill
    with archive.open(entry, "w", force_zip64=large) as stream:
        stream.write(content if isinstance(content, bytes) else little_endian_bytes(content))


# ---- the pickle ---------------------------------------------------------------------------------------------------


def _pickled(value: Any, arrays: list[ArrayLike]) -> bytes:
    """The instructions that build ``value``; arrays are appended to ``arrays`` and referred to by their place there."""
    match value:
        case None:
            return b"N"
        case bool():
            return b"\x88" if value else b"\x89"
        case int():
            return _number(value)
        case float():
            return b"G" + struct.pack(">d", value)
        case str():
            return _text(value)
        case np.ndarray() | LazyArray():
            arrays.append(value)
            return _tensor(str(len(arrays) - 1), value)
        case tuple():
            return b"(" + b"".join(_pickled(item, arrays) for item in value) + b"t"
        case list():
            return b"](" + b"".join(_pickled(item, arrays) for item in value) + b"e"
        case Mapping():
            pairs = (_pickled(key, arrays) + _pickled(item, arrays) for key, item in value.items())
            return b"}(" + b"".join(pairs) + b"u"
    raise InputError(f"a {type(value).__name__} cannot be written into a file of weights: use text, numbers and arrays")


def _number(value: int) -> bytes:
    if -(1 << 31) <= value < 1 << 31:
        return b"J" + struct.pack("<i", value)
    data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data


def _text(value: str) -> bytes:
    data = value.encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(data)) + data


def _tensor(key: str, array: ArrayLike) -> bytes:
    """A call of PyTorch's function that makes a tensor from a storage, with what torch.save passes to it."""
    dtype = array.dtype.name
    if dtype not in _STORAGE_OF:
        raise InputError(f"an array of type {dtype} cannot be written: convert it to one of {', '.join(_STORAGE_OF)}")
    strides = [1]
    for size in reversed(array.shape[1:]):
        strides.insert(0, strides[0] * max(size, 1))
    storage = b"(" + _text("storage") + f"ctorch\n{_STORAGE_OF[dtype]}\n".encode() + _text(key) + _text("cpu")
    storage += _number(array.size) + b"tQ"
    sizes = _pickled(tuple(array.shape), []) + _pickled(tuple(strides if array.ndim else ()), [])
    hooks = b"ccollections\nOrderedDict\n)R"
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + _number(0) + sizes + b"\x89" + hooks + b"tR"
