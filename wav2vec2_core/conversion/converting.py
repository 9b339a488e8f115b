"""One model from one format into another, streamed: a parameter at a time goes from file to file."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from wav2vec2_core.backend import check_trained
from wav2vec2_core.checkpoint import (
    Checkpoint,
    ModelSource,
    open_checkpoint,
    open_model,
    plan_loading,
    with_head_of,
    write_checkpoint,
    write_flax_checkpoint,
    write_tf_checkpoint,
)
from wav2vec2_core.checkpoint.writing import parse_size
from wav2vec2_core.config import DTYPES, Wav2Vec2Config
from wav2vec2_core.conversion.companions import (
    FairseqVocabulary,
    carry_adapters,
    carry_files,
    check_rows,
    dictionary_beside,
    fairseq_vocabulary,
    lazy_arrays,
    read_vocabulary,
    write_processor,
)
from wav2vec2_core.conversion.receipt import RECEIPT, Receipt, compare_arrays, compare_outputs
from wav2vec2_core.errors import InputError, OutputError
from wav2vec2_core.feature_extraction import Wav2Vec2FeatureExtractor
from wav2vec2_core.files import atomic_folder, read_json, write_json
from wav2vec2_core.names import BODY_PREFIX, HEADS, MASK_EMBEDDING
from wav2vec2_core.parameters import head_of, parameter_table
from wav2vec2_core.source import FileSource
from wav2vec2_core.weight_files.arrays import LazyArray, numpy_dtype
from wav2vec2_core.weight_files.bare_file import BareModel, open_bare_file
from wav2vec2_core.weight_files.checkpoint import open_weight_file
from wav2vec2_core.weight_files.fairseq import DICTIONARY, fairseq_rows, write_fairseq_file
from wav2vec2_core.weight_files.flax_msgpack import flax_params

FORMATS = ("safetensors", "torch", "tf", "flax", "fairseq")
_FAIRSEQ_FILE = "checkpoint_best.pt"
_FAIRSEQ_HEADS = ("Model", "ForPreTraining", "ForCTC")


@dataclass
class _Job:
    """What is known before anything is written."""

    source: ModelSource
    bare: BareModel | None
    config: Wav2Vec2Config
    checkpoint: Checkpoint
    head: str
    tensors: dict[str, LazyArray]
    vocabulary: Mapping[str, int] | None
    fairseq: FairseqVocabulary | None


def convert(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    to: str = "safetensors",
    *,
    head: str | None = None,
    dtype: str | None = None,
    max_shard_size: int | str | None = None,
    verify: bool = True,
    config: str | os.PathLike[str] | None = None,
    vocabulary: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
) -> Receipt:
    """Convert a model and prove it.

    Args:
        source: a model folder or hub id with weights of any kind, or one file of fairseq, fairseq2 or torchaudio.
        target: folder that appears when everything is done, with ``conversion.json`` in it. An earlier result of a
            conversion is replaced, any other folder with content is refused.
        to: ``safetensors``, ``torch`` (pytorch_model.bin), ``tf`` (tf_model.h5), ``flax`` (flax_model.msgpack) or
            ``fairseq`` (checkpoint_best.pt and dict.ltr.txt).
        head: of the result, one of ``wav2vec2_core.parameters.HEADS``; the source's where None.
        dtype: of the stored numbers; as they are where None.
        max_shard_size: of ``safetensors`` and ``torch``, ``"5GB"`` where None.
        verify: read every array back, and run both models on a test signal with an installed back end.
        config: a ``config.json``, for a file that does not tell enough.
        vocabulary: ``dict.ltr.txt`` or ``vocab.json`` of a file; that beside it where None.
        local_files_only: do not ask the hub.

    Raises:
        CheckpointError: the source is missing, damaged, hostile, incomplete or of another architecture.
        InputError: an argument is unknown, or the target format cannot hold the model.
        OutputError: the target is something else, or cannot be written.
        BackendError: ``tf`` needs h5py.
    """
    _check_arguments(to, head, dtype, max_shard_size)
    job = _prepare(source, to, head, dtype, config, vocabulary, local_files_only)
    target = Path(target)
    _check_target(job.source, target)
    receipt = _new_receipt(job, target, to)
    with atomic_folder(target, mark=RECEIPT) as folder:
        adapters = _write(job, folder, to, max_shard_size or "5GB", receipt)
        receipt.files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
        if verify:
            _verify(job, folder, to, receipt, adapters, given_config=config is not None)
        weights = [folder / name for name in receipt.files if name.endswith(_ENDINGS[to]) and "/" not in name]
        receipt.target_bytes = sum(path.stat().st_size for path in weights)
        write_json(folder / RECEIPT, receipt.to_dict())
    return receipt


_ENDINGS = {"safetensors": ".safetensors", "torch": ".bin", "tf": ".h5", "flax": ".msgpack", "fairseq": ".pt"}


def _check_arguments(to: str, head: str | None, dtype: str | None, max_shard_size: int | str | None) -> None:
    if to not in FORMATS:
        raise InputError(f"format {to!r:.100} is unknown: use one of {', '.join(FORMATS)}")
    if head is not None and head not in HEADS:
        raise InputError(f"head {head!r:.100} is unknown: use one of {', '.join(HEADS)}")
    if dtype is not None and dtype not in DTYPES:
        raise InputError(f"dtype {dtype!r:.100} is unknown: use one of {', '.join(DTYPES)}")
    if max_shard_size is not None:
        parse_size(max_shard_size)
        if to not in ("safetensors", "torch"):
            raise InputError(f"max_shard_size is for safetensors and torch: {to} is written as one file, leave it out")


def _check_target(source: ModelSource, target: Path) -> None:
    """The target must not be, hold or lie in the source, and must not hold anything that a conversion did not write."""
    new, old = target.resolve(), Path(source.name).resolve()
    if isinstance(source, FileSource) or old.is_dir():
        inside = new == old or new in old.parents or (old.is_dir() and old in new.parents)
        if inside:
            raise OutputError(f"target {target} and source {source.name} overlap: name another folder")
    if (target / RECEIPT).is_file():
        listed = read_json(target / RECEIPT).get("files")
        known = {*map(str, listed if isinstance(listed, list) else ()), RECEIPT}
        found = {str(path.relative_to(target)) for path in target.rglob("*") if not path.is_dir()}
        if found - known:
            raise OutputError(
                f"{target} holds {sorted(found - known)[0]!r}, which its conversion did not write: name another folder"
            )


# ---- reading --------------------------------------------------------------------------------------------------------


def _prepare(
    model: str | os.PathLike[str],
    to: str,
    head: str | None,
    dtype: str | None,
    config_file: str | os.PathLike[str] | None,
    vocabulary_file: str | os.PathLike[str] | None,
    local_files_only: bool,
) -> _Job:
    source = open_model(model, local_files_only=local_files_only)
    given = None if config_file is None else Wav2Vec2Config.from_dict(read_json(config_file))
    vocabulary = bare = None
    if isinstance(source, FileSource):
        bare = source.content if given is None else open_bare_file(source.path, given.to_dict())
        config, checkpoint = given or Wav2Vec2Config.from_dict(bare.config_values), bare.checkpoint
        path = Path(vocabulary_file) if vocabulary_file is not None else dictionary_beside(source.path)
        vocabulary = bare.vocabulary if path is None else read_vocabulary(path)
    else:
        if vocabulary_file is not None:
            raise InputError("vocabulary is for checkpoints that are one file: a model folder has its own vocab.json")
        config, checkpoint = given or Wav2Vec2Config.from_source(source), open_checkpoint(source)
    head = head or head_of(config.architectures, checkpoint.shapes)
    config = with_head_of(config, head, checkpoint.shapes)
    plan = plan_loading(parameter_table(config, head), checkpoint)
    check_trained(source.name, head, plan)
    names = dict(plan.sources)
    kept = [name for name in plan.ignored if name.removeprefix(BODY_PREFIX) == MASK_EMBEDDING]
    names.update({MASK_EMBEDDING if head == "Model" else BODY_PREFIX + MASK_EMBEDDING: name for name in kept})
    tensors = lazy_arrays(checkpoint, names)
    if dtype is not None:
        wanted = numpy_dtype(dtype)
        tensors = {name: array.astype(wanted) for name, array in tensors.items()}
    job = _Job(source, bare, config, checkpoint, head, tensors, vocabulary, None)
    if to == "fairseq":
        _prepare_fairseq(job)
    return job


def _prepare_fairseq(job: _Job) -> None:
    if job.head not in _FAIRSEQ_HEADS:
        raise InputError(f"fairseq has no Wav2Vec2{job.head}: give --head ForCTC, ForPreTraining or Model")
    if job.config.add_adapter:
        raise InputError("fairseq's wav2vec 2.0 has no convolutional adapter (add_adapter): convert to safetensors")
    if job.head != "ForCTC":
        return
    rows = job.config.vocab_size
    job.fairseq = fairseq_vocabulary(job.source, rows) if job.bare is None else _in_order(job.vocabulary, rows)
    if job.fairseq is not None:
        for part in ("weight", "bias"):
            name = f"lm_head.{part}"
            job.tensors[name] = job.fairseq.rearrange(job.tensors[name], bias=part == "bias")
        job.config = job.config.replace(vocab_size=len(job.fairseq.rows))


def _in_order(vocabulary: Mapping[str, int] | None, rows: int) -> FairseqVocabulary | None:
    """The vocabulary of a file as fairseq wants it."""
    if vocabulary is None:
        return None
    check_rows(vocabulary, rows)
    return FairseqVocabulary(*fairseq_rows(vocabulary, "<pad>", "<unk>"))


def _new_receipt(job: _Job, target: Path, to: str) -> Receipt:
    stored = {array.dtype.name for array in job.tensors.values()}
    used = set(job.tensors) | {name.removeprefix(BODY_PREFIX) for name in job.tensors}
    receipt = Receipt(
        source=job.source.name,
        source_format=job.bare.program if job.bare else job.checkpoint.files[0].suffix.lstrip("."),
        target=str(target),
        target_format=to,
        head=job.head,
        parameters=sum(math.prod(array.shape) for array in job.tensors.values()),
        source_bytes=sum(path.stat().st_size for path in job.checkpoint.files),
        dtypes=sorted(stored),
        renamed=dict(job.bare.renamed) if job.bare else {},
        dropped=[name for name in job.checkpoint.shapes if name.removeprefix(BODY_PREFIX) not in used],
    )
    if job.bare:
        receipt.dropped += job.bare.dropped
        receipt.guessed += job.bare.guessed
    return receipt


# ---- writing --------------------------------------------------------------------------------------------------------


def _write(job: _Job, folder: Path, to: str, max_shard_size: int | str, receipt: Receipt) -> dict[str, Checkpoint]:
    """Write everything but the receipt; the adapters that were read, by the name of the new file."""
    if to == "fairseq":
        write_fairseq_file(
            folder / _FAIRSEQ_FILE, job.tensors, job.config, job.head, do_normalize=_do_normalize(job, receipt)
        )
        _note_fairseq(job, folder, receipt)
        return {}
    writers: dict[str, Callable[[], object]] = {
        "safetensors": lambda: write_checkpoint(folder, job.tensors, max_shard_size=max_shard_size),
        "torch": lambda: write_checkpoint(folder, job.tensors, max_shard_size=max_shard_size, safe_serialization=False),
        "tf": lambda: write_tf_checkpoint(folder, job.tensors, job.head),
        "flax": lambda: write_flax_checkpoint(folder, flax_params(job.tensors)),
    }
    writers[to]()
    first = next(iter(job.tensors.values())).dtype.name
    job.config.replace(architectures=(f"Wav2Vec2{job.head}",), dtype=first).save_pretrained(folder)
    if job.bare:
        rows = job.config.vocab_size if job.head == "ForCTC" else 0
        vocabulary = job.vocabulary if job.head == "ForCTC" else None
        layer_norm = job.config.feat_extract_norm == "layer"
        write_processor(folder, vocabulary, rows, do_normalize=job.bare.do_normalize, with_mask=layer_norm)
        if job.head == "ForCTC" and vocabulary is None:
            receipt.notes.append(
                f"no {DICTIONARY} lies beside the checkpoint, so there is no vocabulary: give it with --vocabulary"
            )
        if job.bare.program == "fairseq":
            receipt.notes.append(
                "fairseq pads an utterance's frames to a multiple of 2, so its own numbers differ by tiny amounts"
            )
        return {}
    adapters = carry_adapters(job.source, folder, as_torch=to == "torch")
    receipt.carried = carry_files(job.source, folder)
    return adapters


def _do_normalize(job: _Job, receipt: Receipt) -> bool:
    if job.bare:
        return job.bare.do_normalize
    if job.source.find("preprocessor_config.json", "processor_config.json") is None:
        receipt.guessed.append("do_normalize")
        return job.config.feat_extract_norm == "layer"
    return Wav2Vec2FeatureExtractor.from_source(job.source).do_normalize


def _note_fairseq(job: _Job, folder: Path, receipt: Receipt) -> None:
    if job.fairseq is not None:
        job.fairseq.write(folder)
        added = sum(row is None for row in job.fairseq.rows)
        if job.fairseq.moves:
            receipt.notes.append(
                f"the rows of lm_head are in fairseq's order now (blank first), {added} rows are new and never win"
            )
        receipt.notes.append(f"fairseq looks for {DICTIONARY} in its task's data folder: pass data={receipt.target}")
    elif job.head == "ForCTC":
        receipt.notes.append(f"the source has no vocabulary: fairseq will ask for a {DICTIONARY}")
    if not job.bare:
        names = [*job.source.file_names(), *job.source.files_below("language_model")]
        weights = {path.name for path in job.checkpoint.files}
        receipt.dropped += sorted(name for name in set(names) - weights if name != "config.json")


# ---- proof ----------------------------------------------------------------------------------------------------------


def _verify(
    job: _Job, folder: Path, to: str, receipt: Receipt, adapters: Mapping[str, Checkpoint], *, given_config: bool
) -> None:
    result = folder / _FAIRSEQ_FILE if to == "fairseq" else folder
    if to == "fairseq":
        found = open_bare_file(result, job.config.to_dict()).checkpoint
    else:
        found = open_checkpoint(open_model(folder))
    receipt.arrays_equal = compare_arrays(job.tensors, found)
    for name, adapter in adapters.items():
        written = Checkpoint([open_weight_file(folder / name)])
        receipt.arrays_equal += compare_arrays(lazy_arrays(adapter), written)
    if given_config:
        receipt.compared = "outputs were not compared: the source does not tell its configuration itself"
        return
    rows = job.fairseq.rows if job.fairseq is not None and job.fairseq.moves else None
    compare_outputs(receipt, job.source.name, result, job.config, rows)
