"""Reverse-mode differentiation of float64 numpy arrays: the few operations that the reference model consists of.

An operation on tensors of which none is tracked keeps nothing, so a forward pass alone costs what numpy costs. Exact up
to rounding, unlike finite differences; ``tests/conformance/test_reference.py`` checks every operation against them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

Backward = Callable[[np.ndarray], np.ndarray]


class Tensor:
    """A float64 array and, if tracked, how its gradient propagates to its inputs.

    Operators broadcast as in numpy and accept arrays and numbers, which are constants.
    """

    __slots__ = ("_inputs", "data", "gradient", "tracked")
    __array_ufunc__ = None  # `array * tensor` is for Tensor.__rmul__, not for numpy

    def __init__(self, data: Any, *, tracked: bool = False) -> None:
        self.data = np.asarray(data, np.float64)
        self.tracked = tracked
        self.gradient: np.ndarray | None = None
        self._inputs: tuple[tuple[Tensor, Backward], ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        return self.data.shape

    def backward(self) -> None:
        """Set ``gradient`` of every tracked tensor that this scalar depends on; only leaves keep theirs."""
        self.gradient = np.ones_like(self.data)
        for tensor in reversed(_in_order(self)):
            gradient = tensor.gradient
            if gradient is None or not tensor._inputs:
                continue
            for source, back in tensor._inputs:
                share = _fold(back(gradient), source.shape)
                source.gradient = share if source.gradient is None else source.gradient + share
            tensor.gradient = None

    # ---- arithmetic -------------------------------------------------------------------------------------------

    def __add__(self, other: Operand) -> Tensor:
        other = tensor(other)
        return _node(self.data + other.data, (self, lambda g: g), (other, lambda g: g))

    __radd__ = __add__

    def __neg__(self) -> Tensor:
        return _node(-self.data, (self, lambda g: -g))

    def __sub__(self, other: Operand) -> Tensor:
        other = tensor(other)
        return _node(self.data - other.data, (self, lambda g: g), (other, lambda g: -g))

    def __rsub__(self, other: Operand) -> Tensor:
        return tensor(other) - self

    def __mul__(self, other: Operand) -> Tensor:
        other = tensor(other)
        return _node(self.data * other.data, (self, lambda g: g * other.data), (other, lambda g: g * self.data))

    __rmul__ = __mul__

    def __truediv__(self, other: Operand) -> Tensor:
        other = tensor(other)
        result = self.data / other.data
        return _node(result, (self, lambda g: g / other.data), (other, lambda g: -g * result / other.data))

    def __rtruediv__(self, other: Operand) -> Tensor:
        return tensor(other) / self

    def __matmul__(self, other: Tensor) -> Tensor:
        return _node(
            self.data @ other.data,
            (self, lambda g: g @ other.data.swapaxes(-1, -2)),
            (other, lambda g: self.data.swapaxes(-1, -2) @ g),
        )

    def square(self) -> Tensor:
        return _node(np.square(self.data), (self, lambda g: 2 * self.data * g))

    # ---- sums and shapes --------------------------------------------------------------------------------------

    def sum(self, axis: int | tuple[int, ...] | None = None, *, keepdims: bool = False) -> Tensor:
        def back(g: np.ndarray) -> np.ndarray:
            if axis is not None and not keepdims:
                g = np.expand_dims(g, axis)
            return np.broadcast_to(g, self.shape)

        return _node(self.data.sum(axis, keepdims=keepdims), (self, back))

    def mean(self, axis: int | tuple[int, ...] | None = None, *, keepdims: bool = False) -> Tensor:
        total = self.sum(axis, keepdims=keepdims)
        return total * (total.data.size / self.data.size)

    def reshape(self, *shape: int) -> Tensor:
        return _node(self.data.reshape(shape), (self, lambda g: g.reshape(self.shape)))

    def transpose(self, *axes: int) -> Tensor:
        return _node(self.data.transpose(axes), (self, lambda g: g.transpose(np.argsort(axes))))

    def __getitem__(self, index: Any) -> Tensor:
        def back(g: np.ndarray) -> np.ndarray:
            whole = np.zeros(self.shape)
            np.add.at(whole, index, g)
            return whole

        return _node(self.data[index], (self, back))


Operand = Tensor | np.ndarray | float


def tensor(value: Operand) -> Tensor:
    """``value`` as a tensor; numbers and arrays become constants."""
    return value if isinstance(value, Tensor) else Tensor(value)


# ---- functions --------------------------------------------------------------------------------------------------


def exp(x: Tensor) -> Tensor:
    """Of each value."""
    result = np.exp(x.data)
    return _node(result, (x, lambda g: g * result))


def log(x: Tensor) -> Tensor:
    """Natural logarithm."""
    return _node(np.log(x.data), (x, lambda g: g / x.data))


def sqrt(x: Tensor) -> Tensor:
    """Square root; at 0 its gradient is taken to be 0."""
    result = np.sqrt(x.data)
    slope = np.divide(0.5, result, out=np.zeros_like(result), where=result > 0)
    return _node(result, (x, lambda g: g * slope))


def tanh(x: Tensor) -> Tensor:
    """Of each value."""
    result = np.tanh(x.data)
    return _node(result, (x, lambda g: g * (1 - result**2)))


def erf(x: Tensor) -> Tensor:
    """Error function, with the C library's accuracy; numpy has none."""
    flat = np.fromiter(map(math.erf, x.data.ravel()), np.float64, x.data.size)
    slope = 2 / math.sqrt(math.pi)
    return _node(flat.reshape(x.shape), (x, lambda g: g * slope * np.exp(-np.square(x.data))))


def where(condition: np.ndarray, yes: Operand, no: Operand) -> Tensor:
    """``yes`` where the constant ``condition`` holds, ``no`` elsewhere."""
    yes, no = tensor(yes), tensor(no)
    return _node(
        np.where(condition, yes.data, no.data),
        (yes, lambda g: np.where(condition, g, 0.0)),
        (no, lambda g: np.where(condition, 0.0, g)),
    )


def concatenate(parts: Sequence[Tensor], axis: int) -> Tensor:
    """Along an axis that exists."""
    ends = np.cumsum([part.shape[axis] for part in parts])

    def share(end: int, length: int) -> Backward:
        return lambda g: np.take(g, np.arange(end - length, end), axis)

    data = np.concatenate([part.data for part in parts], axis)
    return _node(data, *((part, share(end, part.shape[axis])) for part, end in zip(parts, ends.tolist(), strict=True)))


def pad_frames(x: Tensor, amount: int) -> Tensor:
    """(batch, frames, channels) -> the same with ``amount`` frames of zeros on both sides."""
    frames = x.shape[1]
    data = np.pad(x.data, ((0, 0), (amount, amount), (0, 0)))
    return _node(data, (x, lambda g: g[:, amount : amount + frames]))


def windows(x: Tensor, kernel: int, stride: int = 1, dilation: int = 1) -> Tensor:
    """The windows of a convolution: (batch, frames, channels) -> (batch, frames', kernel, channels)."""
    batch, frames, channels = x.shape
    count = (frames - dilation * (kernel - 1) - 1) // stride + 1
    data = np.ascontiguousarray(x.data)
    row, frame, channel = data.strides
    view = as_strided(data, (batch, count, kernel, channels), (row, stride * frame, dilation * frame, channel))

    def back(g: np.ndarray) -> np.ndarray:
        whole = np.zeros(x.shape)
        for position in range(kernel):
            start = position * dilation
            whole[:, start : start + stride * (count - 1) + 1 : stride] += g[:, :, position]
        return whole

    return _node(np.ascontiguousarray(view), (x, back))


def custom(value: np.ndarray, x: Tensor, back: Backward) -> Tensor:
    """A result with a gradient of its own: ``back`` takes that of ``value`` to that of ``x``."""
    return _node(value, (x, back))


def scaled_gradient(x: Tensor, scale: float) -> Tensor:
    """``x`` itself, whose gradient is multiplied by ``scale``."""
    return custom(x.data, x, lambda gradient: gradient * scale)


# ---- the tape ---------------------------------------------------------------------------------------------------


def _node(data: np.ndarray, *inputs: tuple[Tensor, Backward]) -> Tensor:
    followed = tuple((source, back) for source, back in inputs if source.tracked)
    result = Tensor(data, tracked=bool(followed))
    result._inputs = followed
    return result


def _fold(gradient: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Sum the gradient of a broadcast result over the broadcast axes."""
    if gradient.shape == shape:
        return gradient
    extra = gradient.ndim - len(shape)
    stretched = tuple(extra + axis for axis, size in enumerate(shape) if size == 1 and gradient.shape[extra + axis] > 1)
    return gradient.sum((*range(extra), *stretched), keepdims=True).reshape(shape)


def _in_order(last: Tensor) -> list[Tensor]:
    """Every tracked tensor that ``last`` depends on, in topological order."""
    order: list[Tensor] = []
    seen = {id(last)}
    stack: list[tuple[Tensor, int]] = [(last, 0)]
    while stack:
        node, position = stack.pop()
        if position == len(node._inputs):
            order.append(node)
            continue
        stack.append((node, position + 1))
        source = node._inputs[position][0]
        if id(source) not in seen:
            seen.add(id(source))
            stack.append((source, 0))
    return order
