"""Checks, before training starts, which rows of a manifest a CTC model can be trained on, and why not on the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice, pairwise
from os import cpu_count

from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.data.manifest import Utterance
from wav2vec2_core.errors import AudioError, InputError
from wav2vec2_core.metrics import normalise
from wav2vec2_core.tokenization import Wav2Vec2CTCTokenizer

#: Reasons why a row is left out of training.
UNREADABLE, NO_TEXT, TOO_SHORT = "unreadable", "no text", "shorter than a frame"
UNKNOWN_LETTERS, TOO_MUCH_TEXT, TOO_LONG = "unknown letters", "more text than frames", "longer than a micro-batch"
#: Reasons for which a row cannot even be scored.
UNSCORABLE = frozenset({UNREADABLE, NO_TEXT, TOO_SHORT})
_AT_A_TIME = 256  # recordings queued for the reading threads


@dataclass(frozen=True)
class Row:
    """A row that was read: samples at the model's rate; text with single spaces; labels of it, none where unusable."""

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
    tokenizer: Wav2Vec2CTCTokenizer,
    config: Wav2Vec2Config,
    sampling_rate: int,
    *,
    longest_seconds: float | None = None,
    progress: Callable[[int], None] | None = None,
) -> Checked:
    """Read every recording and encode every text.

    Args:
        utterances: of a manifest.
        tokenizer, config: of the model to be trained.
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
                row, finding = _check(utterance, found, tokenizer, config)
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
    utterance: Utterance, samples: int | AudioError, tokenizer: Wav2Vec2CTCTokenizer, config: Wav2Vec2Config
) -> tuple[Row | None, Finding | None]:
    """The row, unless it cannot be scored, and what is wrong with it."""
    text = normalise(utterance.text or "")
    if isinstance(samples, AudioError):
        return None, Finding(utterance, UNREADABLE, str(samples))
    if not text:
        return None, Finding(utterance, NO_TEXT, "the manifest has no text for it, or an empty one")
    frames = config.num_frames(samples)
    if frames < 1:
        detail = f"it has {samples} samples and a frame needs {config.receptive_field}"
        return None, Finding(utterance, TOO_SHORT, detail)
    row = Row(utterance, samples, text)
    unknown = _unknown_letters(text, tokenizer)
    if unknown:
        return row, Finding(utterance, UNKNOWN_LETTERS, f"{unknown} in {text[:60]!r:.100}")
    labels = tuple(tokenizer(text)["input_ids"])
    repeats = sum(left == right for left, right in pairwise(labels))
    if len(labels) + repeats > frames:
        detail = f"{len(labels)} letters and {repeats} blanks between equal ones do not fit into {frames} frames"
        return row, Finding(utterance, TOO_MUCH_TEXT, detail)
    return Row(utterance, samples, text, labels), None


def _check_length(row: Row, longest_seconds: float, sampling_rate: int) -> Finding | None:
    seconds = row.samples / sampling_rate
    if seconds <= longest_seconds:
        return None
    return Finding(row.utterance, TOO_LONG, f"{seconds:.1f} s are over {longest_seconds:g} s: raise that or cut it")


def _unknown_letters(text: str, tokenizer: Wav2Vec2CTCTokenizer) -> str:
    """The letters of a text that are not in the vocabulary; empty if all are."""
    known = tokenizer.get_vocab()
    unknown = sorted({token for token in tokenizer.tokenize(text) if token not in known})
    if not unknown:
        return ""
    shown = " ".join(unknown[:8]) + (" ..." if len(unknown) > 8 else "")
    for name, other in (("lower", text.lower()), ("upper", text.upper())):
        if all(token in known for token in tokenizer.tokenize(other)):
            return f"{shown} (the vocabulary is in {name} case)"
    return shown


def check_not_empty(checked: Checked, manifest: object, rows: Sequence[Row]) -> None:
    """Refuse a manifest without usable rows. Raises ``InputError``."""
    if not rows:
        reasons = ", ".join(f"{reason} ({count})" for reason, count in checked.reasons.most_common())
        raise InputError(f"no row of {manifest} can be used: {reasons}; see wav2vec2 data check")
