"""From a recording and its text to the time of every word."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from wav2vec2_core.audio import audio_duration
from wav2vec2_core.captions import Layout, Segment, TimedWord, render
from wav2vec2_core.data.manifest import Utterance, stretch_of
from wav2vec2_core.decoding.choice import DecoderOptions
from wav2vec2_core.errors import InputError
from wav2vec2_core.transcription import EMBEDDED_MODEL, Progress, Transcriber


@dataclass(frozen=True)
class Alignment:
    """When a text was spoken.

    segments: a line of the text each, with words and characters in seconds; duration: of the recording, in seconds.
    """

    segments: tuple[Segment, ...]
    duration: float
    language: str | None = None

    @property
    def words(self) -> tuple[TimedWord, ...]:
        """All words in order."""
        return tuple(word for segment in self.segments for word in segment.words)

    def render(self, output_format: str, layout: Layout | None = None, *, name: str = "recording") -> str:
        """The content of a file of one of ``captions.FORMATS``. Raises ``InputError``."""
        return render(
            self.segments, output_format, layout=layout, language=self.language, name=name, duration=self.duration
        )


class Aligner:
    """A CTC model with its vocabulary, loaded once and used for any number of recordings of any length."""

    def __init__(self, model: str | os.PathLike[str] = EMBEDDED_MODEL, **options: Any) -> None:
        """Load a model; ``options`` are those of ``Transcriber``: ``backend``, ``device``, ``language``, ``window`` ...

        Raises:
            CheckpointError, InputError, BackendError: as ``Transcriber``.
        """
        self.transcriber = Transcriber(model, decoding=DecoderOptions("none"), **options)

    def align(
        self,
        path: str | os.PathLike[str],
        text: str | Sequence[str],
        *,
        untranscribed: str = "lines",
        progress: Progress | None = None,
    ) -> Alignment:
        """When the words of ``text`` are spoken in a recording.

        Args:
            path: of a recording of any format and length.
            text: lines, or a text whose lines are taken; each line with words is a segment.
            untranscribed: where speech that the text leaves out may be; see ``decoding.alignment.align_words``.
            progress: called with seconds of audio that the model is through with.

        Raises:
            AudioError: the file cannot be read or is below the model's receptive field.
            InputError: the text has no words, none in the model's letters, or more than the recording has room for.
        """
        from wav2vec2_core.decoding.forced_alignment import align_words  # compiles, which takes a moment

        lines = text.splitlines() if isinstance(text, str) else list(text)
        if not any(letter.isalnum() or letter == "*" for line in lines for letter in line):
            raise InputError(f"the text of {path} has no words: nothing to align")
        logits = np.concatenate(list(self.transcriber.logits(path, progress=progress)))
        try:
            found = align_words(logits, lines, self.transcriber.processor.tokenizer, untranscribed=untranscribed)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
        timeline = self.transcriber.timeline
        segments = tuple(Segment.of([TimedWord.of(word, timeline) for word in line]) for line in found if line)
        last = segments[-1].end if segments else 0.0  # a header may state a little less than there is
        return Alignment(segments, max(audio_duration(path), last), self.transcriber.language)

    def align_utterance(
        self, utterance: Utterance, *, untranscribed: str = "lines", progress: Progress | None = None
    ) -> Alignment:
        """The same for an utterance of a manifest; times count from the start of its recording.

        Raises:
            AudioError, InputError: as ``align``, or the utterance has no text.
            OutputError: a stretch of a recording does not fit into the folder for temporary files.
        """
        if utterance.text is None:
            raise InputError(f"the manifest has no text for {utterance.path}: add it")
        with stretch_of(utterance, self.transcriber.timeline.sampling_rate) as path:
            found = self.align(path, utterance.text, untranscribed=untranscribed, progress=progress)
        return _later(found, utterance.offset)


def _later(alignment: Alignment, seconds: float) -> Alignment:
    def moved(word: TimedWord) -> TimedWord:
        characters = tuple(map(moved, word.characters))
        return replace(word, start=word.start + seconds, end=word.end + seconds, characters=characters)

    segments = tuple(Segment.of([moved(word) for word in segment.words]) for segment in alignment.segments)
    return replace(alignment, segments=segments, duration=alignment.duration + seconds)


def align(
    path: str | os.PathLike[str],
    text: str | Sequence[str],
    model: str | os.PathLike[str] = EMBEDDED_MODEL,
    *,
    untranscribed: str = "lines",
    **options: Any,
) -> Alignment:
    """When the words of ``text`` are spoken in one recording; for several, load an ``Aligner`` once.

    Arguments and errors are those of ``Aligner`` and ``Aligner.align``.
    """
    return Aligner(model, **options).align(path, text, untranscribed=untranscribed)
