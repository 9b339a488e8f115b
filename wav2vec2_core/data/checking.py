"""Checks, before training starts, which rows of a manifest a model can be trained on, and why not on the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from os import cpu_count
from typing import Any, Protocol

import numpy as np

from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.data.hearing import Heard, hear
from wav2vec2_core.data.manifest import Utterance
from wav2vec2_core.errors import AudioError, InputError

#: Reasons why a row is left out of training.
UNREADABLE, TOO_SHORT, TOO_LONG = "unreadable", "shorter than a frame", "longer than a micro-batch"
NO_TEXT, UNKNOWN_LETTERS, TOO_MUCH_TEXT = "no text", "unknown letters", "more text than frames"
NO_LABEL, UNKNOWN_LABEL, BAD_SEGMENTS = "no label", "unknown label", "segments without sense"
#: Reasons for which a row cannot even be scored.
UNSCORABLE = frozenset({UNREADABLE, TOO_SHORT, NO_TEXT, NO_LABEL, BAD_SEGMENTS})
#: What is odd about a row that is trained on all the same.
SILENCE, CLIPPING, LOW_RATE, DUPLICATE = "silence", "clipping", "low rate", "duplicates"
_SILENT = 1e-3  # the largest sample of a recording that counts as silence: -60 dB of full scale
_CLIPPED = 1e-3  # the largest share of samples at full scale that is usual
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
    """Why a row is left out, or what is odd about it: one of the reasons above, and what was found."""

    utterance: Utterance
    reason: str
    detail: str


class Checker(Protocol):
    """What a row must have besides sound."""

    def check(self, utterance: Utterance, samples: int) -> tuple[Row | None, Finding | None]:
        """The row, unless it cannot be scored, and why it cannot be trained on, if so."""
        ...


class Labels(Checker, Protocol):
    """What a task learns from its rows: see ``wav2vec2_core.data.labels``."""

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
    """The rows of the data.

    rows: those to train on; scorable: those to score; findings: why the others are not trained on; seconds: of
    ``rows``; warnings: what is odd about rows, whether they are trained on or not; rates: hertz -> how many recordings
    have that rate; durations: seconds of every recording that can be read.
    """

    rows: tuple[Row, ...]
    scorable: tuple[Row, ...]
    findings: tuple[Finding, ...]
    seconds: float
    warnings: tuple[Finding, ...] = ()
    rates: Mapping[int, int] = field(default_factory=dict)
    durations: tuple[float, ...] = ()

    @property
    def total(self) -> int:
        """How many rows there are."""
        return len(self.rows) + len(self.findings)

    @property
    def reasons(self) -> Counter[str]:
        """How many rows were left out for each reason."""
        return Counter(finding.reason for finding in self.findings)

    def lines(self, examples: int = 3) -> Iterator[str]:
        """A line for each reason with its number of rows, and one for each of the first ``examples`` of it."""
        yield from _by_reason(self.findings, examples)

    def to_dict(self) -> dict[str, Any]:
        """All of it, JSON-ready."""
        return {
            "rows": self.total,
            "usable": len(self.rows),
            "seconds": self.seconds,
            "reasons": dict(self.reasons),
            "warnings": dict(Counter(finding.reason for finding in self.warnings)),
            "rates": {str(rate): count for rate, count in self.rates.items()},
            "durations": [{"from": low, "to": high, "rows": count} for low, high, count in histogram(self.durations)],
            "findings": [
                {"row": name_of(item.utterance), "reason": item.reason, "detail": item.detail, "skipped": skipped}
                for skipped, found in ((True, self.findings), (False, self.warnings))
                for item in found
            ],
        }

    def warning_lines(self, examples: int = 3) -> Iterator[str]:
        """The same of the warnings."""
        yield from _by_reason(self.warnings, examples)


def _by_reason(findings: Sequence[Finding], examples: int) -> Iterator[str]:
    for reason, count in Counter(finding.reason for finding in findings).most_common():
        yield f"{reason}: {count} {'row' if count == 1 else 'rows'}"
        found = (finding for finding in findings if finding.reason == reason)
        yield from (f"  {name_of(item.utterance)}: {item.detail}" for item in islice(found, examples))


def name_of(utterance: Utterance) -> str:
    """The name of a row in messages: its file and position."""
    return f"{utterance.path}" + (f" at {utterance.offset:g} s" if utterance.offset else "")


def check_rows(
    utterances: Iterable[Utterance],
    labels: Checker,
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
    odd = _Oddities(sampling_rate)
    with ThreadPoolExecutor(cpu_count()) as threads:
        for group in _groups(utterances, _AT_A_TIME):
            heard = threads.map(lambda utterance: _hear(utterance, sampling_rate), group)
            for utterance, found in zip(group, heard, strict=True):
                if isinstance(found, Heard):
                    odd.look(utterance, found)
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
    return Checked(
        tuple(rows),
        tuple(scorable),
        tuple(findings),
        sum(row.samples for row in rows) / sampling_rate,
        tuple(odd.found),
        dict(odd.rates.most_common()),
        tuple(odd.durations),
    )


def _groups(utterances: Iterable[Utterance], size: int) -> Iterator[Sequence[Utterance]]:
    source = iter(utterances)
    while group := list(islice(source, size)):
        yield group


def _hear(utterance: Utterance, sampling_rate: int) -> Heard | AudioError:
    try:
        return hear(utterance, sampling_rate)
    except AudioError as error:
        return error


class _Oddities:
    """Collects what is odd about recordings, one after the other."""

    def __init__(self, sampling_rate: int) -> None:
        self.found: list[Finding] = []
        self.rates: Counter[int] = Counter()
        self.durations: list[float] = []
        self._rate = sampling_rate
        self._first: dict[bytes, Utterance] = {}  # digest of a sound -> the first row with it

    def look(self, utterance: Utterance, heard: Heard) -> None:
        """Take the next recording."""
        self.rates[heard.rate] += 1
        self.durations.append(heard.samples / self._rate)
        if not heard.samples:
            return  # a finding of its own
        if heard.peak < _SILENT:
            self._add(utterance, SILENCE, f"its largest sample is {heard.peak:.1g} of full scale")
        elif heard.clipped > _CLIPPED:
            self._add(utterance, CLIPPING, f"{heard.clipped:.1%} of its samples are at full scale")
        if heard.rate < self._rate:
            self._add(utterance, LOW_RATE, f"it has {heard.rate} Hz and the model hears {self._rate} Hz")
        if heard.digest not in self._first:
            self._first[heard.digest] = utterance
            return
        first = self._first[heard.digest]
        same = (first.path, first.offset) == (utterance.path, utterance.offset)
        other = "" if first.text == utterance.text else ", with another text"
        what = "it is named twice" if same else f"the same sound as {name_of(first)}"
        self._add(utterance, DUPLICATE, what + other)

    def _add(self, utterance: Utterance, reason: str, detail: str) -> None:
        self.found.append(Finding(utterance, reason, detail))


def _check(
    utterance: Utterance, heard: Heard | AudioError, labels: Checker, config: Wav2Vec2Config
) -> tuple[Row | None, Finding | None]:
    """The row, unless it cannot be scored, and what is wrong with it."""
    if isinstance(heard, AudioError):
        return None, Finding(utterance, UNREADABLE, str(heard))
    if config.num_frames(heard.samples) < 1:
        detail = f"it has {heard.samples} samples and a frame needs {config.receptive_field}"
        return None, Finding(utterance, TOO_SHORT, detail)
    return labels.check(utterance, heard.samples)


def _check_length(row: Row, longest_seconds: float, sampling_rate: int) -> Finding | None:
    seconds = row.samples / sampling_rate
    if seconds <= longest_seconds:
        return None
    return Finding(row.utterance, TOO_LONG, f"{seconds:.1f} s are over {longest_seconds:g} s: raise that or cut it")


def histogram(values: Sequence[float], most_bins: int = 12) -> list[tuple[float, float, int]]:
    """(low, high, count) of bins of one round width from 0 that hold all values; ``low`` belongs to a bin."""
    widths = (scale * 10.0**power for power in range(-3, 9) for scale in (1, 2, 5))
    width = next(width for width in widths if max(values, default=0.0) < most_bins * width)
    bins = Counter(int(value / width) for value in values)
    edges = [round(number * width, 3) for number in range(max(bins, default=-1) + 2)]
    return [(edges[number], edges[number + 1], bins[number]) for number in range(max(bins, default=-1) + 1)]


def check_not_empty(checked: Checked, manifest: object, rows: Sequence[Row]) -> None:
    """Refuse a manifest without usable rows. Raises ``InputError``."""
    if not rows:
        reasons = ", ".join(f"{reason} ({count})" for reason, count in checked.reasons.most_common())
        remedy = (
            "learn the letters of the texts by --vocabulary text, or " if UNKNOWN_LETTERS in checked.reasons else ""
        )
        examples = [f", such as {name_of(one.utterance)}: {one.detail:.100}" for one in checked.findings[:1]]
        raise InputError(
            f"no row of {manifest} can be used: {reasons}{''.join(examples)}; {remedy}see wav2vec2 data check"
        )
