"""Reading ``pytorch_model.bin`` in every layout of ``torch.save``, without PyTorch and without executing its pickle.

zip (since torch 1.6): ``<folder>/data.pkl`` describes the tensors, ``<folder>/data/<key>`` holds the values of one
storage, uncompressed. legacy: five consecutive pickles (magic number, protocol, system, tensors, storage keys), then
the length and values of each storage. A bare pickle, which holds tensor values inside calls, is refused.
"""

from __future__ import annotations

import io
import mmap
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from wav2vec2_core.errors import CheckpointError, brief
from wav2vec2_core.weight_files.arrays import numpy_dtype, read_range
from wav2vec2_core.weight_files.inert_pickle import Global, Storage, TensorView, read_pickle

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001
_LOCAL_HEADER = 30  # bytes of a zip entry's own header before its name


class TorchArchive:
    """An open file of ``torch.save``: one value in which tensors are described but not read.

    Attributes:
        value: dicts, lists, text, numbers and ``TensorView`` objects; with ``records`` also ``Record`` objects.

    Raises:
        CheckpointError: the file cannot be read or is damaged, or its pickle requests anything that plain data does not
            need.
    """

    def __init__(self, path: Path, records: Callable[[Global], bool] | None = None) -> None:
        """``records``: as in ``read_pickle``."""
        self.path = path
        try:
            with path.open("rb") as file:
                zipped = file.read(4) == b"PK\x03\x04"
            self.value, self._offsets = (_read_zip if zipped else _read_legacy)(path, records)
        except OSError as error:
            if isinstance(error, CheckpointError):
                raise
            raise CheckpointError(f"{path} cannot be read ({error.strerror}): check its permissions") from error

    def read(self, view: TensorView) -> np.ndarray:
        """A fresh array, read straight from the file. Raises ``CheckpointError``."""
        dtype = view.storage.dtype
        itemsize = numpy_dtype(dtype).itemsize
        start = self._offsets[view.storage.key] + view.offset * itemsize
        if view.contiguous or view.size == 0:
            return read_range(self.path, start, view.shape, dtype)
        span = 1 + sum((size - 1) * stride for size, stride in zip(view.shape, view.strides, strict=True))
        flat = read_range(self.path, start, (span,), dtype)
        strides = tuple(stride * itemsize for stride in view.strides)
        return np.lib.stride_tricks.as_strided(flat, view.shape, strides).copy(order="C")


class TorchFile:
    """Named tensors in a file of ``torch.save`` (a ``WeightFile``): a ``pytorch_model.bin``.

    Raises:
        CheckpointError: as ``TorchArchive``, and where the file is not a plain dict of tensors.
    """

    def __init__(self, path: Path, archive: TorchArchive | None = None, tensors: Any = None) -> None:
        """``tensors``: the dict of tensors within ``archive.value``, if that is not the dict itself."""
        self.path = path
        self._archive = archive or TorchArchive(path)
        self._views = _check_tensors(path, self._archive.value if tensors is None else tensors)
        self.shapes = {name: view.shape for name, view in self._views.items()}
        self.dtypes = {name: view.storage.dtype for name, view in self._views.items()}

    def read(self, name: str) -> np.ndarray:
        """A fresh array, read straight from the file. Raises ``CheckpointError``."""
        return self._archive.read(self._views[name])


def _check_tensors(path: Path, value: Any) -> dict[str, TensorView]:
    if not isinstance(value, dict) or not value:
        raise CheckpointError(f"{path} holds no dict of tensors: save model.state_dict() alone, or use safetensors")
    for name, view in value.items():
        if not isinstance(name, str) or not isinstance(view, TensorView):
            raise CheckpointError(
                f"{path} holds {brief(name)}, which is not a named tensor: save model.state_dict() alone, or use "
                "safetensors"
            )
    return value


# ---- zip ------------------------------------------------------------------------------------------------------------


def _read_zip(path: Path, records: Callable[[Global], bool] | None) -> tuple[Any, dict[str, int]]:
    """The content of ``data.pkl``, and the offset of each storage in the file."""
    try:
        with zipfile.ZipFile(path) as archive, path.open("rb") as file:
            entries = {entry.filename: entry for entry in archive.infolist()}
            pickles = [name for name in entries if name.count("/") == 1 and name.endswith("/data.pkl")]
            if len(pickles) != 1 or len(entries) != len(archive.infolist()):
                raise CheckpointError(f"{path} is a zip file but not one of torch.save: name the file with the weights")
            folder = pickles[0].removesuffix("data.pkl")

            def start_of(name: str) -> int:
                return _entry_start(path, file, entries[name])

            def content(name: str) -> bytes:
                file.seek(start_of(name))
                return file.read(entries[name].file_size)

            if folder + "byteorder" in entries and content(folder + "byteorder") != b"little":
                raise CheckpointError(f"{path} was saved on a big-endian machine: convert it to safetensors there")
            value, storages = read_pickle(io.BytesIO(content(pickles[0])), str(path), records)
            offsets = {}
            for key, storage in storages.items():
                entry = entries.get(f"{folder}data/{key}")
                if entry is None or entry.file_size < storage.count * numpy_dtype(storage.dtype).itemsize:
                    raise CheckpointError(f"{path} lacks numbers of storage {key[:20]!r}: download or copy it again")
                offsets[key] = start_of(entry.filename)
            return value, offsets
    except (zipfile.BadZipFile, NotImplementedError, ValueError, EOFError) as error:
        raise CheckpointError(f"{path} is a damaged zip file ({error}): download or copy it again") from error


def _entry_start(path: Path, file: io.BufferedReader, entry: zipfile.ZipInfo) -> int:
    """Where the bytes of an entry start; entries of torch.save are stored as they are."""
    if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
        raise CheckpointError(
            f"{path} has compressed entries, which torch.save never writes: get it from its source again"
        )
    file.seek(entry.header_offset)
    header = file.read(_LOCAL_HEADER)
    name_length, extra_length = header[26:28], header[28:30]
    start = entry.header_offset + _LOCAL_HEADER
    start += int.from_bytes(name_length, "little") + int.from_bytes(extra_length, "little")
    if start + entry.file_size > path.stat().st_size:
        raise CheckpointError(f"{path} is truncated: download or copy it again")
    return start


# ---- legacy ---------------------------------------------------------------------------------------------------------


def _read_legacy(path: Path, records: Callable[[Global], bool] | None) -> tuple[Any, dict[str, int]]:
    """The content of the fourth pickle, and the offsets of the storages after the fifth."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as stream:
        if any(read_pickle(stream, str(path)).value != expected for expected in (_LEGACY_MAGIC, _LEGACY_PROTOCOL)):
            raise CheckpointError(f"{path} is a pickle but not one of torch.save: convert it to safetensors")
        system = read_pickle(stream, str(path)).value
        if not isinstance(system, dict) or system.get("little_endian") is not True:
            raise CheckpointError(f"{path} was saved on a big-endian machine: convert it to safetensors there")
        value, storages = read_pickle(stream, str(path), records)
        keys = read_pickle(stream, str(path)).value
        if (
            not isinstance(keys, list)
            or not all(isinstance(key, str) for key in keys)
            or not storages.keys() <= set(keys)
        ):
            raise CheckpointError(f"{path} lacks storages of its tensors: download or copy it again")
        return value, _legacy_offsets(path, stream, keys, storages)


def _legacy_offsets(path: Path, stream: mmap.mmap, keys: list[str], storages: dict[str, Storage]) -> dict[str, int]:
    offsets = {}
    for key in keys:
        count = int.from_bytes(stream.read(8), "little")
        if key not in storages:
            raise CheckpointError(f"{path} holds numbers that no tensor uses: save model.state_dict() alone")
        length = count * numpy_dtype(storages[key].dtype).itemsize
        offsets[key] = stream.tell()
        if count < storages[key].count or offsets[key] + length > len(stream):
            raise CheckpointError(f"{path} is truncated or damaged: download or copy it again")
        stream.seek(length, 1)
    return offsets
