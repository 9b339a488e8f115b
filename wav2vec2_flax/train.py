"""Training: loss and step as pure functions over optax, on one device or on a mesh of many.

    model = FlaxWav2Vec2ForCTC.from_pretrained("facebook/wav2vec2-base", dtype="bfloat16")
    optimizer = freeze(optax.adamw(1e-4), model.trainable)
    state = init_state(model, optimizer)
    step = jax.jit(train_step(model, optimizer), donate_argnums=0)
    state, metrics = step(state, {"input_values": ..., "attention_mask": ..., "labels": ...}, jax.random.key(0))

On a mesh, the same step: ``mesh = make_mesh(data=4, fsdp=2)``, ``state = place_state(state, mesh)``,
``step = on_mesh(train_step(model, optimizer), state, mesh)`` and ``place_batch(batch, mesh)`` for every batch.

``Trainer`` is the same with micro-batches, clipping, a learning rate for each step, and steps that are refused:

    trainer = Trainer(model, optax.adamw(1.0), mesh=make_mesh())
    handle = trainer.step([{"input_values": ..., "labels": ...}], 0, StepValues(learning_rate=1e-4, targets=8))
    trainer.fetch(handle)["loss"]
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.sharding import Mesh

from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.data.collate import unpad_scores
from wav2vec2_core.devices import Devices
from wav2vec2_core.errors import InputError
from wav2vec2_core.outputs import ModelOutput
from wav2vec2_core.training.state import read_state, write_state
from wav2vec2_core.training.steps import Batch as NumpyBatch
from wav2vec2_core.training.steps import StepValues, checked_batch, filled_batch, noise_seeds_of_rows
from wav2vec2_flax import distributed, layers
from wav2vec2_flax.compiled import Shapes
from wav2vec2_flax.distributed import make_mesh, on_mesh, place_batch, place_state, state_shardings
from wav2vec2_flax.heads import DICT_ONLY, Sums
from wav2vec2_flax.pretrained import FlaxWav2Vec2PreTrainedModel
from wav2vec2_flax.steps import NOISE, Params, Steps, TrainState, abstract_state, loss_sums_of_head, lower_step
from wav2vec2_flax.weights import places

Batch = Mapping[str, Any]


def init_state(model: FlaxWav2Vec2PreTrainedModel, optimizer: optax.GradientTransformation) -> TrainState:
    """The state before the first step, with a copy of the model's parameters: steps may reuse the state's memory."""
    params = jax.tree.map(jnp.copy, model.params)
    return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params))


def freeze(optimizer: optax.GradientTransformation, trainable: Any) -> optax.GradientTransformation:
    """``optimizer`` for the parameters marked True in ``model.trainable``; the others stay, without optimizer state."""
    labels = jax.tree.map(lambda chosen: "trained" if chosen else "frozen", trainable)
    return optax.partition({"trained": optimizer, "frozen": optax.set_to_zero()}, labels)


#: The name that ``freeze`` had before.
masked = freeze


class AdamState(NamedTuple):
    """What Adam knows of each parameter: its updates, and the means of its gradient and of the gradient's square."""

    count: Any
    mean: Any
    square: Any


def adam(beta1: float, beta2: float, epsilon: float) -> optax.GradientTransformation:
    """Adam for a learning rate of 1, as PyTorch has it: every parameter counts its own updates.

    ``optax.adam`` has one count for all. A parameter that is trained later than others would start with means of
    nothing, and a correction for means of many steps.
    """

    def init(params: Any) -> AdamState:
        zeros = jax.tree.map(jnp.zeros_like, params)
        return AdamState(jax.tree.map(lambda _: jnp.zeros((), jnp.int32), params), zeros, zeros)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, AdamState]:
        count = jax.tree.map(lambda one: one + 1, state.count)
        mean = jax.tree.map(lambda old, new: beta1 * old + (1 - beta1) * new, state.mean, updates)
        square = jax.tree.map(lambda old, new: beta2 * old + (1 - beta2) * new * new, state.square, updates)

        def change(count: Array, mean: Array, square: Array) -> Array:
            first, second = 1 - jnp.float32(beta1) ** count, 1 - jnp.float32(beta2) ** count
            return -(mean / first.astype(mean.dtype)) / (jnp.sqrt(square / second.astype(square.dtype)) + epsilon)

        return jax.tree.map(change, count, mean, square), AdamState(count, mean, square)

    return optax.GradientTransformation(init, update)


def loss_function(
    model: FlaxWav2Vec2PreTrainedModel, *, train: bool = True
) -> Callable[[Params, Batch, Array | None], tuple[Array, dict[str, Array]]]:
    """The pure function ``(params, batch, key) -> (loss, metrics)``.

    ``batch`` holds arguments of the model's call: waveforms, masks, labels, distractors, ``gumbel_temperature`` ...
    The model gives its structure only, so one without values (``_do_init=False``) will do.
    """

    def compute(params: Params, batch: Batch, key: Array | None = None) -> tuple[Array, dict[str, Array]]:
        output = model(**batch, params=params, train=train, dropout_rng=key, return_dict=True)
        if output.loss is None:
            raise InputError(
                f"{type(model).__name__} computed no loss from {', '.join(batch)}: add labels, "
                "or mask_time_indices and sampled_negative_indices for pretraining"
            )
        names = ("loss", "codevector_perplexity", *DICT_ONLY)
        return output.loss.sum(), {name: output[name] for name in names if name in output}

    return compute


def train_step(
    model: FlaxWav2Vec2PreTrainedModel, optimizer: optax.GradientTransformation
) -> Callable[[TrainState, Batch, Array], tuple[TrainState, dict[str, Array]]]:
    """The pure function ``(state, batch, key) -> (state, metrics)``; the step's number is mixed into the key.

    ``gradient_norm`` among the metrics is that of the parameters in ``model.trainable``.
    """
    gradients, trained = jax.value_and_grad(loss_function(model), has_aux=True), jax.tree.leaves(model.trainable)

    def step(state: TrainState, batch: Batch, key: Array) -> tuple[TrainState, dict[str, Array]]:
        (_, metrics), gradient = gradients(state.params, batch, jax.random.fold_in(key, state.step))
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        params: Any = optax.apply_updates(state.params, updates)
        seen = itertools.compress(jax.tree.leaves(gradient), trained)
        metrics["gradient_norm"] = optax.tree.norm([layers.widened(one) for one in seen])
        return TrainState(state.step + 1, params, opt_state), metrics

    return step


def eval_step(model: FlaxWav2Vec2PreTrainedModel) -> Callable[[Params, Batch], dict[str, Array]]:
    """The pure function ``(params, batch) -> metrics``, without dropout and masks of its own."""
    compute = loss_function(model, train=False)
    return lambda params, batch: compute(params, batch, None)[1]


# ---- the trainer ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Handle:
    """A step that may still be running on the device; ``Trainer.fetch`` waits for it."""

    sums: Sums
    gradient_norm: Array
    targets: float


class Trainer:
    """A model's parameters and an optimizer: see ``wav2vec2_core.training.steps.Trainer``.

    Attributes:
        state: the parameters, by checkpoint name, and the optimizer's state as they are now; ``model`` keeps its own.
        mesh: the devices.
        process: index and number of the processes that the mesh is of.
    """

    def __init__(
        self,
        model: FlaxWav2Vec2PreTrainedModel,
        optimizer: optax.GradientTransformation,
        *,
        seed: int = 0,
        mesh: Mesh | None = None,
    ) -> None:
        """Train copies of the parameters of ``model``.

        Args:
            model: any head; what its ``freeze_...`` methods froze stays as it is, without optimizer state.
            optimizer: made with a learning rate of 1: each step multiplies what it gives by its own rate.
            seed: of dropout and Gumbel noise.
            mesh: of ``make_mesh``; JAX's default device alone where None.
        """
        self.model, self.optimizer, self.seed = model, optimizer, seed
        self.mesh = make_mesh(devices=list(jnp.zeros(()).devices())) if mesh is None else mesh
        self.process = distributed.processes() if self.mesh.is_multi_process else (0, 1)
        self._steps, self._shapes = Steps(model, optimizer, self.mesh, self.loss_sums), Shapes()
        self._trained = model.trainable_names()
        params = {name: place.variable.get_value() for name, place in places(model).items()}
        self.state = TrainState(jnp.zeros((), jnp.int32), place_state(params, self.mesh), None)
        self.state = self.state._replace(opt_state=self._steps.begin(self._chosen()))
        self._copies: dict[str, Array] | None = None

    @property
    def config(self) -> Wav2Vec2Config:
        """The model's configuration."""
        return self.model.config

    @property
    def devices(self) -> Devices:
        """What computes, of all processes together."""
        return Devices(self.mesh.devices.flat[0].device_kind, self.mesh.size)

    @property
    def params(self) -> Mapping[str, Any]:
        """Parameter by checkpoint name, as they are now."""
        return self.state.params

    def set_trainable(self, names: frozenset[str]) -> None:
        """Train these parameters from the next step on; the optimizer keeps what it knows of those trained before."""
        self.model.set_trainable(names)
        self._trained = self.model.trainable_names()
        known = dict(jax.tree_util.tree_leaves_with_path(self.state.opt_state))
        fresh, structure = jax.tree_util.tree_flatten_with_path(self._steps.begin(self._chosen()))
        opt_state = jax.tree.unflatten(structure, [known.get(path, leaf) for path, leaf in fresh])
        self.state = self.state._replace(opt_state=opt_state)

    def step(self, micro: Sequence[NumpyBatch], number: int, values: StepValues) -> Handle:
        """One update from the gradients of all micro-batches; raises ``InputError`` before anything changes."""
        prepared = [self._drawn(batch, values.gumbel_temperature, number, index) for index, batch in enumerate(micro)]
        if not prepared:
            raise InputError("a step has no micro-batch: give at least one")
        if not self._trained:
            raise InputError("no parameter is trained: name some in set_trainable")
        batches = [place_batch(batch, self.mesh) for batch in prepared]
        seed, targets, rate = np.uint32(self.seed), np.float32(values.targets), np.float32(values.learning_rate)
        clip = np.float32(np.inf if values.clip is None else values.clip)
        trained, state = self._trained, self.state._replace(step=np.int32(number))
        self._copies = None
        for batch in prepared:
            others = sorted((name, np.shape(array)) for name, array in batch.items())
            self._shapes.announce(batch["input_values"].shape, *others, len(batches) == 1, trained)
        with distributed.with_others():
            if len(batches) == 1:
                self.state, norm, sums = self._steps.whole(
                    state, batches[0], seed, targets, rate, clip, trained=trained
                )
                return Handle(sums, norm, values.targets)
            found: Any = None
            for index, batch in enumerate(batches):
                made = self._steps.gradients(state, batch, seed, np.uint32(index), targets, trained=trained)
                found = made if found is None else self._steps.add(found, made)
            gradient, sums = found
            self.state, norm = self._steps.update(state, gradient, rate, clip, trained=trained)
            return Handle(sums, norm, values.targets)

    def fetch(self, handle: Handle) -> dict[str, float]:
        """The results of a step: losses divided by ``targets``, ``count``, ``gradient_norm``, ``refused``."""
        with distributed.with_others():
            found = {name: float(total) / handle.targets for name, (total, _) in handle.sums.items()}
            norm, count = float(handle.gradient_norm), float(handle.sums["loss"][1])
        return {**found, "count": count, "gradient_norm": norm, "refused": float(not np.isfinite(norm))}

    def evaluate(self, batch: NumpyBatch) -> dict[str, tuple[float, float]]:
        """Sum and count of every term of the loss, without dropout; of this process's batch."""
        params, mesh = self._own()
        sums = self._steps.sums(params, place_batch(self._prepared(batch), mesh))
        return {name: (float(total), float(count)) for name, (total, count) in sums.items()}

    def logits(self, batch: NumpyBatch, name: str = "logits") -> list[np.ndarray]:
        """The head's scores for each row, or the output of that name, without padding, float32."""
        values = np.asarray(batch["input_values"])
        mask = np.asarray(batch.get("attention_mask", np.ones_like(values, np.int32)))
        params, mesh = self._own()
        arrays = place_batch(self._prepared(batch), mesh)
        scores = np.asarray(self._steps.scores(params, arrays["input_values"], arrays.get("attention_mask"), name))
        rows = [row[: int(valid.sum())] for row, valid in zip(values, mask, strict=True)]
        return unpad_scores(scores, rows, self.config)

    def add_up(self, numbers: Sequence[float]) -> list[float]:
        """The sum of each number over all processes."""
        return distributed.add_up(numbers)

    def asked_to_stop(self, made: int) -> bool:
        """Whether one of several processes has been sent SIGTERM: all hear it after the same number of updates."""
        return distributed.asked_to_stop(made)

    def save_state(self, folder: str | os.PathLike[str]) -> Callable[[], None]:
        """Write parameters and optimizer; returns what waits for it.

        On one device as ``wav2vec2_core.training.state`` does; on several each writes its parts.
        """
        if self.mesh.size > 1:
            return distributed.write_parts(folder, self._named())
        return write_state(folder, *jax.tree.map(np.asarray, self._arrays()))

    def load_state(self, folder: str | os.PathLike[str]) -> None:
        """Load a state, whatever the devices were that it was written on; nothing changes if it is of another run.

        Raises:
            CheckpointError: there is no state, or it is damaged.
            ParameterMismatchError: it is of another model, optimizer or set of trained parameters.
        """
        if distributed.in_parts(folder):
            found: Mapping[str, Any] = distributed.read_parts(folder, self._named())
        else:
            here: Any = self._arrays()
            found = place_state(_named(*read_state(folder, *here)), self.mesh)
        paths, structure = jax.tree_util.tree_flatten_with_path(self.state.opt_state)
        params = {name: found[f"{_PARAMETER}{name}"] for name in self.state.params}
        opt_state = jax.tree.unflatten(structure, [found[jax.tree_util.keystr(path)] for path, _ in paths])
        self.state = TrainState(self.state.step, params, opt_state)
        self._copies = None

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write the model with the parameters as they are now; the first process does."""
        params, _ = self._own()
        if self.process[0] == 0:
            self.model.save_pretrained(folder, self._steps.nested(params))
        self.add_up(())

    def close(self) -> None:
        """Leave the other processes."""
        distributed.leave_processes()

    def loss_sums(self, model: Any, output: ModelOutput, batch: Batch) -> Sums:
        """Terms of the objective, ``loss`` first: those of the head. Another objective is a class that has its own."""
        return loss_sums_of_head(model, output, batch)

    def _chosen(self) -> dict[str, Array]:
        """The parameters that are trained."""
        return {name: array for name, array in self.state.params.items() if name in self._trained}

    def _arrays(self) -> tuple[dict[str, Array], dict[str, Array]]:
        """Parameters by name, and the leaves of the optimizer's state by path."""
        leaves = jax.tree_util.tree_leaves_with_path(self.state.opt_state)
        return dict(self.state.params), {jax.tree_util.keystr(path): leaf for path, leaf in leaves}

    def _named(self) -> dict[str, Array]:
        """Every array of the state by one name."""
        return _named(*self._arrays())

    def _own(self) -> tuple[Mapping[str, Array], Mesh]:
        """Parameters on this process's devices, and their mesh: an evaluation waits for no other process."""
        if not self.mesh.is_multi_process:
            return self.state.params, self.mesh
        copies = self._copies or distributed.whole_copies(self.state.params, self.mesh)
        self._copies = copies
        return copies, distributed.local_mesh(self.mesh)

    def _drawn(self, batch: NumpyBatch, temperature: float | None, number: int, index: int) -> dict[str, Any]:
        """A batch of a step, with its temperature and what its Gumbel noise is drawn from."""
        arrays = self._prepared(batch)
        if self.model.head == "ForPreTraining" and "gumbel_noise" not in arrays and "mask_time_indices" in arrays:
            rows = len(arrays["input_values"])
            arrays[NOISE] = noise_seeds_of_rows(self.seed, number, index, self.process, rows)
        if temperature is not None:
            arrays["gumbel_temperature"] = np.float32(temperature)
        return arrays

    def _prepared(self, batch: NumpyBatch) -> dict[str, Any]:
        """A batch, checked and filled up so that its rows divide by this process's devices."""
        arrays: dict[str, Any] = checked_batch(self.config, self.model.head, batch)
        devices = distributed.own_devices(self.mesh)
        return filled_batch(arrays, -(-len(arrays["input_values"]) // devices) * devices)


#: In front of the names of parameters in a state, to tell them from the optimizer's.
_PARAMETER = "parameter/"


def _named(parameters: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{_PARAMETER}{name}": array for name, array in parameters.items()} | dict(known)


__all__ = [
    "Handle", "TrainState", "Trainer", "abstract_state", "adam", "eval_step", "freeze", "init_state", "loss_function",
    "lower_step", "make_mesh", "masked", "on_mesh", "place_batch", "place_state", "state_shardings", "train_step",
]  # fmt: skip
