"""Alignment: finds the time of every word of a known text in a recording."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from wav2vec2_core.audio import Damage
from wav2vec2_core.captions import Layout, Segment, TimedWord, render
from wav2vec2_core.data.manifest import Utterance
from wav2vec2_core.decoding.choice import DecoderOptions
from wav2vec2_core.errors import InputError
from wav2vec2_core.pipeline import Audio, Progress
from wav2vec2_core.subtitles import spoken_lines
from wav2vec2_core.transcription import EMBEDDED_MODEL, Transcriber


@dataclass(frozen=True)
class Alignment:
    """A text with the times at which it is spoken.

    segments: a line of the text each, with words and characters in seconds from the start of the recording; duration:
    seconds that were read, from ``start`` on; notes: what a user may want to know of how the recording was read;
    damage: what could not be read, where ``on_damage="keep"`` kept the rest.
    """

    segments: tuple[Segment, ...]
    duration: float
    language: str | None = None
    start: float = 0.0
    notes: tuple[str, ...] = ()
    damage: Damage | None = None

    @property
    def words(self) -> tuple[TimedWord, ...]:
        """All words in order."""
        return tuple(word for segment in self.segments for word in segment.words)

    def render(self, output_format: str, layout: Layout | None = None, *, name: str = "recording") -> str:
        """The content of a file of one of ``captions.FORMATS``. Raises ``InputError``."""
        return render(
            self.segments,
            output_format,
            layout=layout,
            language=self.language,
            name=name,
            duration=self.start + self.duration,
            damage=self.damage,
        )


class Aligner:
    """A CTC model with its vocabulary, loaded once and used for any number of recordings of any length."""

    def __init__(self, model: str | os.PathLike[str] = EMBEDDED_MODEL, **options: Any) -> None:
        """Load a model; ``options`` are those of ``Transcriber``: ``backend``, ``device``, ``language``, ``window`` ...

        Raises:
            CheckpointError, InputError, BackendError: as ``Transcriber``.
        """
        self.transcriber = Transcriber(model, decoding=DecoderOptions("none"), **options)

    @classmethod
    def of(cls, transcriber: Transcriber) -> Self:
        """An aligner that shares the model of a transcriber."""
        made = cls.__new__(cls)
        made.transcriber = transcriber
        return made

    def align(
        self,
        recording: Audio,
        text: str | Sequence[str],
        *,
        untranscribed: str = "lines",
        progress: Progress | None = None,
    ) -> Alignment:
        """Find when the words of ``text`` are spoken in a recording.

        Args:
            recording: of any format and length: its path, a ``Recording``, or (samples, rate).
            text: lines, or a text whose lines are taken, of SRT and WebVTT the cues; each one with words is a segment.
            untranscribed: where speech that the text leaves out may be; see ``decoding.alignment.align_words``.
            progress: called with the seconds of audio that the model has processed since the last call.

        Raises:
            AudioError: the recording cannot be read or is below the model's receptive field.
            InputError: the text has no words, none in the model's letters, or more than the recording has room for.
        """
        from wav2vec2_core.decoding.forced_alignment import align_words  # compiles, which takes a moment

        opened = self.transcriber.open(recording)
        lines = spoken_lines(text) if isinstance(text, str) else list(text)
        if not any(letter.isalnum() or letter == "*" for line in lines for letter in line):
            raise InputError(f"the text of {opened.name} has no words: nothing to align")
        logits = np.concatenate(list(self.transcriber.logits(opened, progress=progress)))
        try:
            found = align_words(logits, lines, self.transcriber.processor.tokenizer, untranscribed=untranscribed)
        except InputError as error:
            raise InputError(f"{opened.name}: {error}") from error
        timeline = self.transcriber.timeline.starting_at(opened.start)
        segments = tuple(Segment.of([TimedWord.of(word, timeline) for word in line]) for line in found if line)
        last = segments[-1].end - opened.start if segments else 0.0  # the length in a header may be slightly too short
        notes = tuple(dict.fromkeys(opened.notes))
        language, seconds = self.transcriber.language, max(opened.duration, last)
        return Alignment(segments, seconds, language, opened.start, notes, opened.damage)

    def align_utterance(
        self,
        utterance: Utterance,
        *,
        untranscribed: str = "lines",
        progress: Progress | None = None,
        **reading: Any,
    ) -> Alignment:
        """Align an utterance of a manifest; times count from the start of its recording.

        ``reading``: as ``Utterance.recording`` takes it.

        Raises:
            AudioError, InputError: as ``align``, or the utterance has no text.
        """
        if utterance.text is None:
            raise InputError(f"the manifest has no text for {utterance.path}: add it")
        recording = utterance.recording(**reading)
        return self.align(recording, utterance.text, untranscribed=untranscribed, progress=progress)


def align(
    recording: Audio,
    text: str | Sequence[str],
    model: str | os.PathLike[str] = EMBEDDED_MODEL,
    *,
    untranscribed: str = "lines",
    **options: Any,
) -> Alignment:
    """Find when the words of ``text`` are spoken in one recording; for several, load an ``Aligner`` once.

    Arguments and errors are those of ``Aligner`` and ``Aligner.align``.
    """
    return Aligner(model, **options).align(recording, text, untranscribed=untranscribed)
