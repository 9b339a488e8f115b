"""The loop of training: a generator of updates, evaluations and notes that name the cause of a trouble."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wav2vec2_core.data.loader import StepData, Steps
from wav2vec2_core.errors import InputError
from wav2vec2_core.files import read_json, write_json
from wav2vec2_core.flops import training_flops
from wav2vec2_core.parameters import trainable_names
from wav2vec2_core.training.diagnosis import refusal, troubles
from wav2vec2_core.training.processes import is_first, number_of_first, text_of_first, wait_for_all
from wav2vec2_core.training.run_folder import RunFolder
from wav2vec2_core.training.steps import StepValues, Trainer
from wav2vec2_core.training.stopping import stop_requests
from wav2vec2_core.training.tasks.task import Scores

_STATE, _DATA = "state", "data.json"  # of the trainer, and the position in the data, in the folder of a checkpoint


def _forget(record: Any) -> None:
    """Takes the place of writing in all processes but the first."""


@dataclass(frozen=True)
class Update:
    """One update. step: updates made; loss: mean of its utterances, None where it is not finite; seconds: of audio;
    refused: utterances of an update that changed nothing, because its gradient was not finite; measures: what else was
    measured, by name; operations: floating-point operations of all processes together, 0 where they are not counted;
    peak: the most that their devices do in a second, None where unknown."""

    step: int
    epoch: int
    loss: float | None
    learning_rate: float
    gradient_norm: float | None
    seconds: float
    refused: tuple[str, ...] = ()
    measures: Mapping[str, float] = field(default_factory=dict)
    operations: float = 0.0
    peak: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """A line of train.jsonl."""
        record = {
            "step": self.step,
            "epoch": self.epoch,
            "loss": self.loss,
            "learning_rate": self.learning_rate,
            "gradient_norm": self.gradient_norm,
            "seconds": self.seconds,
        }
        return record | dict(self.measures) | ({"refused": list(self.refused)} if self.refused else {})


@dataclass(frozen=True)
class Evaluated:
    """Scores after so many updates, and whether they are the best so far."""

    step: int
    scores: Scores
    best: bool

    def to_dict(self) -> dict[str, Any]:
        """A line of train.jsonl."""
        return {"step": self.step, "scores": dict(self.scores.values), "ranking": list(self.scores.ranking)}


@dataclass(frozen=True)
class Note:
    """Something that the user should know."""

    text: str


Event = Update | Evaluated | Note


class Loop:
    """A run: its trainer, its data and its folder. ``events`` makes the updates.

    Attributes:
        stopped: whether SIGTERM ended the run before its last update.
    """

    def __init__(
        self,
        trainer: Trainer,
        loader: Steps,
        evaluate: Callable[[], Scores] | None,
        recipe: Any,
        folder: RunFolder,
        *,
        head: str,
        frozen: str | None = "feature_encoder",
    ) -> None:
        """``evaluate``: None for a run without scores; ``recipe``: a ``Recipe``, or of such a run another."""
        self.trainer, self.loader, self.head, self.frozen = trainer, loader, head, frozen
        self.evaluate, self.recipe, self.folder = evaluate, recipe, folder
        self._rankings: list[tuple[float, ...]] = []  # of the evaluations so far
        self._losses: list[list[float]] = [[], []]  # between the last two evaluations, and since the last one
        self._refused: list[str] = []
        self._refused_in_a_row = 0
        self._unreadable: set[str] = set()  # why recordings of this process are silence now
        self.stopped = False
        self._peak = trainer.devices.peak(recipe.compute.dtype)

    def events(self) -> Generator[Event]:
        """Make the updates that are left, from the newest checkpoint that verifies, or from the start.

        With several processes every one of them does, with the same events; the first writes.

        Raises:
            InputError: too many updates were refused, or a batch breaks a rule.
            AudioError: a recording cannot be read any more.
            OutputError: the folder cannot be written.
            BackendError: another process has ended.
        """
        notes: list[str] = []
        first = self._go_on(notes.append)
        yield from map(Note, notes)
        if self._patience_is_over():
            yield Note(f"the run has ended early: {self._stale()} evaluations without better scores")
            return
        data = self.loader.steps(first, self.recipe.schedule.steps)
        try:
            recording = self.folder.recording() if is_first(self.trainer) else nullcontext(_forget)
            with recording as write, stop_requests(self.trainer) as asked_to_stop:
                for event in self._updates(data, first, asked_to_stop):
                    if not isinstance(event, Note):
                        write(event.to_dict())
                    yield event
        finally:
            data.close()

    def load_best(self) -> None:
        """Take over the parameters of the best checkpoint. Raises ``CheckpointError``."""
        wait_for_all(self.trainer)
        best = self.folder.best()
        if best is not None:
            self._load(best.folder, best.step)

    def _go_on(self, note: Callable[[str], None]) -> int:
        """The number of the first step that is left."""
        first = is_first(self.trainer)
        newest = self.folder.newest(note) if first else None  # which reads all files: once is enough
        step = number_of_first(self.trainer, 0 if newest is None else newest.step)
        for record in self.folder.forget_after(step) if first else self.folder.records_until(step):
            if "scores" in record:
                self._rankings.append(tuple(record["ranking"]))
                self._losses = [self._losses[1], []]
            elif record["loss"] is not None:
                self._losses[1].append(record["loss"])
            self._refused += record.get("refused", [])[:1]
        if step > 0:
            self.loader.set_state(read_json(self.folder.checkpoint(step) / _DATA))
            self._load(self.folder.checkpoint(step), step)
            note(f"going on after {step} updates")
        return step

    def _load(self, folder: Path, step: int) -> None:
        self.trainer.set_trainable(self._trainable(step - 1))
        self.trainer.load_state(folder / _STATE)

    def _save(self, made: int, scores: Scores | None) -> None:
        if is_first(self.trainer):
            self.folder.save(
                made,
                lambda folder: self._write(folder, made),
                scores=None if scores is None else scores.values,
                ranking=None if scores is None else scores.ranking,
                keep=self.recipe.checkpoints.keep,
            )
        else:
            self._write(self.folder.path, made)
        wait_for_all(self.trainer)

    def _write(self, folder: Path, made: int) -> None:
        """Each process its files, into the folder that the first one names."""
        place = text_of_first(self.trainer, os.path.relpath(folder, self.folder.path))
        self.trainer.save_state(self.folder.path / place / _STATE)()
        if is_first(self.trainer):
            write_json(self.folder.path / place / _DATA, self.loader.get_state() | {"step": made})
        wait_for_all(self.trainer)

    def _trainable(self, step: int) -> frozenset[str]:
        frozen = "base_model" if step < self.recipe.schedule.frozen_steps else self.frozen
        return trainable_names(self.trainer.config, self.head, frozen=frozen)

    def _updates(
        self, steps: Generator[StepData], first: int, asked_to_stop: Callable[[int], bool]
    ) -> Generator[Event]:
        schedule = self.recipe.schedule
        waiting: tuple[Any, StepData] | None = None  # the step that the device may still be at
        for data in steps:
            if data.number in (first, schedule.frozen_steps):
                self.trainer.set_trainable(self._trainable(data.number))
            handle = self.trainer.step(data.micro, data.number, self._values(data))
            if waiting is not None:
                yield from self._fetched(*waiting)
            waiting = handle, data
            made = data.number + 1
            last = made == schedule.steps
            evaluating = self.evaluate is not None and (last or made % self.recipe.evaluation.every == 0)
            self.stopped = asked_to_stop(made)
            if last or evaluating or self.stopped or made % self.recipe.checkpoints.every == 0:
                yield from self._fetched(*waiting)
                waiting = None
                scores = (yield from self._evaluated(made)) if evaluating else None
                self._save(made, scores)
                if self.stopped:
                    yield Note(f"stopped by SIGTERM after {made} updates: the same command with --resume goes on")
                    return
                if evaluating and self._patience_is_over():
                    yield Note(f"stopping early: {self._stale()} evaluations without better scores")
                    return

    def _values(self, data: StepData) -> StepValues:
        return StepValues(self.recipe.schedule.rate(data.number), data.targets, self.recipe.optimizer.clip or None)

    def _measures(self, found: Mapping[str, float], data: StepData) -> Mapping[str, float]:
        """What is kept of an update beside its loss, of what the trainer found."""
        return {}

    def _operations(self, data: StepData) -> float:
        """Of the update; updates that leave much of the transformer's backward pass out are not counted."""
        if data.number < self.recipe.schedule.frozen_steps or self.frozen not in (None, "feature_encoder"):
            return 0.0
        masked = data.targets // len(data.names) if self.head == "ForPreTraining" else 0
        options = {"masked": masked, "train_feature_encoder": self.frozen is None}
        return sum(
            rows * training_flops(self.trainer.config, self.head, samples, **options)
            for samples, rows in Counter(data.samples).items()
        )

    def _signs(self, update: Update) -> Iterator[Note]:
        """What an update says about the health of the run. Raises ``InputError`` where the run must stop."""
        yield from ()

    def _fetched(self, handle: Any, data: StepData) -> Generator[Update | Note]:
        found = self.trainer.fetch(handle)
        loss, norm = (value if math.isfinite(value) else None for value in (found["loss"], found["gradient_norm"]))
        names = data.names if found["refused"] else ()
        rate = self.recipe.schedule.rate(data.number)
        measures = {name: value for name, value in self._measures(found, data).items() if math.isfinite(value)}
        counted = self._operations(data), self._peak
        update = Update(data.number + 1, data.epoch, loss, rate, norm, data.seconds, names, measures, *counted)
        yield update
        for why in set(data.unreadable) - self._unreadable:
            self._unreadable.add(why)
            yield Note(f"update {update.step} goes without a recording, one of {len(self._unreadable)} by now: {why}")
        yield from self._signs(update)
        if loss is not None:
            self._losses[1].append(loss)
        self._refused_in_a_row = self._refused_in_a_row + 1 if names else 0
        if not names:
            return
        self._refused += names[:1]
        yield Note(refusal(update.step, names, loss=loss is not None, in_a_row=self._refused_in_a_row, rate=rate))
        if len(self._refused) > self.recipe.health.most_refused:
            raise InputError(
                f"{len(self._refused)} updates had no finite gradient, health.most_refused is "
                f"{self.recipe.health.most_refused}: lower the learning rate, or listen to what train.jsonl names"
            )

    def _evaluated(self, step: int) -> Generator[Evaluated | Note, None, Scores]:
        assert self.evaluate is not None
        scores = self.evaluate()
        best = not self._rankings or scores.ranking < min(self._rankings)
        self._rankings.append(scores.ranking)
        yield Evaluated(step, scores, best)
        before, since = (sum(losses) / len(losses) if losses else None for losses in self._losses)
        self._losses = [self._losses[1], []]
        schedule = self.recipe.schedule
        frozen = step <= schedule.frozen_steps
        yield from map(Note, troubles(step, scores, before, since, frozen=frozen, rate=schedule.rate(step - 1)))
        return scores

    def _stale(self) -> int:
        """Evaluations since the best one."""
        return len(self._rankings) - 1 - self._rankings.index(min(self._rankings)) if self._rankings else 0

    def _patience_is_over(self) -> bool:
        return self.evaluate is not None and 0 < self.recipe.evaluation.patience <= self._stale()
