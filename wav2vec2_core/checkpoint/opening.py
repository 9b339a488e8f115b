"""Opening a model's weights: finds the files that hold them, whole or in shards."""

from __future__ import annotations

from pathlib import Path

from wav2vec2_core.errors import CheckpointError, brief
from wav2vec2_core.files import check_file_name, read_json
from wav2vec2_core.source import FileSource, ModelSource
from wav2vec2_core.weight_files.arrays import WeightFile
from wav2vec2_core.weight_files.checkpoint import Checkpoint, open_weight_file
from wav2vec2_core.weight_files.flax_msgpack import flax_name
from wav2vec2_core.weight_files.tf_h5 import TF_H5, TF_H5_INDEX, checkpoint_name

SAFETENSORS = "model.safetensors"
SAFETENSORS_INDEX = "model.safetensors.index.json"
TORCH = "pytorch_model.bin"
TORCH_INDEX = "pytorch_model.bin.index.json"
FLAX = "flax_model.msgpack"
FLAX_INDEX = "flax_model.msgpack.index.json"

#: The receipt of an exported program, which marks its folder.
EXPORT_RECEIPT = "export.json"
#: Formats in order of preference: the first one present is read, as one file or as an index with shards.
READ_FIRST = (SAFETENSORS, TORCH, TF_H5, FLAX)
#: Ending of the shards that an index names.
_ENDINGS = {SAFETENSORS_INDEX: ".safetensors", TORCH_INDEX: ".bin", TF_H5_INDEX: ".h5", FLAX_INDEX: ".msgpack"}


def has_weights(source: ModelSource) -> bool:
    """Whether there is a file of weights, whole or in shards. Raises ``CheckpointError`` where the hub cannot say."""
    return isinstance(source, FileSource) or source.find(*READ_FIRST, *_ENDINGS) is not None


def open_checkpoint(source: ModelSource, *, use_safetensors: bool | None = None) -> Checkpoint:
    """Open the weights of a model: safetensors, pytorch_model.bin, tf_model.h5 or flax_model.msgpack, in this order.

    A source that is a single file is a checkpoint of fairseq, fairseq2 or torchaudio. ``use_safetensors``: True accepts
    only safetensors, False only the other formats.

    Raises:
        CheckpointError: there are no weights, or a file is missing, damaged or refused.
    """
    if isinstance(source, FileSource):
        return source.content.checkpoint
    safe, others = (SAFETENSORS, SAFETENSORS_INDEX), (TORCH, TORCH_INDEX, TF_H5, TF_H5_INDEX, FLAX, FLAX_INDEX)
    names = {None: (*safe, *others), True: safe, False: others}[use_safetensors]
    path = source.find(*names)
    if path is None:
        if use_safetensors is not None and source.find(*safe, *others) is not None:
            raise CheckpointError(
                f"model {source.name!r} has other weights than use_safetensors={use_safetensors} asks for: leave it out"
            )
        if source.find(EXPORT_RECEIPT) is not None:
            raise CheckpointError(
                f"model {source.name!r} is an exported program ({EXPORT_RECEIPT}), for other runtimes: name the "
                "model that it was made from"
            )
        raise CheckpointError(
            f"model {source.name!r} has no weights ({SAFETENSORS}, {TORCH}, {TF_H5} or {FLAX}, whole or with index and "
            f"shards): {source.remedy}"
        )
    if path.name in _ENDINGS:
        return _open_shards(source, path)
    return Checkpoint([open_weight_file(path)])


def _open_shards(source: ModelSource, index: Path) -> Checkpoint:
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(shard, str) for shard in weight_map.values()):
        raise CheckpointError(f'{index} has no "weight_map" from parameter to file: download it again')
    ending = _ENDINGS[index.name]
    shards: dict[str, WeightFile] = {}
    for name in sorted(set(weight_map.values())):
        check_file_name(name, f"shard in {index}")
        if not name.endswith(ending):
            shown = brief(name)
            raise CheckpointError(f"{index} names the shard {shown}, which is no {ending} file: download it again")
        shards[name] = open_weight_file(source.require(name))
    for parameter, name in weight_map.items():
        if _stored_name(parameter, ending) not in shards[name].shapes:
            raise CheckpointError(
                f"{shards[name].path} lacks {parameter!r:.100}, which {index.name} promises: download both"
            )
    return Checkpoint(list(shards.values()))


def _stored_name(parameter: str, ending: str) -> str:
    """The name in an opened shard for a parameter that its index names in its framework's convention."""
    if ending == ".h5":
        return checkpoint_name(parameter)[0]
    return flax_name(tuple(parameter.split("/")))[0] if ending == ".msgpack" else parameter
