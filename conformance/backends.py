"""One interface over the back ends, for checks: build a model from arrays, run it, look inside, differentiate, train.

``open_backend("torch")`` and so on import ``conformance.<name>_backend``. All arrays are numpy; parameters go by
checkpoint name. Everything random is an array in the call, so what a model computes is a function of its call.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from wav2vec2_core.backend import load_backend
from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.errors import BackendError, InputError
from wav2vec2_core.training.steps import StepValues, Trainer

Arrays = dict[str, np.ndarray]
#: Name of the command's device -> its names in the frameworks' own lists.
PLATFORMS = {"cpu": ("cpu",), "gpu": ("cuda", "gpu", "mps"), "tpu": ("tpu",)}
#: Fields of an output that are one array.
SCALARS_AND_ARRAYS = (
    "loss",
    "logits",
    "embeddings",
    "last_hidden_state",
    "extract_features",
    "projected_states",
    "projected_quantized_states",
    "codevector_perplexity",
    "contrastive_loss",
    "diversity_loss",
    "contrastive_accuracy",
    "feature_penalty",
    "soft_codevector_perplexity",
    "hard_codevector_perplexity",
)
#: What the objective of a call without a loss is made of, with the perplexity of pretraining.
PROBED = ("last_hidden_state", "projected_states", "projected_quantized_states")
MOMENTUM = 0.9


class BackendModel(Protocol):
    """A model of one back end, filled with given parameters."""

    config: Wav2Vec2Config

    def fill(self, values: Mapping[str, np.ndarray]) -> None:
        """Set parameter values in place, without recompiling."""
        ...

    def weights(self) -> Arrays:
        """Copies of all parameters."""
        ...

    def forward(self, call: Mapping[str, Any], *, train: bool = False, attentions: bool = False) -> Arrays:
        """Every stage by module path (body prefix removed) and every output.

        Sequences are (batch, frames, features); ``hidden_states.<i>`` and ``attentions.<i>`` are numbered.
        ``call``: arguments of the model and ``gumbel_temperature``. ``train``: training mode.
        """
        ...

    def dropped(self, call: Mapping[str, Any], *, attentions: bool) -> tuple[Arrays, list[np.ndarray]]:
        """``forward`` in training mode, and the factors applied by each dropout, in order.

        What attention drops of its weights is (batch, heads, frames, frames). The draws are seeded.
        """
        ...

    def gradients(self, call: Mapping[str, Any]) -> tuple[float, Arrays]:
        """The objective in training mode and its gradient by every parameter, zeros where there is none.

        The objective is that of ``conformance.reference.gradients``.
        """
        ...

    def steps(self, call: Mapping[str, Any], count: int, learning_rate: float) -> tuple[list[float], Arrays]:
        """Objectives before each of ``count`` steps of gradient descent with ``MOMENTUM``, and the parameters after.

        By the back end's own ``train.Trainer`` with the framework's own optimizer: v = momentum * v + gradient;
        parameter = parameter - rate * v. The model's values are not changed.
        """
        ...

    def save(self, folder: str, kind: str) -> None:
        """``save_pretrained`` in one of the back end's ``file_kinds``."""
        ...


class Opened(Protocol):
    """A back end ready on a device."""

    @property
    def name(self) -> str:
        """One of ``wav2vec2_core.backend.backend_names()``."""
        ...

    @property
    def place(self) -> str:
        """The device, as ``wav2vec2_<name>.inference.devices()`` calls it."""
        ...

    @property
    def modes(self) -> Sequence[str]:
        """Ways to run a model, the plain one first."""
        ...

    @property
    def file_kinds(self) -> Sequence[str]:
        """What ``save`` can write, safetensors first."""
        ...

    def build(
        self,
        config: Wav2Vec2Config,
        head: str,
        values: Mapping[str, np.ndarray],
        *,
        dtype: str = "float32",
        mode: str | None = None,
    ) -> BackendModel:
        """A model with these parameters. ``dtype``: of parameters and computation; ``mode``: the first where None."""
        ...

    def load(self, folder: str, head: str) -> BackendModel:
        """``from_pretrained``."""
        ...

    def versions(self) -> dict[str, str]:
        """Library -> version, and the device's name under ``device``."""
        ...


def open_backend(name: str, device: str = "cpu") -> Opened:
    """The back end ``name`` on a device, with silent down-casts of float32 switched off.

    Raises:
        InputError: name or device is unknown.
        BackendError: the framework is not installed, or has no such device here.
    """
    place = find_device(name, device)
    return importlib.import_module(f"conformance.{name}_backend").open_on(place)


#: Back end -> its modes and kinds of files, the plain ones first; known without importing it.
ABILITIES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "torch": (("eager", "compile"), ("safetensors",)),
    "tf": (("eager", "graph", "xla"), ("safetensors", "h5")),
    "flax": (("jit", "eager", "scan"), ("safetensors", "msgpack")),
}


@dataclass(frozen=True)
class Named:
    """The properties of a back end that a plan needs."""

    name: str
    modes: Sequence[str]
    file_kinds: Sequence[str]


def named_like(names: Sequence[str]) -> list[Named]:
    """The back ends of these names for a plan. Raises ``InputError`` for an unknown one."""
    for name in names:
        if name not in ABILITIES:
            raise InputError(f"back end {name!r} is unknown: use one or more of {', '.join(ABILITIES)}")
    return [Named(name, *ABILITIES[name]) for name in names]


def prepare_for_tiny_models() -> None:
    """Settings for hundreds of tiny models on the CPU that run once: call before a framework is imported.

    One thread is fastest, and JAX compiles in a third of the time without costly passes; nobody needs the result again.
    What is set already stays: of two flags of one name XLA takes the last.
    """
    passes = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    passes += " --xla_cpu_use_fusion_emitters=false"
    flags = os.environ.get("XLA_FLAGS", "")
    if passes not in flags:
        os.environ["XLA_FLAGS"] = f"{passes} {flags}".rstrip()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("JAX_ENABLE_COMPILATION_CACHE", "false")


def share_memory_of_a_gpu() -> None:
    """Call before a framework is imported: JAX and TensorFlow otherwise take a GPU's memory from each other."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")


def find_device(name: str, device: str) -> str:
    """The back end's own name of its first device of this kind. Raises as ``open_backend``."""
    if device not in PLATFORMS:
        raise InputError(f"device {device!r} is unknown: use one of {', '.join(PLATFORMS)}")
    share_memory_of_a_gpu()
    devices = load_backend(name).inference.devices()
    for found in devices:
        if found.split(":")[0] in PLATFORMS[device]:
            return found
    raise BackendError(
        f"back end {name!r} finds no {device} here, only {', '.join(devices)}: choose another --device, or install "
        "its framework's build for it"
    )


def run_steps(
    trainer: Trainer, call: Mapping[str, Any], count: int, learning_rate: float, targets: float
) -> list[float]:
    """Objectives before each step of a trainer on the same batch. Raises ``AssertionError`` where a step is refused."""
    given = dict(call)
    temperature = given.pop("gumbel_temperature", None)
    batch = {name: np.asarray(array) for name, array in given.items() if array is not None}
    values = StepValues(learning_rate, targets, gumbel_temperature=None if temperature is None else float(temperature))
    fetched = [trainer.fetch(trainer.step([batch], number, values)) for number in range(count)]
    assert not any(one["refused"] for one in fetched), "a step of finite gradients was refused"
    return [one["loss"] for one in fetched]


def has_loss(call: Mapping[str, Any]) -> bool:
    """Whether a model computes a loss from this call."""
    return "labels" in call or "sampled_negative_indices" in call


def targets_of(config: Wav2Vec2Config, head: str, call: Mapping[str, Any]) -> float:
    """The divisor of the summed losses that yields the loss of a call, which the reference differentiates."""
    labels = call.get("labels")
    if labels is None or (head == "ForCTC" and config.ctc_loss_reduction != "mean"):
        return 1.0
    return float(labels.shape[0] * labels.shape[1] if labels.ndim == 3 else labels.shape[0])


def output_arrays(output: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a model's output, tuples numbered, arrays still of the framework."""
    found = {}
    for name in ("hidden_states", "attentions"):
        for index, item in enumerate(output.get(name) or ()):
            if item is not None:
                found[f"{name}.{index}"] = item
    found.update({name: output[name] for name in SCALARS_AND_ARRAYS if output.get(name) is not None})
    return found
