"""From recordings of any length to text with any back end: read, normalise, run the model, decode."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from wav2vec2_core.audio import Recording
from wav2vec2_core.audio.prefetching import prefetched
from wav2vec2_core.backend import load_backend
from wav2vec2_core.captions import Layout, Segment, TimedWord, render, segments_of, to_dict
from wav2vec2_core.decoding import Decoder, Timeline, Word
from wav2vec2_core.decoding.choice import DecoderOptions
from wav2vec2_core.decoding.greedy import text_of
from wav2vec2_core.decoding.unspaced import split_unspaced
from wav2vec2_core.errors import AudioError, InputError, Wav2Vec2Error
from wav2vec2_core.long_form.signal_statistics import SignalStatistics
from wav2vec2_core.long_form.windows import Window, logit_blocks, too_short
from wav2vec2_core.processing import Wav2Vec2Processor
from wav2vec2_core.source import open_model

#: The small digits model inside the package, used where no model is named.
EMBEDDED_MODEL = Path(__file__).parent / "assets" / "demo-digits"
#: Seconds of short recordings that go through the model together.
BATCH_SECONDS = 60.0
_AHEAD = 4  # recordings, or blocks of a long one, read while the model runs
_DECODING = 32  # recordings that may wait for a decoder with their logits

Progress = Callable[[float], None]


@dataclass(frozen=True)
class Transcript:
    """What was said in one recording.

    text: as the decoder writes it; words: with frames, in scripts without spaces a letter each; timeline: turns frames
    into seconds; duration: seconds.
    """

    text: str
    words: tuple[Word, ...]
    timeline: Timeline
    duration: float
    language: str | None = None

    @cached_property
    def segments(self) -> list[Segment]:
        """The words in seconds with their characters, in pieces as long as a caption."""
        return segments_of(self.words, self.timeline)

    @property
    def timed_words(self) -> tuple[TimedWord, ...]:
        """The words with their characters, in seconds."""
        return tuple(TimedWord.of(word, self.timeline) for word in self.words)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, in the layout of whisper's JSON files: times in seconds, ``probability`` between 0 and 1."""
        return {**to_dict(self.segments, language=self.language), "text": self.text}

    def render(self, output_format: str, layout: Layout | None = None, *, name: str = "recording") -> str:
        """The content of a file of one of ``captions.FORMATS``. Raises ``InputError``."""
        return render(
            self.segments, output_format, layout=layout, language=self.language, name=name, duration=self.duration
        )


@dataclass(frozen=True)
class Result:
    """What became of one recording: a transcript, or the error that says why there is none."""

    path: Path
    transcript: Transcript | None = None
    error: Wav2Vec2Error | None = None

    def unwrap(self) -> Transcript:
        """The transcript; raises the error where there is none."""
        if self.transcript is None:
            raise self.error or AudioError(f"{self.path} has no transcript")
        return self.transcript


@dataclass(frozen=True)
class _Prepared:
    """A recording that was read once.

    samples: in all; waveform: normalised, of a recording that goes in one pass; level: of a longer one.
    """

    recording: Recording
    samples: int
    waveform: np.ndarray | None = None
    level: SignalStatistics | None = None


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
            model: folder or hub id; by default one that hears English digits.
            backend: ``torch``, ``tf`` or ``flax``.
            device, dtype: as the back end names them.
            language: an MMS vocabulary and adapter.
            local_files_only: do not ask the hub.
            decoding: makes words of logits; by default with the language model that the model has, greedy if none.
            window: how the transformer sees long recordings.
            batch_seconds: of audio that goes through the model at a time.

        Raises:
            CheckpointError, InputError, BackendError: the model, language or back end cannot be used, and why.
        """
        if not batch_seconds > 0:
            raise InputError(f"batch_seconds={batch_seconds} must be more than 0")
        engine = load_backend(backend)
        chosen: dict[str, Any] = {} if language is None else {"target_lang": language}
        source = open_model(model, local_files_only=local_files_only)
        self.processor = Wav2Vec2Processor.from_source(source, **chosen)
        self.language = language
        self.model = engine.load_model(
            model, device=device, dtype=dtype, language=language, local_files_only=local_files_only
        )
        self.timeline = Timeline.of(self.model.config, self.processor.feature_extractor.sampling_rate)
        self.decoder: Decoder = (decoding or DecoderOptions()).decoder(source, self.processor.tokenizer)
        self.window, self.batch_seconds = window or Window(), batch_seconds

    def transcribe(self, path: str | os.PathLike[str]) -> Transcript:
        """Transcribe one file of any format, rate, channel count and length.

        Raises:
            AudioError: the file cannot be read or is below the model's receptive field.
        """
        return next(iter(self.transcribe_all([path]))).unwrap()

    def transcribe_all(
        self,
        paths: Iterable[str | os.PathLike[str]],
        *,
        jobs: int = 1,
        progress: Progress | None = None,
    ) -> Iterator[Result]:
        """Transcribe files in their order; one that cannot be used does not stop the others.

        While the model runs, a thread reads the next files and ``jobs`` threads decode the last ones.

        Args:
            paths: any number of them; they are asked for a few ahead.
            jobs: threads for decoding.
            progress: called with seconds of audio that the model is through with.
        """
        if jobs < 1:
            raise InputError(f"jobs={jobs} must be 1 or more")
        decoders = ThreadPoolExecutor(jobs, thread_name_prefix="wav2vec2-decoder")
        waiting: deque[Future[Result]] = deque()
        ready = prefetched(map(self._prepare, paths), _AHEAD)
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

    def logits(self, path: str | os.PathLike[str], *, progress: Progress | None = None) -> Iterator[np.ndarray]:
        """The logits of a file of any length: (frames, vocab) float32 each, pieces that follow each other.

        Args:
            progress: called with seconds of audio that the caller is through with.

        Raises:
            AudioError: as ``transcribe``.
        """
        report = progress or (lambda seconds: None)
        prepared = self._prepare(path)
        if isinstance(prepared, Result):
            raise prepared.error or AudioError(f"{path} cannot be read")
        if prepared.waveform is not None:
            yield self.model.logits([prepared.waveform])[0]
            report(self._seconds(prepared.samples))
        else:
            yield from self._long_logits(prepared, prepared.recording, report)

    # ---- reading ------------------------------------------------------------------------------------------------

    def _prepare(self, path: str | os.PathLike[str]) -> _Prepared | Result:
        """Read a file once: whole if it is short, for its level otherwise."""
        try:
            return self._read(path)
        except Wav2Vec2Error as error:
            return Result(Path(path), error=error)

    def _read(self, path: str | os.PathLike[str]) -> _Prepared:
        config, extractor = self.model.config, self.processor.feature_extractor
        recording = Recording(path, sampling_rate=extractor.sampling_rate)
        limit = int(self.window.longest * extractor.sampling_rate)
        blocks, taken, samples = iter(recording), [], 0
        for block in blocks:
            taken.append(block)
            samples += len(block)
            if samples > limit:
                break
        if samples > limit:
            whole = chain(taken, blocks)
            if self.window.legacy:  # its chunks are normalised one by one
                return _Prepared(recording, samples + sum(map(len, blocks)))
            level = SignalStatistics.of(config, extractor, whole)
            return _Prepared(recording, level.count, level=level)
        if not taken:
            raise AudioError(f"{path} holds no samples: record or export it again")
        if samples < config.receptive_field:
            raise too_short(path, samples, config, extractor.sampling_rate)
        values = extractor(np.concatenate(taken), sampling_rate=extractor.sampling_rate, return_tensors="np")
        return _Prepared(recording, samples, waveform=values["input_values"][0])

    # ---- running ------------------------------------------------------------------------------------------------

    def _futures(
        self, ready: Iterable[_Prepared | Result], decoders: ThreadPoolExecutor, progress: Progress
    ) -> Iterator[Future[Result] | None]:
        """Run the model over what was read: a result for each, in order; ``None`` before a long recording begins."""
        batch: list[_Prepared | Result] = []
        seconds = 0.0
        for item in ready:
            length = 0.0 if isinstance(item, Result) else self._seconds(item.samples)
            is_long = isinstance(item, _Prepared) and item.waveform is None
            if batch and (is_long or seconds + length > self.batch_seconds):
                yield from self._run(batch, decoders, progress)
                batch, seconds = [], 0.0
            if isinstance(item, _Prepared) and item.waveform is None:
                yield None
                yield _completed(self._run_long(item, decoders, progress))
            else:
                batch.append(item)
                seconds += length
        yield from self._run(batch, decoders, progress)

    def _run(
        self, batch: Sequence[_Prepared | Result], decoders: ThreadPoolExecutor, progress: Progress
    ) -> Iterator[Future[Result]]:
        """Short recordings in one pass; errors keep their place among them."""
        waveforms = [item.waveform for item in batch if isinstance(item, _Prepared) and item.waveform is not None]
        logits = iter(self.model.logits(waveforms) if waveforms else [])
        for item in batch:
            if isinstance(item, Result):
                yield _completed(item)
            else:
                yield decoders.submit(self._decode, item, next(logits))
                progress(self._seconds(item.samples))

    def _decode(self, item: _Prepared, logits: np.ndarray) -> Result:
        path = item.recording.path
        try:
            text, words = self.decoder.decode(logits)
        except Wav2Vec2Error as error:
            return Result(path, error=error)
        return Result(path, self._transcript(item, text, words))

    def _run_long(self, item: _Prepared, decoders: ThreadPoolExecutor, progress: Progress) -> Result:
        """A long recording: its logits are decoded piece by piece, each while the model makes the next."""
        stream = self.decoder.stream()
        words: list[Word] = []
        decoding: Future[list[Word]] | None = None
        blocks = prefetched(item.recording, _AHEAD)
        try:
            for logits in self._long_logits(item, blocks, progress):
                if decoding is not None:
                    words += decoding.result()
                decoding = decoders.submit(stream.feed, logits)
            if decoding is not None:
                words += decoding.result()
            words += stream.finish()
        except Wav2Vec2Error as error:
            return Result(item.recording.path, error=error)
        finally:
            blocks.close()
        return Result(item.recording.path, self._transcript(item, text_of(words, self.processor.tokenizer), words))

    def _long_logits(self, item: _Prepared, blocks: Iterable[np.ndarray], progress: Progress) -> Iterator[np.ndarray]:
        """The logits of a long recording, piece by piece; one is through with when the next is asked for."""
        done = 0.0
        for logits in logit_blocks(
            self.model,
            self.processor.feature_extractor,
            blocks,
            window=self.window,
            level=item.level,
            batch_seconds=self.batch_seconds,
        ):
            yield logits
            seconds = self.timeline.seconds(len(logits))
            progress(seconds)
            done += seconds
        progress(max(0.0, self._seconds(item.samples) - done))

    def _transcript(self, item: _Prepared, text: str, words: Sequence[Word]) -> Transcript:
        parts = tuple(part for word in words for part in split_unspaced(word))
        return Transcript(text, parts, self.timeline, self._seconds(item.samples), self.language)

    def _seconds(self, samples: int) -> float:
        return samples / self.timeline.sampling_rate


def transcribe(
    paths: Iterable[str | os.PathLike[str]],
    model: str | os.PathLike[str] = EMBEDDED_MODEL,
    *,
    jobs: int = 1,
    progress: Progress | None = None,
    **options: Any,
) -> Iterator[Result]:
    """Transcribe files: a ``Result`` for each, in their order, as soon as it is known.

    Args:
        paths: recordings of any format and length.
        model: folder or hub id.
        jobs, progress: as ``Transcriber.transcribe_all`` takes them.
        options: as ``Transcriber`` takes them: ``backend``, ``device``, ``dtype``, ``language``, ``window`` ...

    Raises:
        CheckpointError, InputError, BackendError: the model cannot be used. A recording that cannot be is a result.
    """
    return Transcriber(model, **options).transcribe_all(paths, jobs=jobs, progress=progress)


def _completed(result: Result) -> Future[Result]:
    future: Future[Result] = Future()
    future.set_result(result)
    return future
