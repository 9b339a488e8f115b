"""Checks, before training starts, which rows of a manifest a model can be trained on, and why not on the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from os import cpu_count
from typing import Protocol

import numpy as np

from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.data.manifest import Utterance
from wav2vec2_core.errors import AudioError, InputError

#: Reasons why a row is left out of training.
UNREADABLE, TOO_SHORT, TOO_LONG = "unreadable", "shorter than a frame", "longer than a micro-batch"
NO_TEXT, UNKNOWN_LETTERS, TOO_MUCH_TEXT = "no text", "unknown letters", "more text than frames"
NO_LABEL, UNKNOWN_LABEL, BAD_SEGMENTS = "no label", "unknown label", "segments without sense"
#: Reasons for which a row cannot even be scored.
UNSCORABLE = frozenset({UNREADABLE, TOO_SHORT, NO_TEXT, NO_LABEL, BAD_SEGMENTS})
_AT_A_TIME = 256  # recordings queued for the reading threads


@dataclass(frozen=True)
class Row:
    """A row that was read.

    samples: at the model's rate; text: what is to be recognized: words with single spaces, a class, a speaker; labels:
    of it, as ``Labels`` numbers them; none where it can only be scored.
    """

    utterance: Utterance
    samples: int
    text: str
    labels: tuple[int, ...] = ()


@dataclass(frozen=True)
class Finding:
    """Why a row is left out: one of the reasons above, and what was found."""

    utterance: Utterance
    reason: str
    detail: str


class Labels(Protocol):
    """What a task learns from its rows: see ``wav2vec2_core.data.labels``."""

    def check(self, utterance: Utterance, samples: int) -> tuple[Row | None, Finding | None]:
        """The row, unless it cannot be scored, and why it cannot be trained on, if so."""
        ...

    def count(self, row: Row) -> int:
        """What the row adds to the number that a sum of losses is divided by."""
        ...

    def array(self, rows: Sequence[Row], frames: int, *, few_shapes: bool) -> np.ndarray:
        """``labels`` of a micro-batch as ``wav2vec2_core.training.steps.Batch`` has them.

        Args:
            rows: of the micro-batch.
            frames: of its longest row with its padding.
            few_shapes: pad to a few lengths.
        """
        ...


@dataclass(frozen=True)
class Checked:
    """The rows of a manifest. rows: those to train on; scorable: those to score; seconds: of ``rows``."""

    rows: tuple[Row, ...]
    scorable: tuple[Row, ...]
    findings: tuple[Finding, ...]
    seconds: float

    @property
    def reasons(self) -> Counter[str]:
        """How many rows were left out for each reason."""
        return Counter(finding.reason for finding in self.findings)

    def lines(self, examples: int = 3) -> Iterator[str]:
        """A line for each reason with its number of rows, and one for each of the first ``examples`` of it."""
        for reason, count in self.reasons.most_common():
            yield f"{reason}: {count} {'row' if count == 1 else 'rows'}"
            found = (finding for finding in self.findings if finding.reason == reason)
            yield from (f"  {name_of(item.utterance)}: {item.detail}" for item in islice(found, examples))


def name_of(utterance: Utterance) -> str:
    """The name of a row in messages: its file and position."""
    return f"{utterance.path}" + (f" at {utterance.offset:g} s" if utterance.offset else "")


def check_rows(
    utterances: Iterable[Utterance],
    labels: Labels,
    config: Wav2Vec2Config,
    sampling_rate: int,
    *,
    longest_seconds: float | None = None,
    progress: Callable[[int], None] | None = None,
) -> Checked:
    """Read every recording and find what is to be learned from it.

    Args:
        utterances: of a manifest.
        labels: of the task.
        config: of the model to be trained.
        sampling_rate: of its feature extractor, in hertz.
        longest_seconds: longer rows are left out, where given.
        progress: called with the number of rows checked since the last call.
    """
    rows: list[Row] = []
    scorable: list[Row] = []
    findings: list[Finding] = []
    with ThreadPoolExecutor(cpu_count()) as threads:
        for group in _groups(utterances, _AT_A_TIME):
            lengths = threads.map(lambda utterance: _read(utterance, sampling_rate), group)
            for utterance, found in zip(group, lengths, strict=True):
                row, finding = _check(utterance, found, labels, config)
                if row is not None and finding is None and longest_seconds is not None:
                    finding = _check_length(row, longest_seconds, sampling_rate)
                if row is not None and (finding is None or finding.reason not in UNSCORABLE):
                    scorable.append(row)
                if row is not None and finding is None:
                    rows.append(row)
                if finding is not None:
                    findings.append(finding)
                if progress is not None:
                    progress(1)
    return Checked(tuple(rows), tuple(scorable), tuple(findings), sum(row.samples for row in rows) / sampling_rate)


def _groups(utterances: Iterable[Utterance], size: int) -> Iterator[Sequence[Utterance]]:
    source = iter(utterances)
    while group := list(islice(source, size)):
        yield group


def _read(utterance: Utterance, sampling_rate: int) -> int | AudioError:
    """Samples of a row, all of them decoded, or why they cannot be."""
    try:
        return sum(len(block) for block in utterance.recording(sampling_rate=sampling_rate))
    except AudioError as error:
        return error


def _check(
    utterance: Utterance, samples: int | AudioError, labels: Labels, config: Wav2Vec2Config
) -> tuple[Row | None, Finding | None]:
    """The row, unless it cannot be scored, and what is wrong with it."""
    if isinstance(samples, AudioError):
        return None, Finding(utterance, UNREADABLE, str(samples))
    if config.num_frames(samples) < 1:
        detail = f"it has {samples} samples and a frame needs {config.receptive_field}"
        return None, Finding(utterance, TOO_SHORT, detail)
    return labels.check(utterance, samples)


def _check_length(row: Row, longest_seconds: float, sampling_rate: int) -> Finding | None:
    seconds = row.samples / sampling_rate
    if seconds <= longest_seconds:
        return None
    return Finding(row.utterance, TOO_LONG, f"{seconds:.1f} s are over {longest_seconds:g} s: raise that or cut it")


def check_not_empty(checked: Checked, manifest: object, rows: Sequence[Row]) -> None:
    """Refuse a manifest without usable rows. Raises ``InputError``."""
    if not rows:
        reasons = ", ".join(f"{reason} ({count})" for reason, count in checked.reasons.most_common())
        raise InputError(f"no row of {manifest} can be used: {reasons}; see wav2vec2 data check")
