"""The decoder files in a model's folder: ``alphabet.json`` and the folder ``language_model``, in
pyctcdecode's format.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from wav2vec2_core.decoding.alphabet import FILE as ALPHABET
from wav2vec2_core.decoding.alphabet import Alphabet
from wav2vec2_core.decoding.search.search_options import SearchOptions
from wav2vec2_core.errors import CheckpointError, InputError
from wav2vec2_core.files import make_folder
from wav2vec2_core.language_model.folder import (
    ATTRIBUTES,
    FOLDER,
    SUFFIXES,
    UNIGRAMS,
    Attributes,
    find_model,
    read_unigrams,
    write_language_model,
)
from wav2vec2_core.language_model.ngram import NgramModel
from wav2vec2_core.source import ModelSource


def read_decoder(
    source: ModelSource, **weights: Any
) -> tuple[Alphabet, NgramModel | None, list[str] | None, SearchOptions]:
    """Read the labels, language model, known words and options of a model's decoder.

    ``weights`` that are not ``None`` override those in ``attrs.json``.

    Raises:
        CheckpointError: a file is missing or damaged.
        InputError: a weight is out of its range.
    """
    if not _names(source) and source.find(ALPHABET) is not None:
        given = {"lm_score_boundary" if name == "score_boundary" else name: value for name, value in weights.items()}
        return Alphabet.load(source.require(ALPHABET)), None, None, SearchOptions().changed(**given)
    folder = _fetched(source)
    alphabet = Alphabet.load(source.require(ALPHABET))
    attributes = vars(Attributes.load(folder)) | {name: value for name, value in weights.items() if value is not None}
    options = SearchOptions(lm_score_boundary=attributes.pop("score_boundary"), **attributes)
    model = NgramModel.open(find_model(folder))
    return alphabet, model, read_unigrams(folder / UNIGRAMS) or None, options


def _fetched(source: ModelSource) -> Path:
    """The local folder ``language_model`` with all the files it needs. Raises ``CheckpointError``."""
    names = _names(source)
    if not names:
        raise CheckpointError(
            f"{source.name!r} has no folder {FOLDER}: attach a language model to the model (wav2vec2 lm attach)"
        )
    models = [name for name in names if name.endswith(SUFFIXES)]
    paths = [source.require(f"{FOLDER}/{name}") for name in (ATTRIBUTES, UNIGRAMS, *models)]
    return paths[0].parent


def _names(source: ModelSource) -> list[str]:
    """Names of the files of the folder ``language_model``."""
    return [name for name in source.file_names(FOLDER) if not name.startswith(".")]


def write_decoder(
    folder: str | os.PathLike[str],
    alphabet: Alphabet,
    model: NgramModel | None,
    unigrams: Iterable[str] | None,
    options: SearchOptions,
) -> None:
    """Write a decoder into a folder, created if missing; an existing language model there is replaced.

    Raises:
        InputError: the decoder has no language model.
        OutputError: the folder cannot be written.
    """
    target = make_folder(folder)
    if model is not None:
        attributes = Attributes(options.alpha, options.beta, options.unk_score_offset, bool(options.lm_score_boundary))
        write_language_model(target, model.path, unigrams or (), attributes)
    elif (target / FOLDER).exists():
        raise InputError(
            f"{target / FOLDER} is the language model of another decoder and this one has none: remove that folder, or "
            "name another place"
        )
    alphabet.save(target)
