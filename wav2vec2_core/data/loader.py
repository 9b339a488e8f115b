"""The batches of a training run. Those of step n are a function of the seed and n, so a run can resume at any step."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from wav2vec2_core.audio.prefetching import prefetched
from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.data.bucketing import epoch_steps, next_of_few, similar_lengths
from wav2vec2_core.data.checking import Labels, Row, name_of
from wav2vec2_core.data.collate import filled_batch, pad_batch, training_batch
from wav2vec2_core.errors import InputError
from wav2vec2_core.feature_extraction import Wav2Vec2FeatureExtractor

_AHEAD = 2  # steps read while the model computes


@dataclass(frozen=True)
class StepData:
    """The data of one process for one optimizer update.

    number, epoch: from 0; micro: batches as ``wav2vec2_core.training.steps.Batch``; targets: what the sum of losses is
    divided by; seconds: of audio; names: of the rows, for messages; these three of all processes together.
    """

    number: int
    epoch: int
    micro: tuple[dict[str, np.ndarray], ...]
    targets: int
    seconds: float
    names: tuple[str, ...]


class Loader:
    """Rows of a manifest as steps of training.

    The position in the data is the number of the step: nothing else needs to be kept for a resume.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        feature_extractor: Wav2Vec2FeatureExtractor,
        config: Wav2Vec2Config,
        labels: Labels,
        *,
        batch_seconds: float,
        micro_batch_seconds: float,
        seed: int,
        process: tuple[int, int] = (0, 1),
        few_shapes: bool = False,
    ) -> None:
        """Describe the data; recordings are read when their step is.

        Args:
            rows: checked, as ``check_rows`` returns them.
            feature_extractor: of the model.
            config: of the model; its masking and layer drop are drawn.
            labels: of the rows.
            batch_seconds: audio of one update, over all processes and micro-batches.
            micro_batch_seconds: audio that is computed at once, with its padding.
            seed: of the order and of every draw.
            process: index and number of processes; each is given its share of every micro-batch, padded and filled up
                to one shape in all of them.
            few_shapes: see ``training_batch``.

        Raises:
            InputError: there are no rows, or ``process`` is none.
        """
        if not rows:
            raise InputError("there are no rows to train on: check the manifest with wav2vec2 data check")
        if not 0 <= process[0] < process[1]:
            raise InputError(f"process={process} must be an index from 0 and the number of processes above it")
        self.rows, self.extractor, self.config, self.labels = tuple(rows), feature_extractor, config, labels
        self.seed, self.process, self.few_shapes = seed, process, few_shapes
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
        micro = tuple(self._batch(bucket, number) for bucket in buckets)
        seconds = sum(self.rows[row].samples for row in everyone) / self._rate
        names = tuple(name_of(self.rows[row].utterance) for row in everyone)
        targets = sum(self.labels.count(self.rows[row]) for row in everyone)
        return StepData(number, epoch, micro, targets, seconds, names)

    def steps(self, first: int, end: int) -> Generator[StepData]:
        """The steps from ``first`` up to ``end``, read ahead in a thread. Raises ``AudioError``."""
        return prefetched((self.at(number) for number in range(first, end)), _AHEAD)

    def _plan(self, epoch: int) -> list[list[list[int]]]:
        if self._planned[0] != epoch:
            lengths = [row.samples for row in self.rows]
            self._planned = epoch, epoch_steps(lengths, *self._limits, self.seed, epoch)
        return self._planned[1]

    def _batch(self, bucket: Sequence[int], step: int) -> dict[str, np.ndarray]:
        """This process's share of a micro-batch, of the same shape in all processes."""
        share, count = dealt(bucket, self.process)
        rows = [self.rows[number] for number in bucket]
        batch = training_batch(
            [waveform_of(self.rows[number], self.extractor) for number in share],
            share,
            self.config,
            seed=self.seed,
            step=step,
            samples=max(row.samples for row in rows),
            few_shapes=self.few_shapes,
        )
        frames = self.config.num_frames(batch["input_values"].shape[1])
        labels = self.labels.array(rows, frames, few_shapes=self.few_shapes)
        return filled_batch(batch | {"labels": dealt(labels, self.process)[0]}, count)


def dealt(rows: Any, process: tuple[int, int]) -> tuple[Any, int]:
    """The rows of one process out of those of all, and the rows that every process has once it is filled up."""
    index, count = process
    return rows[index::count], -(-len(rows) // count)


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
            share, count = dealt(indices, process)
            chosen = [rows[index] for index in share]
            waveforms = [waveform_of(row, feature_extractor) for row in chosen]
            values, mask = pad_batch(waveforms, count, max(lengths[index] for index in indices))
            yield chosen, {"input_values": values, "attention_mask": mask}

    return prefetched(batches(), _AHEAD)


def waveform_of(row: Row, feature_extractor: Wav2Vec2FeatureExtractor) -> np.ndarray:
    """(samples,) float32 of a row, as the model takes them. Raises ``AudioError``."""
    rate = feature_extractor.sampling_rate
    samples = row.utterance.recording(sampling_rate=rate).read()
    inputs = feature_extractor(samples, sampling_rate=rate, return_attention_mask=False, return_tensors="np")
    return inputs["input_values"][0]
