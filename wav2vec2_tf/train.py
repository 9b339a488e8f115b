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
from wav2vec2_core.devices import Devices
from wav2vec2_core.errors import InputError
from wav2vec2_core.outputs import ModelOutput
from wav2vec2_core.training.state import read_state, write_state
from wav2vec2_core.training.steps import (
    Batch,
    StepValues,
    check_targets,
    checked_batch,
    noise_seeds,
    noise_seeds_of_rows,
)
from wav2vec2_tf import layers
from wav2vec2_tf.distributed import Copies, Graph
from wav2vec2_tf.heads import Sums
from wav2vec2_tf.layers import Tensor
from wav2vec2_tf.pretrained import TFWav2Vec2PreTrainedModel
from wav2vec2_tf.weights import export_weights, fill_weights, find_variable

#: In a batch: what Gumbel noise is drawn from, as from ``noise_seeds_of_rows``.
_NOISE = "noise_seeds"


@dataclass(frozen=True)
class Handle:
    """A step that may still be running on the device; ``Trainer.fetch`` waits for it."""

    sums: Sums
    gradient_norm: Tensor
    targets: float


class Trainer:
    """A model and its optimizer: see ``wav2vec2_core.training.steps.Trainer``.

    Where the model was made in the scope of a ``tf.distribute`` strategy (``distributed.open_strategy``), each of its
    devices computes a share of every micro-batch's rows, and gradients are added up over all of them.
    """

    def __init__(
        self, model: TFWav2Vec2PreTrainedModel, optimizer: keras.optimizers.Optimizer, *, seed: int = 0
    ) -> None:
        """Train ``model`` where it is.

        Args:
            model: any head.
            optimizer: new, or of this model; its learning rate is that of each step, so it must be a number.
            seed: of dropout, Gumbel noise and every mask that a batch lacks.

        Raises:
            InputError: the optimizer has a schedule of its own, or was made in another strategy's scope than the model.
        """
        if isinstance(getattr(optimizer, "_learning_rate", None), keras.optimizers.schedules.LearningRateSchedule):
            raise InputError("the optimizer has a schedule of its own, each step its rate: give learning_rate a number")
        strategy = model.distribute_strategy
        if optimizer._distribution_strategy is not strategy:
            raise InputError(
                "model and optimizer were made for different devices: make both in the scope of one strategy"
            )
        self.model, self.optimizer, self.seed = model, optimizer, seed
        self.copies = Copies(strategy, model.variables[0].value.device)
        self.process = self.copies.process
        self._dropouts = layers.dropouts(model)
        with strategy.scope():
            optimizer.build([find_variable(model, name)[0] for name in model.parameter_table()])
        self._evaluate = self.copies.graph(lambda batch: self._sums(batch, False), _added)
        self._scores: dict[str, Graph] = {}
        self._add_up = self.copies.graph(self.copies.add_up)
        self._trace()

    def _trace(self) -> None:
        """Graphs of a step for the parameters that are trained now."""
        trained = self.model.trainable_names()
        names = [name for name in self.model.parameter_table() if name in trained]
        self._trained = [find_variable(self.model, name)[0] for name in names]
        self._gradients = self.copies.graph(self._differentiated)
        self._add = self.copies.graph(lambda one, other: tf.nest.map_structure(tf.add, one, other))
        self._update = self.copies.graph(self._summed, self._updated)

    @property
    def config(self) -> Wav2Vec2Config:
        """The model's configuration."""
        return self.model.config

    @property
    def devices(self) -> Devices:
        """What computes, of all processes together."""
        return self.copies.devices

    def set_trainable(self, names: frozenset[str]) -> None:
        """Train these parameters from the next step on; the optimizer keeps what it knows of the others."""
        before = self.model.trainable_names()
        self.model.set_trainable(names)
        if self.model.trainable_names() != before:
            self._trace()

    def step(self, micro: Sequence[Batch], number: int, values: StepValues) -> Handle:
        """One update from the gradients of all micro-batches; raises ``InputError`` before anything changes."""
        prepared = [self._prepared(batch, number, index) for index, batch in enumerate(micro)]
        if not prepared:
            raise InputError("a step has no micro-batch: give at least one")
        if not self._trained:
            raise InputError("no parameter is trained: name some in set_trainable")
        if values.gumbel_temperature is not None:
            model: Any = self.model
            model.set_gumbel_temperature(values.gumbel_temperature)
        targets = np.float32(values.targets)
        found: Any = None
        for index, shares in enumerate(prepared):
            seeds = (self._seeds(number, index, copy) for copy in self.copies.numbers)
            made = self._gradients([(*given, targets) for given in zip(shares, seeds, strict=True)])
            found = made if found is None else self._add(list(zip(found, made, strict=True)))
        self.optimizer.learning_rate = values.learning_rate
        clip = np.float32(np.inf if values.clip is None else values.clip)
        norm, sums = self._update([(gradients, sums, clip) for gradients, sums in found])
        return Handle(sums, norm, values.targets)

    def fetch(self, handle: Handle) -> dict[str, float]:
        """The results of a step: losses divided by ``targets``, ``count``, ``gradient_norm``, ``refused``."""
        found = {name: float(total) / handle.targets for name, (total, _) in handle.sums.items()}
        norm = float(handle.gradient_norm)
        refused = float(not np.isfinite(norm))
        return {**found, "count": float(handle.sums["loss"][1]), "gradient_norm": norm, "refused": refused}

    def evaluate(self, batch: Batch) -> dict[str, tuple[float, float]]:
        """Sum and count of every term of the loss, without dropout."""
        shares = self.copies.deal(checked_batch(self.config, self.model.head, batch))
        sums = self._evaluate([(share,) for share in shares])
        return {name: (float(total), float(count)) for name, (total, count) in sums.items()}

    def logits(self, batch: Batch, name: str = "logits") -> list[np.ndarray]:
        """The head's scores for each row, or the output of that name, without padding, float32."""
        arrays = checked_batch(self.config, self.model.head, batch)
        values = arrays["input_values"]
        mask = arrays.get("attention_mask", np.ones_like(values, np.int32))
        given = {key: arrays[key] for key in ("input_values", "attention_mask") if key in arrays}
        if name not in self._scores:
            self._scores[name] = self.copies.graph(lambda batch: self._output(batch, name))
        scores = self._scores[name]([(share,) for share in self.copies.deal(given)])
        rows = [row[: int(valid.sum())] for row, valid in zip(values, mask, strict=True)]
        return unpad_scores(np.concatenate([part.numpy() for part in scores]), rows, self.config)

    def add_up(self, numbers: Sequence[float]) -> list[float]:
        """The sum of each number over all processes."""
        mine = np.array([*numbers, 0.0])  # never empty: TensorFlow waits for nobody with no numbers
        first = self.copies.numbers.start
        given = [(mine if copy == first else np.zeros_like(mine),) for copy in self.copies.numbers]
        return self._add_up(given)[0].numpy().tolist()[:-1]

    def save_state(self, folder: str | os.PathLike[str]) -> Callable[[], None]:
        """Write parameters and optimizer; returns what waits for it. See ``wav2vec2_core.training.state``.

        All devices hold the same, so the first process writes, and the state fits any number of devices and processes.
        """
        if self.process[0] > 0:
            return lambda: None
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
        """Write the model as it is now: the first process does."""
        if self.process[0] == 0:
            self.model.save_pretrained(folder)

    def close(self) -> None:
        """Nothing to release."""

    def loss_sums(self, model: Any, output: ModelOutput, batch: Mapping[str, Tensor]) -> Sums:
        """Terms of the objective, ``loss`` first: those of the head. Another objective is a class that has its own."""
        check_targets(model.head, batch)
        return model.loss_sums(output, batch)

    def _prepared(self, batch: Batch, number: int, index: int) -> list[dict[str, np.ndarray]]:
        """A share of the rows for each copy of the model, with every mask drawn."""
        arrays = checked_batch(self.config, self.model.head, batch)
        needed = self.model.drawn_in_training(arrays)
        if needed:
            generator = np.random.default_rng(noise_seeds(self.seed, number, index, self.process[0], 4))
            body: Any = getattr(self.model, "wav2vec2", self.model)
            rows, samples = arrays["input_values"].shape
            lengths = arrays["attention_mask"].sum(1) if "attention_mask" in arrays else np.full(rows, samples)
            frames, width = (self.config.num_frames(size, add_adapter=False) for size in (lengths, samples))
            names = ("mask_time_indices", "mask_feature_indices", "layer_keep")
            drawn = zip(names, body.draw(generator, frames, width), strict=True)
            arrays |= {name: array for name, array in drawn if name in needed}
        if self.model.head == "ForPreTraining" and "gumbel_noise" not in arrays and "mask_time_indices" in arrays:
            rows = len(arrays["input_values"])
            arrays[_NOISE] = noise_seeds_of_rows(self.seed, number, index, self.process, rows)
        return self.copies.deal(arrays)

    def _seeds(self, number: int, index: int, copy: int) -> np.ndarray:
        """(dropouts, 2) uint32."""
        return noise_seeds(self.seed, number, index, copy, 2 * len(self._dropouts)).reshape(-1, 2)

    def _state(self) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Parameters by name, and the variables of the optimizer by number."""
        known = {str(index): variable.numpy() for index, variable in enumerate(self.optimizer.variables)}
        return export_weights(self.model), known

    # ---- in graphs, on each device ------------------------------------------------------------------------------

    def _sums(self, batch: Mapping[str, Tensor], training: bool) -> Sums:
        arguments = {name: tensor for name, tensor in batch.items() if name != "labels"}
        output = self.model(arguments, return_dict=True, training=training)
        return self.loss_sums(self.model, output, batch)

    def _output(self, batch: Mapping[str, Tensor], name: str) -> Tensor:
        output = self.model(dict(batch), return_dict=True, training=False)
        field = next(one for one in (name, "logits", "last_hidden_state", "projected_states") if one in output)
        return tf.cast(output[field], tf.float32)

    def _differentiated(self, batch: Mapping[str, Tensor], seeds: Tensor, targets: Tensor) -> tuple[list[Tensor], Sums]:
        """Gradients and terms of a share; ``seeds``: as from ``_seeds``."""
        batch = dict(batch)
        layers.seed_dropouts(self._dropouts, seeds)
        if _NOISE in batch:
            groups, entries = self.config.num_codevector_groups, self.config.num_codevectors_per_group
            shape = tf.concat([tf.shape(batch["mask_time_indices"]), (groups, entries)], axis=0)
            batch["gumbel_noise"] = layers.seeded_gumbel_noise(shape, batch.pop(_NOISE))
        shared = self.copies.strategy.num_replicas_in_sync > 1
        add_up = (lambda *parts: self.copies.add_up(list(parts))) if shared else None
        with tf.GradientTape() as tape, layers.sharing(add_up):
            sums = self._sums(batch, True)
            objective = sums["loss"][0] / targets
        variables = [variable.value for variable in self._trained]
        return tape.gradient(objective, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO), sums

    def _summed(self, gradients: list[Tensor], sums: Sums, clip: Tensor) -> tuple[list[Tensor], Sums, Tensor]:
        """Gradients and terms added up over all devices of all processes, and the largest norm."""
        return (*self.copies.add_up((gradients, sums)), clip)

    # ---- in graphs, once for all devices ------------------------------------------------------------------------

    def _updated(self, found: list[tuple[list[Tensor], Sums, Tensor]]) -> tuple[Tensor, Sums]:
        """Clip, then update or refuse: the norm of the gradient before that, and the terms."""
        gradients, sums, clip = found[0]
        norm = tf.linalg.global_norm([tf.cast(gradient, tf.float32) for gradient in gradients])
        scale = tf.minimum(clip / norm, 1.0)
        clipped = [gradient * tf.cast(scale, gradient.dtype) for gradient in gradients]

        def update() -> Tensor:
            self.optimizer.apply(clipped, self._trained)
            return tf.constant(True)

        tf.cond(tf.math.is_finite(norm), update, lambda: tf.constant(False))
        return norm, sums


def _added(sums: list[Sums]) -> Sums:
    """Terms of all copies in this process."""
    return tf.nest.map_structure(lambda *parts: tf.add_n(parts), *sums)
