"""Shared by all weight files: the supported types, and reading an array directly from a byte range."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from wav2vec2_core.errors import CheckpointError

#: Types that a weight file may store, by numpy's names. bfloat16 comes from ml_dtypes.
DTYPE_NAMES = (
    "float64", "float32", "float16", "bfloat16",
    "int64", "int32", "int16", "int8", "uint64", "uint32", "uint16", "uint8", "bool",
)  # fmt: skip


class WeightFile(Protocol):
    """An open weight file: names, shapes and types are known, values are read on request."""

    path: Path
    shapes: dict[str, tuple[int, ...]]
    dtypes: dict[str, str]

    def read(self, name: str) -> np.ndarray:
        """A fresh, writable, C-contiguous array. Raises ``CheckpointError`` when the file cannot be read."""
        ...


@dataclass(frozen=True)
class LazyArray:
    """An array that is still in its file: shape and type are known, numpy reads the values on demand.

    Writers accept these in place of arrays and hold one at a time, so copying a checkpoint needs only the memory of its
    largest parameter. ``np.asarray(lazy)`` returns the values, read anew each time.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    load: Callable[[], np.ndarray]

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize

    @property
    def T(self) -> LazyArray:  # noqa: N802 (numpy's name)
        """The axes in reverse order."""
        return LazyArray(self.shape[::-1], self.dtype, lambda: np.ascontiguousarray(self.load().T))

    def astype(self, dtype: np.dtype) -> LazyArray:
        """The same values in another type."""
        return self if dtype == self.dtype else LazyArray(self.shape, dtype, lambda: self.load().astype(dtype))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        array = self.load()
        return array if dtype is None else array.astype(dtype, copy=False)


#: Accepted by the writers.
ArrayLike = np.ndarray | LazyArray


def numpy_dtype(name: str) -> np.dtype:
    """The numpy type of a name in ``DTYPE_NAMES``."""
    if name == "bfloat16":
        from ml_dtypes import bfloat16

        return np.dtype(bfloat16)
    return np.dtype(name)


def read_range(path: Path, offset: int, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """Read one array from bytes that start at ``offset``, directly into its final memory (little endian).

    Raises:
        CheckpointError: the file cannot be read or ends early.
    """
    array = np.empty(shape, numpy_dtype(dtype))
    memory = array.reshape(-1).view(np.uint8).data
    try:
        with path.open("rb") as file:
            file.seek(offset)
            found = file.readinto(memory)
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be read ({error.strerror}): check its permissions and the disk"
        ) from error
    if found != array.nbytes:
        needed = offset + math.prod(shape) * array.itemsize
        raise CheckpointError(f"{path} ends before byte {needed}: it is truncated, download or copy it again")
    return array


def little_endian_bytes(array: ArrayLike) -> memoryview:
    """The bytes of an array in C order, as weight files hold them; a lazy array is read now."""
    values = np.ascontiguousarray(array)
    if values.dtype.byteorder == ">":
        values = values.astype(values.dtype.newbyteorder("<"))
    return values.reshape(-1).view(np.uint8).data
