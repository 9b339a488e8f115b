"""The TensorFlow back end behind the interface of ``conformance.backends``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from unittest.mock import patch

import numpy as np
import tensorflow as tf

import wav2vec2_tf
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
from conformance.recording import Recorder, module_paths, walk, watched_calls, watched_methods
from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_tf import layers
from wav2vec2_tf.layers import Tensor
from wav2vec2_tf.train import Trainer
from wav2vec2_tf.weights import export_weights, fill_weights, find_variable

# After wav2vec2_tf, which makes sure that Keras runs on TensorFlow.
import keras  # isort: skip


def open_on(device: str) -> TfBackend:
    """The back end on one of ``wav2vec2_tf.inference.devices()``; float32 stays float32."""
    tf.config.experimental.enable_tensor_float_32_execution(False)
    return TfBackend(device)


class TfBackend:
    """Builds and loads models."""

    name = "tf"
    modes, file_kinds = ABILITIES["tf"]

    def __init__(self, device: str) -> None:
        self.place = self.device = device

    def build(
        self,
        config: Wav2Vec2Config,
        head: str,
        values: Mapping[str, np.ndarray],
        *,
        dtype: str = "float32",
        mode: str | None = None,
    ) -> TfModel:
        """A model with these parameters."""
        with tf.device(self.device), layers.without_values():
            model = _class_of(head)(config, dtype=dtype)
        fill_weights(model, values.items())
        return TfModel(model, mode or self.modes[0], self.device)

    def load(self, folder: str, head: str) -> TfModel:
        """``from_pretrained``."""
        with tf.device(self.device):
            return TfModel(_class_of(head).from_pretrained(folder), self.modes[0], self.device)

    def versions(self) -> dict[str, str]:
        """TensorFlow, Keras and the device."""
        return {"tensorflow": tf.__version__, "keras": keras.__version__, "device": self.device}


class TfModel:
    """One model; modes: "eager", "graph" and "xla", tf.function without and with XLA."""

    def __init__(self, model: Any, mode: str, device: str) -> None:
        self.model, self.mode, self.device = model, mode, device
        self.config: Wav2Vec2Config = model.config
        self._forward: Any = self._stages
        self._gradients: Any = self._objective_and_gradients
        if mode != "eager":
            self._forward = tf.function(self._stages, autograph=False, jit_compile=mode == "xla")
            self._gradients = tf.function(self._gradients, autograph=False, jit_compile=mode == "xla")

    def fill(self, values: Mapping[str, np.ndarray]) -> None:
        """New values, in place."""
        fill_weights(self.model, values.items())

    def weights(self) -> Arrays:
        """Copies of all parameters."""
        return export_weights(self.model)

    def forward(self, call: Mapping[str, Any], *, train: bool = False, attentions: bool = False) -> Arrays:
        """Stages and outputs."""
        keep = call.get("layer_keep")
        with tf.device(self.device):
            results = self._forward(
                self._prepared(call),
                train=train,
                attentions=attentions,
                keep=None if keep is None else tuple(map(bool, keep)),
            )
        return {name: _numpy(tensor) for name, tensor in results.items()}

    def dropped(self, call: Mapping[str, Any], *, attentions: bool) -> tuple[Arrays, list[np.ndarray]]:
        """Stages and outputs of a seeded training step, and the factors applied by each dropout."""
        drawn: list[Tensor] = []
        original = keras.layers.Dropout.call

        def dropout(layer: Any, inputs: Tensor, training: bool = False) -> Tensor:
            if not training:
                return inputs
            drawn.append(original(layer, tf.ones_like(inputs), training=True))
            return inputs * drawn[-1]

        keras.utils.set_random_seed(0)
        with patch.object(keras.layers.Dropout, "call", dropout):
            stages = self.forward(call, train=True, attentions=attentions)
        return stages, [_numpy(kept) for kept in drawn]

    def gradients(self, call: Mapping[str, Any]) -> tuple[float, Arrays]:
        """Objective and gradients in training mode."""
        with tf.device(self.device):
            objective, gradients = self._gradients(self._prepared(call))
        found = {}
        for name, gradient in zip(self.model.parameter_table(), gradients, strict=True):
            axes = find_variable(self.model, name)[1]
            array = _numpy(gradient)
            found[name] = np.ascontiguousarray(array.transpose(axes)) if axes else array
        return float(objective), found

    def steps(self, call: Mapping[str, Any], count: int, learning_rate: float) -> tuple[list[float], Arrays]:
        """Steps of ``wav2vec2_tf.train`` with ``keras.optimizers.SGD``."""
        before = self.weights()
        with tf.device(self.device):
            optimizer = keras.optimizers.SGD(momentum=MOMENTUM)
            trainer = (Trainer if has_loss(call) else Probed)(self.model, optimizer)
            objectives = run_steps(trainer, call, count, learning_rate, targets_of(self.config, self.model.head, call))
        after = self.weights()
        self.fill(before)
        return objectives, after

    def save(self, folder: str, kind: str) -> None:
        """``save_pretrained``."""
        self.model.save_pretrained(folder, safe_serialization=kind == "safetensors")

    def _prepared(self, call: Mapping[str, Any]) -> dict[str, Tensor]:
        arguments = dict(call)
        temperature = arguments.pop("gumbel_temperature", None)
        if temperature is not None:
            self.model.set_gumbel_temperature(float(temperature))
        return {name: tf.convert_to_tensor(array) for name, array in arguments.items() if array is not None}

    def _stages(
        self, arguments: dict[str, Tensor], *, train: bool, attentions: bool, keep: tuple[bool, ...] | None
    ) -> dict[str, Tensor]:
        recorder = Recorder(keep)
        paths = module_paths(walk(self.model, keras.layers.Layer))
        watch = [(keras.layers.Layer, "__call__", paths), *watched_methods(self.model)]
        with watched_calls(watch, recorder):
            output = self.model(
                arguments, output_hidden_states=True, output_attentions=attentions, return_dict=True, training=train
            )
        return {**recorder.stages(), **output_arrays(output)}

    def _variables(self) -> list[Any]:
        return [find_variable(self.model, name)[0] for name in self.model.parameter_table()]

    def _objective_and_gradients(self, arguments: dict[str, Tensor]) -> tuple[Tensor, list[Tensor]]:
        variables = [variable.value for variable in self._variables()]
        with tf.GradientTape() as tape:
            output = self.model(arguments, return_dict=True, training=True)
            objective = tf.reduce_sum(output.loss) if output.get("loss") is not None else _probed(output)
        zero = tf.UnconnectedGradients.ZERO
        return objective, tape.gradient(objective, variables, unconnected_gradients=zero)


class Probed(Trainer):
    """A trainer of models without a loss."""

    def loss_sums(self, model: Any, output: Any, batch: Any) -> Any:
        """The objective of a call without a loss."""
        return {"loss": (_probed(output), tf.constant(1))}


def _probed(output: Any) -> Tensor:
    states = [output[name] for name in PROBED if name in output]
    products = [tf.reduce_sum(state * tf.cast(_probe(state), state.dtype)) for state in states]
    return sum(products, output.get("codevector_perplexity", 0.0))


def _probe(state: Tensor) -> Tensor:
    """``reference.probe`` of its shape, which a graph for all lengths knows when it runs."""
    return tf.reshape(tf.linspace(tf.constant(-1.0, tf.float64), 1.0, tf.size(state)), tf.shape(state))


def _class_of(head: str) -> Any:
    return getattr(wav2vec2_tf, f"TFWav2Vec2{head}")


def _numpy(tensor: Tensor) -> np.ndarray:
    array = tensor.numpy()
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else np.asarray(array)
