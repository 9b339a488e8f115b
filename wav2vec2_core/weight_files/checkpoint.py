"""The weights of one model, in one file or many shards, under one set of names."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wav2vec2_core.batching import as_numpy
from wav2vec2_core.errors import CheckpointError, InputError, brief
from wav2vec2_core.weight_files.arrays import WeightFile, numpy_dtype
from wav2vec2_core.weight_files.flax_msgpack import FlaxFile
from wav2vec2_core.weight_files.safetensors_file import SafetensorsFile
from wav2vec2_core.weight_files.tf_h5 import TFWeightFile
from wav2vec2_core.weight_files.torch_pickle import TorchFile

_LFS_POINTER = b"version https://git-lfs"  # what git without its lfs extension leaves in place of a large file

#: Endings of parameter names as newer or older libraries write them, and the spelling used here.
CANONICAL_ENDINGS = {
    ".parametrizations.weight.original0": ".weight_g",  # torch >= 2.1 with parametrized weight norm
    ".parametrizations.weight.original1": ".weight_v",
    "mask_time_emb_vector": "masked_spec_embed",  # transformers < 4.6
    "classifier.output.weight": "classifier.out_proj.weight",  # ehcalabres' emotion model, for what others call so
    "classifier.output.bias": "classifier.out_proj.bias",
}
_MOST_AXES = 32  # numpy 1 has no more
#: Parts of names that torch.compile, FullyShardedDataParallel and checkpointing put in for a module of their own.
_WRAPPERS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")


def canonical_name(name: str) -> str:
    """The parameter table's spelling of a name found in a file.

    Prefixes added by PyTorch's wrappers (``module.``, ``_orig_mod.`` ...) are removed.
    """
    name = ".".join(part for part in name.split(".") if part not in _WRAPPERS)
    while name.startswith("module."):  # DataParallel and DistributedDataParallel
        name = name.removeprefix("module.")
    for ending, canonical in CANONICAL_ENDINGS.items():
        if name.endswith(ending):
            return name.removesuffix(ending) + canonical
    return name


class Checkpoint:
    """Named arrays in weight files; values are read on request.

    Names are canonical: ``weight_g`` and ``weight_v`` for weight norm, ``masked_spec_embed``, ``classifier.out_proj``.

    Attributes:
        shapes: shape by name, in the order of the files.
        dtypes: type by name, as numpy names it (``"float32"``, ``"bfloat16"`` ...).
        files: the files that hold the weights.
    """

    def __init__(self, files: Sequence[WeightFile]) -> None:
        """Raises ``CheckpointError`` when a parameter occurs twice, under one spelling or two."""
        self.files = [file.path for file in files]
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.dtypes: dict[str, str] = {}
        self._places: dict[str, tuple[WeightFile, str]] = {}
        for file in files:
            for stored, shape in file.shapes.items():
                name = canonical_name(stored)
                if len(shape) > _MOST_AXES:
                    raise CheckpointError(
                        f"{file.path} has {brief(stored)} with {len(shape)} axes, {_MOST_AXES} are possible: "
                        "it is damaged, download or copy it again"
                    )
                if name in self._places:
                    other_file, other = self._places[name]
                    raise CheckpointError(
                        f"{name!r} occurs twice: as {other!r} in {other_file.path} and as {stored!r} in {file.path}; "
                        "remove one or export the checkpoint again"
                    )
                self.shapes[name] = file.shapes[stored]
                self.dtypes[name] = file.dtypes[stored]
                self._places[name] = file, stored

    @classmethod
    def of(cls, arrays: Mapping[str, Any]) -> Checkpoint:
        """The checkpoint that holds arrays or tensors by name, a ``state_dict``. Raises ``InputError``."""
        return cls([_Given(arrays)])

    def changed(self, arrays: Mapping[str, Any], *, without: Collection[str] = ()) -> Checkpoint:
        """The same with other arrays under some names, and without others. Raises ``InputError``."""
        other = Checkpoint.of(arrays)
        for name, place in self._places.items():
            if name not in arrays and name not in without:
                other.shapes[name], other.dtypes[name] = self.shapes[name], self.dtypes[name]
                other._places[name] = place
        other.files = self.files
        return other

    def read(self, name: str, dtype: np.dtype | type | None = None) -> np.ndarray:
        """A new, writable, C-contiguous array, read directly from the file; converted if ``dtype`` is given.

        bfloat16 is returned as ``ml_dtypes.bfloat16``. Raises ``CheckpointError``, and ``KeyError`` for an unknown
        name.
        """
        file, stored = self._places[name]
        array = file.read(stored)
        return array if dtype is None else array.astype(dtype, copy=False)


class _Given:
    """Arrays and tensors in place of a weight file."""

    path = Path("state_dict")

    def __init__(self, arrays: Mapping[str, Any]) -> None:
        if not isinstance(arrays, Mapping) or not all(hasattr(value, "shape") for value in arrays.values()):
            raise InputError(
                "state_dict must map names to arrays or tensors: pass what state_dict() of a model returned"
            )
        self._arrays = arrays
        self.shapes = {name: tuple(value.shape) for name, value in arrays.items()}
        self.dtypes = {name: str(value.dtype).rpartition(".")[2] for name, value in arrays.items()}

    def read(self, name: str) -> np.ndarray:
        """A copy; bfloat16 as ``ml_dtypes.bfloat16``."""
        return np.array(as_numpy(self._arrays[name]), dtype=numpy_dtype(self.dtypes[name]), order="C")


def open_weight_file(path: Path) -> WeightFile:
    """Open one file by its ending: .safetensors, .h5, .msgpack, or as PyTorch wrote it. Raises ``CheckpointError``."""
    check_start(path)
    kinds = {".safetensors": SafetensorsFile, ".h5": TFWeightFile, ".msgpack": FlaxFile}
    return kinds.get(path.suffix, TorchFile)(path)


def check_start(path: Path) -> None:
    """Refuse what is no weight file at first sight: unreadable, empty or a pointer. Raises ``CheckpointError``."""
    try:
        with path.open("rb") as file:
            start = file.read(len(_LFS_POINTER))
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror}): check its permissions") from error
    if not start:
        raise CheckpointError(f"{path} is empty: download or copy it again")
    if start == _LFS_POINTER:
        raise CheckpointError(f"{path} is only a pointer to the weights: fetch them with git lfs pull")
