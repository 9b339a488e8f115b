"""Primitives of the model. What is peculiar to JAX and flax.nnx lives here and only here.

Shapes: everything works on ``(batch, frames, features)``, convolutions too: XLA computes that layout fastest on CPUs.
Randomness: a function that draws takes a key; ``None`` means no draw, which is inference.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array, lax
from jax.core import Tracer

from wav2vec2_core.errors import ConfigError
from wav2vec2_core.outputs import OUTPUT_CLASSES, ModelOutput

DType = Any


class Precision(NamedTuple):
    """Type of the computation (``dtype``) and of the parameters (``param_dtype``)."""

    dtype: DType
    param_dtype: DType


# ---- activations ----------------------------------------------------------------------------------------------


def _gelu(x: Array) -> Array:
    return jax.nn.gelu(x, approximate=False)


def _clipped_gelu(x: Array) -> Array:
    return jnp.clip(_gelu(x), -10.0, 10.0)


def _gelu_tanh(x: Array) -> Array:
    return jax.nn.gelu(x, approximate=True)


def _quick_gelu(x: Array) -> Array:
    return x * jax.nn.sigmoid(1.702 * x)


def _squared_relu(x: Array) -> Array:
    return jnp.square(jax.nn.relu(x))


def _identity(x: Array) -> Array:
    return x


def _laplace(x: Array) -> Array:
    # Cumulative Laplace-like gate of Mega (Ma et al. 2022): mean sqrt(1/2), deviation sqrt(1/(4 pi)), both rounded.
    return 0.5 * (1.0 + lax.erf((x - 0.707107) / (0.282095 * math.sqrt(2.0))))


_ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "gelu": _gelu,
    "gelu_10": _clipped_gelu,
    "gelu_accurate": _gelu_tanh,
    "gelu_fast": _gelu_tanh,
    "gelu_new": _gelu_tanh,
    "gelu_python": _gelu,
    "gelu_python_tanh": _gelu_tanh,
    "gelu_pytorch_tanh": _gelu_tanh,
    "laplace": _laplace,
    "leaky_relu": jax.nn.leaky_relu,
    "linear": _identity,
    "mish": jax.nn.mish,
    "quick_gelu": _quick_gelu,
    "relu": jax.nn.relu,
    "relu2": _squared_relu,
    "relu6": jax.nn.relu6,
    "sigmoid": jax.nn.sigmoid,
    "silu": jax.nn.silu,
    "swish": jax.nn.silu,
    "tanh": jnp.tanh,
}


def activation(name: str) -> Callable[[Array], Array]:
    """The activation with this transformers name; ``Wav2Vec2Config`` has checked that it is known."""
    return _ACTIVATIONS[name]


# ---- layers with parameters -------------------------------------------------------------------------------------


class _NoStreams:
    """Stands where nnx wants random streams: parameters get shapes here and values later."""

    def params(self) -> None:
        return None


def _shape_only(key: Any, shape: Sequence[int], dtype: DType = jnp.float32, out_sharding: Any = None) -> Any:
    return jax.ShapeDtypeStruct(tuple(shape), dtype)


_RNGS: Any = _NoStreams()


def parameter(shape: Sequence[int], types: Precision) -> nnx.Param:
    """A parameter that has a shape and no value yet, as those of the layers below."""
    return nnx.Param(_shape_only(None, shape, types.param_dtype))


class Linear(nnx.Linear):
    """``nnx.Linear`` without values yet."""

    def __init__(self, inputs: int, outputs: int, types: Precision) -> None:
        super().__init__(inputs, outputs, **types._asdict(), kernel_init=_shape_only, bias_init=_shape_only, rngs=_RNGS)

    def __call__(self, x: Array) -> Array:  # pyright: ignore[reportIncompatibleMethodOverride]
        """(..., inputs) -> (..., outputs)."""
        # As one matrix: the gradient of a product over two axes would be copied into another layout, and XLA fuses
        # all that led to it into that copy, in every layer the layers above once more.
        rows = super().__call__(x.reshape(-1, x.shape[-1]))
        return rows.reshape(*x.shape[:-1], rows.shape[-1])


class Conv(nnx.Conv):
    """One-dimensional ``nnx.Conv`` without values yet; ``padding`` frames of zeros on both sides."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int, types: Precision, *, bias: bool, padding: int = 0
    ) -> None:
        super().__init__(
            inputs,
            outputs,
            kernel,
            stride,
            padding=[(padding, padding)],
            use_bias=bias,
            **types._asdict(),
            kernel_init=_shape_only,
            bias_init=_shape_only,
            rngs=_RNGS,
        )


class LayerNorm(nnx.LayerNorm):
    """``nnx.LayerNorm`` over the last axis, without values yet; statistics in float32, in two passes."""

    def __init__(self, features: int, types: Precision, epsilon: float = 1e-5) -> None:
        super().__init__(
            features,
            epsilon=epsilon,
            **types._asdict(),
            use_fast_variance=False,
            scale_init=_shape_only,
            bias_init=_shape_only,
            rngs=_RNGS,
        )


class ChannelLayerNorm(LayerNorm):
    """Layer norm over the channels, frame by frame."""

    def __call__(self, x: Array, lengths: Array | None = None) -> Array:  # pyright: ignore[reportIncompatibleMethodOverride]
        """(batch, frames, channels) -> the same; ``lengths`` make no difference to a single frame."""
        return super().__call__(x)


class ChannelGroupNorm(nnx.GroupNorm):
    """Group norm with one group per channel: each channel is normalised over time, utterance by utterance."""

    def __init__(self, channels: int, types: Precision) -> None:
        super().__init__(
            channels,
            channels,
            epsilon=1e-5,
            **types._asdict(),
            scale_init=_shape_only,
            bias_init=_shape_only,
            rngs=_RNGS,
        )

    def __call__(self, x: Array, lengths: Array | None = None) -> Array:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Normalise (batch, frames, channels), with ``lengths`` (batch,) by each utterance's own frames alone."""
        wide = widened(x)
        if lengths is None:
            centred = wide - wide.mean(1, keepdims=True)
            variance = jnp.square(centred).mean(1, keepdims=True)
        else:
            valid = frame_mask(lengths, x.shape[1])[..., None]
            count = lengths[:, None, None].astype(wide.dtype)
            centred = wide - jnp.where(valid, wide, 0).sum(1, keepdims=True) / count
            variance = jnp.square(jnp.where(valid, centred, 0)).sum(1, keepdims=True) / count
        scale, bias = (value(part).astype(wide.dtype) for part in (self.scale, self.bias))
        return (centred * (scale * lax.rsqrt(variance + self.epsilon)) + bias).astype(x.dtype)


class WeightNormConv1d(nnx.Module):
    """Grouped 1-d convolution whose weight is ``weight_g * weight_v / |weight_v|``, one norm per kernel position.

    Names and layouts, (channels, channels / groups, kernel), are the checkpoint's, as in transformers' Flax models.
    """

    def __init__(self, channels: int, kernel: int, groups: int, types: Precision) -> None:
        self.weight_g = parameter((1, 1, kernel), types)
        self.weight_v = parameter((channels, channels // groups, kernel), types)
        self.bias = parameter((channels,), types)
        self.groups, self.dtype = groups, types.dtype

    def __call__(self, x: Array) -> Array:
        """(batch, frames, channels) -> (batch, frames + 1, channels) for an even kernel, same frames for an odd one."""
        direction = value(self.weight_v)
        wide = widened(direction)
        norm = jnp.sqrt(jnp.square(wide).sum((0, 1), keepdims=True))
        weight = (wide * (value(self.weight_g).astype(wide.dtype) / norm)).astype(self.dtype)
        made: Any = _grouped_conv(x.astype(self.dtype), weight, self.groups)
        return made + value(self.bias).astype(self.dtype)


def _convolved(x: Array, weight: Array, groups: int) -> Array:
    half = weight.shape[2] // 2
    return lax.conv_general_dilated(
        x, weight, (1,), [(half, half)], dimension_numbers=("NHC", "OIH", "NHC"), feature_group_count=groups
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _grouped_conv(x: Array, weight: Array, groups: int) -> Array:
    """Grouped convolution of (batch, frames, channels) by (channels, channels / groups, kernel), half a kernel padded.

    The gradient is JAX's, except that of the weight on CPUs: it is a matrix product for each position of the kernel
    there, because XLA takes ten times as long for the dilated convolution that JAX makes of it.
    """
    return _convolved(x, weight, groups)


def _grouped_conv_forward(x: Array, weight: Array, groups: int) -> tuple[Array, tuple[Array, Array]]:
    return _convolved(x, weight, groups), (x, weight)


def _grouped_conv_backward(groups: int, kept: tuple[Array, Array], change: Array) -> tuple[Array, Array]:
    x, weight = kept
    (to_x,) = jax.vjp(lambda x: _convolved(x, weight, groups), x)[1](change)

    def by_position(x: Array, weight: Array, change: Array) -> Array:
        outputs, inputs, kernel = weight.shape
        half, frames = kernel // 2, change.shape[1]
        padded = jnp.pad(x, ((0, 0), (half, half), (0, 0))).reshape(len(x), -1, groups, inputs).transpose(2, 3, 0, 1)
        changes = change.reshape(len(x), frames, groups, -1).transpose(2, 0, 1, 3)

        def at(position: Array) -> Array:
            seen = lax.dynamic_slice_in_dim(padded, position, frames, axis=3)
            return jnp.einsum("gibt,gbto->goi", seen, changes)

        return lax.map(at, jnp.arange(kernel)).transpose(1, 2, 3, 0).reshape(outputs, inputs, kernel)

    def as_convolution(x: Array, weight: Array, change: Array) -> Array:
        return jax.vjp(lambda weight: _convolved(x, weight, groups), weight)[1](change)[0]

    return to_x, lax.platform_dependent(x, weight, change, cpu=by_position, default=as_convolution)


_grouped_conv.defvjp(_grouped_conv_forward, _grouped_conv_backward)


def value(parameter: Any) -> Array:
    """The array in an nnx parameter."""
    return parameter[...]


def dilated_conv(x: Array, kernel: Array, bias: Array, size: int, dilation: int) -> Array:
    """Convolution of (batch, frames, inputs) with a kernel stored as (size * inputs, outputs), without padding."""
    weight = kernel.reshape(size, x.shape[2], -1).astype(x.dtype)
    x = lax.conv_general_dilated(
        x, weight, (1,), "VALID", rhs_dilation=(dilation,), dimension_numbers=("NHC", "HIO", "NHC")
    )
    return x + bias.astype(x.dtype)


# ---- attention ------------------------------------------------------------------------------------------------


def attend(
    query: Array, key: Array, value: Array, mask: Array | None, dropout_rate: float, dropout_key: Array | None
) -> tuple[Array, Array]:
    """Scaled dot-product attention over (batch, frames, heads, head_dim), softmax in float32 at least.

    Args:
        mask: (batch, frames) bool, True for the frames that may be attended to.
        dropout_rate: probability of dropping an attention weight.
        dropout_key: where the drops come from; None to drop nothing.

    Returns:
        The context in the shape of the arguments, and the weights (batch, heads, frames, frames).
    """
    wide = jnp.promote_types(query.dtype, jnp.float32)
    scores = jnp.einsum("bqhd,bkhd->bhqk", query * query.shape[-1] ** -0.5, key, preferred_element_type=wide)
    if mask is not None:
        scores = jnp.where(mask[:, None, None, :], scores, jnp.finfo(wide).min)
    weights = dropout(jax.nn.softmax(scores, axis=-1).astype(value.dtype), dropout_rate, dropout_key)
    return jnp.einsum("bhqk,bkhd->bqhd", weights, value), weights


# ---- masks and statistics over frames -------------------------------------------------------------------------


def frame_mask(lengths: Array, frames: int) -> Array:
    """(batch,) lengths -> (batch, frames) bool, True for the first ``length`` frames of each row."""
    return jnp.arange(frames) < lengths[:, None]


def masked_mean(x: Array, mask: Array | None) -> Array:
    """Mean over the frames of (batch, frames, features) where ``mask`` (batch, frames) is True -> (batch, features)."""
    if mask is None:
        return x.mean(1)
    wide = widened(x)
    return (jnp.where(mask[..., None], wide, 0).sum(1) / mask.sum(1)[:, None].astype(wide.dtype)).astype(x.dtype)


def masked_mean_and_std(x: Array, mask: Array | None) -> tuple[Array, Array]:
    """Mean and unbiased standard deviation over frames: (batch, frames, features) -> two (batch, features)."""
    wide = widened(x)
    mean = masked_mean(wide, mask)
    squares = jnp.square(wide - mean[:, None])
    if mask is None:
        variance = squares.sum(1) / (x.shape[1] - 1)
    else:
        variance = jnp.where(mask[..., None], squares, 0).sum(1) / (mask.sum(1)[:, None] - 1).astype(wide.dtype)
    # A channel that is constant (dead after ReLU) has deviation 0 and must get gradient 0, not NaN.
    constant = variance == 0
    deviation = jnp.where(constant, 0.0, jnp.sqrt(jnp.where(constant, 1.0, variance)))
    return mean.astype(x.dtype), deviation.astype(x.dtype)


def masked_mean_square(x: Array, mask: Array | None) -> Array:
    """Mean square of (batch, frames, features) where ``mask`` (batch, frames) is True, in float32; 0 of no frame."""
    squares = jnp.square(widened(x)).mean(-1)
    if mask is None:
        return squares.mean()
    return jnp.where(mask, squares, 0.0).sum() / jnp.maximum(mask.sum(), 1)


def scaled_gradient(x: Array, scale: float) -> Array:
    """``x`` itself, whose gradient is multiplied by ``scale``."""
    fixed = jax.lax.stop_gradient(x)
    return fixed + scale * (x - fixed)


def widened(x: Array) -> Array:
    """``x`` in float32 at least: sums over many frames overflow or lose digits in half precision."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


# ---- randomness -----------------------------------------------------------------------------------------------


def split(key: Array | None, count: int) -> Any:
    """``count`` independent keys; as many ``None`` for no key."""
    return (None,) * count if key is None else jax.random.split(key, count)


def dropout(x: Array, rate: float, key: Array | None) -> Array:
    """Drop entries of ``x`` with probability ``rate`` and scale up the others; ``x`` itself without a key."""
    if key is None or rate == 0.0:
        return x
    if rate == 1.0:
        return jnp.zeros_like(x)
    return jnp.where(_happens(key, 1 - rate, x.shape), x / (1 - rate), 0)


def draw_spans(key: Array, lengths: Array, width: int, *, prob: float, length: int, min_masks: int) -> Array:
    """Spans to mask, drawn inside a compiled step: the distribution of ``wav2vec2_core.masking.time_mask``.

    Args:
        key: source of randomness.
        lengths: (batch,) positions of each row that may be masked.
        width: positions in a row of the result.
        prob, length, min_masks: as in ``time_mask``.

    Returns:
        bool (batch, width), True where masked.
    """
    count_key, place_key = jax.random.split(key)
    rounding = jax.random.uniform(count_key, lengths.shape, jnp.float32)
    choices = jnp.maximum(lengths - length, 0)
    count = jnp.minimum(jnp.maximum((prob * lengths / length + rounding).astype(jnp.int32), min_masks), choices)
    # The `count` largest of random numbers over the allowed starts are a draw without replacement.
    numbers = jax.random.uniform(place_key, (lengths.shape[0], width), jnp.float32)
    numbers = jnp.where(frame_mask(choices, width), numbers, -1.0)
    rank = jnp.argsort(jnp.argsort(-numbers, axis=1), axis=1)
    started = jnp.cumsum(rank < count[:, None], axis=1)
    ended = jnp.pad(started, ((0, 0), (min(length, width), 0)))[:, :width]
    return started > ended


def draw_layer_keep(key: Array, num_layers: int, layerdrop: float) -> Array:
    """Which layers run in this training step: bool (num_layers,), each False with probability ``layerdrop``."""
    return _happens(key, 1 - layerdrop, (num_layers,))


def _happens(key: Array, probability: float, shape: Sequence[int]) -> Array:
    """bool ``shape``, each True with ``probability``: a key draws the same whether or not JAX has float64 on."""
    return jax.random.bernoulli(key, jnp.float32(probability), shape)


def gumbel_noise(key: Array, shape: Sequence[int]) -> Array:
    """Standard Gumbel noise, -log(-log(uniform)), in float32."""
    return jax.random.gumbel(key, shape, jnp.float32)


def seeded_gumbel_noise(shape: Sequence[int], seeds: Any) -> Array:
    """The same, each row a function of its seed: (rows, 2) uint32."""
    keys = jax.random.wrap_key_data(jnp.asarray(seeds, jnp.uint32), impl="threefry2x32")
    return jax.vmap(lambda key: gumbel_noise(key, shape[1:]))(keys)


def hard_gumbel_softmax(logits: Array, noise: Array, temperature: Any) -> Array:
    """One-hot choice of the largest ``logits + noise`` whose gradient is that of the softmax (straight-through)."""
    soft = jax.nn.softmax((logits + noise) / temperature, axis=-1)
    return one_hot_argmax(soft) - lax.stop_gradient(soft) + soft


def one_hot_argmax(x: Array) -> Array:
    """1 at the largest entry of the last dimension, 0 elsewhere."""
    return jax.nn.one_hot(x.argmax(-1), x.shape[-1], dtype=x.dtype)


# ---- running layers ---------------------------------------------------------------------------------------------

#: What a rematerialised layer keeps for the backward pass.
REMAT_POLICIES: dict[str, Callable[..., Any]] = {
    "full": jax.checkpoint_policies.nothing_saveable,
    "dots": jax.checkpoint_policies.dots_saveable,
    "dots_no_batch": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
}


def rematerialised(step: Callable[..., Any], policy: str | None) -> Callable[..., Any]:
    """``step`` so that its backward pass computes again what the policy does not keep; as it is for ``None``."""
    return step if policy is None else jax.checkpoint(step, policy=REMAT_POLICIES[policy])


def check_remat(policy: str | None) -> str | None:
    """The policy, known or ``None``. Raises ``ConfigError`` for an unknown one."""
    if policy is not None and policy not in REMAT_POLICIES:
        raise ConfigError(f"remat={policy!r} is unknown: use one of {', '.join(REMAT_POLICIES)}, or None to keep all")
    return policy


#: While a step is traced: how the parameters of one layer become what it computes with.
_prepare: ContextVar[Callable[[Any], Any] | None] = ContextVar("prepare", default=None)


@contextmanager
def prepared_layers(prepare: Callable[[Any], Any]) -> Iterator[None]:
    """Within this, ``run_layers`` passes the parameters of each layer through ``prepare`` where the layer begins."""
    token = _prepare.set(prepare)
    try:
        yield
    finally:
        _prepare.reset(token)


def run_layers(
    layers: Sequence[nnx.Module],
    step: Callable[[Any, Array, Any], tuple[Array, Any]],
    hidden: Array,
    inputs: Any,
    *,
    scan: bool,
    remat: str | None,
) -> tuple[Array, list[Any]]:
    """Pass ``hidden`` through equal layers: ``hidden, result = step(layer, hidden, input)`` for each.

    Args:
        inputs: arrays with one entry per layer in front, or None in their places.
        scan: compile one layer and loop over it, which compiles faster and needs the layers' parameters a second time,
            stacked. Parameters stay where they are, so nothing outside a step knows the difference.
        remat: a key of ``REMAT_POLICIES``, or None.

    Returns:
        The last ``hidden`` and each layer's result.
    """
    count, prepare = len(layers), _prepare.get()
    if count == 0:
        return hidden, []

    def begun(layer: nnx.Module) -> nnx.Module:
        if prepare is None:
            return layer  # itself: who watches a model from outside knows it
        structure, state = nnx.split(layer)
        return nnx.merge(structure, prepare(state))

    if not scan:
        run = rematerialised(lambda layer, *rest: step(begun(layer), *rest), remat)
        results = []
        for index, layer in enumerate(layers):
            hidden, result = run(layer, hidden, _entry(inputs, index))
            results.append(result)
        return hidden, results
    structure, _ = nnx.split(layers[0])
    states = [nnx.split(layer)[1] for layer in layers]
    run = rematerialised(lambda state, *rest: step(begun(nnx.merge(structure, state)), *rest), remat)
    stacked = jax.tree.map(lambda *values: jnp.stack(values), *states)
    hidden, results = lax.scan(lambda carry, now: run(now[0], carry, now[1]), hidden, (stacked, inputs))
    return hidden, [_entry(results, index) for index in range(count)]


def _entry(arrays: Any, index: int) -> Any:
    return jax.tree.map(lambda array: array[index], arrays)


def is_tracing(*arrays: Any) -> bool:
    """True where values cannot be looked at, only shapes: inside jit, grad, scan and export."""
    return any(isinstance(array, Tracer) for array in arrays)


# ---- outputs --------------------------------------------------------------------------------------------------


def _register(output_class: type[ModelOutput]) -> None:
    """Let jax.jit, jax.grad and jax.export look inside the outputs."""

    def flatten_with_keys(output: ModelOutput) -> tuple[list[tuple[Any, Any]], tuple[str, ...]]:
        return [(jax.tree_util.DictKey(name), item) for name, item in output.items()], tuple(output)

    def unflatten(names: tuple[str, ...], values: Any) -> ModelOutput:
        output = output_class()  # item by item: jax also fills trees with placeholders, None among them
        for name, item in zip(names, values, strict=True):
            dict.__setitem__(output, name, item)
        return output

    jax.tree_util.register_pytree_with_keys(output_class, flatten_with_keys, unflatten)
    jax.export.register_pytree_node_serialization(
        output_class,
        serialized_name=f"{output_class.__module__}.{output_class.__name__}",
        serialize_auxdata=lambda names: ",".join(names).encode(),
        deserialize_auxdata=lambda data: tuple(bytes(data).decode().split(",")),
    )


for _output_class in OUTPUT_CLASSES:
    _register(_output_class)
