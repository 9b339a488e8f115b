"""Attaching an n-gram language model to a speech model's folder."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from wav2vec2_core.checkpoint.writing import copy_model
from wav2vec2_core.decoding.alphabet import DELIMITER, UNKNOWN, Alphabet
from wav2vec2_core.errors import InputError
from wav2vec2_core.files import atomic_path, make_folder
from wav2vec2_core.language_model.folder import Attributes, read_unigrams, write_language_model
from wav2vec2_core.language_model.ngram import BEGIN, END, NgramModel
from wav2vec2_core.language_model.ngram import UNKNOWN as UNKNOWN_WORD
from wav2vec2_core.processing import Wav2Vec2Processor
from wav2vec2_core.source import open_model
from wav2vec2_core.tokenization import Wav2Vec2CTCTokenizer


def attach(
    language_model: Path, folder: Path, tokenizer: Wav2Vec2CTCTokenizer, unigrams: Sequence[str] | None = None
) -> list[str]:
    """Write ``alphabet.json`` and ``language_model`` into a model's folder, replacing an existing language model.

    Args:
        language_model: an ARPA file, which may be gzipped, or a KenLM binary.
        unigrams: words that count as known; by default those of the language model.

    Returns:
        Notes about possible mistakes, for the user.

    Raises:
        CheckpointError: the language model cannot be read.
        InputError: the labels cannot spell any of its words, or it does not list its words.
        OutputError: the folder cannot be written.
    """
    alphabet = Alphabet.of(tokenizer)
    model = NgramModel.open(language_model)
    words = model.unigrams if unigrams is None else list(dict.fromkeys(unigrams))
    if words is None:
        raise InputError(f"{language_model} does not hold its words: give a list, one word a line (--unigrams)")
    words = [word for word in words if word not in (BEGIN, END, UNKNOWN_WORD)]
    notes = _compared(words, alphabet, model)
    write_language_model(folder, language_model, words, Attributes())
    alphabet.save(folder)
    return notes


def attach_to_model(
    model: str,
    language_model: Path,
    *,
    unigrams: Path | None = None,
    output: Path | None = None,
    language: str | None = None,
    local_files_only: bool = False,
) -> tuple[Path, list[str]]:
    """Attach a language model to a local or hub model, in the model's own folder or in a copy.

    Args:
        output: folder for the processor, weights and language model; by default ``model`` itself.
        language: selects an MMS vocabulary; only this language's adapter is copied to ``output``.

    Returns:
        The folder, and the notes of ``attach``.

    Raises:
        InputError: ``model`` is not a folder and there is no ``output``; also as ``attach``.
    """
    source = open_model(model, local_files_only=local_files_only)
    chosen = {} if language is None else {"target_lang": language}
    processor = Wav2Vec2Processor.from_source(source, **chosen)
    words = None if unigrams is None else read_unigrams(unigrams)
    if output is None:
        if not Path(model).is_dir():
            raise InputError(f"model {model!r:.100} is on the hub: name a folder for the result (--output)")
        return Path(model), attach(language_model, Path(model), processor.tokenizer, words)
    NgramModel.open(language_model)  # validate it before gigabytes are copied
    folder = make_folder(output)
    if not folder.samefile(source.require("config.json").parent):
        spoken = processor.tokenizer.target_lang
        adapter = None if spoken is None else source.find(f"adapter.{spoken}.safetensors", f"adapter.{spoken}.bin")
        copy_model(source, folder)
        if adapter is not None:
            with atomic_path(folder / adapter.name) as target:
                shutil.copyfile(adapter, target)
        processor.save_pretrained(folder)
    return folder, attach(language_model, folder, processor.tokenizer, words)


def _compared(words: Sequence[str], alphabet: Alphabet, model: NgramModel) -> list[str]:
    """Notes on words that the labels cannot spell. Raises ``InputError`` if they can spell none."""
    letters = set("".join(label for label in alphabet.labels if label not in (DELIMITER, UNKNOWN)))
    strange = [word for word in words if not letters.issuperset(word)]
    if len(strange) == len(words):
        other = next((name for name, change in _CASES if words and letters.issuperset(change(words[0]))), None)
        remedy = f"write it in {other} letters and estimate it again" if other else "use one of the model's language"
        raise InputError(
            f"the model's labels spell no word of the language model, such as {', '.join(words[:3]) or 'any'}: {remedy}"
        )
    notes = []
    if len(strange) > len(words) // 10:
        notes.append(f"{len(strange)} of {len(words)} words have letters that the model lacks, such as {strange[0]!r}")
    return notes


_CASES = (("lower-case", str.lower), ("upper-case", str.upper))
