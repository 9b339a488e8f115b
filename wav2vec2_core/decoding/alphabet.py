"""The labels of a CTC model as a beam search reads them, and ``alphabet.json``."""

from __future__ import annotations

import json
import os
import re
import reprlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from wav2vec2_core.errors import CheckpointError, InputError, listed
from wav2vec2_core.files import read_json, write_text

if TYPE_CHECKING:
    from wav2vec2_core.tokenization import Wav2Vec2CTCTokenizer

#: How ``alphabet.json`` writes the CTC blank, the word delimiter and the unknown letter.
BLANK, DELIMITER, UNKNOWN = "", " ", "⁇"
#: Starts a word in the labels of a byte pair encoding; at the end of a label, the next label starts a word.
WORD_START = "▁"
#: Continues a word in the older notation of word pieces.
CONTINUATION = "##"
FILE = "alphabet.json"
#: Most characters in a label: the search reserves a partial word for every character that any beam may append.
LONGEST_LABEL = 200
_BLANK_TOKEN = re.compile(r"[<\[]pad[>\]]", re.IGNORECASE)
_SPECIAL_TOKEN = re.compile(r"[<\[].+[>\]]")
_UNKNOWN_TOKEN = re.compile(r"[<\[]unk[>\]]", re.IGNORECASE)


def label_of(token: str, word_delimiter: str | None = "|") -> str:
    """The label that ``alphabet.json`` uses for a token of a letter vocabulary: ``<pad>`` "", ``|``
    " ", ``<unk>`` "⁇".
    """
    if _BLANK_TOKEN.fullmatch(token):
        return BLANK
    if token == word_delimiter:
        return DELIMITER
    return UNKNOWN if _UNKNOWN_TOKEN.fullmatch(token) else token


@dataclass(frozen=True)
class Alphabet:
    """Labels in the order of the logits.

    labels: the CTC blank is ``""``; in a letter vocabulary the space is ``" "``. A label may have several characters.
    is_bpe: whether labels are subword pieces; a piece that starts a word begins with ``▁``.

    Raises:
        InputError: two labels are equal, or none is the blank.
    """

    labels: tuple[str, ...]
    is_bpe: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", tuple(self.labels))
        places: dict[str, int] = {}
        for place, label in enumerate(self.labels):
            if not isinstance(label, str):
                raise InputError(f"label {place} of the alphabet is {reprlib.repr(label)}: labels are strings")
            if len(label) > LONGEST_LABEL:
                raise InputError(
                    f"label {place} of the alphabet has {len(label)} characters, {LONGEST_LABEL} are possible: labels "
                    "are letters or pieces of words"
                )
            if label in places:
                raise InputError(
                    f"labels {places[label]} and {place} of the alphabet are both {label!r}: each label must differ"
                )
            places[label] = place
        if BLANK not in places:
            raise InputError(f"the alphabet has no blank among its {len(self.labels)} labels: write it as {BLANK!r}")

    @classmethod
    def build(cls, labels: Iterable[str]) -> Alphabet:
        """Convert a model's own labels: ``<pad>``, ``[PAD]`` or ``_`` is the blank, ``|`` the space, ``<unk>`` unknown.

        Labels with ``▁`` or ``##`` are read as byte pair encoding. If no label is the blank, one is appended.

        Raises:
            InputError: two labels are equal, or there are no labels.
        """
        if isinstance(labels, str):
            raise InputError(f"labels is the string {labels!r:.100}: give a list with one string for each output")
        given = list(labels)
        if not given or not all(isinstance(label, str) for label in given):
            raise InputError("labels must be a list of strings, one for each output of the model")
        is_bpe = any(label.startswith((WORD_START, CONTINUATION)) for label in given)
        spaced = next((label for label in given if is_bpe and DELIMITER in label), None)
        if spaced is not None:
            raise InputError(
                f"label {spaced!r:.100} has a space and others start with {WORD_START!r} or {CONTINUATION!r}: pieces "
                "of words have no spaces, write their starts in one way"
            )
        found = _read_pieces(given) if is_bpe else _read_letters(given)
        return cls(tuple(found) if BLANK in found else (*found, BLANK), is_bpe)

    @classmethod
    def of(cls, tokenizer: Wav2Vec2CTCTokenizer) -> Alphabet:
        """The labels of a model, taken from its tokenizer's blank, word delimiter and unknown token, whatever their
        names.
        """
        # The blank last: some vocabularies have no token of their own for unknown letters and name the blank.
        named = {tokenizer.unk_token: "<unk>", tokenizer.word_delimiter_token: "|", tokenizer.pad_token: "<pad>"}
        tokens = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
        return cls.build([named.get(token, token) for token, _ in tokens])

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Alphabet:
        """Read ``alphabet.json``. Raises ``CheckpointError``."""
        content = read_json(path)
        labels, is_bpe = content.get("labels"), content.get("is_bpe")
        if not isinstance(labels, list) or not isinstance(is_bpe, bool):
            raise CheckpointError(
                f"{path} needs a list 'labels' and true or false as 'is_bpe', it has "
                f"{listed(content) or 'nothing'}: write it again"
            )
        try:
            return cls(tuple(labels), is_bpe)
        except InputError as error:
            raise CheckpointError(f"{path}: {error}") from error

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write ``alphabet.json`` into a folder. Raises ``OutputError``."""
        write_text(Path(folder) / FILE, json.dumps({"labels": list(self.labels), "is_bpe": self.is_bpe}))

    def missing(self, tokenizer: Wav2Vec2CTCTokenizer) -> set[str]:
        """Tokens of the tokenizer's vocabulary, written as labels, that this alphabet does not have."""
        spelled = [_spellings(token, tokenizer) for token in tokenizer.get_vocab()]
        return {names[0] for names in spelled if set(self.labels).isdisjoint(names)}

    def difference(self, tokenizer: Wav2Vec2CTCTokenizer) -> str | None:
        """Describe how these labels differ from the tokenizer's tokens in id order, or return
        ``None`` if they agree.
        """
        missing = sorted(self.missing(tokenizer))
        if missing:
            return f"the tokenizer has tokens that the decoder's alphabet lacks, as labels {missing}"
        for token, number in sorted(tokenizer.get_vocab().items(), key=lambda item: item[1]):
            if number >= len(self.labels) or self.labels[number] not in _spellings(token, tokenizer):
                inside = number < len(self.labels)
                found = f"label {number} is {self.labels[number]!r:.100}" if inside else "there is no such label"
                return f"token {token!r:.100} has id {number} but in the decoder's alphabet {found}"
        return None

    def starts_word(self, label: str) -> bool:
        """Whether this label ends the previous word."""
        return label.startswith(WORD_START) if self.is_bpe else label == DELIMITER

    def ends_word(self, label: str) -> bool:
        """Whether the label after this one always starts a new word."""
        return self.is_bpe and len(label) > 1 and label.endswith(WORD_START)

    def text_of(self, label: str) -> str:
        """The text that a label adds to its word."""
        if not self.is_bpe:
            return "" if label == DELIMITER else label
        return label.removeprefix(WORD_START).removesuffix(WORD_START)


def _spellings(token: str, tokenizer: Wav2Vec2CTCTokenizer) -> tuple[str, ...]:
    """The labels an alphabet may use for a token, the most common one first."""
    if token == tokenizer.pad_token:
        return (BLANK,)
    if token == tokenizer.word_delimiter_token:
        return (DELIMITER, token)
    label = label_of(token, None)
    if token == tokenizer.unk_token or label == UNKNOWN:
        return (UNKNOWN, f"{WORD_START}{UNKNOWN}{WORD_START}", token)
    return (label,)


def _read_letters(labels: Sequence[str]) -> list[str]:
    found = [label_of(label, None) for label in labels]
    if BLANK not in found:
        found = [BLANK if label == "_" else label for label in found]
    if DELIMITER not in found:
        found = [DELIMITER if label == "|" else label for label in found]
    return found


def _read_pieces(labels: Sequence[str]) -> list[str]:
    unknown = f"{WORD_START}{UNKNOWN}{WORD_START}"
    found = [unknown if _UNKNOWN_TOKEN.fullmatch(label) else label_of(label, None) for label in labels]
    if not any(label.startswith(CONTINUATION) for label in found):
        return found
    whole = (BLANK, WORD_START, unknown)  # as are special tokens such as <s> and [CLS]
    return [
        label.removeprefix(CONTINUATION)
        if label.startswith(CONTINUATION) or label in whole or _SPECIAL_TOKEN.fullmatch(label)
        else WORD_START + label
        for label in found
    ]
