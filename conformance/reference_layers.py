"""Building blocks of the reference model in float64, on (batch, frames, channels) unless they say otherwise."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from conformance.autodiff import Tensor, erf, exp, log, pad_frames, sqrt, tanh, where, windows

#: Added to the variance by norms whose epsilon the configuration does not set.
EPSILON = 1e-5


# ---- activations ------------------------------------------------------------------------------------------------


def relu(x: Tensor) -> Tensor:
    """x where positive."""
    return where(x.data > 0, x, 0.0)


def sigmoid(x: Tensor) -> Tensor:
    """1 / (1 + exp(-x)), which cannot overflow in this form."""
    return (tanh(x * 0.5) + 1.0) * 0.5


def gelu(x: Tensor) -> Tensor:
    """x times the cumulative normal distribution (Hendrycks and Gimpel 2016)."""
    return x * (erf(x * math.sqrt(0.5)) + 1.0) * 0.5


def gelu_tanh(x: Tensor) -> Tensor:
    """The same paper's approximation by tanh."""
    return x * (tanh((x + x * x.square() * 0.044715) * math.sqrt(2 / math.pi)) + 1.0) * 0.5


def _limited(x: Tensor, low: float, high: float) -> Tensor:
    return where(x.data < low, low, where(x.data > high, high, x))


def _softplus(x: Tensor) -> Tensor:
    return relu(x) + log(exp(-where(x.data > 0, x, -x)) + 1.0)


def _laplace(x: Tensor) -> Tensor:
    return (erf((x - 0.707107) / (0.282095 * math.sqrt(2))) + 1.0) * 0.5


#: By the names in ``Wav2Vec2Config``.
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    **dict.fromkeys(("gelu", "gelu_python"), gelu),
    **dict.fromkeys(("gelu_accurate", "gelu_fast", "gelu_new", "gelu_python_tanh", "gelu_pytorch_tanh"), gelu_tanh),
    **dict.fromkeys(("silu", "swish"), lambda x: x * sigmoid(x)),
    "gelu_10": lambda x: _limited(gelu(x), -10.0, 10.0),
    "laplace": _laplace,
    "leaky_relu": lambda x: where(x.data > 0, x, x * 0.01),
    "linear": lambda x: x,
    "mish": lambda x: x * tanh(_softplus(x)),
    "quick_gelu": lambda x: x * sigmoid(x * 1.702),
    "relu": relu,
    "relu2": lambda x: relu(x).square(),
    "relu6": lambda x: _limited(x, 0.0, 6.0),
    "sigmoid": sigmoid,
    "tanh": tanh,
}


# ---- linear maps and convolutions -------------------------------------------------------------------------------


def linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """(..., in) -> (..., out); weight: (out, in)."""
    return x @ weight.transpose(1, 0) + bias


def conv1d(
    x: Tensor, weight: Tensor, bias: Tensor | None, *, stride: int = 1, padding: int = 0, groups: int = 1
) -> Tensor:
    """(batch, frames, in) -> (batch, frames', out); weight: (out, in / groups, kernel), as in a checkpoint."""
    outputs, inputs, kernel = weight.shape
    seen = windows(pad_frames(x, padding) if padding else x, kernel, stride)
    batch, frames = seen.shape[:2]
    seen = seen.reshape(batch, frames, kernel, groups, inputs).transpose(3, 0, 1, 2, 4)
    seen = seen.reshape(groups, batch * frames, kernel * inputs)
    matrix = weight.reshape(groups, outputs // groups, inputs, kernel).transpose(0, 3, 2, 1)
    result = seen @ matrix.reshape(groups, kernel * inputs, outputs // groups)
    result = result.transpose(1, 0, 2).reshape(batch, frames, outputs)
    return result if bias is None else result + bias


def weight_norm(g: Tensor, v: Tensor) -> Tensor:
    """A convolution's weight from its gain (1, 1, kernel) and direction (out, in / groups, kernel)."""
    return v * (g / sqrt(v.square().sum((0, 1), keepdims=True)))


# ---- normalisation ----------------------------------------------------------------------------------------------


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, epsilon: float = EPSILON) -> Tensor:
    """Over the channels of each frame."""
    centred = x - x.mean(-1, keepdims=True)
    return centred / sqrt(centred.square().mean(-1, keepdims=True) + epsilon) * weight + bias


def channel_norm(x: Tensor, weight: Tensor, bias: Tensor, lengths: np.ndarray | None) -> Tensor:
    """Group norm with one channel per group: over the frames of each utterance; the first ``lengths`` (batch,) only."""
    counted = np.ones((*x.shape[:2], 1)) if lengths is None else frame_mask(lengths, x.shape[1])[:, :, None]
    count = counted.sum(1, keepdims=True)
    centred = x - (x * counted).sum(1, keepdims=True) / count
    variance = (centred * counted).square().sum(1, keepdims=True) / count
    return centred / sqrt(variance + EPSILON) * weight + bias


def softmax(x: Tensor) -> Tensor:
    """Over the last axis."""
    raised = exp(x - x.data.max(-1, keepdims=True))
    return raised / raised.sum(-1, keepdims=True)


def log_softmax(x: Tensor) -> Tensor:
    """Over the last axis; entries of minus infinity have no share."""
    shifted = x - x.data.max(-1, keepdims=True)
    return shifted - log(exp(shifted).sum(-1, keepdims=True))


# ---- frames -----------------------------------------------------------------------------------------------------


def frame_mask(lengths: np.ndarray, frames: int) -> np.ndarray:
    """(batch,) lengths -> (batch, frames) bool, True for the first ``length`` frames."""
    return np.arange(frames) < np.asarray(lengths)[:, None]


def mean_and_deviation(x: Tensor, mask: np.ndarray) -> tuple[Tensor, Tensor]:
    """Mean and unbiased standard deviation over the frames of ``mask`` (batch, frames) bool: two (batch, channels).

    A deviation of 0 has gradient 0.
    """
    counted = mask[:, :, None].astype(np.float64)
    count = counted.sum(1)
    mean = (x * counted).sum(1) / count
    squares = ((x - mean.reshape(len(mask), 1, -1)) * counted).square().sum(1)
    return mean, sqrt(squares / (count - 1))
