"""Evaluation: hypotheses for a manifest, scored against its texts."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from wav2vec2_core.data.manifest import Utterance, read_manifest
from wav2vec2_core.errors import InputError
from wav2vec2_core.metrics import Errors, character_errors, confidence_interval, normalise, word_errors
from wav2vec2_core.pipeline import Progress
from wav2vec2_core.transcription import Result, Transcriber


@dataclass(frozen=True)
class Scored:
    """An utterance with its normalised texts and their differences."""

    utterance: Utterance
    reference: str
    hypothesis: str
    words: Errors
    characters: Errors

    def to_dict(self) -> dict[str, Any]:
        """A row of the table."""
        return {
            "path": str(self.utterance.path),
            "offset": self.utterance.offset,
            "duration": self.utterance.duration,
            "wer": self.words.rate,
            "cer": self.characters.rate,
            "substitutions": self.words.substitutions,
            "deletions": self.words.deletions,
            "insertions": self.words.insertions,
            "words": self.words.length,
            "reference": self.reference,
            "hypothesis": self.hypothesis,
        }


@dataclass(frozen=True)
class Evaluation:
    """Scores of a test set; there is at least one. failed: utterances without a hypothesis."""

    scored: tuple[Scored, ...]
    failed: int = 0

    @cached_property
    def words(self) -> Errors:
        """Word errors of all utterances together."""
        return sum((item.words for item in self.scored), Errors())

    @cached_property
    def characters(self) -> Errors:
        """Character errors of all utterances together."""
        return sum((item.characters for item in self.scored), Errors())

    @cached_property
    def word_interval(self) -> tuple[float, float] | None:
        """95 % confidence interval of the word error rate."""
        return confidence_interval([item.words for item in self.scored])

    @cached_property
    def character_interval(self) -> tuple[float, float] | None:
        """95 % confidence interval of the character error rate."""
        return confidence_interval([item.characters for item in self.scored])

    def worst(self, count: int) -> list[Scored]:
        """The utterances with the highest word error rates that have errors."""
        wrong = [item for item in self.scored if item.words.total]
        infinite = float("inf")
        return sorted(
            wrong,
            key=lambda item: (infinite if item.words.rate is None else item.words.rate, item.words.total),
            reverse=True,
        )[:count]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: rates between 0 and 1 (or more), counts, and the rows of all utterances."""
        return {
            "utterances": len(self.scored),
            "failed": self.failed,
            "wer": self.words.rate,
            "wer_interval": self.word_interval,
            "cer": self.characters.rate,
            "cer_interval": self.character_interval,
            "words": self.words.length,
            "substitutions": self.words.substitutions,
            "deletions": self.words.deletions,
            "insertions": self.words.insertions,
            "rows": [item.to_dict() for item in self.scored],
        }

    def to_tsv(self) -> str:
        """The rows of all utterances, with names of columns; white space in texts and paths is single spaces."""
        rows = [item.to_dict() for item in self.scored]
        table = [list(rows[0]), *(list(row.values()) for row in rows)]
        return "".join("\t".join(" ".join(_cell(value).split()) for value in row) + "\n" for row in table)


def _cell(value: Any) -> str:
    return "" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value)


def score(
    utterances: Iterable[tuple[Utterance, str | None]], *, lower_case: bool = False, remove_punctuation: bool = False
) -> Evaluation:
    """Compare hypotheses with the texts of their utterances.

    Args:
        utterances: with their hypotheses; ``None`` where there is none, which counts as failed.
        lower_case, remove_punctuation: see ``metrics.normalise``; for both texts.

    Raises:
        InputError: an utterance has no text, or no utterance has a hypothesis.
        BackendError: jiwer is not installed.
    """
    scored: list[Scored] = []
    failed = 0
    for utterance, hypothesis in utterances:
        if utterance.text is None:
            raise InputError(f"the manifest has no text for {utterance.path}: add what is said in it")
        if hypothesis is None:
            failed += 1
            continue
        reference, hypothesis = (
            normalise(text, lower_case=lower_case, remove_punctuation=remove_punctuation)
            for text in (utterance.text, hypothesis)
        )
        words, characters = word_errors(reference, hypothesis), character_errors(reference, hypothesis)
        scored.append(Scored(utterance, reference, hypothesis, words, characters))
    if not scored:
        raise InputError(f"none of {failed} utterances has a hypothesis: nothing to score")
    return Evaluation(tuple(scored), failed)


def transcribe_utterances(
    transcriber: Transcriber, utterances: Sequence[Utterance], *, progress: Progress | None = None, **reading: Any
) -> Iterator[Result]:
    """A result for each utterance in order; times count from the start of its recording.

    Args:
        transcriber: model and decoder.
        utterances: of a manifest.
        progress: as ``Transcriber.transcribe_all`` takes it.
        reading: as ``Utterance.recording`` takes it.
    """
    openings = (partial(utterance.recording, **reading) for utterance in utterances)
    results = transcriber.transcribe_all(openings, progress=progress)
    for utterance, result in zip(utterances, results, strict=True):
        yield replace(result, path=utterance.path, name=str(utterance.path))


def read_hypotheses(path: str | os.PathLike[str], utterances: Sequence[Utterance]) -> list[str]:
    """Hypotheses of ``utterances`` from a file: a manifest with their paths and texts, or lines of text in their order.

    Raises:
        InputError: the file cannot be read, or does not have one text for each utterance.
    """
    path = Path(path)
    if path.suffix.lower() == ".txt":
        try:
            lines = path.read_text(encoding="utf-8-sig").removesuffix("\n").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"hypotheses {path} cannot be read as UTF-8 text ({error}): check the path") from error
        if len(lines) != len(utterances):
            raise InputError(f"{path} has {len(lines)} lines, the manifest {len(utterances)} utterances: give one each")
        return lines
    texts = {(item.path, item.offset): item.text for item in read_manifest(path)}
    found = [texts.get((utterance.path, utterance.offset)) for utterance in utterances]
    if None in found:
        missing = utterances[found.index(None)]
        raise InputError(f"{path} has no text for {missing.path} ({found.count(None)} such utterances): add it")
    return [text for text in found if text is not None]
