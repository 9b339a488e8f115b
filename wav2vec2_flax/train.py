"""Training: loss and step as pure functions over optax, on one device or on a mesh of many.

    model = FlaxWav2Vec2ForCTC.from_pretrained("facebook/wav2vec2-base", dtype="bfloat16")
    optimizer = freeze(optax.adamw(1e-4), model.trainable)
    state = init_state(model, optimizer)
    step = jax.jit(train_step(model, optimizer), donate_argnums=0)
    state, metrics = step(state, {"input_values": ..., "attention_mask": ..., "labels": ...}, jax.random.key(0))

On a mesh, the same step: ``mesh = make_mesh(data=4, fsdp=2)``, ``state = place_state(state, mesh)``,
``step = on_mesh(train_step(model, optimizer), state, mesh)`` and ``place_batch(batch, mesh)`` for every batch.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from wav2vec2_core.errors import InputError
from wav2vec2_flax.pretrained import FlaxWav2Vec2PreTrainedModel

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
        names = ("loss", "contrastive_loss", "diversity_loss", "codevector_perplexity")
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
        metrics["gradient_norm"] = optax.tree.norm(list(itertools.compress(jax.tree.leaves(gradient), trained)))
        return TrainState(state.step + 1, params, opt_state), metrics

    return step


def eval_step(model: FlaxWav2Vec2PreTrainedModel) -> Callable[[Params, Batch], dict[str, Array]]:
    """The pure function ``(params, batch) -> metrics``, without dropout and masks of its own."""
    compute = loss_function(model, train=False)
    return lambda params, batch: compute(params, batch, None)[1]


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
