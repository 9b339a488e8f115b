"""The compiled functions of a trainer; a whole step as the compiler sees it, without running it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.sharding import Mesh, NamedSharding

from wav2vec2_core.outputs import ModelOutput
from wav2vec2_core.training.steps import check_targets
from wav2vec2_flax import distributed, layers
from wav2vec2_flax.heads import Sums
from wav2vec2_flax.pretrained import FlaxWav2Vec2PreTrainedModel
from wav2vec2_flax.weights import nest, places, with_params

Params = Mapping[str, Any]
Batch = Mapping[str, Any]

#: In a batch: what Gumbel noise is drawn from, as from ``noise_seeds_of_rows``.
NOISE = "noise_seeds"
#: In the names of parameters of the transformer's layers.
_LAYER = "encoder.layers."


class TrainState(NamedTuple):
    """Everything that a step changes. step: () int32, its number; params: as ``model.params``, in a ``Trainer`` by
    checkpoint name; opt_state: optax's."""

    step: Any
    params: Params
    opt_state: Any


class Steps:
    """The compiled functions of a trainer: of one model's structure, one optimizer and one mesh."""

    def __init__(
        self,
        model: FlaxWav2Vec2PreTrainedModel,
        optimizer: optax.GradientTransformation,
        mesh: Mesh,
        loss_sums: Callable[..., Sums],
    ) -> None:
        self.model, self.optimizer, self.mesh, self.loss_sums = model, optimizer, mesh, loss_sums
        self._paths = {name: place.path for name, place in places(model).items()}
        self.whole = jax.jit(self._whole, static_argnames="trained", donate_argnums=0)
        self.gradients = jax.jit(self._gradients, static_argnames="trained")
        self.add = jax.jit(lambda one, other: jax.tree.map(jnp.add, one, other), donate_argnums=0)
        self.update = jax.jit(self._update, static_argnames="trained", donate_argnums=0)
        self.sums = jax.jit(lambda params, batch: self._sums(params, batch, None))
        self.scores = jax.jit(self._scores, static_argnums=3)
        self.begin = jax.jit(lambda trained: distributed.kept_in_place(optimizer.init(trained), mesh))

    def nested(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Parameters by checkpoint name as ``model.params`` has them."""
        return nest({self._paths[name]: array for name, array in params.items()})

    def _whole(
        self, state: TrainState, batch: Batch, seed: Any, targets: Any, rate: Any, clip: Any, *, trained: frozenset[str]
    ) -> tuple[TrainState, Array, Sums]:
        """A step of one micro-batch: the state after it, the norm of the gradient, and the sums of the losses."""
        gradient, sums = self._gradients(state, batch, seed, np.uint32(0), targets, trained=trained)
        return (*self._update(state, gradient, rate, clip, trained=trained), sums)

    def _gradients(
        self, state: TrainState, batch: Batch, seed: Any, index: Any, targets: Any, *, trained: frozenset[str]
    ) -> tuple[dict[str, Array], Sums]:
        """Of one micro-batch, the one of this index in a step; noise is drawn from (seed, step, index)."""
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), state.step), index)

        def objective(chosen: dict[str, Array]) -> tuple[Array, Sums]:
            with layers.prepared_layers(lambda layer: distributed.gathered(layer, self.mesh)):
                sums = self._sums(self._gathered({**state.params, **chosen}), batch, key)
            return sums["loss"][0] / targets, sums

        chosen = {name: array for name, array in state.params.items() if name in trained}
        gradient, sums = jax.grad(objective, has_aux=True)(chosen)
        return distributed.kept_in_place(gradient, self.mesh), distributed.copied_everywhere(sums, self.mesh)

    def _update(
        self, state: TrainState, gradient: dict[str, Array], rate: Any, clip: Any, *, trained: frozenset[str]
    ) -> tuple[TrainState, Array]:
        """Clip, then update or refuse; the norm of the gradient before that."""
        norm = optax.tree.norm(jax.tree.map(layers.widened, gradient))
        scale = jnp.minimum(clip / norm, 1.0)
        gradient = jax.tree.map(lambda one: one * scale.astype(one.dtype), gradient)
        before = {name: array for name, array in state.params.items() if name in trained}
        updates, opt_state = self.optimizer.update(gradient, state.opt_state, before)
        moved: Any = optax.apply_updates(before, jax.tree.map(lambda one: one * rate, updates))
        finite = jnp.isfinite(norm)
        params, opt_state = jax.tree.map(
            lambda new, old: jnp.where(finite, new, old), (moved, opt_state), (before, state.opt_state)
        )
        after = TrainState(state.step + 1, {**state.params, **params}, opt_state)
        return distributed.kept_in_place(after, self.mesh), distributed.copied_everywhere(norm, self.mesh)

    def _sums(self, params: Mapping[str, Array], batch: Batch, key: Array | None) -> Sums:
        arguments = {name: array for name, array in batch.items() if name not in ("labels", NOISE)}
        if NOISE in batch:
            groups, entries = self.model.config.num_codevector_groups, self.model.config.num_codevectors_per_group
            shape = (*batch["mask_time_indices"].shape, groups, entries)
            arguments["gumbel_noise"] = layers.seeded_gumbel_noise(shape, batch[NOISE])
        model = with_params(self.model, self.nested(params))
        output = model(**arguments, train=key is not None, dropout_rng=key, return_dict=True)
        return self.loss_sums(model, output, batch)

    def _gathered(self, params: Mapping[str, Array]) -> dict[str, Array]:
        """Parameters, whole but those of the transformer's layers: a layer's are gathered when it begins."""
        inside = {name: array for name, array in params.items() if _LAYER in name}
        outside = {name: array for name, array in params.items() if name not in inside}
        return {**inside, **distributed.gathered(outside, self.mesh)}

    def _scores(self, params: Mapping[str, Array], values: Any, mask: Any, name: str) -> Array:
        output = self.model(values, mask, params=self.nested(params), return_dict=True)
        field = next(one for one in (name, "logits", "last_hidden_state", "projected_states") if one in output)
        return output[field].astype(jnp.float32)


def abstract_state(model: FlaxWav2Vec2PreTrainedModel, optimizer: optax.GradientTransformation) -> TrainState:
    """Shapes and types of a ``Trainer``'s state; of a model without values (``_do_init=False``) too.

    The optimizer has a state for the parameters in ``model.trainable_names()``.
    """
    params: dict[str, Any] = {}
    for name, place in places(model).items():
        array = place.variable.get_value()
        params[name] = jax.ShapeDtypeStruct(array.shape, array.dtype)
    trained = {name: shape for name, shape in params.items() if name in model.trainable_names()}
    return TrainState(jax.ShapeDtypeStruct((), jnp.int32), params, jax.eval_shape(optimizer.init, trained))


def lower_step(
    model: FlaxWav2Vec2PreTrainedModel, optimizer: optax.GradientTransformation, mesh: Mesh, shapes: Mapping[str, Any]
) -> jax.stages.Lowered:
    """The step that a ``Trainer`` makes of one micro-batch, for the compiler: memory, operations, collectives.

    Args:
        model: its parameters may be without values (``_do_init=False``).
        optimizer: as for a trainer.
        mesh: of devices that need not be there: those of a topology are enough.
        shapes: name -> array or ``jax.ShapeDtypeStruct`` of the whole batch of all processes.
    """
    steps = Steps(model, optimizer, mesh, loss_sums_of_head)
    whole = {name: jax.ShapeDtypeStruct(jnp.shape(one), one.dtype) for name, one in shapes.items()}
    if model.head == "ForPreTraining":
        whole.setdefault("gumbel_temperature", jax.ShapeDtypeStruct((), jnp.float32))
        if "gumbel_noise" not in whole:
            whole[NOISE] = jax.ShapeDtypeStruct((whole["input_values"].shape[0], 2), jnp.uint32)
    batch = {name: _laid(one, NamedSharding(mesh, distributed.batch_spec(name, one))) for name, one in whole.items()}
    state = abstract_state(model, optimizer)
    state = jax.tree.map(_laid, state, distributed.state_shardings(state, mesh))
    number = np.float32(1)
    return steps.whole.lower(state, batch, np.uint32(0), number, number, number, trained=model.trainable_names())


def loss_sums_of_head(model: Any, output: ModelOutput, batch: Batch) -> Sums:
    """Terms of the objective of a head, ``loss`` first. Raises ``InputError`` where the batch lacks targets."""
    check_targets(model.head, batch)
    return model.loss_sums(output, batch)


def _laid(shape: Any, sharding: NamedSharding) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape.shape, shape.dtype, sharding=sharding)
