"""Parameters of a model by checkpoint name as numpy arrays, and as the nested dictionary of functional JAX; and back.

Names differ from the checkpoint's in the last part only (``kernel`` and ``scale`` are ``weight`` there), layouts by a
reversal of the axes; both follow from the layer's type.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from wav2vec2_core.errors import ParameterMismatchError

#: Layer type -> {name in flax: (name in a checkpoint, whether the axes are in reverse order there)}. Parameters of
#: other modules are called and laid out as in a checkpoint.
LEAVES: dict[type[nnx.Module], dict[str, tuple[str, bool]]] = {
    nnx.Linear: {"kernel": ("weight", True), "bias": ("bias", False)},
    nnx.Conv: {"kernel": ("weight", True), "bias": ("bias", False)},
    nnx.LayerNorm: {"scale": ("weight", False), "bias": ("bias", False)},
    nnx.GroupNorm: {"scale": ("weight", False), "bias": ("bias", False)},
}


@dataclass(frozen=True)
class Place:
    """Where a parameter is: its variable, its path in ``params``, and whether a checkpoint has its axes in reverse."""

    variable: nnx.Param
    path: tuple[str, ...]
    reverse: bool

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape in a checkpoint."""
        shape = tuple(self.variable.get_value().shape)
        return shape[::-1] if self.reverse else shape


def places(module: nnx.Module) -> dict[str, Place]:
    """Every parameter of a model by checkpoint name."""
    return {".".join(name): place for name, place in _walk(module, (), ())}


def _walk(module: Any, name: tuple[str, ...], path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Place]]:
    leaves = next((table for kind, table in LEAVES.items() if isinstance(module, kind)), {})
    parts = enumerate(module) if isinstance(module, nnx.List) else vars(module).items()
    for part, child in parts:
        part = str(part)
        if isinstance(child, nnx.Param):
            leaf, reverse = leaves.get(part, (part, False))
            yield (*name, leaf), Place(child, (*path, part), reverse)
        elif isinstance(child, (nnx.Module, nnx.List)):
            yield from _walk(child, (*name, part), (*path, part))


# ---- numpy arrays by checkpoint name ----------------------------------------------------------------------------


def export_weights(model: nnx.Module) -> dict[str, np.ndarray]:
    """Every parameter by checkpoint name, in the checkpoint's layout."""
    return {name: to_array(place) for name, place in places(model).items()}


def fill_weights(model: nnx.Module, values: Iterable[tuple[str, np.ndarray]], *, dtype: Any = None) -> None:
    """Give parameters new values, one after the other, so that two copies exist of one parameter at a time only.

    Args:
        model: its parameters may be without values (``_do_init=False``).
        values: (checkpoint name, array in the checkpoint's layout) pairs.
        dtype: of the parameters; as they are where None.

    Raises:
        ParameterMismatchError: the model has no such parameter, or it has another shape.
    """
    found = places(model)
    for name, array in values:
        place = found.get(name)
        if place is None:
            raise ParameterMismatchError(f"parameter {name!r:.100} is not one of {type(model).__name__}'s")
        if place.shape != array.shape:
            raise ParameterMismatchError(
                f"parameter {name!r:.100} has shape {place.shape}, the given array {array.shape}: they must be equal"
            )
        old = place.variable.get_value()
        place.variable.set_value(jnp.asarray(array.T if place.reverse else array, dtype or old.dtype))


def to_array(place: Place) -> np.ndarray:
    """A numpy array of a parameter in the checkpoint's layout; bfloat16 as ``ml_dtypes.bfloat16``."""
    array = np.asarray(jax.device_get(place.variable.get_value()))
    return np.ascontiguousarray(array.T) if place.reverse else array


# ---- the nested dictionary --------------------------------------------------------------------------------------


def params_of(model: nnx.Module) -> dict[str, Any]:
    """The parameters as a nested dictionary with the names of transformers' Flax models."""
    return nest({place.path: place.variable.get_value() for place in places(model).values()})


def with_params(model: nnx.Module, params: Mapping[str, Any]) -> Any:
    """A copy of ``model`` that holds the arrays of ``params``; ``model`` stays as it is.

    Raises:
        ParameterMismatchError: ``params`` lacks a parameter, has one too many, or one of another shape.
    """
    structure, state = nnx.split(model)
    given = flatten(params)
    variables = nnx.to_flat_state(state)
    paths = [tuple(map(str, path)) for path, _ in variables]
    check_same(paths, given)
    new = []
    for path, (place, variable) in zip(paths, variables, strict=True):
        expected, found = variable.get_value().shape, jnp.shape(given[path])
        if expected != found:
            raise ParameterMismatchError(
                f"params has {'/'.join(path)} with shape {found}, the model's is {expected}: they must be equal"
            )
        new.append((place, variable.replace(given[path])))
    return nnx.merge(structure, nnx.from_flat_state(new))


def check_same(ours: Iterable[tuple[str, ...]], given: Mapping[tuple[str, ...], Any]) -> None:
    """Check that the paths of a parameter dictionary are the model's. Raises ``ParameterMismatchError``."""
    ours = set(ours)
    for paths, fault in ((ours - given.keys(), "lacks"), (given.keys() - ours, "has the unknown")):
        if paths:
            first = "/".join(sorted(paths)[0])
            raise ParameterMismatchError(
                f"params {fault} {first} ({len(paths)} such parameters): "
                "pass a dictionary with the keys of model.params"
            )


def flatten(tree: Mapping[str, Any], path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    """Leaves of a nested dictionary by path."""
    flat: dict[tuple[str, ...], Any] = {}
    for name, item in tree.items():
        if isinstance(item, Mapping):
            flat.update(flatten(item, (*path, str(name))))
        else:
            flat[(*path, str(name))] = item
    return flat


def nest(flat: Mapping[tuple[str, ...], Any]) -> dict[str, Any]:
    """The nested dictionary whose leaves have these paths."""
    tree: dict[str, Any] = {}
    for path, item in flat.items():
        inner = tree
        for part in path[:-1]:
            inner = inner.setdefault(part, {})
        inner[path[-1]] = item
    return tree
