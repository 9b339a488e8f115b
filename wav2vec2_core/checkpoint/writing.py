"""Writing a model's weights and configuration in any of the formats, in shards if they are too large."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wav2vec2_core.checkpoint.opening import FLAX, READ_FIRST, SAFETENSORS, TORCH, open_checkpoint
from wav2vec2_core.errors import InputError
from wav2vec2_core.saving import saving
from wav2vec2_core.source import ModelSource
from wav2vec2_core.weight_files.arrays import ArrayLike
from wav2vec2_core.weight_files.flax_msgpack import write_flax_file
from wav2vec2_core.weight_files.safetensors_file import check_tensors, write_safetensors
from wav2vec2_core.weight_files.tf_h5 import TF_H5, check_tf_tensors, write_tf_file
from wav2vec2_core.weight_files.torch_writing import check_torch_tensors, write_torch_file

if TYPE_CHECKING:
    from wav2vec2_core.config import Wav2Vec2Config

_UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}


def write_checkpoint(
    folder: str | os.PathLike[str],
    tensors: Mapping[str, ArrayLike],
    *,
    config: Wav2Vec2Config | None = None,
    max_shard_size: int | str = "5GB",
    safe_serialization: bool = True,
) -> list[Path]:
    """Write ``model.safetensors``, or shards of at most ``max_shard_size`` and their index; return the files.

    Weights and configuration of an earlier save are replaced together: whenever this process is killed, the folder
    holds one of the two models (see ``wav2vec2_core.saving``). A tensor larger than the limit gets a shard of its own.
    Lazily read arrays are in memory one at a time.

    Args:
        folder: created where missing.
        tensors: arrays by checkpoint name.
        config: written as ``config.json`` with the weights; where None, the folder's stays.
        max_shard_size: in bytes, or a text such as ``"200MB"`` or ``"2GiB"``.
        safe_serialization: False writes ``pytorch_model.bin`` instead, which ``torch.load(weights_only=True)`` reads.

    Raises:
        InputError: a tensor has a type that the format cannot store, or ``max_shard_size`` is no size.
        OutputError: the folder or a file cannot be written.
    """
    limit = parse_size(max_shard_size)
    if safe_serialization:
        check_tensors(tensors)
    else:
        check_torch_tensors(tensors)
    single, write = (SAFETENSORS, write_safetensors) if safe_serialization else (TORCH, write_torch_file)
    with _replacing_weights(folder, config, single) as stage:
        names = _write_shards(stage, tensors, limit, single, write)
    return [Path(folder, name) for name in names]


@contextmanager
def _replacing_weights(folder: str | os.PathLike[str], config: Wav2Vec2Config | None, single: str) -> Iterator[Path]:
    """Yield a folder for new weights; ``single``: the file name of unsharded weights of this kind.

    Existing weights of this kind are removed, and those of other kinds that would be read first.
    """
    going = READ_FIRST[: READ_FIRST.index(single) + 1]
    with saving(folder, lambda name: any(_belongs_to(name, weights) for weights in going)) as stage:
        yield stage
        if config is not None:
            config.save_pretrained(stage)


def _belongs_to(name: str, single: str) -> bool:
    """Whether a file belongs to weights of the kind ``single``: whole, a shard or the index."""
    stem, ending = map(re.escape, single.rsplit(".", 1))
    return re.fullmatch(rf"{stem}(-\d{{5}}-of-\d{{5}})?\.{ending}|{stem}\.{ending}\.index\.json", name) is not None


def _write_shards(
    folder: Path,
    tensors: Mapping[str, ArrayLike],
    limit: int,
    single: str,
    write: Callable[[Path, Mapping[str, ArrayLike]], None],
) -> list[str]:
    """Write the weights in place; returns the names of the files, the index last."""
    shards = _split(tensors, limit)
    if len(shards) == 1:
        write(folder / single, tensors)
        return [single]
    stem, ending = single.rsplit(".", 1)
    names = [f"{stem}-{number:05d}-of-{len(shards):05d}.{ending}" for number in range(1, len(shards) + 1)]
    for name, shard in zip(names, shards, strict=True):
        write(folder / name, {tensor: tensors[tensor] for tensor in shard})
    index_name = f"{single}.index.json"
    _write_index(folder / index_name, tensors, dict(zip(names, shards, strict=True)))
    return [*names, index_name]


def write_flax_checkpoint(
    folder: str | os.PathLike[str], params: Mapping[str, Any], *, config: Wav2Vec2Config | None = None
) -> Path:
    """Write ``flax_model.msgpack``, which transformers 4 reads with its own JAX, and return its path.

    Args:
        folder: created where missing. Weights of an earlier save that would be read first go.
        params: nested dictionary of arrays in Flax's names and layouts.
        config: written as ``config.json`` with the weights; where None, the folder's stays.

    Raises:
        OutputError: the folder or the file cannot be written.
    """
    with _replacing_weights(folder, config, FLAX) as stage:
        write_flax_file(stage / FLAX, params)
    return Path(folder, FLAX)


def write_tf_checkpoint(
    folder: str | os.PathLike[str], tensors: Mapping[str, ArrayLike], head: str, *, config: Wav2Vec2Config | None = None
) -> Path:
    """Write ``tf_model.h5``, which TensorFlow models of transformers 4 read, and return its path.

    Args:
        folder: created where missing. Weights of an earlier save that would be read first go.
        tensors: arrays by checkpoint name.
        head: one of ``wav2vec2_core.parameters.HEADS``.
        config: written as ``config.json`` with the weights; where None, the folder's stays.

    Raises:
        InputError: a tensor has a type that the format cannot store.
        OutputError: the folder or the file cannot be written.
        BackendError: h5py is not installed.
    """
    check_tf_tensors(tensors)
    with _replacing_weights(folder, config, TF_H5) as stage:
        write_tf_file(stage / TF_H5, tensors, head)
    return Path(folder, TF_H5)


def copy_model(source: ModelSource, folder: str | os.PathLike[str]) -> None:
    """Copy ``config.json`` and the weights of a model as they are; those of an earlier model are replaced together.

    Raises:
        CheckpointError: the model has no weights, or they are damaged.
        OutputError: a file cannot be copied.
    """
    files = open_checkpoint(source).files
    single = next(name for name in READ_FIRST if Path(name).suffix == files[0].suffix)
    index = None if files[0].name == single else source.require(f"{single}.index.json")
    with saving(folder, lambda name: any(_belongs_to(name, kind) for kind in READ_FIRST)) as stage:
        for file in (source.require("config.json"), *files, *([] if index is None else [index])):
            shutil.copyfile(file, stage / file.name)


def parse_size(size: int | str) -> int:
    """Bytes of ``5_000_000`` or ``"5MB"`` (decimal) or ``"5MiB"`` (binary). Raises ``InputError``."""
    if isinstance(size, int) and not isinstance(size, bool) and size > 0:
        return size
    match = re.fullmatch(r"(\d+)\s*([KMGT]I?B)", size.strip().upper()) if isinstance(size, str) else None
    if match is None or int(match[1]) == 0:
        raise InputError(
            f"max_shard_size={size!r:.100} is no size: give bytes as an integer or a text such as '5GB' or '200MB'"
        )
    return int(match[1]) * _UNITS[match[2]]


def _split(tensors: Mapping[str, ArrayLike], limit: int) -> list[list[str]]:
    """Names of consecutive tensors that fit into one shard together."""
    shards: list[list[str]] = [[]]
    filled = 0
    for name, array in tensors.items():
        if shards[-1] and filled + array.nbytes > limit:
            shards.append([])
            filled = 0
        shards[-1].append(name)
        filled += array.nbytes
    return shards


def _write_index(path: Path, tensors: Mapping[str, ArrayLike], shards: Mapping[str, list[str]]) -> None:
    index = {
        "metadata": {"total_size": sum(array.nbytes for array in tensors.values())},
        "weight_map": {tensor: name for name, shard in shards.items() for tensor in shard},
    }
    path.write_text(json.dumps(index, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
