"""Recordings whose channels are speakers of their own: interviews with a microphone for each, telephone calls."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from copy import copy
from dataclasses import replace
from functools import partial
from itertools import islice

from wav2vec2_core.audio import Recording
from wav2vec2_core.pipeline import Audio, Progress
from wav2vec2_core.transcription import Result, Transcriber, Transcript


def transcribe_channels(
    transcriber: Transcriber,
    recordings: Iterable[Audio | Callable[[], Audio]],
    *,
    jobs: int = 1,
    progress: Progress | None = None,
) -> Iterator[Result]:
    """Transcribe every channel by itself: a result for each recording, whose transcript tells ``speakers`` apart.

    Args:
        transcriber: model and decoder.
        recordings, jobs, progress: as ``Transcriber.transcribe_all`` takes them.
    """
    counts: deque[int] = deque()

    def channels() -> Iterator[Callable[[], Audio]]:
        for audio in recordings:
            try:
                parts = split_channels(transcriber.open(audio() if callable(audio) else audio))
            except Exception as error:
                counts.append(1)
                yield partial(_refuse, error)
                continue
            counts.append(len(parts))
            for part in parts:
                yield partial(transcriber.open, part)

    results = transcriber.transcribe_all(channels(), jobs=jobs, progress=progress)
    for first in results:
        yield _together([first, *islice(results, counts.popleft() - 1)])


def split_channels(recording: Recording) -> list[Recording]:
    """Every channel as a recording of its own. Raises ``AudioError``."""
    parts = [copy(recording) for _ in range(recording.channels)]
    for number, part in enumerate(parts):
        part.channel = number
    return parts


def speaker_names(count: int) -> list[str]:
    """What speakers are called: ``left`` and ``right`` where there are two channels, else ``0``, ``1`` and so on."""
    return ["left", "right"] if count == 2 else [str(number) for number in range(count)]


def _refuse(error: Exception) -> Recording:
    raise error


def _together(results: list[Result]) -> Result:
    """The result for a recording from those of its channels: an error of one is an error of all."""
    notes = tuple(dict.fromkeys(note for result in results for note in result.notes))
    failed = next((result for result in results if result.transcript is None), None)
    if failed is not None:
        return replace(failed, notes=notes)
    transcripts = [result.unwrap() for result in results]
    speakers = dict(zip(speaker_names(len(transcripts)), transcripts, strict=True))
    return replace(results[0], transcript=Transcript.of_speakers(speakers), notes=notes)
