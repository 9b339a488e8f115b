"""A language model beside a speech model: ``alphabet.json`` and the folder ``language_model`` of pyctcdecode."""

from __future__ import annotations

import math
import reprlib
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from wav2vec2_core.checkpoint import open_checkpoint
from wav2vec2_core.decoding.alphabet import DELIMITER, UNKNOWN, Alphabet
from wav2vec2_core.decoding.ngram import BEGIN, END, NgramModel
from wav2vec2_core.decoding.ngram import UNKNOWN as UNKNOWN_WORD
from wav2vec2_core.errors import CheckpointError, InputError, listed
from wav2vec2_core.files import atomic_folder, atomic_path, make_folder, read_json, write_json, write_text
from wav2vec2_core.language_model.kenlm_binary import HEAD_SIZE, is_kenlm_binary
from wav2vec2_core.language_model.line_blocks import LineBlocks
from wav2vec2_core.processing import Wav2Vec2Processor
from wav2vec2_core.source import open_model
from wav2vec2_core.tokenization import Wav2Vec2CTCTokenizer

FOLDER, ATTRIBUTES, UNIGRAMS = "language_model", "attrs.json", "unigrams.txt"
#: Suffixes of a language model in the folder.
SUFFIXES = (".arpa", ".bin", ".binary")


@dataclass(frozen=True)
class Attributes:
    """``attrs.json``: weights of a search; the defaults are pyctcdecode's. See ``decoding.SearchOptions``."""

    alpha: float = 0.5
    beta: float = 1.5
    unk_score_offset: float = -10.0
    score_boundary: bool = True

    @classmethod
    def load(cls, folder: Path) -> Attributes:
        """Read them from a folder ``language_model``. Raises ``CheckpointError``."""
        path = folder / ATTRIBUTES
        content = read_json(path)
        values = {field.name: content[field.name] for field in fields(cls) if field.name in content}
        if len(values) < len(fields(cls)) or len(content) > len(values):
            found, needed = listed(sorted(content)) or "nothing", listed(field.name for field in fields(cls))
            raise CheckpointError(f"{path} has {found}, it needs {needed}: mend it or attach the model again")
        for name, value in values.items():
            number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
            if not (isinstance(value, bool) if name == "score_boundary" else number):
                raise CheckpointError(
                    f"{path} has {name}={reprlib.repr(value)}: mend the value or attach the language model again"
                )
        return cls(**values)

    def save(self, folder: Path) -> None:
        """Write them into a folder ``language_model``, atomically. Raises ``OutputError``."""
        write_json(folder / ATTRIBUTES, asdict(self))


def alphabet_of(tokenizer: Wav2Vec2CTCTokenizer) -> Alphabet:
    """The labels of a model by its tokenizer, whatever it calls the blank, the delimiter and the unknown letter."""
    # The blank last: some vocabularies have no token of their own for unknown letters and name the blank.
    named = {tokenizer.unk_token: "<unk>", tokenizer.word_delimiter_token: "|", tokenizer.pad_token: "<pad>"}
    tokens = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    return Alphabet.build([named.get(token, token) for token, _ in tokens])


def find_model(folder: Path) -> Path:
    """The language model in a folder ``language_model``.

    Raises:
        CheckpointError: there is none, or there are several.
    """
    found = [path for path in sorted(folder.glob("*")) if path.suffix in SUFFIXES and not path.name.startswith(".")]
    if len(found) == 1:
        return found[0]
    what = "no language model" if not found else f"several language models ({', '.join(path.name for path in found)})"
    raise CheckpointError(f"{folder} has {what}, one file of {', '.join(SUFFIXES)} is needed: attach one")


def read_unigrams(path: Path) -> list[str]:
    """Words, one a line, without duplicates. Raises ``CheckpointError``."""
    with LineBlocks(path) as lines:
        return list(dict.fromkeys(word for line in lines.texts() if (word := line.strip())))


def attach(
    language_model: Path, folder: Path, tokenizer: Wav2Vec2CTCTokenizer, unigrams: Sequence[str] | None = None
) -> list[str]:
    """Write ``alphabet.json`` and ``language_model`` into a model's folder; an earlier language model is replaced.

    Args:
        language_model: an ARPA file, which may be gzipped, or a KenLM binary.
        unigrams: words that the decoder takes as known; by default those of the language model.

    Returns:
        Notes about what may not be as the user wants it.

    Raises:
        CheckpointError: the language model cannot be read. InputError: it has no words that the labels can spell, or
            does not say its words. OutputError: the folder cannot be written.
    """
    alphabet = alphabet_of(tokenizer)
    model = NgramModel.open(language_model)
    words = model.unigrams if unigrams is None else list(dict.fromkeys(unigrams))
    if words is None:
        raise InputError(f"{language_model} does not hold its words: give a list, one word a line (--unigrams)")
    words = [word for word in words if word not in (BEGIN, END, UNKNOWN_WORD)]
    notes = _compared(words, alphabet, model)
    write_language_model(folder, language_model, words, Attributes())
    alphabet.save(folder)
    return notes


def write_language_model(folder: Path, language_model: Path, words: Iterable[str], attributes: Attributes) -> None:
    """Write the folder ``language_model`` of a model's folder, all or nothing. Raises ``OutputError``."""
    with atomic_folder(folder / FOLDER, mark=ATTRIBUTES) as target:
        _copy(language_model, target)
        write_text(target / UNIGRAMS, "".join(f"{word}\n" for word in words))
        attributes.save(target)


def attach_to_model(
    model: str,
    language_model: Path,
    *,
    unigrams: Path | None = None,
    output: Path | None = None,
    language: str | None = None,
    local_files_only: bool = False,
) -> tuple[Path, list[str]]:
    """Attach a language model to a model folder or hub model, in its own folder or with a copy of it.

    Args:
        output: folder that receives processor, weights and language model; by default the folder ``model`` itself.
        language: selects an MMS vocabulary; of its adapters, the folder ``output`` receives that one.

    Returns:
        The folder, and the notes of ``attach``.

    Raises:
        InputError: ``model`` is no folder and there is no ``output``; and as ``attach``.
    """
    source = open_model(model, local_files_only=local_files_only)
    chosen = {} if language is None else {"target_lang": language}
    processor = Wav2Vec2Processor.from_source(source, **chosen)
    words = None if unigrams is None else read_unigrams(unigrams)
    if output is None:
        if not Path(model).is_dir():
            raise InputError(f"model {model!r} is on the hub: name a folder for the result (--output)")
        return Path(model), attach(language_model, Path(model), processor.tokenizer, words)
    NgramModel.open(language_model)  # a mistake in it shows before gigabytes are copied
    folder = make_folder(output)
    if not folder.samefile(source.require("config.json").parent):
        spoken = processor.tokenizer.target_lang
        adapter = None if spoken is None else source.find(f"adapter.{spoken}.safetensors", f"adapter.{spoken}.bin")
        weights = [*open_checkpoint(source).files, *([] if adapter is None else [adapter])]
        for file in (source.require("config.json"), *weights):
            with atomic_path(folder / file.name) as target:
                shutil.copyfile(file, target)
        processor.save_pretrained(folder)
    return folder, attach(language_model, folder, processor.tokenizer, words)


def _copy(language_model: Path, folder: Path) -> None:
    name = language_model.name.removesuffix(".gz")
    if Path(name).suffix not in SUFFIXES:
        with language_model.open("rb") as file:
            name += ".binary" if is_kenlm_binary(file.read(HEAD_SIZE)) else ".arpa"
    if language_model.suffix != ".gz":
        shutil.copyfile(language_model, folder / name)
        return
    with LineBlocks(language_model) as lines, (folder / name).open("wb") as file:
        for block in lines.blocks():
            file.write(block)


def _compared(words: Sequence[str], alphabet: Alphabet, model: NgramModel) -> list[str]:
    """Notes on words that the labels cannot spell. Raises ``InputError`` if that is all of them."""
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
