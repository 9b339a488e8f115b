"""Training: loss and step as pure functions over optax, on one device or on a mesh of many.

    model = FlaxWav2Vec2ForCTC.from_pretrained("facebook/wav2vec2-base", dtype="bfloat16")
    optimizer = freeze(optax.adamw(1e-4), model.trainable)
    state = init_state(model, optimizer)
    step = jax.jit(train_step(model, optimizer), donate_argnums=0)
    state, metrics = step(state, {"input_values": ..., "attention_mask": ..., "labels": ...}, jax.random.key(0))

On a mesh, the same step: ``mesh = make_mesh(data=4, fsdp=2)``, ``state = place_state(state, mesh)``,
``step = on_mesh(train_step(model, optimizer), state, mesh)`` and ``place_batch(batch, mesh)`` for every batch.

``Trainer`` is the same with micro-batches, clipping, a learning rate for each step, and steps that are refused:

    trainer = Trainer(model, optax.adamw(1.0))
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
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.data.collate import unpad_scores
from wav2vec2_core.errors import InputError
from wav2vec2_core.outputs import ModelOutput
from wav2vec2_core.training.state import read_state, write_state
from wav2vec2_core.training.steps import Batch as NumpyBatch
from wav2vec2_core.training.steps import StepValues, check_targets, checked_batch
from wav2vec2_flax import layers
from wav2vec2_flax.heads import DICT_ONLY, Sums
from wav2vec2_flax.pretrained import FlaxWav2Vec2PreTrainedModel
from wav2vec2_flax.weights import nest, places, with_params

Params = Mapping[str, Any]
Batch = Mapping[str, Any]

#: Axes of the mesh: copies of the model, and parts that one copy is split into.
DATA, FSDP = "data", "fsdp"


class TrainState(NamedTuple):
    """Everything that a step changes. ``step``: () int32; ``params``: as ``model.params``; ``opt_state``: optax's."""

    step: Array
    params: Params
    opt_state: Any


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
        params: parameter by checkpoint name, as they are now; ``model`` keeps its own.
    """

    def __init__(
        self, model: FlaxWav2Vec2PreTrainedModel, optimizer: optax.GradientTransformation, *, seed: int = 0
    ) -> None:
        """Train copies of the parameters of ``model``.

        Args:
            model: any head; what its ``freeze_...`` methods froze stays as it is, without optimizer state.
            optimizer: made with a learning rate of 1: each step multiplies what it gives by its own rate.
            seed: of dropout and Gumbel noise.
        """
        self.model, self.optimizer, self.seed = model, optimizer, seed
        self.process = (0, 1)
        self._paths = {name: place.path for name, place in places(model).items()}
        self.params: dict[str, Array] = {
            name: jnp.copy(place.variable.get_value()) for name, place in places(model).items()
        }
        self._trained = model.trainable_names()
        self._opt_state = optimizer.init(self._parts()[0])
        self._gradients = jax.jit(self._differentiated)
        self._add = jax.jit(lambda one, other: jax.tree.map(jnp.add, one, other), donate_argnums=0)
        self._update = jax.jit(self._updated, donate_argnums=(0, 1))
        self._evaluate = jax.jit(lambda params, batch: self._sums(params, batch, None))
        self._run = jax.jit(self._scores, static_argnums=3)

    @property
    def config(self) -> Wav2Vec2Config:
        """The model's configuration."""
        return self.model.config

    def set_trainable(self, names: frozenset[str]) -> None:
        """Train these parameters from the next step on; the optimizer keeps what it knows of those trained before."""
        self.model.set_trainable(names)
        self._trained = self.model.trainable_names()
        known = dict(jax.tree_util.tree_leaves_with_path(self._opt_state))
        fresh, structure = jax.tree_util.tree_flatten_with_path(self.optimizer.init(self._parts()[0]))
        self._opt_state = jax.tree.unflatten(structure, [known.get(path, leaf) for path, leaf in fresh])

    def step(self, micro: Sequence[NumpyBatch], number: int, values: StepValues) -> Handle:
        """One update from the gradients of all micro-batches; raises ``InputError`` before anything changes."""
        prepared = [self._prepared(batch, values.gumbel_temperature) for batch in micro]
        if not prepared:
            raise InputError("a step has no micro-batch: give at least one")
        trained, frozen = self._parts()
        if not trained:
            raise InputError("no parameter is trained: name some in set_trainable")
        key = jax.random.fold_in(jax.random.key(self.seed), number)
        found: Any = None
        for index, batch in enumerate(prepared):
            made = self._gradients(trained, frozen, batch, jax.random.fold_in(key, index), values.targets)
            found = made if found is None else self._add(found, made)
        gradient, sums = found
        clip = np.float32(np.inf if values.clip is None else values.clip)
        rate = np.float32(values.learning_rate)
        trained, self._opt_state, norm = self._update(trained, self._opt_state, gradient, rate, clip)
        self.params.update(trained)
        return Handle(sums, norm, values.targets)

    def fetch(self, handle: Handle) -> dict[str, float]:
        """The results of a step: losses divided by ``targets``, ``count``, ``gradient_norm``, ``refused``."""
        found = {name: float(total) / handle.targets for name, (total, _) in handle.sums.items()}
        norm = float(handle.gradient_norm)
        refused = float(not np.isfinite(norm))
        return {**found, "count": float(handle.sums["loss"][1]), "gradient_norm": norm, "refused": refused}

    def evaluate(self, batch: NumpyBatch) -> dict[str, tuple[float, float]]:
        """Sum and count of every term of the loss, without dropout."""
        sums = self._evaluate(self.params, self._prepared(batch, None))
        return {name: (float(total), float(count)) for name, (total, count) in sums.items()}

    def logits(self, batch: NumpyBatch, name: str = "logits") -> list[np.ndarray]:
        """The head's scores for each row, or the output of that name, without padding, float32."""
        arrays = checked_batch(self.config, self.model.head, batch)
        values = arrays["input_values"]
        mask = arrays.get("attention_mask", np.ones_like(values, np.int32))
        scores = np.asarray(self._run(self.params, values, arrays.get("attention_mask"), name))
        rows = [row[: int(valid.sum())] for row, valid in zip(values, mask, strict=True)]
        return unpad_scores(scores, rows, self.config)

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
        self.params = {name: jnp.asarray(array) for name, array in parameters.items()}
        paths, structure = jax.tree_util.tree_flatten_with_path(self._opt_state)
        leaves = [jnp.asarray(known[jax.tree_util.keystr(path)]) for path, _ in paths]
        self._opt_state = jax.tree.unflatten(structure, leaves)

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write the model with the parameters as they are now."""
        self.model.save_pretrained(folder, self._nested(self.params))

    def close(self) -> None:
        """Nothing to release on one device."""

    def loss_sums(self, model: Any, output: ModelOutput, batch: Batch) -> Sums:
        """Terms of the objective, ``loss`` first: those of the head. Another objective is a class that has its own."""
        check_targets(model.head, batch)
        return model.loss_sums(output, batch)

    def _state(self) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Parameters by name, and the leaves of the optimizer's state by path."""
        leaves = jax.tree_util.tree_leaves_with_path(self._opt_state)
        known = {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}
        return {name: np.asarray(array) for name, array in self.params.items()}, known

    def _parts(self) -> tuple[dict[str, Array], dict[str, Array]]:
        """Parameters that are trained, and the others."""
        trained = {name: array for name, array in self.params.items() if name in self._trained}
        return trained, {name: array for name, array in self.params.items() if name not in trained}

    def _nested(self, params: Mapping[str, Any]) -> dict[str, Any]:
        return nest({self._paths[name]: array for name, array in params.items()})

    def _prepared(self, batch: NumpyBatch, temperature: float | None) -> dict[str, Any]:
        arrays: dict[str, Any] = checked_batch(self.config, self.model.head, batch)
        if temperature is not None:
            arrays["gumbel_temperature"] = np.float32(temperature)
        return arrays

    def _sums(self, params: Mapping[str, Array], batch: Batch, key: Array | None) -> Sums:
        arguments = {name: array for name, array in batch.items() if name != "labels"}
        model = with_params(self.model, self._nested(params))
        output = model(**arguments, train=key is not None, dropout_rng=key, return_dict=True)
        return self.loss_sums(model, output, batch)

    def _scores(self, params: Mapping[str, Array], values: Any, mask: Any, name: str) -> Array:
        output = self.model(values, mask, params=self._nested(params), return_dict=True)
        field = next(one for one in (name, "logits", "last_hidden_state", "projected_states") if one in output)
        return output[field].astype(jnp.float32)

    def _differentiated(
        self, trained: dict[str, Array], frozen: dict[str, Array], batch: Batch, key: Array, targets: Any
    ) -> tuple[dict[str, Array], Sums]:
        def objective(trained: dict[str, Array]) -> tuple[Array, Sums]:
            sums = self._sums({**trained, **frozen}, batch, key)
            return sums["loss"][0] / targets, sums

        return jax.grad(objective, has_aux=True)(trained)

    def _updated(
        self, trained: dict[str, Array], opt_state: Any, gradient: dict[str, Array], rate: Any, clip: Any
    ) -> tuple[dict[str, Array], Any, Array]:
        """Clip, then update or refuse; the norm of the gradient before that."""
        norm = optax.tree.norm(jax.tree.map(layers.widened, gradient))
        scale = jnp.minimum(clip / norm, 1.0)
        gradient = jax.tree.map(lambda one: one * scale.astype(one.dtype), gradient)
        updates, after = self.optimizer.update(gradient, opt_state, trained)
        moved: Any = optax.apply_updates(trained, jax.tree.map(lambda one: one * rate, updates))
        finite = jnp.isfinite(norm)
        chosen = jax.tree.map(lambda new, old: jnp.where(finite, new, old), (moved, after), (trained, opt_state))
        return (*chosen, norm)


# ---- many devices -----------------------------------------------------------------------------------------------


def make_mesh(*, data: int | None = None, fsdp: int = 1, devices: Sequence[Any] | None = None) -> Mesh:
    """A mesh of ``data`` copies of the model, each split over ``fsdp`` devices; every process's devices together.

    ``data``: as many as there are devices for, where None. The compiler chooses layouts inside a step (axis type Auto).

    Raises:
        InputError: the numbers do not multiply to the number of devices.
    """
    devices = jax.devices() if devices is None else devices
    count = len(devices)
    data = count // fsdp if data is None else data
    if data * fsdp != count:
        raise InputError(f"data={data} times fsdp={fsdp} is not the number of devices, {count}: choose other sizes")
    return Mesh(np.asarray(devices).reshape(data, fsdp), (DATA, FSDP), axis_types=(AxisType.Auto, AxisType.Auto))


def state_shardings(state: Any, mesh: Mesh) -> Any:
    """Where each array of a state lies: split over ``fsdp`` along its longest axis that divides evenly, else copied."""
    return jax.tree.map(lambda array: NamedSharding(mesh, _spec(jnp.shape(array), mesh.shape[FSDP])), state)


def place_state(state: Any, mesh: Mesh) -> Any:
    """Distribute a state (or params alone) over the mesh; every process passes the whole."""
    return jax.tree.map(_put, state, state_shardings(state, mesh))


def place_batch(batch: Batch, mesh: Mesh) -> dict[str, Array]:
    """Distribute a batch over all devices by its rows; every process passes its own rows, in the order of processes.

    Raises:
        InputError: the rows of this process do not divide by its devices.
    """
    placed = {}
    for name, array in batch.items():
        sharding = NamedSharding(mesh, _batch_spec(name, array))
        parts = len(sharding.addressable_devices)
        if sharding.spec and jnp.shape(array)[0] % parts:
            raise InputError(
                f"{name} has {jnp.shape(array)[0]} rows here, they must divide by this process's {parts} devices: "
                "use another batch size"
            )
        placed[name] = jax.make_array_from_process_local_data(sharding, np.asarray(array))
    return placed


def on_mesh(step: Callable[..., Any], state: Any, mesh: Mesh) -> Callable[..., Any]:
    """Compile ``train_step`` so that the state keeps its place on the mesh; the old state's memory is reused."""
    return jax.jit(
        step,
        donate_argnums=0,
        out_shardings=(state_shardings(state, mesh), NamedSharding(mesh, PartitionSpec())),
    )


def _put(array: Any, sharding: NamedSharding) -> Array:
    if not sharding.is_fully_addressable:  # devices of other processes
        whole = np.asarray(array)
        return jax.make_array_from_callback(whole.shape, sharding, lambda index: whole[index])
    return jax.device_put(array, sharding, may_alias=False)


def _spec(shape: tuple[int, ...], parts: int) -> PartitionSpec:
    axes = [axis for axis, size in enumerate(shape) if size % parts == 0 and size > 0]
    if parts == 1 or not axes:
        return PartitionSpec()
    longest = max(axes, key=lambda axis: shape[axis])
    return PartitionSpec(*(FSDP if axis == longest else None for axis in range(len(shape))))


def _batch_spec(name: str, array: Any) -> PartitionSpec:
    by_rows = name != "layer_keep" and jnp.ndim(array) > 0
    return PartitionSpec((DATA, FSDP)) if by_rows else PartitionSpec()
