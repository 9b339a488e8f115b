"""Parameters of a model as numpy arrays by checkpoint name, and back.

torch's layer types and layouts are those of the checkpoints, so names and shapes carry over as they are.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn

from wav2vec2_core.errors import ParameterMismatchError


def export_weights(model: nn.Module) -> dict[str, np.ndarray]:
    """Every parameter by name. On the CPU the arrays share memory with the model: nothing is copied."""
    return {name: to_array(parameter) for name, parameter in model.named_parameters()}


def fill_weights(
    model: nn.Module,
    values: Iterable[tuple[str, np.ndarray]],
    *,
    device: torch.device | None = None,
    dtype: torch.dtype | None = None,
) -> None:
    """Give parameters new values, one after the other, so that two copies exist of one parameter at a time only.

    Args:
        model: what is on the meta device gets memory here; an array of the right type becomes the parameter itself.
        values: (name, array) pairs. Into parameters that have memory they are copied.
        device, dtype: where and as what parameters from the meta device are kept; torch's defaults where None.

    Raises:
        ParameterMismatchError: the model has no such parameter, or it has another shape.
    """
    for name, array in values:
        path, _, leaf = name.rpartition(".")
        try:
            owner = model.get_submodule(path)
            old = owner.get_parameter(leaf)
        except AttributeError as error:
            raise ParameterMismatchError(f"parameter {name!r:.100} is not one of {type(model).__name__}'s") from error
        if old.shape != array.shape:
            raise ParameterMismatchError(
                f"parameter {name!r} has shape {tuple(old.shape)}, the given array {array.shape}: they must be equal"
            )
        tensor = to_tensor(array)
        if old.is_meta:
            tensor = tensor.to(device or torch.get_default_device(), dtype or torch.get_default_dtype())
            setattr(owner, leaf, nn.Parameter(tensor, requires_grad=old.requires_grad))
        else:
            with torch.no_grad():
                old.copy_(tensor)


def to_tensor(array: np.ndarray) -> Tensor:
    """A tensor that shares memory with ``array`` where that is contiguous and writable.

    numpy's bfloat16 (of ml_dtypes) becomes torch's.
    """
    array = np.require(array, requirements=("C_CONTIGUOUS", "WRITEABLE"))
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.uint16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def to_array(tensor: Tensor) -> np.ndarray:
    """A numpy array of ``tensor``, sharing memory where it lies on the CPU."""
    tensor = tensor.detach().cpu().contiguous()
    if tensor.dtype == torch.bfloat16:
        from ml_dtypes import bfloat16

        return tensor.view(torch.uint16).numpy().view(bfloat16)
    return tensor.numpy()
