"""Fine-tuning of a CTC model: from a model, two manifests and a recipe to a folder with the result."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from dataclasses import asdict, dataclass
from typing import Any

from wav2vec2_core.backend import Backend, load_backend
from wav2vec2_core.checkpoint import Checkpoint, open_checkpoint
from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.data.checking import Checked, check_not_empty, check_rows
from wav2vec2_core.data.loader import Loader, evaluation_batches
from wav2vec2_core.data.manifest import read_manifest
from wav2vec2_core.decoding.greedy import greedy_decode
from wav2vec2_core.errors import InputError
from wav2vec2_core.metrics import Errors, character_errors, normalise, word_errors
from wav2vec2_core.parameters import trainable_names
from wav2vec2_core.processing import Wav2Vec2Processor
from wav2vec2_core.source import open_model
from wav2vec2_core.training.loop import Evaluated, Loop, Note, Scores, Update
from wav2vec2_core.training.recipe import Recipe
from wav2vec2_core.training.run_folder import RunFolder, file_digest
from wav2vec2_core.training.steps import StepValues, Trainer

Event = Update | Evaluated | Note


@dataclass(frozen=True)
class Data:
    """Rows of a manifest, what it is, and its digest."""

    manifest: str
    digest: str
    checked: Checked


class CTCFineTuning:
    """Everything that is known before the first update; nothing is written yet.

    Attributes:
        recipe: of the run.
        config: of the model as it will be trained.
        processor: of the model.
        train, evaluation: the data, checked.
    """

    def __init__(
        self,
        model: str | os.PathLike[str],
        train: str | os.PathLike[str],
        evaluation: str | os.PathLike[str],
        recipe: Recipe,
        *,
        backend: str = "torch",
        local_files_only: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        """Open the model and read all recordings once.

        Args:
            model: folder or hub id, with a vocabulary; a CTC head that it lacks is made.
            train, evaluation: manifests with texts.
            recipe: what to do.
            backend: ``torch``, ``tf`` or ``flax``.
            local_files_only: do not ask the hub.
            progress: is told how many more rows have been read.

        Raises:
            CheckpointError, ConfigError: the model cannot be used.
            InputError: a manifest has no row that can be used, or a value breaks a rule.
            BackendError: the back end, or jiwer for error rates, is not installed.
        """
        word_errors("a", "a")  # raises where jiwer is not installed: now, not after the first thousand updates
        self.recipe, self.model_name = recipe, str(model)
        source = open_model(model, local_files_only=local_files_only)
        self.processor = Wav2Vec2Processor.from_source(source)
        self._checkpoint = open_checkpoint(source)
        self.config = training_config(Wav2Vec2Config.from_source(source), self._checkpoint, self.processor, recipe)
        self.backend: Backend = load_backend(backend)
        self._few_shapes = bool(self.backend.finetuning.FEW_SHAPES)
        longest = min(recipe.data.batch_seconds, recipe.data.micro_batch_seconds)
        self.train = self._data(train, longest, progress)
        self.evaluation = self._data(evaluation, None, progress)
        check_not_empty(self.train.checked, train, self.train.checked.rows)
        check_not_empty(self.evaluation.checked, evaluation, self.evaluation.checked.scorable)
        largest = max(max(row.labels) for row in self.train.checked.rows)
        if largest >= self.config.vocab_size:  # tokens that no text has, such as <s>, may lie beyond the head
            letter = self.processor.tokenizer.convert_ids_to_tokens(largest)
            raise InputError(
                f"the vocabulary numbers {letter!r} as {largest} and the "
                f"model's head has {self.config.vocab_size} outputs: use the vocabulary that the model was trained with"
            )
        self.loader = Loader(
            self.train.checked.rows,
            self.processor.feature_extractor,
            self.config,
            batch_seconds=recipe.data.batch_seconds,
            micro_batch_seconds=recipe.data.micro_batch_seconds,
            seed=recipe.seed,
            few_shapes=self._few_shapes,
        )

    def configuration(self) -> dict[str, Any]:
        """What the run is, JSON-ready: what a resume compares."""
        return {
            "task": "ctc",
            "backend": self.backend.name,
            "model": self.model_name,
            "train": {"manifest": self.train.manifest, "sha256": self.train.digest},
            "eval": {"manifest": self.evaluation.manifest, "sha256": self.evaluation.digest},
            "recipe": self.recipe.to_dict(),
        }

    def open_trainer(self) -> Trainer:
        """The model with its optimizer, where the back end computes. Raises ``CheckpointError``."""
        adam = {name: value for name, value in asdict(self.recipe.optimizer).items() if name != "clip"}
        return self.backend.finetuning.new_trainer(self._checkpoint, self.config, seed=self.recipe.seed, **adam)

    def try_one_step(self) -> Update:
        """Make the first update, with the whole body trained as later in the run, and keep nothing of it."""
        trainer = self.open_trainer()
        data = self.loader.at(0)
        rate = self.recipe.schedule.rate(0)
        trainer.set_trainable(trainable_names(self.config, "ForCTC", frozen="feature_encoder"))
        values = StepValues(rate, data.targets, self.recipe.optimizer.clip or None)
        found = trainer.fetch(trainer.step(data.micro, 0, values))
        return Update(1, 0, found["loss"], rate, found["gradient_norm"], data.seconds)

    def run(self, folder: RunFolder) -> Generator[Event]:
        """Make the updates that are left, then write model and processor into ``folder.model``.

        Raises:
            InputError, AudioError, OutputError: see ``Loop.events``.
        """
        trainer = self.open_trainer()
        loop = Loop(trainer, self.loader, lambda: self.score(trainer), self.recipe, folder)
        yield from loop.events()
        loop.load_best()
        trainer.save_pretrained(folder.model)
        self.processor.save_pretrained(folder.model)

    def score(self, trainer: Trainer) -> Scores:
        """Error rates of greedy decoding on the evaluation data."""
        words, characters, silent = Errors(), Errors(), 0
        rows = self.evaluation.checked.scorable
        seconds = min(self.recipe.data.batch_seconds, self.recipe.data.micro_batch_seconds)
        batches = evaluation_batches(rows, self.processor.feature_extractor, seconds, few_shapes=self._few_shapes)
        for chosen, batch in batches:
            for row, logits in zip(chosen, trainer.logits(batch), strict=True):
                text = normalise(greedy_decode(logits, self.processor.tokenizer)[0])
                words, characters = words + word_errors(row.text, text), characters + character_errors(row.text, text)
                silent += not text
        return Scores(words.rate or 0.0, characters.rate or 0.0, silent / len(rows))

    def effective_batch(self) -> float:
        """Seconds of audio in an update, the mean of the first epoch."""
        steps = 1
        while self.loader.epoch_of(steps) == 0:
            steps += 1
        return self.train.checked.seconds / steps

    def _data(
        self, manifest: str | os.PathLike[str], longest: float | None, progress: Callable[[int], None] | None
    ) -> Data:
        checked = check_rows(
            read_manifest(manifest),
            self.processor.tokenizer,
            self.config,
            self.processor.feature_extractor.sampling_rate,
            longest_seconds=longest,
            progress=progress,
        )
        return Data(str(manifest), file_digest(manifest), checked)


def training_config(
    config: Wav2Vec2Config, checkpoint: Checkpoint, processor: Wav2Vec2Processor, recipe: Recipe
) -> Wav2Vec2Config:
    """A model's configuration as it is trained: the recipe's masks and dropout, the vocabulary's blank, a loss for each
    utterance divided by its letters, and statistics that padding does not change.

    Raises:
        ConfigError: a value breaks a rule.
    """
    tokenizer = processor.tokenizer
    if not any(name.endswith("lm_head.weight") for name in checkpoint.shapes):
        config = config.replace(vocab_size=max(tokenizer.get_vocab().values()) + 1)
    return config.replace(
        **asdict(recipe.model),
        apply_spec_augment=True,
        masked_group_norm=True,
        ctc_loss_reduction="mean",
        ctc_zero_infinity=True,
        pad_token_id=tokenizer.pad_token_id,
    )
