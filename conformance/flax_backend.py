"""The JAX back end behind the interface of ``conformance.backends``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from unittest.mock import patch

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax import Array

import wav2vec2_flax
from conformance.backends import (
    ABILITIES,
    MOMENTUM,
    PROBED,
    Arrays,
    has_loss,
    output_arrays,
    run_steps,
    targets_of,
)
from conformance.recording import Recorder, definer, module_paths, walk, watched_calls, watched_methods
from conformance.reference import probe
from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_flax import layers
from wav2vec2_flax.train import Trainer, loss_function
from wav2vec2_flax.weights import export_weights, fill_weights, flatten, places, with_params


def open_on(device: str) -> FlaxBackend:
    """The back end on one of ``wav2vec2_flax.inference.devices()``; float32 stays float32."""
    jax.config.update("jax_default_matmul_precision", "highest")
    return FlaxBackend(device)


class FlaxBackend:
    """Builds and loads models."""

    name = "flax"
    modes, file_kinds = ABILITIES["flax"]

    def __init__(self, device: str) -> None:
        platform, _, index = device.partition(":")
        self.place, self.device = device, jax.local_devices(backend=platform)[int(index or 0)]

    def build(
        self,
        config: Wav2Vec2Config,
        head: str,
        values: Mapping[str, np.ndarray],
        *,
        dtype: str = "float32",
        mode: str | None = None,
    ) -> FlaxModel:
        """A model with these parameters."""
        mode = mode or self.modes[0]
        with jax.default_device(self.device):
            model = _class_of(head)(config, dtype=dtype, param_dtype=dtype, scan_layers=mode == "scan", _do_init=False)
            fill_weights(model, values.items())
        return FlaxModel(model, mode, self.device)

    def load(self, folder: str, head: str) -> FlaxModel:
        """``from_pretrained``."""
        with jax.default_device(self.device):
            return FlaxModel(_class_of(head).from_pretrained(folder), self.modes[0], self.device)

    def versions(self) -> dict[str, str]:
        """JAX, its libraries and the device."""
        import flax

        libraries = {"jax": jax.__version__, "flax": flax.__version__, "optax": optax.__version__}
        return {**libraries, "device": self.device.device_kind}


class FlaxModel:
    """One model. Modes: "eager", without compilation; "jit"; "scan", compiled with one loop over the layers.

    Inside that loop single layers are not seen; their results are, as hidden states.
    """

    def __init__(self, model: Any, mode: str, device: Any) -> None:
        self.model, self.mode, self.device = model, mode, device
        self.config: Wav2Vec2Config = model.config
        static = ("train", "attentions", "keep")
        self._forward: Any = self._stages if mode == "eager" else jax.jit(self._stages, static_argnames=static)
        gradients = jax.value_and_grad(self._objective)
        self._gradients = gradients if mode == "eager" else jax.jit(gradients)

    def fill(self, values: Mapping[str, np.ndarray]) -> None:
        """New values, in place."""
        with jax.default_device(self.device):
            fill_weights(self.model, values.items())

    def weights(self) -> Arrays:
        """Copies of all parameters."""
        return {name: np.array(array) for name, array in export_weights(self.model).items()}

    def forward(self, call: Mapping[str, Any], *, train: bool = False, attentions: bool = False) -> Arrays:
        """Stages and outputs."""
        keep = call.get("layer_keep")
        with jax.default_device(self.device):
            results = self._forward(
                self.model.params,
                self._prepared(call),
                train=train,
                attentions=attentions,
                keep=None if keep is None else tuple(map(bool, keep)),
            )
        return {name: _numpy(array) for name, array in results.items()}

    def dropped(self, call: Mapping[str, Any], *, attentions: bool) -> tuple[Arrays, list[np.ndarray]]:
        """Stages and outputs of a training step with the key 0, and what each dropout multiplied with."""
        original = layers.dropout

        def run(params: Any, arguments: dict[str, Any]) -> tuple[dict[str, Array], list[Array]]:
            drawn: list[Array] = []

            def dropout(x: Array, rate: float, key: Array | None) -> Array:
                if key is None:
                    return x
                drawn.append(original(jnp.ones_like(x), rate, key))
                return x * drawn[-1]

            with patch.object(layers, "dropout", dropout):
                stages = self._stages(params, arguments, train=True, attentions=attentions, keep=None)
            return stages, drawn

        with jax.default_device(self.device):
            stages, drawn = jax.jit(run)(self.model.params, self._prepared(call))
        return {name: _numpy(array) for name, array in stages.items()}, [_numpy(kept) for kept in drawn]

    def gradients(self, call: Mapping[str, Any]) -> tuple[float, Arrays]:
        """Objective and gradients in training mode."""
        with jax.default_device(self.device):
            objective, gradient = self._gradients(self.model.params, self._prepared(call))
        return float(objective), self._by_name(gradient)

    def steps(self, call: Mapping[str, Any], count: int, learning_rate: float) -> tuple[list[float], Arrays]:
        """Steps of ``wav2vec2_flax.train`` with ``optax.sgd``."""
        with jax.default_device(self.device), jax.disable_jit(self.mode == "eager"):
            trainer = (Trainer if has_loss(call) else Probed)(self.model, optax.sgd(1.0, momentum=MOMENTUM))
            objectives = run_steps(trainer, call, count, learning_rate, targets_of(self.config, self.model.head, call))
        reverse = {name: place.reverse for name, place in places(self.model).items()}
        arrays = {name: _numpy(array) for name, array in trainer.params.items()}
        return objectives, {n: np.ascontiguousarray(one.T) if reverse[n] else one for n, one in arrays.items()}

    def save(self, folder: str, kind: str) -> None:
        """``save_pretrained``."""
        self.model.save_pretrained(folder, safe_serialization=kind == "safetensors")

    def _prepared(self, call: Mapping[str, Any]) -> dict[str, Any]:
        """The call, with ``layer_keep`` as an array; everything else is taken as it is."""
        return {name: np.asarray(array) for name, array in call.items() if array is not None}

    def _stages(
        self, params: Any, arguments: dict[str, Any], *, train: bool, attentions: bool, keep: tuple[bool, ...] | None
    ) -> dict[str, Array]:
        model = with_params(self.model, params)
        recorder = Recorder(keep)
        modules = list(walk(model, nnx.Module))
        if self.mode == "scan":  # what happens inside the loop stays there
            modules = [(path, module) for path, module in modules if "encoder.layers." not in path]
        paths = module_paths(modules)
        classes = {definer(type(module), "__call__") for _, module in modules if callable(module)}
        watch = [*((cls, "__call__", paths) for cls in classes), *watched_methods(model)]
        with watched_calls(watch, recorder):
            output = model(
                **arguments,
                train=train,
                dropout_rng=jax.random.key(0),
                output_hidden_states=True,
                output_attentions=attentions,
                return_dict=True,
            )
        outputs = output_arrays(output)
        # Dropout is no module here; what it gives is the first hidden state.
        return {**recorder.stages(), **outputs, "encoder.dropout": outputs["hidden_states.0"]}

    def _objective(self, params: Any, batch: dict[str, Any]) -> Array:
        key = jax.random.key(0)
        if has_loss(batch):
            return loss_function(self.model)(params, batch, key)[0]
        return _probed(self.model(**batch, params=params, train=True, dropout_rng=key, return_dict=True))

    def _by_name(self, params: Any) -> Arrays:
        flat = flatten(params)
        arrays = {name: (_numpy(flat[place.path]), place.reverse) for name, place in places(self.model).items()}
        return {name: np.ascontiguousarray(array.T) if reverse else array for name, (array, reverse) in arrays.items()}


class Probed(Trainer):
    """A trainer of models without a loss."""

    def loss_sums(self, model: Any, output: Any, batch: Any) -> Any:
        """The objective of a call without a loss."""
        return {"loss": (_probed(output), 1)}


def _probed(output: Any) -> Any:
    total: Any = output.get("codevector_perplexity", 0.0)
    for state in (output[name] for name in PROBED if name in output):
        total = total + (state * probe(state.shape)).sum()
    return total


def _class_of(head: str) -> Any:
    return getattr(wav2vec2_flax, f"FlaxWav2Vec2{head}")


def _numpy(array: Array) -> np.ndarray:
    host = np.asarray(jax.device_get(array))
    return host.astype(np.float32) if host.dtype.name == "bfloat16" else np.array(host)
