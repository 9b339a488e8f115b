"""Fine-tuning: from a model, a task, two sets of data and a recipe to a folder with the result."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wav2vec2_core.backend import Backend, load_backend
from wav2vec2_core.checkpoint import Checkpoint, has_weights, open_checkpoint
from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.data.checking import Checked, check_not_empty, check_rows
from wav2vec2_core.data.loader import Loader, evaluation_batches
from wav2vec2_core.data.manifest import Utterance
from wav2vec2_core.data.opening import digest_of, name_of_source, open_rows
from wav2vec2_core.errors import CheckpointError, InputError
from wav2vec2_core.parameters import initial_values, parameter_table, trainable_names
from wav2vec2_core.source import open_model
from wav2vec2_core.training.card import write_card
from wav2vec2_core.training.estimates import Memory, memory_of
from wav2vec2_core.training.loop import Event, Loop, Update
from wav2vec2_core.training.processes import join_processes
from wav2vec2_core.training.recipe import Recipe
from wav2vec2_core.training.run_folder import RunFolder
from wav2vec2_core.training.steps import StepValues, Trainer
from wav2vec2_core.training.tasks import Job, OpenedModel, Scores, Task, Tested
from wav2vec2_core.training.tracking import run_to_the_end


@dataclass(frozen=True)
class Data:
    """Rows of the data, the name of their source, and their digest."""

    manifest: str
    digest: str
    checked: Checked


@dataclass(frozen=True)
class Trial:
    """Two updates that were made to see how they do.

    first: the first of the run; seconds: what the second one took; whole_run: seconds that all updates would take at
    that rate, evaluations not included.
    """

    first: Update
    seconds: float
    whole_run: float


class FineTuning:
    """Everything that is known before the first update; nothing is written yet.

    Where a launcher has started several processes, each makes one and calls the same methods.

    Attributes:
        recipe: of the run.
        job: the task, with the model and the data.
        config: of the model as it will be trained.
        fresh: whether the model has no weights yet: those of the recipe's seed are made.
        process: index and number of processes.
        train, evaluation, test: the data, checked.
        stopped: whether SIGTERM has ended ``run``.
    """

    def __init__(
        self,
        task: Task,
        model: str | os.PathLike[str],
        train: str | os.PathLike[str] | Sequence[Any],
        evaluation: str | os.PathLike[str] | Sequence[Any],
        recipe: Recipe,
        *,
        test: str | os.PathLike[str] | Sequence[Any] | None = None,
        backend: str = "torch",
        device: str = "auto",
        local_files_only: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        """Open the model and read all recordings once.

        Args:
            task: what is to be learned: see ``wav2vec2_core.training.tasks``.
            model: folder or hub id; a head that it lacks is made. A folder without any weights starts a fresh model.
            train, evaluation: manifests, folders, tar shards or rows: see ``open_rows``.
            recipe: what to do.
            test: what the result is scored on at the end, the evaluation data by default.
            backend: ``torch``, ``tf`` or ``flax``.
            device: one of the back end's, or ``"auto"``.
            local_files_only: do not ask the hub.
            progress: is told how many more rows have been read.

        Raises:
            CheckpointError, ConfigError: the model cannot be used.
            InputError: there are no data, none of their rows can be used, or a value breaks a rule.
            BackendError: the back end, or jiwer for error rates, is not installed.
        """
        self.process = join_processes(backend)
        self.stopped = False
        self.recipe, self.task, self.model_name, self.device = recipe, task, str(model), device
        source = open_model(model, local_files_only=local_files_only)
        self.fresh = Path(source.name).is_dir() and not has_weights(source)
        checkpoint = Checkpoint.of({}) if self.fresh else open_checkpoint(source)
        opened = OpenedModel(source, Wav2Vec2Config.from_source(source), checkpoint, recipe.seed)
        rows = open_rows(train)
        self.job: Job = task.prepare(opened, rows)
        self.config = training_config(self.job.config, recipe)
        if recipe.schedule.train_feature_encoder and self.job.frozen != "feature_encoder":
            raise InputError(
                "schedule.train_feature_encoder is true, but an adapter leaves the rest of the model as it is: "
                "leave out --adapter, or --set schedule.train_feature_encoder=false"
            )
        self._frozen = None if recipe.schedule.train_feature_encoder else self.job.frozen  # throughout the run
        if self.fresh:
            self._check_trains_everything()
            values = initial_values(parameter_table(self.config, self.job.head), recipe.seed)
            self.job.checkpoint = Checkpoint.of(dict(values))
        self.backend: Backend = load_backend(backend)
        self._few_shapes = bool(self.backend.finetuning.FEW_SHAPES)
        longest = min(recipe.data.batch_seconds, recipe.data.micro_batch_seconds)
        self.train = self._data(train, rows, longest, progress)
        self.evaluation = self._data(evaluation, open_rows(evaluation), None, progress)
        check_not_empty(self.train.checked, self.train.manifest, self.train.checked.rows)
        self.test = self.evaluation if test is None else self._data(test, open_rows(test), None, progress)
        for data in (self.evaluation, self.test):
            scorable = data.checked.scorable
            check_not_empty(data.checked, data.manifest, scorable)
            self.job.scores(scorable, self.job.counts(len(scorable)))  # where it cannot score them it says so now
        self.loader = Loader(
            self.train.checked.rows,
            self.job.feature_extractor,
            self.config,
            self.job.labels,
            batch_seconds=recipe.data.batch_seconds,
            micro_batch_seconds=recipe.data.micro_batch_seconds,
            seed=recipe.seed,
            process=self.process,
            few_shapes=self._few_shapes,
        )

    def configuration(self) -> dict[str, Any]:
        """What the run is, JSON-ready: what a resume compares."""
        return {
            "task": {"name": self.task.name, **self.task.options()},
            "backend": self.backend.name,
            "model": self.model_name,
            "train": {"manifest": self.train.manifest, "sha256": self.train.digest},
            "eval": {"manifest": self.evaluation.manifest, "sha256": self.evaluation.digest},
            "recipe": self.recipe.identity(),
        }

    def open_trainer(self) -> Trainer:
        """The model with its optimizer, where the back end computes. Raises ``CheckpointError``."""
        return self.backend.finetuning.new_trainer(
            self.job.checkpoint, self.config, self.recipe, head=self.job.head, device=self.device
        )

    def try_steps(self) -> Trial:
        """Make two updates, with everything trained that is later in the run, and keep nothing of them."""
        trainer = self.open_trainer()
        trainer.set_trainable(self._trained())
        updates: list[Update] = []
        taken = 0.0
        for number in range(2):  # the first one compiles, and fills caches
            data, rate = self.loader.at(number), self.recipe.schedule.rate(number)
            start = time.perf_counter()
            values = StepValues(rate, data.targets, self.recipe.optimizer.clip or None)
            found = trainer.fetch(trainer.step(data.micro, number, values))
            taken = time.perf_counter() - start
            updates.append(Update(number + 1, data.epoch, found["loss"], rate, found["gradient_norm"], data.seconds))
        trainer.close()
        whole_run = self.recipe.schedule.steps * taken * self.effective_batch() / updates[-1].seconds
        return Trial(updates[0], taken, whole_run)

    def memory(self) -> Memory:
        """An estimate of what each process needs for its share of the largest micro-batch, with a whole model."""
        rate, limits = self.job.feature_extractor.sampling_rate, self.recipe.data
        seconds = min(limits.batch_seconds, limits.micro_batch_seconds, self.train.checked.seconds)
        longest = max(row.samples for row in self.train.checked.rows)
        return memory_of(
            self.config,
            self.job.head,
            self._trained(),
            max(int(seconds * rate) // self.process[1], longest),
            longest,
            dtype=self.recipe.compute.dtype,
            keeps_attention=self.backend.name != "torch",
        )

    def _trained(self) -> frozenset[str]:
        return trainable_names(self.config, self.job.head, frozen=self._frozen)

    def run(self, folder: RunFolder, trainer: Trainer | None = None) -> Generator[Event]:
        """Make the updates that are left, then write the model and what belongs to it into ``folder.model``.

        SIGTERM ends it after the update that it is at, with a checkpoint and without a model: ``stopped`` says so.
        ``trainer``: of ``open_trainer``, where it was called already.

        Raises:
            InputError, AudioError, OutputError: see ``Loop.events``.
        """
        trainer = trainer or self.open_trainer()
        loop = Loop(
            trainer,
            self.loader,
            lambda: self.score(trainer),
            self.recipe,
            folder,
            head=self.job.head,
            frozen=self._frozen,
        )
        yield from run_to_the_end(loop, folder, self.job.save)
        self.stopped = loop.stopped

    def finish(self, folder: RunFolder, progress: Callable[[float], None] | None = None) -> list[Tested]:
        """Score the result on the test data, and write its card; one process does.

        Args:
            folder: of a run that has ended.
            progress: called with the seconds of audio that were scored since the last call.

        Raises:
            InputError: no recording can be read any more.
            OutputError: the card cannot be written.
        """
        rows = self.test.checked.scorable
        tested = self.task.test(folder.model, rows, backend=self.backend.name, device=self.device, progress=progress)
        write_card(self, folder, tested)
        return tested

    def score(self, trainer: Trainer) -> Scores:
        """The task's scores on the evaluation data."""
        rows = self.evaluation.checked.scorable
        number = {id(row): index for index, row in enumerate(rows)}
        counts = self.job.counts(len(rows))
        seconds = min(self.recipe.data.batch_seconds, self.recipe.data.micro_batch_seconds)
        batches = evaluation_batches(
            rows, self.job.feature_extractor, seconds, process=self.process, few_shapes=self._few_shapes
        )
        for chosen, batch in batches:
            outputs = trainer.logits(batch, self.job.output)
            for row, output in zip(chosen, outputs[: len(chosen)], strict=True):
                self.job.count(number[id(row)], row, output, counts)
        together = np.array(trainer.add_up(counts.ravel().tolist()), counts.dtype)
        return self.job.scores(rows, together.reshape(counts.shape))

    def test_seconds(self) -> float:
        """Seconds of audio that ``finish`` scores, once for each way of decoding."""
        samples = sum(row.samples for row in self.test.checked.scorable)
        return samples / self.job.feature_extractor.sampling_rate

    def effective_batch(self) -> float:
        """Seconds of audio in an update, the mean of the first epoch."""
        steps = 1
        while self.loader.epoch_of(steps) == 0:
            steps += 1
        return self.train.checked.seconds / steps

    def _check_trains_everything(self) -> None:
        """Check that the recipe suits a model without weights. Raises ``CheckpointError``."""
        if self._frozen is not None or self.recipe.schedule.frozen_steps > 0:
            raise CheckpointError(
                f"model {self.model_name!r:.100} has no weights, and the recipe leaves parts of it untrained: add the "
                "weights, or start fresh by --set schedule.train_feature_encoder=true --set schedule.frozen=0"
            )

    def _data(
        self,
        source: str | os.PathLike[str] | Sequence[Any],
        rows: Sequence[Utterance],
        longest: float | None,
        progress: Callable[[int], None] | None,
    ) -> Data:
        rate = self.job.feature_extractor.sampling_rate
        checked = check_rows(rows, self.job.labels, self.config, rate, longest_seconds=longest, progress=progress)
        return Data(name_of_source(source), digest_of(rows), checked)


def training_config(config: Wav2Vec2Config, recipe: Recipe) -> Wav2Vec2Config:
    """A model's configuration as it is trained: the recipe's masks and dropout, and statistics that padding does not
    change. Raises ``ConfigError``."""
    return config.replace(**asdict(recipe.model), apply_spec_augment=True, masked_group_norm=True)
