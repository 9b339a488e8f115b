"""Pretraining: from recordings and a recipe to a folder with a model that fine-tuning starts from."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from wav2vec2_core.backend import Backend, load_backend
from wav2vec2_core.data.checking import Checked, check_not_empty, check_rows
from wav2vec2_core.data.loader import StepData
from wav2vec2_core.data.opening import digest_of, name_of_source, open_rows
from wav2vec2_core.data.pretraining import LongEnough, PretrainingLoader
from wav2vec2_core.parameters import trainable_names
from wav2vec2_core.source import open_model
from wav2vec2_core.training.health import Guard, chance_accuracy
from wav2vec2_core.training.loop import Event, Loop, Note, Update
from wav2vec2_core.training.pretraining_recipe import PretrainingRecipe
from wav2vec2_core.training.pretraining_start import HEAD, fresh_start, start_from
from wav2vec2_core.training.processes import join_processes
from wav2vec2_core.training.run_folder import RunFolder
from wav2vec2_core.training.steps import StepValues, Trainer
from wav2vec2_core.training.tracking import run_to_the_end

#: What a trainer finds that is not a measure of its own.
_KNOWN = ("loss", "count", "gradient_norm", "refused", "diversity_loss", "codevector_perplexity")


class Pretraining:
    """Everything that is known before the first update; nothing is written yet.

    Attributes:
        recipe: of the run.
        config: of the model.
        notes: what the user should know of the model that the run starts from.
        data: the rows, checked; manifest: the name of their source.
        process: index and number of processes.
        stopped: whether SIGTERM has ended ``run``.
    """

    def __init__(
        self,
        train: str | os.PathLike[str] | Sequence[Any],
        recipe: PretrainingRecipe,
        *,
        model: str | os.PathLike[str] | None = None,
        backend: str = "torch",
        device: str = "auto",
        local_files_only: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        """Open the model, if any, and read all recordings once.

        Args:
            train: manifests, folders, tar shards or rows: see ``open_rows``; texts are not needed.
            recipe: what to do.
            model: folder or hub id to go on from; a fresh model where None.
            backend: ``torch``, ``tf`` or ``flax``.
            device: one of the back end's, or ``"auto"``.
            local_files_only: do not ask the hub.
            progress: is told how many more rows have been read.

        Raises:
            ConfigError: the recipe's architecture is none.
            CheckpointError: the model cannot be used.
            InputError: there are no data, none of their rows can be used, or a value breaks a rule.
            BackendError: the back end is not installed.
        """
        self.process = join_processes(backend)
        self.recipe, self.device, self.stopped = recipe, device, False
        self.model_name = None if model is None else str(model)
        source = None if model is None else open_model(model, local_files_only=local_files_only)
        start = fresh_start(recipe) if source is None else start_from(source, recipe)
        self.config, self.feature_extractor, self.notes = start.config, start.feature_extractor, start.notes
        self._checkpoint = start.checkpoint
        self.backend: Backend = load_backend(backend)
        rate, rows = self.feature_extractor.sampling_rate, open_rows(train)
        long_enough = LongEnough(self.config, round(recipe.data.shortest_seconds * rate))
        self.manifest, self.digest = name_of_source(train), digest_of(rows)
        self.data: Checked = check_rows(rows, long_enough, self.config, rate, progress=progress)
        check_not_empty(self.data, self.manifest, self.data.rows)
        self.loader = PretrainingLoader(
            self.data.rows,
            self.feature_extractor,
            self.config,
            longest_samples=round(recipe.data.longest_seconds * rate),
            batch_seconds=recipe.data.batch_seconds,
            micro_batch_seconds=recipe.data.micro_batch_seconds,
            seed=recipe.seed,
            process=self.process,
            few_shapes=bool(self.backend.finetuning.FEW_SHAPES),
            most_unreadable=recipe.health.most_unreadable,
        )

    def configuration(self) -> dict[str, Any]:
        """What the run is, JSON-ready: what a resume compares."""
        return {
            "task": {"name": "pretrain"},
            "backend": self.backend.name,
            **({} if self.model_name is None else {"model": self.model_name}),
            "train": {"manifest": self.manifest, "sha256": self.digest},
            "recipe": self.recipe.identity(),
        }

    def open_trainer(self) -> Trainer:
        """The model with its optimizer; first values are those of the recipe's seed, the same in every back end."""
        return self.backend.finetuning.new_trainer(
            self._checkpoint, self.config, self.recipe, head=HEAD, device=self.device
        )

    def try_one_step(self) -> Update:
        """Make the first update, and keep nothing of it."""
        trainer = self.open_trainer()
        trainer.set_trainable(trainable_names(self.config, HEAD))
        data = self.loader.at(0)
        values = values_of(self.recipe, data)
        found = trainer.fetch(trainer.step(data.micro, 0, values))
        trainer.close()
        measures = measures_of(found, data, self.config.num_negatives)
        return Update(
            1, 0, found["loss"], values.learning_rate, found["gradient_norm"], data.seconds, measures=measures
        )

    def run(self, folder: RunFolder, trainer: Trainer | None = None) -> Generator[Event]:
        """Make the updates that are left, then write the model and its feature extractor into ``folder.model``.

        SIGTERM ends it after the update that it is at, with a checkpoint and without a model: ``stopped`` says so.
        ``trainer``: of ``open_trainer``, where it was called already.

        Raises:
            InputError, AudioError, OutputError: see ``Loop.events``; ``InputError`` also where the codebook stays
                collapsed.
        """
        trainer = trainer or self.open_trainer()
        loop = _Loop(trainer, self.loader, None, self.recipe, folder, head=HEAD, frozen=None)
        yield from run_to_the_end(loop, folder, self._save)
        self.stopped = loop.stopped

    def _save(self, folder: Path) -> Sequence[str]:
        self.feature_extractor.save_pretrained(folder)
        return ()

    def effective_batch(self) -> float:
        """Seconds of audio in an update, the mean of the first epoch's crops."""
        steps = 1
        while self.loader.epoch_of(steps) == 0:
            steps += 1
        return self.loader.seconds / steps


def values_of(recipe: PretrainingRecipe, data: StepData) -> StepValues:
    """The numbers of an update."""
    number, clip = data.number, recipe.optimizer.clip or None
    return StepValues(recipe.schedule.rate(number), data.targets, clip, recipe.objective.temperature(number))


def measures_of(found: Mapping[str, float], data: StepData, negatives: int) -> dict[str, float]:
    """What is recorded of an update beside its loss, from what the trainer found; all are means over masked frames."""
    measures = {name: value for name, value in found.items() if name not in _KNOWN}
    chance = chance_accuracy(data.targets / len(data.names), negatives)
    return {**measures, "masked_share": data.targets / data.frames, "chance_accuracy": chance}


class _Loop(Loop):
    """Updates with the temperature of their step, whose measures are recorded and guarded."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        config, recipe = self.trainer.config, self.recipe
        self._guard = Guard(
            groups=config.num_codevector_groups,
            codevectors=config.num_codevector_groups * config.num_codevectors_per_group,
            warm_up=int(recipe.schedule.steps * recipe.schedule.warm_up),
            window=recipe.health.window,
            most_collapsed=recipe.health.most_collapsed,
        )

    def _values(self, data: StepData) -> StepValues:
        return values_of(self.recipe, data)

    def _measures(self, found: Mapping[str, float], data: StepData) -> Mapping[str, float]:
        return {} if found["refused"] else measures_of(found, data, self.trainer.config.num_negatives)

    def _signs(self, update: Update) -> Iterator[Note]:
        for text in self._guard.look(update.step, update.measures, update.gradient_norm):
            yield Note(f"after {update.step} updates {text}")
