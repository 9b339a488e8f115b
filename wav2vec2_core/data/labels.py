"""What is learned from the rows of a manifest: texts, classes, speakers, or classes of stretches of time."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.data.bucketing import next_width
from wav2vec2_core.data.checking import (
    BAD_SEGMENTS,
    NO_LABEL,
    NO_TEXT,
    TOO_MUCH_TEXT,
    TOO_SHORT,
    UNKNOWN_LABEL,
    UNKNOWN_LETTERS,
    Finding,
    Row,
)
from wav2vec2_core.data.manifest import Utterance
from wav2vec2_core.decoding.timeline import Timeline
from wav2vec2_core.errors import InputError, brief, listed
from wav2vec2_core.tokenization import Wav2Vec2CTCTokenizer
from wav2vec2_core.tokenization.building import spelt

#: Marks labels that do not count: of padding, and of rows that fill up a batch.
_NONE = -100


class TextLabels:
    """The letters of texts, for CTC."""

    def __init__(self, tokenizer: Wav2Vec2CTCTokenizer, config: Wav2Vec2Config, case: str = "keep") -> None:
        """``case``: of the texts, see ``spelt``; lower where that is what the tokenizer writes."""
        self.tokenizer, self.config = tokenizer, config
        self.case = "lower" if tokenizer.do_lower_case else case

    def check(self, utterance: Utterance, samples: int) -> tuple[Row | None, Finding | None]:
        """The row, unless it has no text, and why its text cannot be learned, if so."""
        text = spelt(utterance.text or "", self.case)
        if not text:
            return None, Finding(utterance, NO_TEXT, "the manifest has no text for it, or an empty one")
        row, frames = Row(utterance, samples, text), self.config.num_frames(samples)
        unknown = self._unknown_letters(text)
        if unknown:
            return row, Finding(utterance, UNKNOWN_LETTERS, f"{unknown} in {text[:60]!r:.100}")
        labels = tuple(self.tokenizer(text)["input_ids"])
        self._check_largest(max(labels))
        repeats = sum(left == right for left, right in pairwise(labels))
        if len(labels) + repeats > frames:
            detail = f"{len(labels)} letters and {repeats} blanks between equal ones do not fit into {frames} frames"
            return row, Finding(utterance, TOO_MUCH_TEXT, detail)
        return Row(utterance, samples, text, labels), None

    def count(self, row: Row) -> int:
        """1: losses of utterances are divided by their letters."""
        return 1

    def array(self, rows: Sequence[Row], frames: int, *, few_shapes: bool) -> np.ndarray:
        """(rows, letters) int32, -100 after the last letter."""
        longest = max(len(row.labels) for row in rows)
        labels = np.full((len(rows), next_width(longest) if few_shapes else longest), _NONE, np.int32)
        for filled, row in zip(labels, rows, strict=True):
            filled[: len(row.labels)] = row.labels
        return labels

    def _check_largest(self, label: int) -> None:
        if label >= self.config.vocab_size:  # tokens that no text has, such as <s>, may lie beyond the head
            letter = self.tokenizer.convert_ids_to_tokens(label)
            raise InputError(
                f"the vocabulary numbers {letter!r} as {label} and the model's head has {self.config.vocab_size} "
                "outputs: use the vocabulary that the model was trained with"
            )

    def _unknown_letters(self, text: str) -> str:
        """The letters of a text that are not in the vocabulary; empty if all are."""
        known = self.tokenizer.get_vocab()
        unknown = sorted({token for token in self.tokenizer.tokenize(text) if token not in known})
        if not unknown:
            return ""
        shown = " ".join(unknown[:8]) + (" ..." if len(unknown) > 8 else "")
        for name, other in (("lower", text.lower()), ("upper", text.upper())):
            if all(token in known for token in self.tokenizer.tokenize(other)):
                return f"{shown} (the vocabulary is in {name} case: use --case {name})"
        return shown


class ClassLabels:
    """A class for each row, from a column of the manifest: a keyword, an emotion, a speaker."""

    def __init__(self, names: Sequence[str], column: str, config: Wav2Vec2Config, *, fewest_frames: int = 1) -> None:
        """``fewest_frames``: below which the head has no result."""
        self.names, self.column, self.config, self.fewest_frames = tuple(names), column, config, fewest_frames
        self._numbers = {name: number for number, name in enumerate(names)}

    def check(self, utterance: Utterance, samples: int) -> tuple[Row | None, Finding | None]:
        """The row, unless it has no label; one with a label of which training had none can be scored."""
        name = class_of(utterance, self.column)
        if not name:
            return None, Finding(utterance, NO_LABEL, f"it has no {self.column!r:.100}, or an empty one")
        frames = self.config.num_frames(samples)
        if frames < self.fewest_frames:
            detail = f"it has {frames} frames and this head needs {self.fewest_frames}"
            return None, Finding(utterance, TOO_SHORT, detail)
        if name not in self._numbers:
            detail = f"{name[:60]!r} is none of {listed(self.names)}"
            return Row(utterance, samples, name), Finding(utterance, UNKNOWN_LABEL, detail)
        return Row(utterance, samples, name, (self._numbers[name],)), None

    def count(self, row: Row) -> int:
        """1 for a row with a label."""
        return len(row.labels)

    def array(self, rows: Sequence[Row], frames: int, *, few_shapes: bool) -> np.ndarray:
        """(rows,) int32, -100 for rows without a label."""
        return np.asarray([row.labels[0] if row.labels else _NONE for row in rows], np.int32)


class FrameLabels:
    """A class for every frame, from stretches of time with labels.

    The column holds a list, or a text with one in JSON, of ``[start, end, label]`` or
    ``{"start": ..., "end": ..., "label": ...}``, in seconds from the start of the row.
    """

    def __init__(self, names: Sequence[str], column: str, rest: str | None, config: Wav2Vec2Config, rate: int) -> None:
        """``rest``: the class of frames in no stretch; where None they do not count. ``rate``: samples per second."""
        self.names, self.column, self.rest, self.config, self.rate = tuple(names), column, rest, config, rate
        self._numbers = {name: number for number, name in enumerate(names)}

    def check(self, utterance: Utterance, samples: int) -> tuple[Row | None, Finding | None]:
        """The row, with a class for each frame: that of the last stretch that holds the frame's middle."""
        try:
            segments = segments_of(utterance, self.column)
        except InputError as error:
            return None, Finding(utterance, BAD_SEGMENTS, str(error))
        if not segments and self.rest is None:
            return None, Finding(utterance, NO_LABEL, f"it has no stretches in {self.column!r:.100}")
        unknown = sorted({label for _, _, label in segments} - self._numbers.keys())
        if unknown:
            detail = f"{listed(unknown)} not among {listed(self.names)}"
            return None, Finding(utterance, UNKNOWN_LABEL, detail)
        frames = self.config.num_frames(samples)
        timeline = Timeline.of(self.config, self.rate)
        middles = (np.arange(frames) * timeline.hop + timeline.receptive_field / 2) / self.rate
        labels = np.full(frames, -1 if self.rest is None else self._numbers[self.rest])
        for start, end, label in segments:
            labels[(middles >= start) & (middles < end)] = self._numbers[label]
        if (labels < 0).all():
            return None, Finding(utterance, NO_LABEL, "none of its frames lies in a stretch with a label")
        return Row(utterance, samples, "", tuple(labels.tolist())), None

    def count(self, row: Row) -> int:
        """Frames with a class."""
        return sum(label >= 0 for label in row.labels)

    def array(self, rows: Sequence[Row], frames: int, *, few_shapes: bool) -> np.ndarray:
        """(rows, frames, classes) int32, one-hot, -100 for frames without a class."""
        labels = np.full((len(rows), frames, len(self.names)), _NONE, np.int32)
        for filled, row in zip(labels, rows, strict=True):
            numbers = np.asarray(row.labels)
            one_hot = np.eye(len(self.names), dtype=np.int32)[numbers]
            filled[: len(numbers)] = np.where(numbers[:, None] >= 0, one_hot, _NONE)
        return labels


def class_of(utterance: Utterance, column: str) -> str:
    """The label of a row; empty if it has none. A column of texts may hold classes too."""
    return _class(utterance.columns.get(column, utterance.text if column == "text" else None))


def _class(value: object) -> str:
    return "" if value is None else " ".join(str(value).split())


def segments_of(utterance: Utterance, column: str) -> list[tuple[float, float, str]]:
    """Stretches of time with their labels: (start, end, label), in seconds. Raises ``InputError``."""
    value = utterance.columns.get(column)
    if isinstance(value, str):
        try:
            value = json.loads(value) if value.strip() else None
        except ValueError as error:
            raise InputError(
                f"{column}={brief(value)} is not JSON ({error}): write [[start, end, label], ...]"
            ) from error
    if value is None:
        return []
    if not isinstance(value, list):
        raise InputError(f"{column}={brief(value)} is no list: write [[start, end, label], ...]")
    return list(_segments(value, column))


def _segments(entries: Sequence[Any], column: str) -> Iterator[tuple[float, float, str]]:
    for entry in entries:
        parts: Any = [entry.get(key) for key in ("start", "end", "label")] if isinstance(entry, Mapping) else entry
        try:
            start, end, label = float(parts[0]), float(parts[1]), _class(parts[2])
        except (TypeError, ValueError, IndexError) as error:
            raise InputError(f"{column} has {brief(entry)}: write [start, end, label] in seconds") from error
        if not 0 <= start < end or not label:
            raise InputError(f"{column} has {brief(entry)}: it must start at 0 or later, end after that, have a label")
        yield start, end, label
