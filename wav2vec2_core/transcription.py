"""Transcription of recordings of any length with any back end: read, normalise, run the model, decode."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from copy import copy
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np

from wav2vec2_core.audio import Damage, Recording
from wav2vec2_core.audio.prefetching import prefetched
from wav2vec2_core.captions import Layout, Segment, TimedWord, render, segments_of, to_dict
from wav2vec2_core.decoding import Decoder, Timeline, Word
from wav2vec2_core.decoding.choice import DecoderOptions
from wav2vec2_core.decoding.greedy import text_of
from wav2vec2_core.decoding.unspaced import split_unspaced
from wav2vec2_core.errors import AudioError, InputError, Wav2Vec2Error
from wav2vec2_core.long_form.windows import Window
from wav2vec2_core.pipeline import AHEAD, Audio, LoadedModel, Prepared, Progress
from wav2vec2_core.processing import Wav2Vec2Processor
from wav2vec2_core.source import ModelSource, open_model

#: The small digits model in the package, the default.
EMBEDDED_MODEL = Path(__file__).parent / "assets" / "demo-digits"
#: Seconds of short recordings that go through the model together.
BATCH_SECONDS = 60.0
_DECODING = 32  # recordings whose logits may wait for a decoder


@dataclass(frozen=True)
class Transcript:
    """The transcript of one recording.

    text: as the decoder writes it; words: with frames, in scripts without spaces a letter each; timeline: turns frames
    into seconds from the start of the recording, also where only a stretch of it was read; duration: seconds that were
    read; damage: what could not be read, where ``on_damage="keep"`` kept the rest; speakers: the transcript of each, by
    name, where the channels of a recording are speakers of their own.
    """

    text: str
    words: tuple[Word, ...]
    timeline: Timeline
    duration: float
    language: str | None = None
    damage: Damage | None = None
    speakers: Mapping[str, Transcript] = field(default_factory=dict)

    @classmethod
    def of_speakers(cls, speakers: Mapping[str, Transcript]) -> Transcript:
        """One transcript of all, in order of time. ``speakers``: name -> transcript, of one recording, at least one."""
        words = sorted((word for one in speakers.values() for word in one.words), key=lambda word: word.start)
        first = next(iter(speakers.values()))
        made = cls("", tuple(words), first.timeline, first.duration, first.language, first.damage, speakers)
        return replace(made, text=" ".join(segment.text for segment in made.segments))

    @cached_property
    def segments(self) -> list[Segment]:
        """The words in seconds with their characters, in pieces as long as a caption; each is of one speaker."""
        if not self.speakers:
            return segments_of(self.words, self.timeline)
        said = [replace(segment, speaker=name) for name, one in self.speakers.items() for segment in one.segments]
        return sorted(said, key=lambda segment: segment.start)

    @property
    def lines(self) -> list[str]:
        """The text for a terminal: one line, or one for each segment with its speaker where speakers are told apart."""
        return self.render("txt").splitlines() if self.speakers else [self.text]

    @property
    def timed_words(self) -> tuple[TimedWord, ...]:
        """The words with their characters, in seconds."""
        return tuple(TimedWord.of(word, self.timeline) for word in self.words)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, in the layout of whisper's JSON files: times in seconds, ``probability`` between 0 and 1."""
        return {**to_dict(self.segments, language=self.language, damage=self.damage), "text": self.text}

    def render(self, output_format: str, layout: Layout | None = None, *, name: str = "recording") -> str:
        """The content of a file of one of ``captions.FORMATS``. Raises ``InputError``."""
        return render(
            self.segments,
            output_format,
            layout=layout,
            language=self.language,
            name=name,
            duration=self.timeline.start + self.duration,
            speakers=tuple(self.speakers),
            damage=self.damage,
        )


@dataclass(frozen=True)
class Result:
    """The result for one recording: a transcript, or the error that prevented it.

    path: of its file, ``None`` for samples and bytes; name: of the recording, for people; notes: what a user may want
    to know of how it was read, a line each.
    """

    path: Path | None
    transcript: Transcript | None = None
    error: Wav2Vec2Error | None = None
    name: str = "recording"
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, recording: Recording, outcome: Transcript | Exception) -> Self:
        """The result for a recording that was opened."""
        notes = tuple(dict.fromkeys(recording.notes))
        if isinstance(outcome, Transcript):
            return cls(recording.path, outcome, name=recording.name, notes=notes)
        return cls(recording.path, error=_error_about(recording.name, outcome), name=recording.name, notes=notes)

    @classmethod
    def unopened(cls, audio: object, error: Exception) -> Self:
        """The result for a recording that could not be opened."""
        path = Path(audio) if isinstance(audio, str | os.PathLike) else None
        name = "recording" if path is None else str(path)
        return cls(path, error=_error_about(name, error), name=name)

    def unwrap(self) -> Transcript:
        """Returns the transcript or raises the error."""
        if self.transcript is None:
            raise self.error or AudioError(f"{self.name} has no transcript")
        return self.transcript


def _error_about(name: str, error: Exception) -> Wav2Vec2Error:
    """Convert any exception to one of our errors: it concerns this recording only."""
    if isinstance(error, Wav2Vec2Error):
        return error
    reason = " ".join(f"{type(error).__name__}: {error}".split())[:100]
    wrapped = AudioError(f"{name} cannot be transcribed ({reason}): try it as wav or flac, or leave it out")
    wrapped.__cause__ = error
    return wrapped


class Transcriber:
    """A CTC model with its processor and decoder, loaded once and used for any number of recordings of any length.

    Recordings up to ``window.longest`` seconds go in one pass, packed together; longer ones in windows.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] = EMBEDDED_MODEL,
        *,
        backend: str = "torch",
        device: str = "auto",
        dtype: str = "float32",
        language: str | None = None,
        local_files_only: bool = False,
        decoding: DecoderOptions | None = None,
        window: Window | None = None,
        batch_seconds: float = BATCH_SECONDS,
    ) -> None:
        """Load a model.

        Args:
            model: folder or hub id; by default one for English digits.
            backend: ``torch``, ``tf`` or ``flax``.
            device, dtype: as the back end names them.
            language: an MMS vocabulary and adapter.
            local_files_only: do not ask the hub.
            decoding: how logits become text; by default with the model's own language model, greedy if it has none.
            window: how long recordings are cut for the transformer.
            batch_seconds: seconds of audio per batch.

        Raises:
            CheckpointError, InputError, BackendError: the model, language or back end cannot be used.
        """
        if not batch_seconds > 0:
            raise InputError(f"batch_seconds={batch_seconds} must be more than 0")
        source = open_model(model, local_files_only=local_files_only)
        processor = processor_of(source, language)
        loaded = LoadedModel.load(
            source,
            backend=backend,
            device=device,
            dtype=dtype,
            language=language,
            extractor=processor.feature_extractor,
        )
        decoder = (decoding or DecoderOptions()).decoder(source, processor.tokenizer)
        self._take(loaded, processor, decoder, language, window or Window(), batch_seconds)

    @classmethod
    def of(
        cls,
        loaded: LoadedModel,
        processor: Wav2Vec2Processor,
        decoder: Decoder,
        *,
        language: str | None = None,
        batch_seconds: float = BATCH_SECONDS,
    ) -> Self:
        """A transcriber over a CTC model that is loaded already, with the default window.

        ``processor``: as ``processor_of`` returns it for this language, which ``loaded`` must speak.
        """
        made = cls.__new__(cls)
        made._take(loaded, processor, decoder, language, Window(), batch_seconds)
        return made

    def with_decoder(self, decoder: Decoder) -> Self:
        """The same with another decoder; the model is shared."""
        other = copy(self)
        other.decoder = decoder
        return other

    def _take(
        self,
        loaded: LoadedModel,
        processor: Wav2Vec2Processor,
        decoder: Decoder,
        language: str | None,
        window: Window,
        batch_seconds: float,
    ) -> None:
        self.processor, self.decoder, self.language = processor, decoder, language
        self._loaded, self.model, self.timeline = loaded, loaded.model, loaded.timeline
        self.window, self.batch_seconds = window, batch_seconds

    def transcribe(self, recording: Audio) -> Transcript:
        """Transcribe one recording of any format, rate, channel count and length.

        Args:
            recording: its path, a ``Recording``, or (samples, rate).

        Raises:
            AudioError: it cannot be read or is below the model's receptive field.
        """
        return next(iter(self.transcribe_all([recording]))).unwrap()

    def transcribe_all(
        self,
        recordings: Iterable[Audio | Callable[[], Audio]],
        *,
        jobs: int = 1,
        progress: Progress | None = None,
    ) -> Iterator[Result]:
        """Transcribe recordings in their order; one that fails does not stop the others.

        While the model runs, a thread reads the next recordings and ``jobs`` threads decode the last ones.

        Args:
            recordings: any number of them, as ``transcribe`` takes them, or functions that open one; they are asked for
                a few ahead. Whatever opening, reading or decoding one raises is its result.
            jobs: threads for decoding.
            progress: called with the seconds of audio that the model has processed since the last call.
        """
        if jobs < 1:
            raise InputError(f"jobs={jobs} must be 1 or more")
        decoders = ThreadPoolExecutor(jobs, thread_name_prefix="wav2vec2-decoder")
        waiting: deque[Future[Result]] = deque()
        ready = prefetched(map(self._prepare, recordings), AHEAD)
        try:
            for future in self._futures(ready, decoders, progress or (lambda seconds: None)):
                if future is not None:
                    waiting.append(future)
                while waiting and (future is None or waiting[0].done() or len(waiting) > _DECODING):
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            ready.close()
            decoders.shutdown(cancel_futures=True)

    def open(self, audio: Audio) -> Recording:
        """Open a recording at the model's rate. Raises ``AudioError``, and ``InputError`` for anything else."""
        return self._loaded.open(audio)

    def logits(self, recording: Audio, *, progress: Progress | None = None) -> Iterator[np.ndarray]:
        """The logits of a recording of any length: (frames, vocab) float32 each, consecutive pieces.

        Args:
            recording: as ``transcribe`` takes it.
            progress: called with the seconds of audio that the caller has consumed since the last call.

        Raises:
            AudioError: as ``transcribe``.
        """
        yield from self.logits_of(self.prepare(self.open(recording)), progress=progress)

    # ---- the steps of one transcription, for callers that arrange them themselves --------------------------------

    def prepare(self, recording: Recording) -> Prepared:
        """Read a recording, as ``open`` returns it, once: whole if it is short, for its statistics otherwise.

        Raises:
            AudioError: as ``transcribe``.
        """
        return self._loaded.prepare(recording, self.window)

    def logits_of(self, prepared: Prepared, *, progress: Progress | None = None) -> Iterator[np.ndarray]:
        """The logits of what ``prepare`` read, as ``logits``: one piece where it is short. Raises ``AudioError``."""
        report = progress or (lambda seconds: None)
        if prepared.waveform is not None:
            yield self.model.logits([prepared.waveform])[0]
            report(self._seconds(prepared.samples))
            return
        blocks = prefetched(prepared.recording, AHEAD)
        try:
            yield from self._long_logits(prepared, blocks, report)
        finally:
            blocks.close()

    def transcript(self, prepared: Prepared, text: str, words: Sequence[Word]) -> Transcript:
        """The transcript of what ``prepare`` read, from the decoder's text and words."""
        parts = tuple(part for word in words for part in split_unspaced(word))
        timeline = self.timeline.starting_at(prepared.recording.start)
        seconds, damage = self._seconds(prepared.samples), prepared.recording.damage
        return Transcript(text, parts, timeline, seconds, self.language, damage)

    # ---- reading ------------------------------------------------------------------------------------------------

    def _prepare(self, audio: Audio | Callable[[], Audio]) -> Prepared | Result:
        """Open a recording and read it once: whole if it is short, for its statistics otherwise."""
        try:
            recording = self.open(audio() if callable(audio) else audio)
        except Exception as error:
            return Result.unopened(audio, error)
        try:
            return self.prepare(recording)
        except Exception as error:
            return Result.of(recording, error)

    # ---- running ------------------------------------------------------------------------------------------------

    def _futures(
        self, ready: Iterable[Prepared | Result], decoders: ThreadPoolExecutor, progress: Progress
    ) -> Iterator[Future[Result] | None]:
        """Run the model over what was read: a result for each, in order; ``None`` before a long recording begins."""
        batch: list[Prepared | Result] = []
        seconds = 0.0
        for item in ready:
            length = 0.0 if isinstance(item, Result) else self._seconds(item.samples)
            is_long = isinstance(item, Prepared) and item.waveform is None
            if batch and (is_long or seconds + length > self.batch_seconds):
                yield from self._run(batch, decoders, progress)
                batch, seconds = [], 0.0
            if isinstance(item, Prepared) and item.waveform is None:
                yield None
                yield _completed(self._run_long(item, decoders, progress))
            else:
                batch.append(item)
                seconds += length
        yield from self._run(batch, decoders, progress)

    def _run(
        self, batch: Sequence[Prepared | Result], decoders: ThreadPoolExecutor, progress: Progress
    ) -> Iterator[Future[Result]]:
        """Run short recordings in one batch; errors keep their position."""
        waveforms = [item.waveform for item in batch if isinstance(item, Prepared) and item.waveform is not None]
        logits = iter(self.model.logits(waveforms) if waveforms else [])
        for item in batch:
            if isinstance(item, Result):
                yield _completed(item)
            else:
                yield decoders.submit(self._decode, item, next(logits))
                progress(self._seconds(item.samples))

    def _decode(self, item: Prepared, logits: np.ndarray) -> Result:
        try:
            text, words = self.decoder.decode(logits)
        except Exception as error:
            return Result.of(item.recording, error)
        return Result.of(item.recording, self.transcript(item, text, words))

    def _run_long(self, item: Prepared, decoders: ThreadPoolExecutor, progress: Progress) -> Result:
        """A long recording: its logits are decoded piece by piece, each while the model makes the next."""
        stream = self.decoder.stream()
        words: list[Word] = []
        decoding: Future[list[Word]] | None = None
        try:
            for logits in self.logits_of(item, progress=progress):
                if decoding is not None:
                    words += decoding.result()
                decoding = decoders.submit(stream.feed, logits)
            if decoding is not None:
                words += decoding.result()
            words += stream.finish()
        except Exception as error:
            return Result.of(item.recording, error)
        text = text_of(words, self.processor.tokenizer)
        return Result.of(item.recording, self.transcript(item, text, words))

    def _long_logits(self, item: Prepared, blocks: Iterable[np.ndarray], progress: Progress) -> Iterator[np.ndarray]:
        """Yield the logits of a long recording in pieces; requesting the next counts the last as processed."""
        done = 0.0
        for logits in self._loaded.long_logits(item, blocks, self.window, self.batch_seconds):
            yield logits
            seconds = self._seconds(self.timeline.hop * len(logits))
            progress(seconds)
            done += seconds
        progress(max(0.0, self._seconds(item.samples) - done))

    def _seconds(self, samples: int) -> float:
        return samples / self.timeline.sampling_rate


def processor_of(source: ModelSource, language: str | None = None) -> Wav2Vec2Processor:
    """The processor of an open model, with the vocabulary of a language of MMS. Raises ``InputError``."""
    return Wav2Vec2Processor.from_source(source, **({} if language is None else {"target_lang": language}))


def transcribe(
    recordings: Iterable[Audio],
    model: str | os.PathLike[str] = EMBEDDED_MODEL,
    *,
    jobs: int = 1,
    progress: Progress | None = None,
    **options: Any,
) -> Iterator[Result]:
    """Transcribe recordings: a ``Result`` for each, in their order, as soon as it is known.

    Args:
        recordings: paths of files of any format and length, ``Recording``s, or (samples, rate).
        model: folder or hub id.
        jobs, progress: as ``Transcriber.transcribe_all`` takes them.
        options: as ``Transcriber`` takes them: ``backend``, ``device``, ``dtype``, ``language``, ``window`` ...

    Raises:
        CheckpointError, InputError, BackendError: the model cannot be used. A recording that cannot be is a result.
    """
    return Transcriber(model, **options).transcribe_all(recordings, jobs=jobs, progress=progress)


def _completed(result: Result) -> Future[Result]:
    future: Future[Result] = Future()
    future.set_result(result)
    return future
