"""A vocabulary from texts: the letters that occur in them, in a fixed order, and what a user should look at."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from wav2vec2_core.errors import InputError, brief
from wav2vec2_core.metrics import normalise

#: What may happen to the case of a text before anything else is done with it.
CASES: dict[str, Callable[[str], str]] = {"keep": str, "lower": str.lower, "upper": str.upper}
#: Special tokens in the order of released vocabularies; the blank is the first.
SPECIAL = ("<pad>", "<s>", "</s>", "<unk>")
DELIMITER = "|"

_EXAMPLES, _AROUND = 2, 15  # texts shown for a rare letter, and their characters on either side of it
_MOST = 12  # letters in a line of the report, or lines for rare ones
#: What a report points out: name, Unicode categories, remedy.
_KINDS = (
    ("punctuation", ("P",), "take it out of the texts unless the model should write it"),
    ("digits", ("N",), "write numbers as words unless every digit is spoken by itself"),
    ("symbols", ("S",), "take them out of the texts or write them as words"),
    ("invisible characters", ("C",), "take them out of the texts unless the script needs them"),
)


def spelt(text: str, case: str = "keep") -> str:
    """A text as a model learns it and is measured by it: composed (NFC), in one case, with single spaces.

    Args:
        text: of a manifest.
        case: ``"keep"``, ``"lower"`` or ``"upper"``.

    Raises:
        InputError: ``text`` is no text, or ``case`` is unknown.
    """
    if case not in CASES:
        raise InputError(f"case={brief(case)} is unknown: use one of {', '.join(CASES)}")
    if not isinstance(text, str):
        raise InputError(f"text {brief(text)} is a {type(text).__name__}, a string is needed")
    return normalise(CASES[case](unicodedata.normalize("NFC", text)))


@dataclass(frozen=True)
class TextVocabulary:
    """The vocabulary of texts.

    tokens: token -> id, special tokens first, then the letters by their code points; counts: letter -> how often it
    occurs, in the same order; examples: letter -> the first texts with it, cut; texts: how many there are;
    with_delimiter: how many of them hold the delimiter, which is no letter.
    """

    tokens: dict[str, int]
    counts: dict[str, int]
    examples: dict[str, tuple[str, ...]]
    texts: int
    with_delimiter: int

    def rare(self, below: int = 10) -> dict[str, int]:
        """Letters that occur less than ``below`` times, the rarest first: often misspellings and foreign names."""
        found = sorted(self.counts.items(), key=lambda item: item[1])
        return {letter: count for letter, count in found if count < below}

    def lines(self, rare_below: int = 10) -> Iterator[str]:
        """A report: how many letters there are, and which of them are worth a look before a model learns them."""
        yield f"{len(self.counts)} letters in {self.texts} texts"
        for name, categories, remedy in _KINDS:
            found = {
                c: self.counts[c] for c in self.counts if unicodedata.category(c).startswith(categories) and c != "'"
            }
            if found:
                yield f"{name} among the letters: {_listed(found)}; {remedy}"
        both = {c: count for c, count in self.counts.items() if c.lower() != c and c.lower() in self.counts}
        if both:
            yield f"small letters and capitals are learned apart: {_listed(both)}; change the case of the texts if not"
        if self.with_delimiter:
            yield f"{DELIMITER!r} is read as a space, {self.with_delimiter} texts hold it"
        rare = self.rare(rare_below)
        for letter, count in list(rare.items())[:_MOST]:
            yield f"seen {count} times: {_shown(letter)} in {', '.join(map(repr, self.examples[letter]))}"
        if len(rare) > _MOST:
            yield f"seen under {rare_below} times: {len(rare) - _MOST} more letters"


def build_vocabulary(
    texts: Iterable[str], *, case: str = "keep", special: Sequence[str] = SPECIAL, delimiter: str = DELIMITER
) -> TextVocabulary:
    """Collect the letters of texts. The same letters give the same vocabulary, in whatever order the texts are.

    Args:
        texts: as they are; each is changed by ``spelt`` first, as training and scoring do.
        case: see ``spelt``.
        special: tokens before the letters, the blank first.
        delimiter: the token that stands for the space.

    Raises:
        InputError: the texts have no letter, one is no text or holds half of a character, or ``case`` is unknown.
    """
    counts: Counter[str] = Counter()
    examples: dict[str, tuple[str, ...]] = {}
    number = with_delimiter = 0
    for original in texts:
        number += 1
        text = spelt(original, case)
        letters = Counter(text)
        del letters[" "]
        with_delimiter += delimiter in letters
        del letters[delimiter]
        counts.update(letters)
        for letter in letters:
            if len(examples.get(letter, ())) < _EXAMPLES:
                examples[letter] = (*examples.get(letter, ()), _cut(text, text.index(letter)))
    half = next((letter for letter in counts if unicodedata.category(letter) == "Cs"), None)
    if half is not None:
        raise InputError(f"text {brief(examples[half][0])} holds half a character, {half!r}: write it as UTF-8 again")
    if not counts:
        raise InputError(f"{number} texts have no letter: a vocabulary is made of the texts that a model should learn")
    letters = sorted(counts)
    tokens = dict.fromkeys((*special, delimiter, *letters))
    return TextVocabulary(
        {token: index for index, token in enumerate(tokens)},
        {letter: counts[letter] for letter in letters},
        examples,
        number,
        with_delimiter,
    )


def _cut(text: str, position: int) -> str:
    return text[max(position - _AROUND, 0) : position + _AROUND + 1]


def _listed(counts: dict[str, int]) -> str:
    """Letters and how often they occur, the most frequent first, cut."""
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    shown = ", ".join(f"{_shown(letter)} ({count})" for letter, count in ordered[:_MOST])
    return shown + (f" and {len(ordered) - _MOST} more" if len(ordered) > _MOST else "")


def _shown(letter: str) -> str:
    """A letter for a message: its code point and name where it cannot be seen by itself."""
    if unicodedata.category(letter)[0] in "CM":
        return f"U+{ord(letter):04X} {unicodedata.name(letter, '')}".strip()
    return letter
