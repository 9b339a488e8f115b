"""Serving without HTTP: any number of requests over one model.

A request takes a ``Place``, of which there are so many and no more; where all are taken, it is refused at once and
told when to come again. Threads read recordings and decode, beside the one thread that runs the model
(``SharedModel``). Long recordings have threads of their own, so that they can never take all of those for short ones.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np

from wav2vec2_core.alignment import Aligner, Alignment
from wav2vec2_core.audio import Recording
from wav2vec2_core.audio.resampling import Resampler
from wav2vec2_core.captions import TimedWord
from wav2vec2_core.checkpoint.adapters import check_language, read_adapter
from wav2vec2_core.classification import FRAMES, SPEAKERS, UTTERANCES, Classifier, head_of_source
from wav2vec2_core.decoding.choice import DecoderOptions, with_hotwords
from wav2vec2_core.decoding.greedy import text_of
from wav2vec2_core.embedding import Embedder
from wav2vec2_core.errors import AudioError, InputError, Wav2Vec2Error
from wav2vec2_core.long_form.windows import Window
from wav2vec2_core.pipeline import LoadedModel
from wav2vec2_core.serving.languages import language_of
from wav2vec2_core.serving.shared_model import BatchWatcher, SharedModel
from wav2vec2_core.source import ModelSource, open_model
from wav2vec2_core.streaming import StreamingTranscriber, StreamUpdate
from wav2vec2_core.transcription import EMBEDDED_MODEL, Prepared, Transcriber, Transcript, processor_of

#: Threads for short recordings: while one batch runs, the next is read, and the last decoded.
_SHORT = 32
#: Threads for long ones, which take turns at the model.
_LONG = 4
#: Threads for live streams.
_LIVE = 8
#: Languages whose vocabulary and decoder are kept.
_MOST_LANGUAGES = 64

T = TypeVar("T")
#: Called with the words of a transcript as they become final, in seconds.
Heard = Callable[[Sequence[TimedWord]], None]


class Busy(Wav2Vec2Error):  # noqa: N818 (a state that passes)
    """All places are taken. ``retry_after``: seconds after which one should be free."""

    def __init__(self, message: str, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Stopping(Wav2Vec2Error):  # noqa: N818 (a state)
    """The engine accepts nothing more."""


class TooLongError(AudioError):
    """A recording is longer than the engine takes."""


class Cancelled(Wav2Vec2Error):  # noqa: N818 (an event)
    """Nobody waits for this result any more."""


@dataclass(frozen=True)
class Limits:
    """What an engine takes. queue: requests at a time; seconds: of one recording; batch_seconds, batch_wait: see
    ``SharedModel``.

    Raises:
        InputError: a number is not positive.
    """

    queue: int = 256
    seconds: float = 4 * 3600.0
    batch_seconds: float = 60.0
    batch_wait: float = 0.005

    def __post_init__(self) -> None:
        for name in ("queue", "seconds"):
            value = getattr(self, name)
            if not 0 < value < math.inf:
                raise InputError(f"the limit {name}={value} is not possible: give a number above 0")


@dataclass(frozen=True)
class Labels:
    """What a classifier says of a recording.

    labels: name and probability, best first, of a model for recordings; spans: name, start and end in seconds and
    probability, of a model for stretches of time; speaker: (width,) of length 1, of a model for speakers.
    """

    labels: tuple[tuple[str, float], ...] | None = None
    spans: tuple[tuple[str, float, float, float], ...] | None = None
    speaker: np.ndarray | None = None


class Engine:
    """A model that any number of requests share."""

    def __init__(
        self,
        model: str | os.PathLike[str] = EMBEDDED_MODEL,
        *,
        backend: str = "torch",
        device: str = "auto",
        dtype: str = "float32",
        language: str | None = None,
        lm: str | os.PathLike[str] = "auto",
        local_files_only: bool = False,
        limits: Limits | None = None,
        watcher: BatchWatcher | None = None,
    ) -> None:
        """Load a model with any head that its checkpoint has.

        Args:
            model, backend, device, dtype, local_files_only: as ``Transcriber`` takes them.
            language: of MMS, for requests that name none.
            lm: as ``DecoderOptions`` takes it.
            limits: what is refused.
            watcher: is told of every batch, see ``SharedModel``.

        Raises:
            CheckpointError, InputError, BackendError: the model cannot be used.
        """
        self.limits = limits or Limits()
        self._source = open_model(model, local_files_only=local_files_only)
        #: How clients call the model: its hub id, or the name of its folder.
        self.name = _name_of(self._source, model)
        self.head = head_of_source(self._source)
        self._languages = self._source.adapter_languages() if self.head == "ForCTC" else []
        self._decoding = DecoderOptions(lm)
        processor = processor_of(self._source, language) if self.head == "ForCTC" else None
        loaded = LoadedModel.load(
            self._source,
            head=self.head,
            backend=backend,
            device=device,
            dtype=dtype,
            language=language,
            extractor=None if processor is None else processor.feature_extractor,
        )
        if processor is not None and self._languages:
            language = language or processor.tokenizer.target_lang
        self.language = language
        self._loaded, self._window = loaded, Window()
        self._shared = SharedModel(
            loaded.model,
            loaded.extractor.sampling_rate,
            language=language,
            batch_seconds=self.limits.batch_seconds,
            batch_wait=self.limits.batch_wait,
            watcher=watcher,
        )
        self._transcribers: dict[str | None, Transcriber] = {}
        self._short = ThreadPoolExecutor(_SHORT, thread_name_prefix="wav2vec2-short")
        self._long = ThreadPoolExecutor(_LONG, thread_name_prefix="wav2vec2-long")
        self._live = ThreadPoolExecutor(_LIVE, thread_name_prefix="wav2vec2-live")
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._places, self._stopping = 0, False
        self._pace = _Pace()
        #: Requests refused so far, by reason.
        self.refused: Counter[str] = Counter()
        if self.head == "ForCTC":
            self._transcriber(None)

    # ---- accepting ----------------------------------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        """Requests that hold a place."""
        return self._places

    @property
    def sampling_rate(self) -> int:
        """Of the model, in hertz."""
        return self._loaded.extractor.sampling_rate

    @property
    def languages(self) -> list[str]:
        """Codes of the languages among which a request may choose; empty where the model has but one."""
        return list(self._languages)

    def place(self) -> Place:
        """A place for one request, to be used as a context; it ends with the request, or earlier, by ``cancel``.

        Raises:
            Busy: all are taken.
            Stopping: ``stop`` was called.
        """
        with self._lock:
            if self._stopping:
                self.refused["stopping"] += 1
                raise Stopping("the server is stopping: ask another one, or again later")
            if self._places >= self.limits.queue:
                self.refused["queue"] += 1
                after = self._pace.seconds_until(1)
                raise Busy(f"{self._places} requests wait already: ask again after {after} s", after)
            self._places += 1
        return Place(self)

    def check_language(self, language: str | None) -> str | None:
        """The model's own code of a language that a client names; ``None`` where the model has but one language.

        Raises:
            InputError: the model does not have it.
        """
        if language is None or self.head != "ForCTC":
            return self.language
        check_language(language)
        if not self._languages:
            return self.language
        own = language_of(language, self._languages)
        if own not in self._languages:
            read_adapter(self._source, own)  # raises, with what there is
        return own

    def stop(self) -> None:
        """Accept nothing more, finish what was accepted, and end all threads."""
        with self._lock:
            self._stopping = True
            self._idle.wait_for(lambda: self._places == 0)
        for pool in (self._short, self._long, self._live):
            pool.shutdown()
        self._shared.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    # ---- inside -------------------------------------------------------------------------------------------------

    def _give_back(self) -> None:
        with self._lock:
            self._places -= 1
            self._pace.count()
            self._idle.notify_all()

    def _transcriber(self, language: str | None, hotwords: Sequence[str] = ()) -> Transcriber:
        """The transcriber of a language, as ``check_language`` returns it, with words to prefer.

        Raises:
            InputError, CheckpointError: the model has no transcripts, or not this language.
        """
        self._check(("ForCTC",), "transcripts and alignments")
        language = language or self.language
        with self._lock:
            found = self._transcribers.get(language)
        if found is None:
            processor = processor_of(self._source, language)
            decoder = self._decoding.decoder(self._source, processor.tokenizer)
            view = self._shared.view(language if self._languages else None)
            loaded = LoadedModel(view, processor.feature_extractor, self._loaded.timeline)
            found = Transcriber.of(loaded, processor, decoder, language=language)
            with self._lock:
                if len(self._transcribers) >= _MOST_LANGUAGES:
                    self._transcribers.pop(next(iter(self._transcribers)))
                self._transcribers[language] = found
        tokenizer = found.processor.tokenizer
        words = spelled(hotwords, tokenizer.get_vocab()) if hotwords else ()
        return found.with_decoder(with_hotwords(found.decoder, tokenizer, words)) if words else found

    def _viewed(self) -> LoadedModel:
        view = self._shared.view(self.language if self._languages else None)
        return LoadedModel(view, self._loaded.extractor, self._loaded.timeline)

    def _check(self, heads: Sequence[str], wanted: str) -> None:
        if self.head not in heads:
            raise InputError(
                f"model {self.name!r:.100} is a Wav2Vec2{self.head}, {wanted} come from a Wav2Vec2{heads[0]}: "
                "serve such a model"
            )

    def _opened(self, recording: Recording) -> Recording:
        """The recording at the model's rate, of which no more is read than the limit and a second."""
        return recording.at(self.sampling_rate).until(recording.start + self.limits.seconds + 1)

    def _check_seconds(self, seconds: float) -> None:
        if seconds > self.limits.seconds:
            self.refused["seconds"] += 1
            raise TooLongError(
                f"the recording is longer than {self.limits.seconds:g} s, the limit of this server: cut it into parts"
            )


class Place:
    """One accepted request. It runs one piece of work, whose ``Future`` holds the result or the error."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._cancelled = threading.Event()
        self._given_back = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.cancel()

    def cancel(self) -> None:
        """Give the place back. Work that has not begun is dropped, other work ends before its next turn."""
        self._cancelled.set()
        if not self._given_back:
            self._given_back = True
            self._engine._give_back()

    def transcribe(
        self,
        recording: Recording,
        *,
        language: str | None = None,
        hotwords: Sequence[str] = (),
        heard: Heard | None = None,
    ) -> Future[Transcript]:
        """Transcribe a recording, to the text that it has alone.

        Args:
            recording: of any format and rate.
            language: as ``Engine.check_language`` returns it.
            hotwords: words to prefer; those that the vocabulary cannot spell are left out.
            heard: is told of words as they become final, in a thread of the engine.

        The future raises ``AudioError``, ``TooLongError``, ``InputError`` and ``Cancelled``.
        """
        result: Future[Transcript] = _begun()

        def read() -> None:
            chosen = self._engine._transcriber(language, hotwords)
            prepared = chosen.prepare(self._engine._opened(recording))
            self._engine._check_seconds(prepared.samples / chosen.timeline.sampling_rate)

            def finish() -> Transcript:
                return self._finish(chosen, prepared, heard or (lambda words: None))

            if prepared.waveform is not None:
                result.set_result(finish())
            else:
                self._start(self._engine._long, result, lambda: result.set_result(finish()))

        self._start(self._engine._short, result, read)
        return result

    def align(self, recording: Recording, text: str, *, language: str | None = None) -> Future[Alignment]:
        """Find when the words of ``text`` are spoken, as ``Aligner.align``; raises as ``transcribe``."""
        return self._whole(
            recording,
            lambda opened: Aligner.of(self._engine._transcriber(language)).align(opened, text, progress=self._progress),
        )

    def classify(self, recording: Recording, top: int | None = None) -> Future[Labels]:
        """What the model says of a recording, the ``top`` labels or all; raises as ``transcribe``."""

        def work(opened: Recording) -> Labels:
            engine = self._engine
            engine._check((UTTERANCES, FRAMES, SPEAKERS), "classifications")
            classifier = Classifier.of(engine._viewed(), engine.head)
            if engine.head == FRAMES:
                spans = classifier.spans(opened, self._progress)
                return Labels(spans=tuple((one.name, one.start, one.end, one.probability) for one in spans))
            if engine.head == SPEAKERS:
                return Labels(speaker=classifier.speaker(opened, self._progress))
            found = classifier.classify(opened, top, self._progress)
            return Labels(labels=tuple((label.name, label.probability) for label in found))

        return self._whole(recording, work)

    def embed(self, recording: Recording, layers: Sequence[int] = (-1,)) -> Future[dict[int, np.ndarray]]:
        """The mean over time of hidden states: layer, counted from 0 -> (hidden,) float32; raises as ``transcribe``."""

        def work(opened: Recording) -> dict[int, np.ndarray]:
            embedder = Embedder.of(self._engine._viewed(), layers)
            total, frames = np.zeros((len(embedder.layers), 1), np.float64), 0
            for block in embedder.blocks(opened, progress=self._progress):
                total = total + block.sum(axis=1, dtype=np.float64)
                frames += block.shape[1]
            return dict(zip(embedder.layers, (total / frames).astype(np.float32), strict=True))

        return self._whole(recording, work)

    def write_embeddings(self, recording: Recording, target: Path, layers: Sequence[int] = (-1,)) -> Future[None]:
        """All hidden states into a file, as ``Embedder.write``; raises as ``transcribe``, and ``OutputError``."""
        return self._whole(
            recording, lambda opened: Embedder.of(self._engine._viewed(), layers).write(opened, target, self._progress)
        )

    def stream(self, rate: int, *, language: str | None = None, hotwords: Sequence[str] = ()) -> LiveStream:
        """A live stream of samples at ``rate`` hertz, which holds the place as long as it lasts.

        Raises:
            InputError: the rate or the language is not possible, or the model has no transcripts.
        """
        return LiveStream(self._engine, self._engine._transcriber(language, hotwords), rate)

    # ---- inside -------------------------------------------------------------------------------------------------

    def _whole(self, recording: Recording, work: Callable[[Recording], T]) -> Future[T]:
        """Work that reads the recording by itself, in the pool for its length."""
        result: Future[T] = _begun()

        def begin() -> None:
            opened = self._engine._opened(recording)
            seconds = opened.duration
            self._engine._check_seconds(seconds)
            if seconds <= self._engine._window.longest:
                result.set_result(work(opened))
            else:
                self._start(self._engine._long, result, lambda: result.set_result(work(opened)))

        self._start(self._engine._short, result, begin)
        return result

    def _start(self, pool: ThreadPoolExecutor, result: Future[Any], work: Callable[[], None]) -> None:
        def guarded() -> None:
            try:
                self._progress(0.0)
                with self._engine._shared.taking_part():
                    work()
            except BaseException as error:
                result.set_exception(error)

        pool.submit(guarded)

    def _progress(self, seconds: float) -> None:
        """Raises ``Cancelled`` where nobody waits any more."""
        if self._cancelled.is_set():
            raise Cancelled("the request was cancelled")

    def _finish(self, transcriber: Transcriber, prepared: Prepared, heard: Heard) -> Transcript:
        timeline = transcriber.timeline.starting_at(prepared.recording.start)
        self._progress(0.0)
        if prepared.waveform is not None:
            (logits,) = transcriber.logits_of(prepared)
            text, words = transcriber.decoder.decode(logits)
            heard([TimedWord.of(word, timeline) for word in words])
            return transcriber.transcript(prepared, text, words)
        stream, words = transcriber.decoder.stream(), []
        for logits in transcriber.logits_of(prepared, progress=self._progress):
            fresh = stream.feed(logits)
            heard([TimedWord.of(word, timeline) for word in fresh])
            words += fresh
        last = stream.finish()
        heard([TimedWord.of(word, timeline) for word in last])
        words += last
        return transcriber.transcript(prepared, text_of(words, transcriber.processor.tokenizer), words)


@dataclass(frozen=True)
class Live:
    """What a live stream has heard.

    stable: text that is final since the last call; partial: text behind it that may change; silence: seconds of sound
    since the text last changed, where there is any since the stream or stretch began.
    """

    stable: str
    partial: str
    silence: float = 0.0


class LiveStream:
    """Samples as they come, transcribed beside all other requests; see ``StreamingTranscriber``."""

    def __init__(self, engine: Engine, transcriber: Transcriber, rate: int) -> None:
        self._engine, self._transcriber, self._rate = engine, transcriber, rate
        self._begin()

    def feed(self, samples: np.ndarray) -> Future[Live]:
        """The next (samples,) float. One call at a time. The future raises ``InputError``."""

        def feed() -> Live:
            ready = [*self._resampler.feed(samples)]
            self._heard += len(samples) / self._rate
            return self._told(self._stream.feed(np.concatenate([np.zeros(0, np.float32), *ready])))

        return self._run(feed)

    def finish(self) -> Future[Live]:
        """End this stretch of speech: what was not final yet. The next ``feed`` begins another."""

        def finish() -> Live:
            rest = np.concatenate([np.zeros(0, np.float32), *self._resampler.finish()])
            before, last = self._stream.feed(rest), self._stream.finish()
            self._begin()
            text = self._transcriber.processor.tokenizer
            return Live(text_of([*before.words, *last.words], text), "")

        return self._run(finish)

    def drop(self) -> None:
        """Forget this stretch of speech."""
        self._begin()

    def _begin(self) -> None:
        self._stream = StreamingTranscriber(self._transcriber)
        self._resampler = Resampler(self._rate, self._transcriber.timeline.sampling_rate)
        self._heard, self._partial = 0.0, ""  # seconds of this stretch
        self._changed: float | None = None  # when its text last changed

    def _told(self, update: StreamUpdate) -> Live:
        if update.stable or update.partial != self._partial:
            self._changed, self._partial = self._heard, update.partial
        return Live(update.stable, update.partial, 0.0 if self._changed is None else self._heard - self._changed)

    def _run(self, work: Callable[[], Live]) -> Future[Live]:
        def guarded() -> Live:
            with self._engine._shared.taking_part():
                return work()

        return self._engine._live.submit(guarded)


class _Pace:
    """How fast requests end: the mean of the last intervals between two."""

    def __init__(self) -> None:
        self._last: float | None = None
        self._interval = 0.5

    def count(self) -> None:
        now = time.monotonic()
        if self._last is not None:
            self._interval += 0.1 * (min(now - self._last, 10.0) - self._interval)
        self._last = now

    def seconds_until(self, count: int) -> int:
        """Whole seconds until so many more have ended, 1 or more."""
        return max(1, math.ceil(count * self._interval))


def spelled(hotwords: Sequence[str], vocabulary: dict[str, int]) -> tuple[str, ...]:
    """Hotwords in the case of the vocabulary; those with letters that it has in neither case are left out."""
    letters = set(vocabulary)
    found = (
        next((form for form in (word, word.upper(), word.lower()) if set(form) <= letters), "") for word in hotwords
    )
    return tuple(dict.fromkeys(word for word in found if word))


def _name_of(source: ModelSource, model: str | os.PathLike[str]) -> str:
    path = Path(source.name)
    return path.resolve().name if path.exists() else str(model)


def _begun() -> Future[Any]:
    """A future that nobody can cancel: work ends by itself where its place is given back."""
    future: Future[Any] = Future()
    future.set_running_or_notify_cancel()
    return future
