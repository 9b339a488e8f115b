"""Recorded results of transformers 4.57.6, so that comparisons with it need neither it nor its frameworks.

``golden/outputs.safetensors`` holds, for every case that transformers computes too, its outputs in inference, and the
losses and the norm of each parameter's gradient in a training step. ``golden/layouts.json`` holds the names and shapes
of the parameters of released models, as PyTorch, TensorFlow and Flax files spell them. ``make_golden.py`` writes both.
"""

from __future__ import annotations

import functools
import json
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from conformance.cases import Case
from conformance.reference_body import Randomness
from wav2vec2_core.errors import CheckpointError, InputError
from wav2vec2_core.files import read_json
from wav2vec2_core.parameters import parameter_table

FOLDER = Path(__file__).parent / "golden"
OUTPUTS = FOLDER / "outputs.safetensors"
LAYOUTS = FOLDER / "layouts.json"

#: Layers of a released model differ by their number only; names are stored once with this in its place.
EVERY_LAYER = "{layer}"
_LAYER = re.compile(r"(?<=encoder[./]layers[./])\d+(?=[./])")
_HEAD_STAGES = (
    "project_hid", "project_q", "codevector_perplexity", "contrastive_loss", "diversity_loss", "embeddings", "logits",
    "loss",
)  # fmt: skip
_BODY_STAGES = ("adapter.layers.1", "adapter.layers.0", "encoder")
_NORMS = "gradient_norms"


@dataclass(frozen=True)
class Golden:
    """What transformers computed for one case; stages as in ``reference.forward``.

    inference: arrays by stage, stored as float32, and scalars as float64.
    training: losses and other scalars of a training step, float64; empty for full-size models.
    gradient_norms: 2-norm of that step's gradient by checkpoint name, float64; empty for full-size models.
    """

    inference: dict[str, np.ndarray]
    training: dict[str, np.ndarray]
    gradient_norms: dict[str, float]


# ---- outputs ----------------------------------------------------------------------------------------------------


def load(case: Case) -> Golden:
    """What is recorded of a case.

    Raises:
        InputError: nothing is: transformers does not compute it.
        CheckpointError: the file is missing, damaged, or was recorded with other numbers than the case draws here.
    """
    tensors, sums = _recorded()
    if case.name not in sums:
        raise InputError(f"case {case.name!r} is not recorded: transformers does not compute it, or run make_golden.py")
    if sums[case.name] != fingerprint(case):
        raise CheckpointError(
            f"{OUTPUTS.name} holds case {case.name!r} with other parameters or inputs than it has here: "
            "record it again with make_golden.py, and compare the versions of numpy if nothing else changed"
        )
    parts = {kind: _under(tensors, f"{case.name}/{kind}/") for kind in ("inference", "training")}
    norms = parts["training"].pop(_NORMS, np.zeros(0)).tolist()
    names = parameter_table(case.config, case.head)
    return Golden(parts["inference"], parts["training"], dict(zip(names, norms, strict=True)) if norms else {})


def recorded_names() -> list[str]:
    """Names of the cases that are recorded. Raises ``CheckpointError``."""
    return list(_recorded()[1])


def as_tensors(case: Case, golden: Golden) -> dict[str, np.ndarray]:
    """The tensors that ``golden/outputs.safetensors`` holds of a case, by name."""
    tensors = {f"{case.name}/inference/{name}": array for name, array in golden.inference.items()}
    tensors |= {f"{case.name}/training/{name}": array for name, array in golden.training.items()}
    if golden.gradient_norms:
        norms = [golden.gradient_norms[name] for name in parameter_table(case.config, case.head)]
        tensors[f"{case.name}/training/{_NORMS}"] = np.array(norms)
    return {name: array if array.ndim < 2 else array.astype(np.float32) for name, array in tensors.items()}


def recorded_stages(case: Case, stages: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Those stages of a call that are recorded: of ``Model`` the last states, of a head what it returns."""
    if case.head == "Model":
        last = next(name for name in _BODY_STAGES if name in stages)
        return {last: stages[last]}
    return {name: stages[name] for name in _HEAD_STAGES if name in stages}


def fingerprint(case: Case) -> int:
    """CRC-32 of everything that is random in a case."""
    randomness, labels = case.randomness(), case.labels()
    arrays = [*case.parameters().values(), *case.inputs().values(), labels, *_arrays(randomness)]
    total = 0
    for array in arrays:
        if array is not None:
            total = zlib.crc32(np.ascontiguousarray(array).tobytes(), total)
    return total


def _arrays(randomness: Randomness) -> list[np.ndarray]:
    return [value for value in vars(randomness).values() if isinstance(value, np.ndarray)]


@functools.cache
def _recorded() -> tuple[dict[str, np.ndarray], dict[str, int]]:
    """All tensors, and the fingerprint of each case."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(OUTPUTS, "np") as file:
            metadata: dict[str, str] = file.metadata()
            return {name: file.get_tensor(name) for name in file.keys()}, json.loads(metadata["fingerprints"])  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{OUTPUTS} cannot be read ({error}): install the package again") from error


def _under(tensors: Mapping[str, np.ndarray], start: str) -> dict[str, np.ndarray]:
    return {name.removeprefix(start): array for name, array in tensors.items() if name.startswith(start)}


# ---- layouts ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ParameterLayout:
    """The parameters of a released model as one kind of file names them.

    file: ``torch``, ``tf`` or ``flax``.
    model: such as ``facebook/wav2vec2-base-960h``.
    head: as in ``wav2vec2_core.parameters.HEADS``.
    config: fields of the configuration that are not defaults.
    shapes: by name as in the file; parts of names in Flax are joined with ``/``.
    """

    file: str
    model: str
    head: str
    config: dict[str, Any]
    shapes: dict[str, tuple[int, ...]]


def layouts() -> list[ParameterLayout]:
    """Every recorded layout. Raises ``CheckpointError``."""
    return [
        ParameterLayout(row["file"], row["model"], row["head"], row["config"], unfolded(row["shapes"], row["layers"]))
        for row in read_json(LAYOUTS)["layouts"]
    ]


def folded(shapes: Mapping[str, tuple[int, ...]]) -> tuple[dict[str, str], int]:
    """Names and shapes with the transformer's layers, which must be alike, as one; and how many there are.

    Raises:
        InputError: layers are not alike.
    """
    rows: dict[str, str] = {}
    layers: set[int] = set()
    for name, shape in shapes.items():
        layers.update(map(int, _LAYER.findall(name)))
        rows[_LAYER.sub(EVERY_LAYER, name)] = "x".join(map(str, shape))
    if unfolded(rows, len(layers)) != dict(shapes):
        raise InputError("the transformer's layers are not alike: their names and shapes cannot be stored as one")
    return rows, len(layers)


def unfolded(rows: Mapping[str, str], layers: int) -> dict[str, tuple[int, ...]]:
    """The names and shapes that ``folded`` was given."""
    return {
        name.replace(EVERY_LAYER, str(layer)): tuple(map(int, shape.split("x")))
        for name, shape in rows.items()
        for layer in (range(layers) if EVERY_LAYER in name else (0,))
    }
