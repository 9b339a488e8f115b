"""Reading and writing ``tf_model.h5``, the weight file of TensorFlow models in transformers 4.

Names are paths of Keras 2 layers, such as ``tf_wav2_vec2_for_ctc/wav2vec2/encoder/layers.0/layer_norm/gamma:0``. What
follows the model's own scope is the checkpoint's name up to the leaf, and the leaf tells the kind of layer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from wav2vec2_core.errors import BackendError, CheckpointError, InputError
from wav2vec2_core.weight_files.arrays import DTYPE_NAMES, ArrayLike

TF_H5 = "tf_model.h5"
TF_H5_INDEX = "tf_model.h5.index.json"

#: Leaf in Keras -> leaf in the checkpoint and whether the axes are in reverse order: linear and convolution kernels are
#: (..., in, out) in TensorFlow and (out, in, ...) in PyTorch.
_LEAVES = {
    "kernel": ("weight", True),
    "gamma": ("weight", False),
    "beta": ("bias", False),
    "weight_g": ("weight_g", True),  # of weight norm; its weight_v is kept in PyTorch's order
}
_SCOPE = re.compile(r"tf_wav2_vec2_\w+")
_DEEPEST = 20  # groups within groups; a file whose groups contain themselves has no end
_MOST_COMPRESSED = 1100  # bytes from one byte; deflate reaches 1032
_TOP_LEVEL = "top_level_model_weights"  # group of the weights that belong to the model itself and to no layer


class TFWeightFile:
    """An open ``tf_model.h5`` or shard of one (a ``WeightFile``), under the checkpoint's names and in its layouts.

    Raises:
        CheckpointError: the file cannot be read, is damaged, points to other files, or stores an unusual type.
        BackendError: h5py is not installed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.dtypes: dict[str, str] = {}
        self._places: dict[str, tuple[str, bool]] = {}
        with _reading(path) as file:
            for place, dataset in _datasets(path, file):
                name, reverse = checkpoint_name(place)
                if name in self._places:
                    raise CheckpointError(f"{path} stores {name!r:.100} twice: export the checkpoint again")
                dtype = dataset.dtype.name
                if dtype not in DTYPE_NAMES:
                    raise CheckpointError(
                        f"{path} stores {name!r} as {dtype}, which this library does not read: convert the checkpoint "
                        "to float32 or float16"
                    )
                _check_stored(path, place, dataset)
                self.shapes[name] = dataset.shape[::-1] if reverse else dataset.shape
                self.dtypes[name] = dtype
                self._places[name] = place, reverse

    def read(self, name: str) -> np.ndarray:
        """A fresh, writable, C-contiguous array. Raises ``CheckpointError``."""
        place, reverse = self._places[name]
        with _reading(self.path) as file:
            array = np.asarray(file[place][()])
        return np.ascontiguousarray(array.T) if reverse else array


def checkpoint_name(place: str) -> tuple[str, bool]:
    """The checkpoint's name for a weight's path in the file, and whether its axes are reversed there."""
    *owner, leaf = place.removesuffix(":0").split("/")
    scopes = [index for index, part in enumerate(owner) if _SCOPE.fullmatch(part)]
    if scopes:  # shards omit the scope
        owner = owner[scopes[-1] + 1 :]
    leaf, reverse = _LEAVES.get(leaf, (leaf, False))
    return ".".join([*owner, leaf]), reverse


def check_tf_tensors(tensors: Mapping[str, ArrayLike]) -> None:
    """Raise ``InputError`` unless the format can store every tensor, ``BackendError`` without h5py."""
    for name, array in tensors.items():
        if array.dtype.name == "bfloat16" or array.dtype.name not in DTYPE_NAMES:
            raise InputError(
                f"{name!r:.100} has type {array.dtype.name}, {TF_H5} cannot store it: convert the model to float32, or "
                "write safetensors"
            )
    _h5py()


def write_tf_file(path: Path, tensors: Mapping[str, ArrayLike], head: str) -> None:
    """Write ``tf_model.h5`` so that transformers 4 reads it.

    ``path`` is written in place: callers pass a temporary path. Raises ``OSError``.

    Args:
        path: the file.
        tensors: arrays by checkpoint name, that pass ``check_tf_tensors``.
        head: one of ``wav2vec2_core.parameters.HEADS``.
    """
    scope = "tf_wav2_vec2_" + {"Model": "model", "ForCTC": "for_ctc", "ForXVector": "for_x_vector"}.get(
        head, re.sub(r"(?<!^)(?=[A-Z])", "_", head).lower()
    )
    groups: dict[str, dict[str, ArrayLike]] = {_TOP_LEVEL: {}}
    for name, array in tensors.items():
        if head == "Model":
            name = f"wav2vec2.{name}"
        layer, _, rest = name.partition(".")
        place, stored = _place_and_layout(name, array)
        groups.setdefault(layer if rest else _TOP_LEVEL, {})[f"{scope}/{place}:0"] = stored
    with _h5py().File(path, "w") as file:
        file.attrs["layer_names"] = [layer.encode() for layer in groups if layer != _TOP_LEVEL]
        file.attrs["backend"] = b"tensorflow"
        file.attrs["keras_version"] = b"2.15.0"
        for layer, weights in groups.items():
            group = file.create_group(layer)
            _write_names(group, list(weights))
            for place, array in weights.items():
                group.create_dataset(place, data=np.asarray(array))


def _place_and_layout(name: str, array: ArrayLike) -> tuple[str, ArrayLike]:
    """Path below the model's scope, and the array as Keras keeps it."""
    parts = re.sub(r"\.(\d+)(?=\.|$)", r"@\1", name).split(".")  # layers.0 is one part
    *owner, leaf = parts
    kind = owner[-1].split("@")[0] if owner else ""
    if kind.endswith("norm"):
        leaf = {"weight": "gamma", "bias": "beta"}[leaf]
    elif leaf == "weight" and kind != "objective":
        leaf = "kernel"
    _, reverse = _LEAVES.get(leaf, (leaf, False))
    return "/".join([*owner, leaf]).replace("@", "."), array.T if reverse else array


def _write_names(group: Any, names: list[str]) -> None:
    """Write Keras' list of a layer's weights, in numbered pieces if it exceeds an attribute's limit (64 KiB)."""
    encoded = np.array([name.encode() for name in names]) if names else np.array([])
    pieces = max(1, -(-encoded.nbytes // 60_000))
    for number, piece in enumerate(np.array_split(encoded, pieces)):
        group.attrs["weight_names" if pieces == 1 else f"weight_names{number}"] = piece


def _datasets(path: Path, group: Any, prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Yield (path, dataset) for everything below ``group`` that is stored in this very file."""
    import h5py

    if depth > _DEEPEST:
        raise CheckpointError(f"{path} has groups {depth} deep: it is damaged, download or copy it again")
    for name in group:
        place = f"{prefix}/{name}" if prefix else name
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise CheckpointError(f"{path} refers to another place under {place!r:.100}: refused, use a plain file")
        item = group[name]
        if isinstance(item, h5py.Group):
            yield from _datasets(path, item, place, depth + 1)
        elif isinstance(item, h5py.Dataset):
            if item.external or item.is_virtual:
                raise CheckpointError(f"{path} keeps {place!r:.100} in another file: refused, use a plain file")
            yield place, item


def _check_stored(path: Path, place: str, dataset: Any) -> None:
    """Refuse arrays whose values are not in the file: HDF5 would fill them with zeros, at any size."""
    stored = dataset.id.get_storage_size()
    if dataset.nbytes > stored * (_MOST_COMPRESSED if dataset.chunks else 1):
        raise CheckpointError(
            f"{path} has {stored} bytes of the {dataset.nbytes} of {place!r}: it is damaged, download or copy it again"
        )


@contextmanager
def _reading(path: Path) -> Iterator[Any]:
    """The open file; any exception of h5py about its content becomes a ``CheckpointError``."""
    h5py = _h5py()
    try:
        with h5py.File(path, "r") as file:
            yield file
    except CheckpointError:
        raise
    except Exception as error:  # h5py has no base class for what damaged files make it raise
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise CheckpointError(f"{path} is not readable as HDF5 ({reason}): download or copy it again") from error


def _h5py() -> Any:
    try:
        import h5py
    except ModuleNotFoundError as error:
        raise BackendError(f"{TF_H5} needs h5py, which is not installed: pip install h5py") from error
    return h5py
