"""Word and character error rates, counted by jiwer (extra ``train``), and how sure they are."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from wav2vec2_core.errors import BackendError, InputError

#: Resamples of a confidence interval, and its seed: the same data gives the same interval.
_RESAMPLES, _SEED = 1000, 0
_APOSTROPHES = frozenset("'’ʼ")


@dataclass(frozen=True)
class Errors:
    """How a hypothesis differs from a reference, in words or in characters; length: of the reference."""

    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0
    length: int = 0

    def __add__(self, other: Errors) -> Errors:
        return Errors(
            self.substitutions + other.substitutions,
            self.deletions + other.deletions,
            self.insertions + other.insertions,
            self.length + other.length,
        )

    @property
    def total(self) -> int:
        """All errors."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def rate(self) -> float | None:
        """Errors for each word or character of the reference; ``None`` where it is empty and there are errors."""
        if self.length == 0:
            return None if self.total else 0.0
        return self.total / self.length


def word_errors(reference: str, hypothesis: str) -> Errors:
    """Words are what stands between white space. Raises ``BackendError`` where jiwer is not installed."""
    return _errors(reference.split(), hypothesis.split(), characters=False)


def character_errors(reference: str, hypothesis: str) -> Errors:
    """Characters, single spaces between words among them. Raises ``BackendError`` where jiwer is not installed."""
    return _errors(reference.split(), hypothesis.split(), characters=True)


def _errors(reference: list[str], hypothesis: list[str], *, characters: bool) -> Errors:
    said, heard = " ".join(reference), " ".join(hypothesis)
    if not reference or not hypothesis:  # jiwer refuses some of these
        missing, spoken = (len(said), len(heard)) if characters else (len(reference), len(hypothesis))
        return Errors(deletions=missing, insertions=spoken, length=missing)
    try:
        import jiwer
    except ImportError as error:
        raise BackendError(
            'error rates need jiwer, which is not installed: pip install "wav2vec2-frameworks[train]"'
        ) from error
    counted = jiwer.process_characters(said, heard) if characters else jiwer.process_words(said, heard)
    length = counted.hits + counted.substitutions + counted.deletions
    return Errors(counted.substitutions, counted.deletions, counted.insertions, length)


def confidence_interval(errors: Sequence[Errors]) -> tuple[float, float] | None:
    """The middle 95 % of the error rates of resampled test sets; ``None`` where all references are empty."""
    counts = np.array([(item.total, item.length) for item in errors], np.int64).reshape(-1, 2)

    def rate(drawn: np.ndarray) -> float | None:
        wrong, length = drawn @ counts
        return wrong / length if length > 0 else None  # a test set of empty references has no rate

    return resampled_interval(len(counts), rate)


def resampled_interval(
    count: int, statistic: Callable[[np.ndarray], float | None], *, resamples: int = _RESAMPLES
) -> tuple[float, float] | None:
    """The middle 95 % of a statistic of resampled test sets: as many utterances, drawn with replacement.

    This is the bootstrap of Bisani and Ney (ICASSP 2004).

    Args:
        count: utterances.
        statistic: of a test set, given how often each utterance is in it, (count,) int64; ``None`` if it has none.
        resamples: test sets.

    Returns:
        The interval; ``None`` where no test set has a value.
    """
    generator = np.random.default_rng(_SEED)
    found: list[float] = []
    for _ in range(resamples if count else 0):
        value = statistic(np.bincount(generator.integers(0, count, count), minlength=count))
        if value is not None:
            found.append(value)
    if not found:
        return None
    low, high = np.quantile(found, [0.025, 0.975])
    return float(low), float(high)


def normalise(text: str, *, lower_case: bool = False, remove_punctuation: bool = False) -> str:
    """Text for comparison, with single spaces.

    Args:
        text: reference or hypothesis.
        lower_case: also fold the case.
        remove_punctuation: drop it, except apostrophes inside of words; dashes and slashes part words.

    Raises:
        InputError: ``text`` is no text.
    """
    if not isinstance(text, str):
        raise InputError(f"text {text!r:.100} is a {type(text).__name__}, a string is needed")
    text = unicodedata.normalize("NFC", text)
    if lower_case:
        text = text.lower()
    if remove_punctuation:
        text = "".join(_without_mark(text, i) for i in range(len(text)))
    return " ".join(text.split())


def _without_mark(text: str, position: int) -> str:
    character = text[position]
    if character in _APOSTROPHES:
        inside = 0 < position < len(text) - 1 and text[position - 1].isalnum() and text[position + 1].isalnum()
        return "'" if inside else ""
    category = unicodedata.category(character)
    if category == "Pd" or character in "/\\":
        return " "
    return "" if category.startswith("P") else character


def equal_error_rate(scores: np.ndarray, same: np.ndarray, weights: np.ndarray | None = None) -> float:
    """The error rate at the threshold where as large a share of equal pairs is refused as of others accepted.

    Args:
        scores: (pairs,), higher for pairs that are more alike.
        same: (pairs,) bool, whether the two are of one speaker.
        weights: (pairs,), how often each pair counts; once where left out.

    Raises:
        InputError: one of the two kinds of pairs is missing.
    """
    weights = np.ones(len(same)) if weights is None else weights
    equal, other = weights[same].sum(), weights[~same].sum()
    if equal == 0 or other == 0:
        raise InputError(
            f"{int(same.sum())} of {len(same)} pairs are of one speaker: an equal error rate needs both kinds, "
            "so at least two speakers with two recordings of one of them"
        )
    order = np.argsort(scores, kind="stable")
    refused = np.cumsum((weights * same)[order]) / equal  # with the threshold just above each score in turn
    accepted = 1 - np.cumsum((weights * ~same)[order]) / other
    at = int(np.argmin(np.abs(refused - accepted)))
    return float((refused[at] + accepted[at]) / 2)
