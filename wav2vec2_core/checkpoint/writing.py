"""Writing a model as ``model.safetensors`` or ``pytorch_model.bin``, in shards where it is larger than a limit."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from wav2vec2_core.checkpoint.opening import FLAX, SAFETENSORS, SAFETENSORS_INDEX, TORCH
from wav2vec2_core.errors import InputError, OutputError
from wav2vec2_core.files import atomic_path, make_folder
from wav2vec2_core.weight_files.arrays import ArrayLike
from wav2vec2_core.weight_files.flax_msgpack import write_flax_file
from wav2vec2_core.weight_files.safetensors_file import check_tensors, write_safetensors
from wav2vec2_core.weight_files.torch_writing import check_torch_tensors, write_torch_file

_UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}
_SHARD = re.compile(r"model-\d{5}-of-\d{5}\.safetensors")


def write_checkpoint(
    folder: str | os.PathLike[str],
    tensors: Mapping[str, ArrayLike],
    *,
    max_shard_size: int | str = "5GB",
    safe_serialization: bool = True,
) -> list[Path]:
    """Write ``model.safetensors``, or shards of at most ``max_shard_size`` and their index; return the files.

    The folder is created where missing. Every file is written completely before the first one appears under its name,
    the index appears last, and safetensors files of an earlier save are removed only then. A tensor larger than the
    limit gets a shard of its own. Lazily read arrays are in memory one at a time.

    Args:
        folder: created where missing.
        tensors: arrays by checkpoint name.
        max_shard_size: in bytes, or a text such as ``"200MB"`` or ``"2GiB"``.
        safe_serialization: False writes ``pytorch_model.bin`` instead, which ``torch.load(weights_only=True)`` reads.

    Raises:
        InputError: a tensor has a type that the format cannot store, or ``max_shard_size`` is no size.
        OutputError: the folder or a file cannot be written.
    """
    limit = parse_size(max_shard_size)
    if safe_serialization:
        check_tensors(tensors)
        return _write_shards(folder, tensors, limit, SAFETENSORS, write_safetensors)
    check_torch_tensors(tensors)
    return _write_shards(folder, tensors, limit, TORCH, write_torch_file)


def _write_shards(
    folder: str | os.PathLike[str],
    tensors: Mapping[str, ArrayLike],
    limit: int,
    single: str,
    write: Callable[[Path, Mapping[str, ArrayLike]], None],
) -> list[Path]:
    shards = _split(tensors, limit)
    folder = make_folder(folder)
    names = [single]
    index_name = f"{single}.index.json"
    if len(shards) > 1:
        stem, ending = single.rsplit(".", 1)
        names = [f"{stem}-{number:05d}-of-{len(shards):05d}.{ending}" for number in range(1, len(shards) + 1)]
    with ExitStack() as placed_in_reverse:
        if len(shards) > 1:  # entered first, so that it is moved into place last
            index = placed_in_reverse.enter_context(atomic_path(folder / index_name))
            _write_index(index, tensors, dict(zip(names, shards, strict=True)))
        for name, shard in zip(names, shards, strict=True):
            temporary = placed_in_reverse.enter_context(atomic_path(folder / name))
            write(temporary, {tensor: tensors[tensor] for tensor in shard})
    written = [*names, index_name] if len(shards) > 1 else names
    _remove_stale(folder, keep=set(written))
    return [folder / name for name in written]


def write_flax_checkpoint(folder: str | os.PathLike[str], params: Mapping[str, Any]) -> Path:
    """Write ``flax_model.msgpack``, which transformers 4 reads with its own JAX, and return its path.

    Args:
        folder: created where missing. Safetensors files of an earlier save, which would be read first, are removed
            after success.
        params: nested dictionary of arrays in Flax's names and layouts.

    Raises:
        OutputError: the folder or the file cannot be written.
    """
    path = make_folder(folder) / FLAX
    write_flax_file(path, params)
    _remove_stale(path.parent, keep=set())
    return path


def parse_size(size: int | str) -> int:
    """Bytes of ``5_000_000`` or ``"5MB"`` (decimal) or ``"5MiB"`` (binary). Raises ``InputError``."""
    if isinstance(size, int) and not isinstance(size, bool) and size > 0:
        return size
    match = re.fullmatch(r"(\d+)\s*([KMGT]I?B)", size.strip().upper()) if isinstance(size, str) else None
    if match is None or int(match[1]) == 0:
        raise InputError(
            f"max_shard_size={size!r} is no size: give bytes as an integer or a text such as '5GB' or '200MB'"
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


def _remove_stale(folder: Path, keep: set[str]) -> None:
    for path in folder.iterdir():
        ours = path.name in {SAFETENSORS, SAFETENSORS_INDEX} or _SHARD.fullmatch(path.name)
        if ours and path.name not in keep:
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise OutputError(
                    f"{path} of an earlier save cannot be removed ({error.strerror}): delete it by hand"
                ) from error
