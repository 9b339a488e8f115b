"""Models of other programs in a single file without a model folder: fairseq, fairseq2 and torchaudio."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wav2vec2_core.errors import CheckpointError
from wav2vec2_core.weight_files.checkpoint import Checkpoint, canonical_name, check_start
from wav2vec2_core.weight_files.derived_config import config_from_shapes
from wav2vec2_core.weight_files.dialects import (
    FAIRSEQ,
    FAIRSEQ2_CTC,
    FAIRSEQ2_PRETRAINING,
    TORCHAUDIO,
    Dialect,
    DialectFile,
)
from wav2vec2_core.weight_files.fairseq import PREFIXES, dictionary_in, read_settings
from wav2vec2_core.weight_files.inert_objects import may_occur
from wav2vec2_core.weight_files.inert_pickle import TensorView
from wav2vec2_core.weight_files.safetensors_file import SafetensorsFile
from wav2vec2_core.weight_files.torch_pickle import TorchArchive, TorchFile

#: torchaudio's pipelines put a model into a module of their own where it normalises audio or has a star.
_PREFIXES = ("", "model.")
#: Outputs of a head of torchaudio's pipelines -> their labels after the blank: English, and MMS_FA without its star.
_BUNDLES = {29: "|ETAONIHSRDLUMWCFGYPBVK'XJQZ", 28: "aienoutsrmkldghybpwcvjzf'qx"}
_OTHER_DIALECTS = (FAIRSEQ2_PRETRAINING, FAIRSEQ2_CTC, TORCHAUDIO)


@dataclass(frozen=True)
class BareModel:
    """The content of another program's file, under this project's names.

    Attributes:
        program: fairseq, fairseq2 or torchaudio.
        checkpoint: the parameters by canonical name.
        renamed: canonical name -> name in the file.
        config_values: configuration fields that the file states, that its shapes show, or that are ``guessed``.
        guessed: fields of ``config_values``, ``do_normalize`` and ``vocabulary`` that are taken from the released
            models of this kind.
        do_normalize: whether audio is normalised.
        vocabulary: row of the head by token, if the file contains it.
        dropped: other content of the file: optimizer, counters ...
    """

    program: str
    checkpoint: Checkpoint
    renamed: Mapping[str, str]
    config_values: Mapping[str, Any]
    guessed: tuple[str, ...]
    do_normalize: bool
    vocabulary: Mapping[str, int] | None
    dropped: tuple[str, ...]


def open_bare_file(path: Path, config_values: Mapping[str, Any] | None = None) -> BareModel:
    """Open a model that is a single file, without reading its arrays and without executing its pickle.

    Args:
        path: a file of ``torch.save``, or a safetensors file.
        config_values: override what the file states.

    Raises:
        CheckpointError: the file is damaged, unsafe or of another architecture, or does not state enough.
    """
    check_start(path)
    value: Any = None
    if path.suffix == ".safetensors":
        weights: Any = SafetensorsFile(path)
    else:
        archive = TorchArchive(path, may_occur)
        value = archive.value
        tensors = next((value[key] for key in ("model", "state_dict") if _is_state(value, key)), value)
        _check_state(path, tensors)
        weights = TorchFile(path, archive, tensors)
    dialect, prefixes = _dialect(path, weights.shapes)
    file = DialectFile(weights, dialect, prefixes)
    outer = value if isinstance(value, dict) and not isinstance(next(iter(value.values())), TensorView) else {}
    known, normalize, vocabulary = _stated(dialect, outer, file, str(path))
    guessed: tuple[str, ...] = ()
    if config_values is None:
        config_values, guessed = config_from_shapes(file.shapes, known, str(path))
    if normalize is None:
        guessed = (*guessed, "do_normalize")
        normalize = config_values["feat_extract_norm"] == "layer"
    if dialect is TORCHAUDIO and vocabulary is not None:
        guessed = (*guessed, "vocabulary")
    dropped = tuple(str(key) for key in outer if key not in ("model", "state_dict", "cfg", "args", "task_state"))
    checkpoint = Checkpoint([file])
    return BareModel(dialect.name, checkpoint, file.renamed, config_values, guessed, normalize, vocabulary, dropped)


def _is_state(value: Any, key: str) -> bool:
    return isinstance(value, dict) and isinstance(value.get(key), dict)


def _check_state(path: Path, tensors: Any) -> None:
    if not isinstance(tensors, dict) or not any(isinstance(item, TensorView) for item in tensors.values()):
        raise CheckpointError(
            f"{path} holds no tensors by name, neither at its top nor under 'model': name a checkpoint of fairseq, "
            "fairseq2 or torchaudio"
        )


def _dialect(path: Path, stored: Collection[str]) -> tuple[Dialect, tuple[str, ...]]:
    names = [canonical_name(name) for name in stored]  # without the prefixes of PyTorch's wrappers
    if any(f"{prefix}{FAIRSEQ.telltale}" in names for prefix in PREFIXES):
        return FAIRSEQ, PREFIXES
    for dialect in _OTHER_DIALECTS:
        heads = dialect is not FAIRSEQ2_PRETRAINING or "quantizer.entries" in names
        prefix = next((one for one in _PREFIXES if f"{one}{dialect.telltale}" in names), None)
        if prefix is not None and heads:
            return dialect, (prefix,)
    if any(name.endswith("feature_projection.projection.weight") for name in names):
        raise CheckpointError(
            f"{path} has the weights of a model folder: name the folder that holds it and config.json"
        )
    raise CheckpointError(
        f"{path} has parameters such as {next(iter(names), '')[:80]!r}, which is neither fairseq's, fairseq2's nor "
        "torchaudio's wav2vec 2.0: it is of another architecture"
    )


def _stated(
    dialect: Dialect, value: dict[str, Any], file: DialectFile, what: str
) -> tuple[dict[str, Any], bool | None, dict[str, int] | None]:
    """The configuration fields, normalisation and vocabulary that the file states."""
    if dialect is FAIRSEQ:
        return *read_settings(value, what), dictionary_in(value, what)
    if dialect.name == "fairseq2":  # in post-norm models the norm precedes the layers
        return {"do_stable_layer_norm": "encoder.layer_norm.weight" in file.renamed.values()}, None, None
    return {}, None, _bundle_labels(file)


def _bundle_labels(file: DialectFile) -> dict[str, int] | None:
    """The vocabulary of torchaudio's pipelines, which a state dict does not hold: told by the size of the head."""
    labels = _BUNDLES.get(file.shapes.get("lm_head.bias", (0,))[0])
    return None if labels is None else {"<pad>": 0, **{letter: row for row, letter in enumerate(labels, 1)}}
