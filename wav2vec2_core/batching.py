"""Batches, as tokenizer and feature extractor share them: padding, truncation and conversion to a
framework's tensors.
"""

from __future__ import annotations

from collections import UserDict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from wav2vec2_core.errors import BackendError, InputError, brief

PADDING_STRATEGIES = ("longest", "max_length", "do_not_pad")
TRUNCATION_STRATEGIES = ("longest_first", "only_first", "only_second", "do_not_truncate")
FRAMEWORKS = ("np", "pt", "tf", "jax")


class Batch(UserDict[str, Any]):
    """Named model inputs: a mapping whose entries can also be read as attributes (``batch.input_values``)."""

    def __getattr__(self, name: str) -> Any:
        data = self.__dict__.get("data", {})  # not self.data: it is not set yet while unpickling
        if name in data:
            return data[name]
        raise AttributeError(f"this batch has no entry {name!r:.100}; it has {list(data)}")

    def convert_to_tensors(self, tensor_type: Any = None) -> Batch:
        """Turn every entry into a tensor, in place. Raises ``InputError`` and ``BackendError``, see ``to_tensor``."""
        if tensor_type is not None:
            for name, value in self.data.items():
                self.data[name] = to_tensor(value, tensor_type, name)
        return self

    def to(self, *args: Any, **kwargs: Any) -> Batch:
        """Move torch tensors to a device and cast floating ones to a dtype, in place; arguments of ``Tensor.to``."""
        places = tuple(arg for arg in args if type(arg).__name__ != "dtype")
        options = {name: value for name, value in kwargs.items() if name != "dtype"}
        for name, value in self.data.items():
            if framework_of(value) == "pt":
                self.data[name] = (
                    value.to(*args, **kwargs) if value.is_floating_point() else value.to(*places, **options)
                )
        return self


def padding_strategy(padding: Any) -> str:
    """One of ``PADDING_STRATEGIES`` for ``True``, ``False`` or a name. Raises ``InputError``."""
    if padding is True or padding is False:
        return "longest" if padding else "do_not_pad"
    return _choice("padding", padding, PADDING_STRATEGIES)


def truncation_strategy(truncation: Any) -> str:
    """One of ``TRUNCATION_STRATEGIES`` for ``True``, ``False``, ``None`` or a name. Raises ``InputError``."""
    if truncation is None or truncation is True or truncation is False:
        return "longest_first" if truncation else "do_not_truncate"
    return _choice("truncation", truncation, TRUNCATION_STRATEGIES)


def check_side(side: Any, name: str = "padding_side") -> str:
    """``"left"`` or ``"right"``. Raises ``InputError`` for anything else."""
    return _choice(name, side, ("right", "left"))


def check_length(name: str, value: Any, minimum: int = 0) -> int | None:
    """``value`` if it is ``None`` or an integer of at least ``minimum``. Raises ``InputError``."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < minimum:
        raise InputError(f"{name}={value!r:.100} must be an integer, {minimum} or more")
    return int(value)


def round_up(length: int, multiple: int | None) -> int:
    """The next multiple of ``multiple`` (``length`` itself for ``None``)."""
    return length if multiple is None else -(-length // multiple) * multiple


def gather(examples: Any) -> dict[str, Any]:
    """A mapping of lists from a list of mappings with the same keys; a mapping is copied.

    Raises:
        InputError: neither a mapping nor a non-empty list of mappings, or an example lacks an entry of the first.
    """
    if isinstance(examples, Mapping):
        return dict(examples)
    if not isinstance(examples, Sequence) or not examples or not all(isinstance(item, Mapping) for item in examples):
        raise InputError(f"a batch to pad must be a mapping or a list of mappings, not {brief(examples)}")
    for index, example in enumerate(examples):
        missing = [name for name in examples[0] if name not in example]
        if missing:
            raise InputError(f"example {index} of the batch has no {missing[0]!r}: give every example the same entries")
    return {name: [example[name] for example in examples] for name in examples[0]}


def framework_of(value: Any) -> str | None:
    """``"np"``, ``"pt"``, ``"tf"`` or ``"jax"`` for an array or tensor, ``None`` otherwise; imports nothing."""
    module = type(value).__module__.partition(".")[0]
    known = {"numpy": "np", "torch": "pt", "tensorflow": "tf", "jax": "jax", "jaxlib": "jax"}
    return known.get(module) if hasattr(value, "shape") else None


def as_numpy(value: Any) -> np.ndarray:
    """Any array, tensor (of any device) or nested list as a numpy array. Raises ``InputError`` for ragged lists."""
    if framework_of(value) == "pt":
        value = value.detach().cpu()
        value = value.float() if str(value.dtype) == "torch.bfloat16" else value
    elif isinstance(value, (list, tuple)):
        value = [as_numpy(item) if framework_of(item) == "pt" else item for item in value]
    try:
        return np.asarray(value)
    except ValueError as error:
        raise InputError(f"{brief(value)} mixes lengths, so it is no array: give rows of one length") from error


def to_tensor(value: Any, tensor_type: Any, name: str = "value") -> Any:
    """Convert a nested list, array or tensor to a tensor of one framework, which is imported on demand.

    Integers become int64 for numpy and torch, int32 for TensorFlow and JAX. Rows of different lengths become a numpy
    array of objects, as in transformers; the other frameworks have no equivalent.

    Args:
        value: what to convert.
        tensor_type: ``"np"``, ``"pt"``, ``"tf"`` or ``"jax"``.
        name: the entry, for the error message.

    Raises:
        InputError: the framework is unknown, or rows have different lengths.
        BackendError: the framework is not installed.
    """
    framework = _choice("return_tensors", tensor_type, FRAMEWORKS)
    if framework_of(value) == framework and getattr(value, "dtype", None) != np.dtype(object):
        return value
    array = _rectangle_or_objects(value)
    if framework == "np":
        return array
    if array.dtype == object:
        raise InputError(
            f"the rows of {name!r} have different lengths and cannot form a {framework!r} tensor: pass padding=True "
            "(or truncation=True with max_length)"
        )
    if framework == "pt":
        torch = _import("torch", "torch")
        return torch.from_numpy(np.ascontiguousarray(array))
    array = array.astype(np.int32) if array.dtype == np.int64 else array
    if framework == "tf":
        return _import("tensorflow", "tf").constant(array)
    return _import("jax.numpy", "flax").asarray(array)


def _rectangle_or_objects(value: Any) -> np.ndarray:
    """A numpy array; rows of different lengths become one array of objects."""
    if isinstance(value, (list, tuple)) and value and all(hasattr(row, "__len__") for row in value):
        rows = [as_numpy(row) for row in value]
        if len({len(row) for row in rows}) > 1:
            objects = np.empty(len(rows), dtype=object)
            for index, row in enumerate(rows):
                objects[index] = row
            return objects
        value = rows
    array = as_numpy(value)
    return array.astype(np.int64) if array.size == 0 and array.dtype == np.float64 else array  # [] is an empty id list


def _import(module: str, extra: str) -> Any:
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise BackendError(
            f"{module.partition('.')[0]} is not installed, return_tensors needs it: "
            f"pip install 'wav2vec2-frameworks[{extra}]'"
        ) from error


def _choice(name: str, value: Any, choices: Sequence[str]) -> str:
    text = getattr(value, "value", value)  # enumerations of transformers carry the name as their value
    if text not in choices:
        raise InputError(f"{name}={value!r} is unknown: use one of {', '.join(repr(choice) for choice in choices)}")
    return str(text)
