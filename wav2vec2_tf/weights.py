"""Parameters of a model as numpy arrays by checkpoint name, and back.

Paths are those of the checkpoints; leaf names and layouts are translated by the type of the layer, from one table.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras
import numpy as np

from wav2vec2_core.errors import ParameterMismatchError
from wav2vec2_tf import layers

Axes = tuple[int, ...]
_AS_IT_IS: Axes = ()
_LINEAR: Axes = (1, 0)  # (out, in) <-> (in, out)
_CONVOLUTION: Axes = (2, 1, 0)  # (out, in, kernel) <-> (kernel, in, out)

#: Layer type -> name in the checkpoint -> (name in Keras, axes of the one in the order of the other). Both orders swap
#: the outer axes, so the same axes lead back. What is not here is stored under its own name as it is.
LAYOUTS: tuple[tuple[type, dict[str, tuple[str, Axes]]], ...] = (
    (keras.layers.Dense, {"weight": ("kernel", _LINEAR)}),
    (keras.layers.Conv1D, {"weight": ("kernel", _CONVOLUTION)}),
    (layers.LayerNorm, {"weight": ("gamma", _AS_IT_IS), "bias": ("beta", _AS_IT_IS)}),
    (layers.ChannelGroupNorm, {"weight": ("gamma", _AS_IT_IS), "bias": ("beta", _AS_IT_IS)}),
    (layers.WeightNormConv1d, {"weight_g": ("weight_g", _CONVOLUTION), "weight_v": ("weight_v", _CONVOLUTION)}),
)


def export_weights(model: Any) -> dict[str, np.ndarray]:
    """Every parameter of a model by name, in the layout of the checkpoints."""
    return {name: to_array(*find_variable(model, name)) for name in model.parameter_table()}


def fill_weights(model: Any, values: Iterable[tuple[str, np.ndarray]]) -> None:
    """Give parameters new values, one after the other, so that two copies exist of one parameter at a time only.

    Args:
        model: its parameters keep their type.
        values: (name, array) pairs in the layout of the checkpoints.

    Raises:
        ParameterMismatchError: the model has no such parameter, or it has another shape.
    """
    for name, array in values:
        variable, axes = find_variable(model, name)
        ours = tuple(variable.shape[axis] for axis in axes) if axes else tuple(variable.shape)
        if ours != array.shape:
            raise ParameterMismatchError(
                f"parameter {name!r:.100} has shape {ours}, the given array {array.shape}: they must be equal"
            )
        array = array.astype(_numpy_dtype(variable.dtype), copy=False)
        variable.assign(array.transpose(axes) if axes else array)


def find_variable(model: Any, name: str) -> tuple[keras.Variable, Axes]:
    """The variable behind a checkpoint name, and the order of its axes there. Raises ``ParameterMismatchError``."""
    path, _, leaf = name.rpartition(".")
    try:
        owner = model
        for part in path.split(".") if path else ():
            owner = owner[int(part)] if part.isdigit() else getattr(owner, part)
        names = next((names for kind, names in LAYOUTS if isinstance(owner, kind)), {})
        attribute, axes = names.get(leaf, (leaf, _AS_IT_IS))
        variable = getattr(owner, attribute)
    except (AttributeError, IndexError) as error:
        raise ParameterMismatchError(f"parameter {name!r:.100} is not one of {type(model).__name__}'s") from error
    if not isinstance(variable, keras.Variable):
        raise ParameterMismatchError(f"parameter {name!r:.100} is not one of {type(model).__name__}'s")
    return variable, axes


def to_array(variable: keras.Variable, axes: Axes = _AS_IT_IS) -> np.ndarray:
    """A C-contiguous copy of a variable with its axes in this order; bfloat16 is that of ml_dtypes."""
    array = variable.numpy()
    return np.ascontiguousarray(array.transpose(axes)) if axes else array


def _numpy_dtype(name: str) -> np.dtype:
    if name == "bfloat16":
        from ml_dtypes import bfloat16

        return np.dtype(bfloat16)
    return np.dtype(name)
