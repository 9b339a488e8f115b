"""Written words as labels of a vocabulary, for alignment: letters that it has, a star for what it cannot spell."""

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

#: Stands for whatever is spoken where the text has digits or letters that the vocabulary lacks.
STAR = -1
_APOSTROPHES = dict.fromkeys(map(ord, "’‘ʼʻ＇`´′"), "'")
_SPOKEN = frozenset("*%&@#§°№")  # punctuation by its category, but read aloud; * is the star itself


@dataclass(frozen=True)
class Spelled:
    """A stretch of a word, usually a letter, and its labels: ids of the vocabulary, or one ``STAR``."""

    text: str
    labels: tuple[int, ...]


@dataclass(frozen=True)
class WrittenWord:
    """A word as it is written, with the marks around it; its parts, at least one, are what is spoken of it.

    joined: no space parts it from the word before.
    """

    text: str
    parts: tuple[Spelled, ...]
    joined: bool = False


class TextSpeller:
    """Spells words with the tokens of one vocabulary.

    Letters are taken as they are, or in the other case, or without their accents, whichever the vocabulary has.
    Punctuation that it lacks is silent. Everything else that it lacks becomes a star.

    Args:
        tokenizer: of the model whose logits are aligned.
        width: number of columns of the logits; tokens beyond have none.

    Raises:
        InputError: the tokenizer has no blank among these columns.
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
        #: Tokens that say nothing: the blank, and special ones that decoding leaves out.
        self.silent = sorted({vocabulary[token] for token in special & vocabulary.keys()} - {self.delimiter})
        self.tokens = {token: index for token, index in vocabulary.items() if token not in special and token.strip()}
        self._longest = max(map(len, self.tokens), default=1)

    def spell_line(self, line: str, *, whole: bool = False) -> list[WrittenWord]:
        """The words of a text. What is silent as a whole joins the word before it, or the first word.

        whole: do not part what is written without spaces; see ``unspaced.units``.
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
        """The labels of a word without spaces; empty where it is all silent punctuation."""
        word = unicodedata.normalize("NFC", word)
        spelled: list[Spelled] = []
        position = last = 0  # last: where the last stretch began
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
        """Labels of a character that is no token."""
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
    """A word as its units; those stay together that share a label, or of which one has none."""
    pieces, composed = units(text), unicodedata.normalize("NFC", text)
    ends = list(accumulate(len(unicodedata.normalize("NFC", piece)) for piece in pieces))
    if ends[-1] != len(composed):  # no two units compose; should they, nothing is lost
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
