"""One model for many threads: their calls wait in one line, and those of one kind run together.

Utterances are packed without padding, so a call's numbers are those of a run alone, whatever runs beside it. The line
is served in its order, a batch at a time, so the windows of a long recording take turns with short recordings.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from wav2vec2_core.backend import InferenceModel
from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.errors import InputError
from wav2vec2_core.window_statistics import WindowStatistics

#: Called after every batch with the seconds of audio in it and the seconds it took.
BatchWatcher = Callable[[float, float], None]


@dataclass
class _Call:
    """One thread's call. work: what may run together with others of the same; inputs: an array for each utterance."""

    work: tuple[Any, ...]
    inputs: list[np.ndarray]
    statistics: list[WindowStatistics] | None
    seconds: float
    result: Future[list[np.ndarray]] = field(default_factory=Future)


class SharedModel:
    """Runs a model in a thread of its own, for any number of threads that call its views."""

    def __init__(
        self,
        model: InferenceModel,
        sampling_rate: int,
        *,
        language: str | None = None,
        batch_seconds: float = 60.0,
        batch_wait: float = 0.005,
        watcher: BatchWatcher | None = None,
    ) -> None:
        """Start the thread.

        Args:
            model: loaded; nobody else may call it from now on.
            sampling_rate: of its waveforms, in hertz.
            language: of MMS, whose adapter it was loaded with.
            batch_seconds: seconds of audio that run together at most; a longer call runs alone.
            batch_wait: seconds to wait for more calls while other requests are on their way.
            watcher: is told of every batch.
        """
        for name, value in (("batch_seconds", batch_seconds), ("batch_wait", batch_wait)):
            if not (value > 0 or (value == 0 and name == "batch_wait")) or value == float("inf"):
                raise InputError(f"{name}={value} is not possible: give a number of seconds")
        self._model, self._rate = model, sampling_rate
        self._batch_seconds, self._batch_wait = batch_seconds, batch_wait
        self._watcher = watcher
        self._language = language
        self._line: deque[_Call] = deque()
        self._coming = 0  # threads within ``taking_part``
        self._stopped = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="wav2vec2-model", daemon=True)
        self._thread.start()

    def view(self, language: str | None = None) -> SharedView:
        """The model as pipelines use it; ``language``: of MMS, whose adapter is switched to where another is in."""
        return SharedView(self, self._model, language)

    @contextmanager
    def taking_part(self) -> Iterator[None]:
        """A thread that is about to call: while one is on its way, a batch that is not full waits for it a moment."""
        with self._changed:
            self._coming += 1
        try:
            yield
        finally:
            with self._changed:
                self._coming -= 1
                self._changed.notify_all()

    def stop(self) -> None:
        """End the thread once the line is empty. Later calls raise ``RuntimeError``."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        self._thread.join()

    def run(
        self,
        work: tuple[Any, ...],
        inputs: Sequence[np.ndarray],
        samples: int,
        statistics: Sequence[WindowStatistics] | None = None,
    ) -> list[np.ndarray]:
        """Wait for one's turn: the results, an array for each input.

        Args:
            work: language, name of the model's method, and arguments that all inputs of a batch share.
            inputs: waveforms or features.
            samples: of audio in all of them.
            statistics: one for each, of waveforms to be encoded.
        """
        given = None if statistics is None else list(statistics)
        call = _Call((*work, given is not None), list(inputs), given, samples / self._rate)
        with self._changed:
            if self._stopped:
                raise RuntimeError("the model was stopped")
            self._line.append(call)
            self._changed.notify_all()
        return call.result.result()

    # ---- the thread ---------------------------------------------------------------------------------------------

    def _work(self) -> None:
        while batch := self._next():
            started = time.perf_counter()
            self._finish(batch)
            if self._watcher is not None:
                self._watcher(sum(call.seconds for call in batch), time.perf_counter() - started)

    def _next(self) -> list[_Call]:
        """The first call and those behind it that may run with it, as many as fit; nothing at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._line or self._stopped)
            if not self._line:
                return []
            first = self._line[0]

            def is_complete() -> bool:
                alike = [call.seconds for call in self._line if call.work == first.work]
                return sum(alike) >= self._batch_seconds or self._coming <= len(self._line)

            self._changed.wait_for(is_complete, self._batch_wait)
            batch, rest, seconds = [], deque[_Call](), 0.0
            for call in self._line:
                fits = not batch or seconds + call.seconds <= self._batch_seconds
                if call.work == first.work and fits:
                    batch.append(call)
                    seconds += call.seconds
                else:
                    rest.append(call)
            self._line = rest
            return batch

    def _finish(self, batch: list[_Call]) -> None:
        """Run a batch; where it fails, its calls one by one, so that one that cannot run fails alone."""
        try:
            results = iter(self._run(batch))
            for call in batch:
                call.result.set_result([next(results) for _ in call.inputs])
        except Exception as error:
            if len(batch) == 1:
                batch[0].result.set_exception(error)
                return
            for call in batch:
                self._finish([call])

    def _run(self, batch: list[_Call]) -> list[np.ndarray]:
        language, method, *arguments, measured = batch[0].work
        if language is not None and language != self._language:
            self._language = None  # unknown, should this fail
            self._model.use_language(language)
            self._language = language
        inputs = [one for call in batch for one in call.inputs]
        if measured:
            arguments.append([one for call in batch for one in call.statistics or ()])
        return getattr(self._model, method)(inputs, *arguments)


class SharedView:
    """An ``InferenceModel`` of one language whose calls take their turn."""

    def __init__(self, shared: SharedModel, model: InferenceModel, language: str | None) -> None:
        self._shared, self._model, self._language = shared, model, language

    @property
    def config(self) -> Wav2Vec2Config:
        """The configuration in effect; its ``vocab_size`` may be that of another language."""
        return self._model.config

    def logits(self, waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
        """As ``InferenceModel.logits``."""
        return self._shared.run((self._language, "logits"), waveforms, sum(map(len, waveforms)))

    def encode(
        self, waveforms: Sequence[np.ndarray], statistics: Sequence[WindowStatistics] | None = None
    ) -> list[np.ndarray]:
        """As ``InferenceModel.encode``."""
        return self._shared.run((None, "encode"), waveforms, sum(map(len, waveforms)), statistics)

    def contextualize(self, features: Sequence[np.ndarray]) -> list[np.ndarray]:
        """As ``InferenceModel.contextualize``."""
        return self._shared.run((self._language, "contextualize"), features, self._samples(features))

    def hidden_states(self, features: Sequence[np.ndarray], layers: Sequence[int]) -> list[np.ndarray]:
        """As ``InferenceModel.hidden_states``."""
        return self._shared.run((self._language, "hidden_states", tuple(layers)), features, self._samples(features))

    def embed(self, features: Sequence[np.ndarray]) -> list[np.ndarray]:
        """As ``InferenceModel.embed``."""
        return self._shared.run((self._language, "embed"), features, self._samples(features))

    def pool(self, features: Sequence[np.ndarray]) -> list[np.ndarray]:
        """As ``InferenceModel.pool``."""
        return self._shared.run((self._language, "pool"), features, self._samples(features))

    def classify(self, pooled: Sequence[np.ndarray]) -> list[np.ndarray]:
        """As ``InferenceModel.classify``."""
        return self._shared.run((self._language, "classify"), pooled, 0)

    def use_language(self, language: str) -> None:
        """Refused: a view has the language that it was made with. Raises ``InputError``."""
        raise InputError(f"a view cannot be switched to {language!r:.100}: make one of that language")

    def summary(self) -> str:
        """As ``InferenceModel.summary``."""
        return self._model.summary()

    def _samples(self, features: Sequence[np.ndarray]) -> int:
        return sum(map(len, features)) * self.config.inputs_to_logits_ratio
