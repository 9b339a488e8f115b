"""Spelling written words with a model's vocabulary, for alignment: known letters, and a star for
what it cannot spell.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import TYPE_CHECKING

from wav2vec2_core.decoding.unspaced import grouped, units
from wav2vec2_core.errors import InputError

if TYPE_CHECKING:
    from wav2vec2_core.tokenization import Wav2Vec2CTCTokenizer

#: Matches any speech, where the text has digits or letters that are not in the vocabulary.
STAR = -1
_APOSTROPHES = dict.fromkeys(map(ord, "’‘ʼʻ＇`´′"), "'")
_SPOKEN = frozenset("*%&@#§°№")  # punctuation in Unicode, but read aloud; * is the star itself


@dataclass(frozen=True)
class Spelled:
    """Part of a word, usually one letter, and its labels: vocabulary ids, or a single ``STAR``."""

    text: str
    labels: tuple[int, ...]


@dataclass(frozen=True)
class WrittenWord:
    """A word as written, with adjacent punctuation. parts: what is spoken of it, at least one part.

    joined: no space separates it from the word before.
    """

    text: str
    parts: tuple[Spelled, ...]
    joined: bool = False


class TextSpeller:
    """Spells words with the tokens of one vocabulary.

    A letter is taken as it is, in the other case, or without its accents, whichever the vocabulary has. Punctuation
    that is not in the vocabulary is silent. Anything else that is not in it becomes a star.

    Args:
        tokenizer: that of the model whose logits are aligned.
        width: number of columns of the logits; tokens with larger ids are ignored.

    Raises:
        InputError: the tokenizer's blank is not among these columns.
    """

    def __init__(self, tokenizer: Wav2Vec2CTCTokenizer, width: int) -> None:
        vocabulary = {token: index for token, index in tokenizer.get_vocab().items() if index < width}
        if tokenizer.pad_token not in vocabulary:
            raise InputError(
                f"pad_token={tokenizer.pad_token!r}, the CTC blank, has no column in logits of width {width}: use the "
                "tokenizer of the model"
            )
        self.blank = vocabulary[tokenizer.pad_token]
        self.delimiter = vocabulary.get(tokenizer.word_delimiter_token or "")
        special = {*tokenizer.all_special_tokens, tokenizer.word_delimiter_token}
        #: Tokens without text: the blank, and the special tokens that decoding omits.
        self.silent = sorted({vocabulary[token] for token in special & vocabulary.keys()} - {self.delimiter})
        self.tokens = {token: index for token, index in vocabulary.items() if token not in special and token.strip()}
        self._longest = max(map(len, self.tokens), default=1)

    def spell_line(self, line: str, *, whole: bool = False) -> list[WrittenWord]:
        """The words of a line. A word that is entirely silent joins the word before it, or the first word.

        whole: do not split text written without spaces; see ``unspaced.units``.
        """
        words: list[WrittenWord] = []
        waiting = ""
        for text in line.split():
            parts = self.spell(text)
            if parts:
                found = [WrittenWord(text, tuple(parts))] if whole else _parted(text, parts)
                words += [replace(found[0], text=waiting + found[0].text), *found[1:]]
                waiting = ""
            elif words:
                words[-1] = replace(words[-1], text=f"{words[-1].text} {text}")
            else:
                waiting += f"{text} "
        return words

    def spell(self, word: str) -> list[Spelled]:
        """The labels of a word without spaces; empty if it is all silent punctuation."""
        word = unicodedata.normalize("NFC", word)
        spelled: list[Spelled] = []
        position = last = 0  # last: start of the current part
        while position < len(word):
            found = self._longest_at(word, position) or Spelled(word[position], self._other(word[position]))
            start, position = position, position + len(found.text)
            if found.labels == (STAR,) and spelled and spelled[-1].labels == (STAR,):
                spelled[-1] = Spelled(word[last:position], (STAR,))
            elif found.labels:
                spelled.append(found)
                last = start
        return spelled

    def _longest_at(self, word: str, position: int) -> Spelled | None:
        for length in range(min(self._longest, len(word) - position), 0, -1):
            text = word[position : position + length]
            for form in (text, text.lower(), text.upper()):
                if form in self.tokens:
                    return Spelled(text, (self.tokens[form],))
        return None

    def _other(self, character: str) -> tuple[int, ...]:
        """Labels for a character that is not a token itself."""
        for form in _forms(character):
            if all(part in self.tokens for part in form):
                return tuple(self.tokens[part] for part in form)
        category = unicodedata.category(character)
        silent = category[0] in "PMCZ" or category in ("So", "Sk")
        return () if silent and character not in _SPOKEN else (STAR,)


def _forms(character: str) -> Iterator[str]:
    """Other spellings of a character, the closest first; none is empty."""
    plain = character.translate(_APOSTROPHES)
    parts = unicodedata.normalize("NFKD", plain)
    letters = "".join(part for part in parts if not unicodedata.combining(part))
    for form in (plain, unicodedata.normalize("NFKC", plain), parts, letters):
        yield from (cased for cased in (form, form.lower(), form.upper(), form.casefold()) if cased)


def _parted(text: str, parts: Sequence[Spelled]) -> list[WrittenWord]:
    """Split a word into its units; units stay together if they share a label or if one of them has no label."""
    pieces, composed = units(text), unicodedata.normalize("NFC", text)
    ends = list(accumulate(len(unicodedata.normalize("NFC", piece)) for piece in pieces))
    if ends[-1] != len(composed):  # units never compose with each other; if some did, keep the word whole
        return [WrittenWord(text, tuple(parts))]
    position, spans = 0, []
    for part in parts:
        position = composed.index(part.text, position)
        spans.append((position, position + len(part.text)))
        position += len(part.text)
    return [
        WrittenWord("".join(pieces[start:end]), tuple(parts[first:last]), joined=start > 0)
        for (start, end), (first, last) in grouped(ends, spans)
    ]
