"""What ``compile``, ``fit``, ``evaluate`` and ``predict`` need to know about models that compute their own loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from wav2vec2_core.errors import InputError
from wav2vec2_core.outputs import ModelOutput

Tensor = Any


class KerasSteps(keras.Model):
    """A model whose ``call`` takes labels and returns a loss, in Keras' training loops.

    Datasets give mappings of the arguments of ``call``, labels among them, or pairs of such a mapping (or of
    waveforms) and labels. Without a loss in ``compile`` the model's own is minimised, with one that gets
    ``(labels, logits)``; metrics get the same.
    """

    def drawn_in_training(self, given: Mapping[str, Any]) -> list[str]:
        """Names of the arguments that a training step draws where they are not ``given``."""
        raise NotImplementedError

    #: Whether the model's own loss is a mean over the batch; others are sums.
    loss_is_mean = True

    def followed(self) -> Any:
        """What a compiled step was made with beside its arguments; another value makes Keras compile anew."""
        return None

    #: ``followed`` when steps were compiled last.
    _compiled_with: Any = None

    def make_train_function(self, force: bool = False) -> Any:
        return super().make_train_function(force or self._is_outdated())

    def make_test_function(self, force: bool = False) -> Any:
        return super().make_test_function(force or self._is_outdated())

    def make_predict_function(self, force: bool = False) -> Any:
        return super().make_predict_function(force or self._is_outdated())

    def _is_outdated(self) -> bool:
        """Whether compiled steps are of another configuration; they are forgotten then."""
        followed = self.followed()
        if followed == self._compiled_with:
            return False
        self.train_function = self.test_function = self.predict_function = None
        self._compiled_with = followed
        return True

    def compile(self, optimizer: Any = "rmsprop", loss: Any = None, *args: Any, **options: Any) -> None:
        """As in Keras, but XLA is off unless asked for, as it compiles anew for every length of recording, and nothing
        is left of an earlier call: without a loss the model's own is minimised."""
        self.loss = self._compile_loss = self._compile_metrics = None
        super().compile(optimizer, loss, *args, **{"jit_compile": False, **options})

    def export(self, filepath: Any, *args: Any, **options: Any) -> Any:
        """As in Keras, without a call before: waveforms (batch, samples) of any size go in, unless ``input_signature``
        says otherwise. ``wav2vec2_tf.export.export_saved_model`` takes lengths too and checks what it wrote."""
        waveforms = keras.InputSpec(shape=(None, None), dtype="float32", name="input_values")
        return super().export(filepath, *args, **{"input_signature": [waveforms], **options})

    def train_step(self, data: Any) -> Any:
        data = self._with_labels_inside(data)
        given = data[0] if isinstance(data, tuple) else data
        drawn = self.drawn_in_training(given if isinstance(given, Mapping) else {})
        if self.jit_compile and not self.run_eagerly and drawn:
            raise InputError(
                f"XLA cannot draw {', '.join(drawn)}: give them with the data (wav2vec2_core.masking draws them), "
                "or use compile(jit_compile=False), or switch them off by apply_spec_augment=False and layerdrop=0"
            )
        return super().train_step(data)

    def test_step(self, data: Any) -> Any:
        return super().test_step(self._with_labels_inside(data))

    def predict_step(self, data: Any) -> Any:
        """The outputs of a batch as a plain mapping; a number for the batch becomes (1,), so that Keras can join it."""
        x, _, _ = keras.utils.unpack_x_y_sample_weight(data)
        output = self(x, training=False)
        if not isinstance(output, ModelOutput):
            return output
        return {
            name: tf.reshape(value, (1,)) if tf.is_tensor(value) and value.shape.rank == 0 else value
            for name, value in output.items()
        }

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Tensor:
        """The model's own loss, or that given to ``compile``."""
        if self._has_given_loss:
            return super().compute_loss(x, y, _logits(y_pred), sample_weight, training)
        if sample_weight is not None:
            raise InputError("the model's own loss knows no sample weights: leave them out or pass compile(loss=...)")
        loss = y_pred["loss"] if isinstance(y_pred, ModelOutput) and "loss" in y_pred else None
        if loss is None or loss.shape.rank != 0:
            raise InputError(
                f"{type(self).__name__} returned no single loss: give labels with the data, leave return_dict and "
                "ctc_loss_reduction at dictionaries and 'sum' or 'mean', or pass compile(loss=...)"
            )
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        if self.loss_is_mean and replicas > 1:  # gradients of replicas are added up
            loss = loss / replicas
        return loss + tf.add_n(self.losses) if self.losses else loss

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Metrics of ``compile``, from labels and logits."""
        if y is None and isinstance(x, Mapping):
            y = x.get("labels")
        return super().compute_metrics(x, y, _logits(y_pred), sample_weight)

    @property
    def _has_given_loss(self) -> bool:
        return self.loss is not None

    def _with_labels_inside(self, data: Any) -> Any:
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        if y is None or self._has_given_loss:
            return data
        x = dict(x) if isinstance(x, Mapping) else {"input_values": x}
        return {**x, "labels": y}, None, sample_weight


def _logits(output: Any) -> Any:
    return output["logits"] if isinstance(output, ModelOutput) and "logits" in output else output
