"""Primitives of the model. What is peculiar to TensorFlow and Keras lives here and only here.

Shapes: everything, convolutions included, works on ``(batch, frames, features)``.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import keras
import numpy as np
import optree
import tensorflow as tf

from wav2vec2_core import inputs
from wav2vec2_core.errors import Wav2Vec2Error
from wav2vec2_core.outputs import OUTPUT_CLASSES, ModelOutput

Tensor = Any  # tf.Tensor: eager, symbolic in a graph, or a KerasTensor
#: A length or size: an int where it is known, else a scalar tensor.
Size = Any

# Keras puts the arguments of a call, values and all, into the message of any exception that does not carry this mark.
Wav2Vec2Error._keras_call_info_injected = True  # pyright: ignore[reportAttributeAccessIssue]

# ---- activations ----------------------------------------------------------------------------------------------


def _gelu(x: Tensor) -> Tensor:
    return tf.nn.gelu(x)


def _gelu_tanh(x: Tensor) -> Tensor:
    return tf.nn.gelu(x, approximate=True)


def _clipped_gelu(x: Tensor) -> Tensor:
    return tf.clip_by_value(tf.nn.gelu(x), -10.0, 10.0)


def _quick_gelu(x: Tensor) -> Tensor:
    return x * tf.sigmoid(1.702 * x)


def _squared_relu(x: Tensor) -> Tensor:
    return tf.square(tf.nn.relu(x))


def _leaky_relu(x: Tensor) -> Tensor:
    return tf.nn.leaky_relu(x, alpha=0.01)  # TensorFlow's own default is 0.2


def _mish(x: Tensor) -> Tensor:
    return x * tf.tanh(tf.math.softplus(x))


def _laplace(x: Tensor) -> Tensor:
    # Cumulative Laplace-like gate of Mega (Ma et al. 2022): mean sqrt(1/2), deviation sqrt(1/(4 pi)), both rounded.
    return 0.5 * (1.0 + tf.math.erf((x - 0.707107) / (0.282095 * math.sqrt(2.0))))


_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": _gelu,
    "gelu_10": _clipped_gelu,
    "gelu_accurate": _gelu_tanh,
    "gelu_fast": _gelu_tanh,
    "gelu_new": _gelu_tanh,
    "gelu_python": _gelu,
    "gelu_python_tanh": _gelu_tanh,
    "gelu_pytorch_tanh": _gelu_tanh,
    "laplace": _laplace,
    "leaky_relu": _leaky_relu,
    "linear": tf.identity,
    "mish": _mish,
    "quick_gelu": _quick_gelu,
    "relu": tf.nn.relu,
    "relu2": _squared_relu,
    "relu6": tf.nn.relu6,
    "sigmoid": tf.sigmoid,
    "silu": tf.nn.silu,
    "swish": tf.nn.silu,
    "tanh": tf.tanh,
}


def activation(name: str) -> Callable[[Tensor], Tensor]:
    """The activation with this transformers name; ``Wav2Vec2Config`` has checked that it is known."""
    return _ACTIVATIONS[name]


# ---- layers ---------------------------------------------------------------------------------------------------


class Layer(keras.layers.Layer):
    """A Keras layer all of whose parameters exist once it is constructed, so that a checkpoint can fill them."""

    def __init__(self, name: str | None = None) -> None:
        super().__init__(name=name)
        self.built = True


def linear(inputs: int, outputs: int, name: str) -> keras.layers.Dense:
    """(..., inputs) -> (..., outputs)."""
    layer = keras.layers.Dense(outputs, kernel_initializer="zeros", name=name)
    layer.build((None, inputs))
    return layer


def convolution(
    inputs: int, outputs: int, kernel: int, stride: int, *, bias: bool = True, name: str = "conv"
) -> keras.layers.Conv1D:
    """(batch, frames, inputs) -> (batch, (frames - kernel) // stride + 1, outputs)."""
    layer = keras.layers.Conv1D(
        outputs, kernel, stride, use_bias=bias, kernel_initializer="zeros", data_format="channels_last", name=name
    )
    layer.build((None, None, inputs))
    return layer


def forget(owner: keras.layers.Layer, layer: keras.layers.Layer) -> None:
    """Take a layer out of ``owner`` before another one takes its name: Keras would go on counting its weights."""
    owner._layers.remove(layer)


class LayerNorm(keras.layers.LayerNormalization):
    """Layer norm over the features, frame by frame."""

    def __init__(self, features: int, epsilon: float = 1e-5, name: str = "layer_norm") -> None:
        super().__init__(epsilon=epsilon, name=name)
        self.build((None, None, features))


class ChannelLayerNorm(LayerNorm):
    """``LayerNorm`` in the place of ``ChannelGroupNorm``."""

    def call(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        """(batch, frames, channels) -> the same; ``lengths`` make no difference to a single frame."""
        return super().call(inputs)


class ChannelGroupNorm(Layer):
    """Group norm with one group per channel: each channel is normalised over time, utterance by utterance."""

    def __init__(self, channels: int, epsilon: float = 1e-5, name: str = "layer_norm") -> None:
        super().__init__(name=name)
        self.epsilon = epsilon
        self.gamma = self.add_weight(shape=(channels,), initializer="ones", name="gamma")
        self.beta = self.add_weight(shape=(channels,), initializer="zeros", name="beta")

    def call(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Normalise (batch, frames, channels), with ``lengths`` (batch,) by each utterance's own frames alone."""
        wide = _widened(x)
        if lengths is None:
            mean = tf.reduce_mean(wide, axis=1, keepdims=True)
            variance = tf.reduce_mean(tf.math.squared_difference(wide, mean), axis=1, keepdims=True)
        else:
            valid = tf.expand_dims(tf.cast(frame_mask(lengths, size(x, 1)), wide.dtype), 2)
            count = tf.cast(tf.reshape(lengths, (-1, 1, 1)), wide.dtype)
            mean = tf.reduce_sum(wide * valid, axis=1, keepdims=True) / count
            variance = tf.reduce_sum(tf.math.squared_difference(wide, mean) * valid, axis=1, keepdims=True) / count
        scale = tf.cast(self.gamma, wide.dtype) * tf.math.rsqrt(variance + self.epsilon)
        return tf.cast(wide * scale + (tf.cast(self.beta, wide.dtype) - mean * scale), x.dtype)


class WeightNormConv1d(Layer):
    """Grouped 1-d convolution whose weight is ``weight_g * weight_v / |weight_v|``, one norm per kernel position.

    The two parameters keep the names of the checkpoint; their layout is TensorFlow's, ``(kernel, in / groups, out)``.
    """

    def __init__(self, channels: int, kernel: int, groups: int, name: str = "conv") -> None:
        super().__init__(name=name)
        self.kernel, self.groups = kernel, groups
        shape = (kernel, channels // groups, channels)
        self.weight_g = self.add_weight(shape=(kernel, 1, 1), initializer="ones", name="weight_g")
        self.weight_v = self.add_weight(shape=shape, initializer="ones", name="weight_v")
        self.bias = self.add_weight(shape=(channels,), initializer="zeros", name="bias")
        self.one_by_one = groups > 1 and not has_grouped_gradients()

    def call(self, x: Tensor) -> Tensor:
        """(batch, frames, channels) -> the same: of an even kernel's frames the last one is left out."""
        direction = tf.convert_to_tensor(self.weight_v)
        norm = tf.norm(direction, axis=(1, 2), keepdims=True)
        weight = direction * (self.weight_g / norm)
        before = self.kernel // 2
        after = before - (self.kernel + 1) % 2
        x, dtype = tf.pad(x, [[0, 0], [before, after], [0, 0]]), x.dtype
        if weight.shape[1] < 16 and x.dtype == tf.bfloat16:
            # oneDNN in TensorFlow 2.21 computes so narrow groups wrongly on processors with AMX.
            x, weight = tf.cast(x, tf.float32), tf.cast(weight, tf.float32)
        parts = [(x, weight)]
        if self.one_by_one:
            parts = zip(tf.split(x, self.groups, axis=2), tf.split(weight, self.groups, axis=2), strict=True)
        convolved = [tf.nn.conv1d(part, kernel, stride=1, padding="VALID") for part, kernel in parts]
        # Not bias_add: graphs fuse it with the convolution, and some processors have no such kernel for groups.
        return tf.cast(tf.concat(convolved, axis=2), dtype) + tf.convert_to_tensor(self.bias)


@functools.cache
def has_grouped_gradients() -> bool:
    """Whether grouped convolutions have gradients here: TensorFlow has none on CPUs for which it leaves oneDNN off."""
    shape, unit = (1, 1, 3, 4), [1, 1, 1, 1]
    try:
        with tf.init_scope():  # now, also while a graph is made
            kernel, change = tf.ones((1, 2, 2, 4)), tf.ones((1, 1, 2, 4))
            tf.raw_ops.Conv2DBackpropInput(
                input_sizes=shape, filter=kernel, out_backprop=change, strides=unit, padding="VALID"
            )
    except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError):
        return False
    return True


# ---- attention ------------------------------------------------------------------------------------------------


def attend(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, dropout: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """Scaled dot-product attention over (batch, heads, frames, head_dim).

    Returns also the weights, (batch, heads, frames, frames).

    Args:
        mask: (batch, frames) bool, True for the frames that may be attended to.
        dropout: applied to the attention weights.
    """
    scores = _widened(tf.matmul(query * query.shape[-1] ** -0.5, key, transpose_b=True))
    if mask is not None:
        attended = tf.expand_dims(tf.expand_dims(mask, 1), 1)
        scores = tf.where(attended, scores, tf.constant(scores.dtype.min, scores.dtype))
    weights = dropout(tf.cast(tf.nn.softmax(scores), value.dtype))
    return tf.matmul(weights, value), weights


# ---- masks and statistics over frames -------------------------------------------------------------------------


def size(x: Tensor, axis: int) -> Size:
    """Length of a dimension: an int where it is known."""
    known = x.shape[axis]
    return tf.shape(x)[axis] if known is None else known


def frame_mask(lengths: Tensor, frames: Size) -> Tensor:
    """(batch,) lengths -> (batch, frames) bool, True for the first ``length`` frames of each row."""
    return tf.expand_dims(tf.range(frames, dtype=lengths.dtype), 0) < tf.expand_dims(lengths, 1)


def masked_mean(x: Tensor, mask: Tensor | None) -> Tensor:
    """Mean over the frames of (batch, frames, features) where ``mask`` (batch, frames) is True -> (batch, features)."""
    wide = _widened(x)
    if mask is None:
        return tf.cast(tf.reduce_mean(wide, axis=1), x.dtype)
    chosen = tf.expand_dims(tf.cast(mask, wide.dtype), 2)
    return tf.cast(tf.reduce_sum(wide * chosen, axis=1) / tf.reduce_sum(chosen, axis=1), x.dtype)


def masked_mean_and_std(x: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Mean and unbiased standard deviation over frames: (batch, frames, features) -> two (batch, features)."""
    wide = _widened(x)
    mean = masked_mean(wide, mask)
    chosen = tf.ones_like(wide[:, :, :1]) if mask is None else tf.expand_dims(tf.cast(mask, wide.dtype), 2)
    squares = tf.reduce_sum(tf.square((wide - tf.expand_dims(mean, 1)) * chosen), axis=1)
    variance = squares / (tf.reduce_sum(chosen, axis=1) - 1)
    # A channel that is constant (dead after ReLU) has deviation 0 and must get gradient 0, not NaN.
    constant = variance == 0
    deviation = tf.sqrt(tf.where(constant, tf.ones_like(variance), variance))
    deviation = tf.where(constant, tf.zeros_like(variance), deviation)
    return tf.cast(mean, x.dtype), tf.cast(deviation, x.dtype)


def masked_mean_square(x: Tensor, mask: Tensor | None) -> Tensor:
    """Mean square of (batch, frames, features) where ``mask`` (batch, frames) is True, in float32; 0 of no frame."""
    squares = tf.reduce_mean(tf.square(_widened(x)), axis=-1)
    if mask is None:
        return tf.reduce_mean(squares)
    total = tf.reduce_sum(tf.where(mask, squares, tf.zeros_like(squares)))
    total, frames = of_all_shares(total, tf.reduce_sum(tf.cast(mask, squares.dtype)))
    return total / tf.maximum(frames, 1.0)


def scaled_gradient(x: Tensor, scale: float) -> Tensor:
    """``x`` itself, whose gradient is multiplied by ``scale``."""
    fixed = tf.stop_gradient(x)
    return fixed + scale * (x - fixed)


def _widened(x: Tensor) -> Tensor:
    """``x`` in float32 at least: sums over many frames overflow or lose digits in half precision."""
    return x if x.dtype == tf.float64 else tf.cast(x, tf.float32)


def gated_linear_unit(x: Tensor) -> Tensor:
    """(..., 2 * features) -> (..., features): the first half, gated by the second."""
    value, gate = tf.split(x, 2, axis=-1)
    return value * tf.sigmoid(gate)


# ---- randomness -----------------------------------------------------------------------------------------------


def draw_seed() -> int:
    """A seed from TensorFlow's own generator, so that ``keras.utils.set_random_seed`` governs every draw."""
    with tf.init_scope():
        return int(_seed_tensor())


def draw_on_host(
    function: Callable[..., Sequence[np.ndarray]], arguments: Sequence[Tensor], results: Sequence[tuple[Any, Any]]
) -> list[Tensor]:
    """Call ``function(numpy generator, *arrays)``, in a graph each time the graph runs; XLA cannot compile it.

    ``results``: (type, shape) of each array it returns.
    """

    def drawn(seed: np.ndarray, *arrays: np.ndarray) -> list[np.ndarray]:
        return list(function(np.random.default_rng(int(seed)), *arrays))

    types = [dtype for dtype, _ in results]
    tensors = tf.numpy_function(drawn, [_seed_tensor(), *arguments], types)
    return [tf.ensure_shape(tensor, shape) for tensor, (_, shape) in zip(tensors, results, strict=True)]


def _seed_tensor() -> Tensor:
    return tf.random.uniform((), maxval=np.iinfo(np.int64).max, dtype=tf.int64)


def gumbel_noise_like(logits: Tensor) -> Tensor:
    """Standard Gumbel noise, -log(-log(uniform)), with the shape and dtype of ``logits``."""
    uniform = tf.random.uniform(tf.shape(logits), minval=float(np.finfo(np.float32).tiny), dtype=logits.dtype)
    return -tf.math.log(-tf.math.log(uniform))


def seeded_gumbel_noise(shape: Tensor, seeds: Tensor) -> Tensor:
    """The same in float32 and of any shape, each row a function of its seed: (rows, 2) uint32."""
    tiny = float(np.finfo(np.float32).tiny)

    def row(seed: Tensor) -> Tensor:
        return tf.random.stateless_uniform(shape[1:], seed, minval=tiny)

    uniform = tf.map_fn(row, tf.bitcast(seeds, tf.int32), fn_output_signature=tf.float32)
    return -tf.math.log(-tf.math.log(uniform))


def dropouts(model: keras.Model) -> list[keras.layers.Dropout]:
    """Every layer of a model that drops something, in a fixed order."""
    found = model._flatten_layers()
    return [layer for layer in found if isinstance(layer, keras.layers.Dropout) and layer.rate > 0]


def seed_dropouts(dropouts: Sequence[keras.layers.Dropout], seeds: Tensor) -> None:
    """Make what each layer drops next a function of its seed: row of (layers or more, 2) uint32."""
    for index, layer in enumerate(dropouts):
        layer.seed_generator.state.assign(seeds[index])


def hard_gumbel_softmax(logits: Tensor, noise: Tensor, temperature: Tensor) -> Tensor:
    """One-hot choice of the largest ``logits + noise`` whose gradient is that of the softmax (straight-through)."""
    soft = tf.nn.softmax((logits + noise) / temperature)
    return one_hot_argmax(soft) - tf.stop_gradient(soft) + soft


def one_hot_argmax(x: Tensor) -> Tensor:
    """1 at the largest entry of the last dimension, 0 elsewhere."""
    return tf.one_hot(tf.argmax(x, axis=-1), x.shape[-1], dtype=x.dtype)


# ---- shares of a micro-batch ------------------------------------------------------------------------------------

_add_up: ContextVar[Callable[..., Sequence[Tensor]] | None] = ContextVar("add_up", default=None)


@contextmanager
def sharing(add_up: Callable[..., Sequence[Tensor]] | None) -> Iterator[None]:
    """Inside, a batch is one of several shares of a micro-batch, of which ``add_up(*sums)`` adds up sums."""
    token = _add_up.set(add_up)
    try:
        yield
    finally:
        _add_up.reset(token)


def of_all_shares(*sums: Tensor) -> Sequence[Tensor]:
    """Sums over this batch -> over the whole micro-batch that it is a share of: see ``sharing``."""
    add_up = _add_up.get()
    return sums if add_up is None else add_up(*sums)


# ---- running models -------------------------------------------------------------------------------------------


def is_tracing() -> bool:
    """True while a graph is built: values cannot be looked at then, only shapes, and those not always."""
    return not tf.executing_eagerly()


_filling_is_deferred: ContextVar[bool] = ContextVar("filling_is_deferred", default=False)


@contextmanager
def without_values() -> Iterator[bool]:
    """Build models whose parameters someone fills afterwards; yields True where that is the caller.

    Inside another such block it is the outer one's business.
    """
    outermost = not _filling_is_deferred.get()
    token = _filling_is_deferred.set(True)
    try:
        yield outermost
    finally:
        _filling_is_deferred.reset(token)


@contextmanager
def dtype_policy(policy: Any) -> Iterator[None]:
    """Build layers under this Keras policy (``"bfloat16"``, ``"mixed_bfloat16"`` ...), the global one where None."""
    before = keras.config.dtype_policy()
    if policy is not None:
        keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


savable = keras.saving.register_keras_serializable("wav2vec2_tf")  # for model.save("model.keras")


# ---- shapes: rules on what is known of them while a graph is built ---------------------------------------------


def check_waveforms(config: Any, values: Tensor, mask: Tensor | None) -> None:
    """``wav2vec2_core.inputs.check_waveforms`` for tensors; what is not known yet passes."""
    known = [None if mask is None else _at(_shape(mask), 0), config.receptive_field]
    shape = _filled(_shape(values), known)
    inputs.check_waveforms(config, shape, None if mask is None else _filled(_shape(mask), shape))


def check_shape(name: str, x: Tensor, expected: Sequence[int | None], meaning: str) -> None:
    """``wav2vec2_core.inputs.check_shape`` for tensors; what is not known yet passes."""
    shape = _filled(_shape(x), expected)
    inputs.check_shape(name, shape, _filled(expected, shape), meaning)


def _shape(x: Tensor) -> list[int | None]:
    return list(x.shape)


def _at(values: Sequence[int | None], index: int) -> int | None:
    return values[index] if len(values) > index else None


def _filled(shape: Sequence[int | None], known: Sequence[int | None]) -> list[int]:
    """``shape`` with what it does not know taken from ``known``, and 1 where that does not know it either."""
    return [(_at(known, index) or 1) if value is None else value for index, value in enumerate(shape)]


# ---- outputs --------------------------------------------------------------------------------------------------


def _register(output_class: type[ModelOutput]) -> None:
    """Let Keras look inside the outputs; tf.nest does so for every mapping."""

    def flatten(output: Any) -> tuple[list[Any], tuple[str, ...], tuple[str, ...]]:
        return list(output.values()), tuple(output), tuple(output)

    def unflatten(names: Any, values: Any) -> ModelOutput:
        return output_class(dict(zip(names, values, strict=True)))

    optree.register_pytree_node(output_class, flatten, unflatten, namespace="keras")


for _output_class in OUTPUT_CLASSES:
    _register(_output_class)
