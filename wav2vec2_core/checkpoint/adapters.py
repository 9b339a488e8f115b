"""Language adapters of MMS models: ``adapter.<language>.safetensors`` (or ``.bin``) beside the model's weights."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from wav2vec2_core.checkpoint.checkpoint import Checkpoint, open_weight_file
from wav2vec2_core.checkpoint.safetensors_file import check_tensors, write_safetensors
from wav2vec2_core.errors import InputError
from wav2vec2_core.files import atomic_path, make_folder
from wav2vec2_core.source import ModelSource

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
    hint = f"did you mean {near[0]!r}? " if near else ""
    cut = f" ... ({len(known)} in all)" if len(known) > _SHOWN else ""
    return f"{hint}use one of {', '.join(known[:_SHOWN])}{cut}"
