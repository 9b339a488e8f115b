"""Language adapters of MMS models: ``adapter.<language>.safetensors`` (or ``.bin``) beside the model's weights."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from wav2vec2_core.checkpoint.matching import LoadPlan, plan_loading
from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.errors import CheckpointError, InputError
from wav2vec2_core.files import atomic_path, make_folder
from wav2vec2_core.parameters import Parameter, check_attention_adapters, parameter_table
from wav2vec2_core.source import ModelSource
from wav2vec2_core.weight_files.checkpoint import Checkpoint, open_weight_file
from wav2vec2_core.weight_files.safetensors_file import check_tensors, write_safetensors

_LONGEST = 64  # letters of a language code; a file name has room for it
_SHOWN = 20  # languages named in a message; mms-1b-all has 1162


def read_adapter(source: ModelSource, language: str) -> Checkpoint:
    """Open the adapter of one language: attention adapter layers and, usually, ``lm_head``.

    Raises:
        InputError: the language is no plain name, or the model has no adapter for it (the known ones are listed).
        CheckpointError: the file is damaged or refused, or the hub cannot be reached.
    """
    check_language(language)
    path = source.find(f"adapter.{language}.safetensors", f"adapter.{language}.bin")
    if path is None:
        raise InputError(f"model {source.name!r} has no adapter for language {language!r}: {_known(source, language)}")
    return Checkpoint([open_weight_file(path)])


def adapter_table(config: Wav2Vec2Config, head: str) -> dict[str, Parameter]:
    """The parameters in an adapter file: the attention adapters and, for a CTC model, ``lm_head``.

    Raises:
        InputError: the model has no attention adapters.
    """
    check_attention_adapters(config)
    groups = {"attention_adapter", "head"} if head == "ForCTC" else {"attention_adapter"}
    return {name: row for name, row in parameter_table(config, head).items() if row.group in groups}


def plan_adapter(
    config: Wav2Vec2Config, head: str, source: ModelSource | None, language: str
) -> tuple[Wav2Vec2Config, Checkpoint, LoadPlan]:
    """Find the adapter of a language for a model and check every name and shape of it.

    Args:
        config, head: of the model.
        source: where its adapters are; None where that is not known.
        language: as in ``read_adapter``.

    Returns:
        The configuration with the ``vocab_size`` of the adapter's ``lm_head``, the adapter, and which of its arrays
        fills which parameter.

    Raises:
        InputError: the model has no adapters or no source, or the language is unknown (the known ones are listed).
        CheckpointError: the file is damaged, incomplete, or does not fit the model.
    """
    if source is None:
        raise InputError(
            f"load_adapter({language!r:.100}) does not know where to look, as this model was not loaded from a "
            "folder or the hub: pass source="
        )
    table = adapter_table(config, head)
    checkpoint = read_adapter(source, language)
    if "lm_head.bias" in table and "lm_head.bias" in checkpoint.shapes:
        config = config.replace(vocab_size=checkpoint.shapes["lm_head.bias"][0])
        table = adapter_table(config, head)
    plan = plan_loading(table, checkpoint)
    if plan.new:
        raise CheckpointError(
            f"{checkpoint.files[0]} lacks {plan.new[0]} ({len(plan.new)} such parameters): use a complete adapter"
        )
    return config, checkpoint, plan


def write_adapter(folder: str | os.PathLike[str], language: str, tensors: Mapping[str, np.ndarray]) -> Path:
    """Write ``adapter.<language>.safetensors`` into ``folder`` (created where missing) and return its path.

    Raises:
        InputError: the language is no plain name, or a tensor has a type that the format cannot store.
        OutputError: the file cannot be written.
    """
    check_language(language)
    check_tensors(tensors)
    path = make_folder(folder) / f"adapter.{language}.safetensors"
    with atomic_path(path) as temporary:
        write_safetensors(temporary, tensors)
    return path


def check_language(language: str) -> str:
    """Return ``language`` if it can stand in a file name: letters, digits, ``_`` and ``-``. Raises ``InputError``."""
    plain = isinstance(language, str) and language.replace("-", "").replace("_", "").isalnum()
    if not plain or len(language) > _LONGEST:
        raise InputError(
            f"language {str(language)[:80]!r} must be letters, digits, '_' and '-', such as 'eng' or 'azj-script_latin'"
        )
    return language


def _known(source: ModelSource, language: str) -> str:
    known = source.adapter_languages()
    if not known:
        return "it has none at all, use a checkpoint with language adapters such as facebook/mms-1b-all"
    near = difflib.get_close_matches(language, known, n=1)
    hint = f"did you mean {near[0]!r:.100}? " if near else ""
    cut = f" ... ({len(known)} in all)" if len(known) > _SHOWN else ""
    return f"{hint}use one of {', '.join(known[:_SHOWN])}{cut}"
