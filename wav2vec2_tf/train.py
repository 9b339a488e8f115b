"""Training steps: gradients of several micro-batches, clipping and one update of any Keras optimizer.

    model = TFWav2Vec2ForCTC.from_pretrained("facebook/wav2vec2-base")
    model.freeze_feature_encoder()
    trainer = Trainer(model, keras.optimizers.AdamW())
    handle = trainer.step([{"input_values": ..., "labels": ...}], 0, StepValues(learning_rate=1e-4, targets=8))
    trainer.fetch(handle)["loss"]

``compile`` and ``fit`` of Keras know nothing of this file: see ``keras_steps``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.data.collate import unpad_scores
from wav2vec2_core.errors import InputError
from wav2vec2_core.outputs import ModelOutput
from wav2vec2_core.training.state import read_state, write_state
from wav2vec2_core.training.steps import Batch, StepValues, check_targets, checked_batch, noise_seeds
from wav2vec2_tf import layers
from wav2vec2_tf.heads import Sums
from wav2vec2_tf.layers import Tensor
from wav2vec2_tf.pretrained import TFWav2Vec2PreTrainedModel
from wav2vec2_tf.weights import export_weights, fill_weights, find_variable


@dataclass(frozen=True)
class Handle:
    """A step that may still be running on the device; ``Trainer.fetch`` waits for it."""

    sums: Sums
    gradient_norm: Tensor
    targets: float


class Trainer:
    """A model and its optimizer: see ``wav2vec2_core.training.steps.Trainer``."""

    def __init__(
        self, model: TFWav2Vec2PreTrainedModel, optimizer: keras.optimizers.Optimizer, *, seed: int = 0
    ) -> None:
        """Train ``model`` where it is.

        Args:
            model: any head.
            optimizer: new, or of this model; its learning rate is that of each step, so it must be a number.
            seed: of dropout and Gumbel noise.

        Raises:
            InputError: the optimizer has a schedule of its own.
        """
        if isinstance(getattr(optimizer, "_learning_rate", None), keras.optimizers.schedules.LearningRateSchedule):
            raise InputError("the optimizer has a schedule of its own, each step its rate: give learning_rate a number")
        self.model, self.optimizer, self.seed = model, optimizer, seed
        self.process = (0, 1)
        self._dropouts = layers.dropouts(model)
        optimizer.build([find_variable(model, name)[0] for name in model.parameter_table()])
        self._evaluate = tf.function(lambda batch: self._sums(batch, False), autograph=False, reduce_retracing=True)
        self._run = tf.function(self._scores, autograph=False, reduce_retracing=True)
        self._trace()

    def _trace(self) -> None:
        """Graphs of a step for the parameters that are trained now."""
        trained = self.model.trainable_names()
        names = [name for name in self.model.parameter_table() if name in trained]
        self._trained = [find_variable(self.model, name)[0] for name in names]
        self._gradients = tf.function(self._differentiated, autograph=False, reduce_retracing=True)
        self._update = tf.function(self._updated, autograph=False)

    @property
    def config(self) -> Wav2Vec2Config:
        """The model's configuration."""
        return self.model.config

    def set_trainable(self, names: frozenset[str]) -> None:
        """Train these parameters from the next step on; the optimizer keeps what it knows of the others."""
        self.model.set_trainable(names)
        self._trace()

    def step(self, micro: Sequence[Batch], number: int, values: StepValues) -> Handle:
        """One update from the gradients of all micro-batches; raises ``InputError`` before anything changes."""
        prepared = [self._prepared(batch) for batch in micro]
        if not prepared:
            raise InputError("a step has no micro-batch: give at least one")
        if not self._trained:
            raise InputError("no parameter is trained: name some in set_trainable")
        if values.gumbel_temperature is not None:
            model: Any = self.model
            model.set_gumbel_temperature(values.gumbel_temperature)
        found: Any = None
        for index, batch in enumerate(prepared):
            count = 2 * (len(self._dropouts) + 1)
            seeds = noise_seeds(self.seed, number, index, self.process[0], count).reshape(-1, 2)
            made = self._gradients(batch, tf.constant(seeds), tf.constant(values.targets, tf.float32))
            found = made if found is None else tf.nest.map_structure(tf.add, found, made)
        gradients, sums = found
        self.optimizer.learning_rate = values.learning_rate
        clip = tf.constant(np.inf if values.clip is None else values.clip, tf.float32)
        return Handle(sums, self._update(gradients, clip), values.targets)

    def fetch(self, handle: Handle) -> dict[str, float]:
        """The results of a step: losses divided by ``targets``, ``count``, ``gradient_norm``, ``refused``."""
        found = {name: float(total) / handle.targets for name, (total, _) in handle.sums.items()}
        norm = float(handle.gradient_norm)
        refused = float(not np.isfinite(norm))
        return {**found, "count": float(handle.sums["loss"][1]), "gradient_norm": norm, "refused": refused}

    def evaluate(self, batch: Batch) -> dict[str, tuple[float, float]]:
        """Sum and count of every term of the loss, without dropout."""
        sums = self._evaluate(self._prepared(batch))
        return {name: (float(total), float(count)) for name, (total, count) in sums.items()}

    def logits(self, batch: Batch, name: str = "logits") -> list[np.ndarray]:
        """The head's scores for each row, or the output of that name, without padding, float32."""
        arrays = checked_batch(self.config, self.model.head, batch)
        values = arrays["input_values"]
        mask = arrays.get("attention_mask", np.ones_like(values, np.int32))
        given = {key: tf.constant(arrays[key]) for key in ("input_values", "attention_mask") if key in arrays}
        rows = [row[: int(valid.sum())] for row, valid in zip(values, mask, strict=True)]
        return unpad_scores(self._run(given, name).numpy(), rows, self.config)

    def add_up(self, numbers: Sequence[float]) -> list[float]:
        """The sum of each number over all processes."""
        return [float(number) for number in numbers]

    def save_state(self, folder: str | os.PathLike[str]) -> Callable[[], None]:
        """Write parameters and optimizer; returns what waits for it. See ``wav2vec2_core.training.state``."""
        return write_state(folder, *self._state())

    def load_state(self, folder: str | os.PathLike[str]) -> None:
        """Load a state; nothing changes if it belongs to another run.

        Raises:
            CheckpointError: there is no state, or it is damaged.
            ParameterMismatchError: it is of another model, optimizer or set of trained parameters.
        """
        parameters, known = read_state(folder, *self._state())
        for index, variable in enumerate(self.optimizer.variables):
            variable.assign(known[str(index)])
        fill_weights(self.model, parameters.items())

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write the model as it is now."""
        self.model.save_pretrained(folder)

    def close(self) -> None:
        """Nothing to release on one device."""

    def loss_sums(self, model: Any, output: ModelOutput, batch: Mapping[str, Tensor]) -> Sums:
        """Terms of the objective, ``loss`` first: those of the head. Another objective is a class that has its own."""
        check_targets(model.head, batch)
        return model.loss_sums(output, batch)

    def _prepared(self, batch: Batch) -> dict[str, Tensor]:
        arrays = checked_batch(self.config, self.model.head, batch)
        return {name: tf.constant(array) for name, array in arrays.items()}

    def _state(self) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Parameters by name, and the variables of the optimizer by number."""
        known = {str(index): variable.numpy() for index, variable in enumerate(self.optimizer.variables)}
        return export_weights(self.model), known

    def _sums(self, batch: Mapping[str, Tensor], training: bool) -> Sums:
        arguments = {name: tensor for name, tensor in batch.items() if name != "labels"}
        output = self.model(arguments, return_dict=True, training=training)
        return self.loss_sums(self.model, output, batch)

    def _scores(self, batch: Mapping[str, Tensor], name: str) -> Tensor:
        output = self.model(dict(batch), return_dict=True, training=False)
        field = next(one for one in (name, "logits", "last_hidden_state", "projected_states") if one in output)
        return tf.cast(output[field], tf.float32)

    def _differentiated(self, batch: Mapping[str, Tensor], seeds: Tensor, targets: Tensor) -> tuple[list[Tensor], Sums]:
        """Gradients and terms; ``seeds``: (dropouts + 1, 2), the last of them for Gumbel noise."""
        batch = dict(batch)
        layers.seed_dropouts(self._dropouts, seeds)
        if self.model.head == "ForPreTraining" and "gumbel_noise" not in batch:
            groups, entries = self.config.num_codevector_groups, self.config.num_codevectors_per_group
            shape = tf.concat([tf.shape(batch["mask_time_indices"]), (groups, entries)], axis=0)
            batch["gumbel_noise"] = layers.seeded_gumbel_noise(shape, seeds[-1])
        with tf.GradientTape() as tape:
            sums = self._sums(batch, True)
            objective = sums["loss"][0] / targets
        variables = [variable.value for variable in self._trained]
        return tape.gradient(objective, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO), sums

    def _updated(self, gradients: list[Tensor], clip: Tensor) -> Tensor:
        """Clip, then update or refuse; the norm of the gradient before that."""
        norm = tf.linalg.global_norm([tf.cast(gradient, tf.float32) for gradient in gradients])
        scale = tf.minimum(clip / norm, 1.0)
        clipped = [gradient * tf.cast(scale, gradient.dtype) for gradient in gradients]

        def update() -> Tensor:
            self.optimizer.apply(clipped, self._trained)
            return tf.constant(True)

        tf.cond(tf.math.is_finite(norm), update, lambda: tf.constant(False))
        return norm
