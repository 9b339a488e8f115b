"""The batches of a training run. Those of step n are a function of the seed and n, so a run can resume at any step."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import count
from typing import Any

import numpy as np

from wav2vec2_core.audio.prefetching import prefetched
from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.data.bucketing import epoch_steps, next_of_few, similar_lengths
from wav2vec2_core.data.checking import Labels, Row, name_of
from wav2vec2_core.data.collate import filled_batch, pad_batch, training_batch
from wav2vec2_core.errors import AudioError, InputError, brief
from wav2vec2_core.feature_extraction import Wav2Vec2FeatureExtractor

_AHEAD = 2  # steps read while the model computes
_MOST_THREADS = 8  # that decode
_NO_LABEL = -100


@dataclass(frozen=True)
class StepData:
    """The data of one process for one optimizer update.

    number, epoch: from 0; micro: batches as ``wav2vec2_core.training.steps.Batch``; targets: what the sum of losses is
    divided by; seconds: of audio; names: of the rows, for messages; frames: of ``seconds``; samples: of each row that
    are computed; these five of all processes together. unreadable: why rows of this process are silence without labels.
    """

    number: int
    epoch: int
    micro: tuple[dict[str, np.ndarray], ...]
    targets: int
    seconds: float
    names: tuple[str, ...]
    unreadable: tuple[str, ...] = ()
    frames: int = 0
    samples: tuple[int, ...] = ()


class Steps:
    """Rows of the data as steps of training: what loaders have in common.

    The position in the data is the number of the step. Iterating gives the steps from there on, without an end;
    ``get_state`` and ``set_state`` keep it for a resume.

    Attributes:
        unreadable: row -> why it could be read when the data were checked and cannot any more.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        feature_extractor: Wav2Vec2FeatureExtractor,
        config: Wav2Vec2Config,
        *,
        batch_seconds: float,
        micro_batch_seconds: float,
        seed: int,
        process: tuple[int, int] = (0, 1),
        few_shapes: bool = False,
        most_unreadable: int = 0,
    ) -> None:
        """Describe the data; recordings are read when their step is.

        Args:
            rows: checked, as ``check_rows`` returns them.
            feature_extractor: of the model.
            config: of the model; its masking and layer drop are drawn.
            batch_seconds: audio of one update, over all processes and micro-batches.
            micro_batch_seconds: audio that is computed at once, with its padding.
            seed: of the order and of every draw.
            process: index and number of processes; each is given its share of every micro-batch, padded and filled up
                to one shape in all of them.
            few_shapes: let few shapes of micro-batches occur: for frameworks that compile a step for each.
            most_unreadable: rows that may become unreadable during the run; they are silence without labels, which
                adds nothing to a loss. One more is an ``AudioError``.

        Raises:
            InputError: there are no rows, or ``process`` is none.
        """
        if not rows:
            raise InputError("there are no rows to train on: check the manifest with wav2vec2 data check")
        if not 0 <= process[0] < process[1]:
            raise InputError(f"process={process} must be an index from 0 and the number of processes above it")
        self.rows, self.extractor, self.config = tuple(rows), feature_extractor, config
        self.seed, self.process, self.few_shapes = seed, process, few_shapes
        self.most_unreadable = most_unreadable
        self.unreadable: dict[int, str] = {}
        self._position = 0
        self._lengths = [row.samples for row in rows]  # that are computed of each
        self._rate = feature_extractor.sampling_rate
        self._limits = round(batch_seconds * self._rate), round(micro_batch_seconds * self._rate)
        self._first = [0]  # number of the first step of each epoch that was asked for, and of the one after
        self._planned: tuple[int, list[list[list[int]]]] = (-1, [])

    def epoch_of(self, number: int) -> int:
        """The epoch that a step is in, both from 0."""
        while self._first[-1] <= number:
            self._first.append(self._first[-1] + len(self._plan(len(self._first) - 1)))
        return int(np.searchsorted(self._first, number, side="right")) - 1

    def at(self, number: int) -> StepData:
        """The step of this number. Raises ``AudioError`` where a recording cannot be read any more."""
        epoch = self.epoch_of(number)
        buckets = self._plan(epoch)[number - self._first[epoch]]
        everyone = [row for bucket in buckets for row in bucket]
        unreadable: list[str] = []
        made = [self._batch(bucket, number, unreadable) for bucket in buckets]
        micro, targets = tuple(batch for batch, _ in made), sum(count for _, count in made)
        samples = tuple(self._lengths[row] for row in everyone)
        seconds = sum(samples) / self._rate
        names = tuple(name_of(self.rows[row].utterance) for row in everyone)
        frames = sum(self.config.num_frames(length, add_adapter=False) for length in samples)
        return StepData(number, epoch, micro, targets, seconds, names, tuple(unreadable), frames, samples)

    @property
    def seconds(self) -> float:
        """Of audio in an epoch."""
        return sum(self._lengths) / self._rate

    def steps(self, first: int, end: int | None = None) -> Generator[StepData]:
        """The steps from ``first`` up to ``end``, if there is one, read ahead in threads. Raises ``AudioError``."""
        numbers = count(first) if end is None else range(first, end)
        return prefetched((self.at(number) for number in numbers), _AHEAD)

    def __iter__(self) -> Generator[StepData]:
        with closing(self.steps(self._position)) as steps:
            for data in steps:
                self._position = data.number + 1
                yield data

    def get_state(self) -> dict[str, Any]:
        """The position behind the step that was taken last, JSON-ready, and what it is a position in."""
        return {"step": self._position, **self._data()}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go on where ``get_state`` was called. Raises ``InputError`` where that was with other data or batches."""
        here = self._data()
        names = [name for name, value in here.items() if state.get(name) != value]
        step = state.get("step")
        if names:
            shown = "; ".join(f"{name} was {brief(state.get(name))} and is {brief(here[name])}" for name in names)
            raise InputError(f"the position is one in other data: {shown}; go on with the same data, batches and seed")
        if not isinstance(step, int) or isinstance(step, bool) or step < 0:
            raise InputError(f"the position has step={brief(step)}: it must be a number of steps, 0 or more")
        self._position = step

    def _data(self) -> dict[str, Any]:
        return {"seed": self.seed, "batch_samples": list(self._limits), "data": self._digest}

    @cached_property
    def _digest(self) -> str:
        """Of the rows, with names of files but not of folders: data may move."""
        digest = hashlib.sha256()
        for row in self.rows:
            digest.update(repr((row.utterance.path.name, row.utterance.offset, row.samples, row.labels)).encode())
        return digest.hexdigest()

    def _plan(self, epoch: int) -> list[list[list[int]]]:
        if self._planned[0] != epoch:
            self._planned = epoch, self._steps_of(epoch)
        return self._planned[1]

    def _steps_of(self, epoch: int) -> list[list[list[int]]]:
        """The rows of every micro-batch of every step of an epoch."""
        raise NotImplementedError

    def _batch(self, bucket: Sequence[int], step: int, unreadable: list[str]) -> tuple[dict[str, np.ndarray], int]:
        """This process's share of a micro-batch, of the same shape in all processes, and what the whole of it adds to
        the number that the sum of losses is divided by; adds to ``unreadable``.
        """
        raise NotImplementedError

    def _waveforms(self, share: Sequence[int]) -> tuple[list[np.ndarray], list[int]]:
        """The waveforms of rows, and the places among them of those that are silence. Raises ``AudioError``."""
        waveforms: list[np.ndarray] = []
        silent: list[int] = []
        for number, found in zip(share, decoded([self.rows[row] for row in share], self.extractor), strict=True):
            if isinstance(found, AudioError):
                self.unreadable[number] = str(found)
                if len(self.unreadable) > self.most_unreadable:
                    some = f"; {len(self.unreadable)} rows are so by now" if self.most_unreadable else ""
                    raise AudioError(f"{found} (it could be read when the data were checked{some})") from found
                silent.append(len(waveforms))
                found = np.zeros(self.rows[number].samples, np.float32)
            waveforms.append(found)
        return waveforms, silent


class Loader(Steps):
    """Rows with labels as steps of training."""

    def __init__(
        self,
        rows: Sequence[Row],
        feature_extractor: Wav2Vec2FeatureExtractor,
        config: Wav2Vec2Config,
        labels: Labels,
        **options: Any,
    ) -> None:
        """``labels``: of the rows; others as of ``Steps``."""
        super().__init__(rows, feature_extractor, config, **options)
        self.labels = labels

    def _steps_of(self, epoch: int) -> list[list[list[int]]]:
        return epoch_steps(self._lengths, *self._limits, self.seed, epoch)

    def _batch(self, bucket: Sequence[int], step: int, unreadable: list[str]) -> tuple[dict[str, np.ndarray], int]:
        share, rows_of_each = dealt(bucket, self.process)
        waveforms, silent = self._waveforms(share)
        unreadable += [self.unreadable[share[position]] for position in silent]
        rows = [self.rows[number] for number in bucket]
        batch = training_batch(
            waveforms,
            share,
            self.config,
            seed=self.seed,
            step=step,
            samples=max(row.samples for row in rows),
            few_shapes=self.few_shapes,
        )
        frames = self.config.num_frames(batch["input_values"].shape[1])
        labels = dealt(self.labels.array(rows, frames, few_shapes=self.few_shapes), self.process)[0]
        labels[silent] = _NO_LABEL
        targets = sum(map(self.labels.count, rows))
        return filled_batch(batch | {"labels": labels}, rows_of_each), targets


def dealt(rows: Any, process: tuple[int, int]) -> tuple[Any, int]:
    """The rows of one process out of those of all, and the rows that every process has once it is filled up."""
    index, processes = process
    return rows[index::processes], -(-len(rows) // processes)


def evaluation_batches(
    rows: Sequence[Row],
    feature_extractor: Wav2Vec2FeatureExtractor,
    seconds: float,
    *,
    process: tuple[int, int] = (0, 1),
    few_shapes: bool = False,
) -> Generator[tuple[list[Row], dict[str, np.ndarray]]]:
    """All rows once, the shortest first, with batches of waveforms and masks; read ahead. Raises ``AudioError``.

    Several processes are given their shares of each batch, in one shape: rows that a share lacks are silence.

    Args:
        rows: to score.
        feature_extractor: of the model.
        seconds: of audio in a batch with its padding.
        process: index and number of processes.
        few_shapes: see ``training_batch``.
    """
    size = next_of_few if few_shapes else int
    lengths = [size(row.samples) for row in rows]

    def batches() -> Generator[tuple[list[Row], dict[str, np.ndarray]]]:
        for indices in similar_lengths(lengths, round(seconds * feature_extractor.sampling_rate)):
            share, rows_of_each = dealt(indices, process)
            chosen = [rows[index] for index in share]
            waveforms = [_or_raise(found) for found in decoded(chosen, feature_extractor)]
            values, mask = pad_batch(waveforms, rows_of_each, max(lengths[index] for index in indices))
            yield chosen, {"input_values": values, "attention_mask": mask}

    return prefetched(batches(), _AHEAD)


def decoded(rows: Sequence[Row], feature_extractor: Wav2Vec2FeatureExtractor) -> list[np.ndarray | AudioError]:
    """The waveform of each row, as ``waveform_of``, or why there is none; several at a time."""

    def one(row: Row) -> np.ndarray | AudioError:
        try:
            return waveform_of(row, feature_extractor)
        except AudioError as error:
            return error

    return list(_threads(os.getpid()).map(one, rows))


@cache
def _threads(process: int) -> ThreadPoolExecutor:
    """The threads that decode for everything in this process: those of its parent do not live here."""
    return ThreadPoolExecutor(max(2, min(_MOST_THREADS, os.cpu_count() or 1)), "wav2vec2-decoder")


def _or_raise(found: np.ndarray | AudioError) -> np.ndarray:
    if isinstance(found, AudioError):
        raise found
    return found


def waveform_of(row: Row, feature_extractor: Wav2Vec2FeatureExtractor) -> np.ndarray:
    """(samples,) float32 of a row, as the model takes them. Raises ``AudioError``, also where its length changed."""
    rate = feature_extractor.sampling_rate
    samples = row.utterance.recording(sampling_rate=rate).read()
    if len(samples) != row.samples:
        raise AudioError(
            f"{name_of(row.utterance)} has {len(samples)} samples at {rate} Hz and had {row.samples}: restore the file"
        )
    inputs = feature_extractor(samples, sampling_rate=rate, return_attention_mask=False, return_tensors="np")
    return inputs["input_values"][0]
