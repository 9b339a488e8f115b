"""Optimizers that count the updates of each parameter."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

Tensor = Any


@keras.saving.register_keras_serializable("wav2vec2_tf")
class Adam(keras.optimizers.Optimizer):
    """Adam (Kingma and Ba 2015) as its algorithm 1 is written and PyTorch computes it.

    Keras' own counts one step for all parameters and adds epsilon before the correction of the bias. So a parameter
    that is trained later than others starts with steps of another size there.
    """

    def __init__(
        self,
        learning_rate: float = 1e-3,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        name: str = "adam",
        **options: Any,
    ) -> None:
        """The names are those of Keras' own; ``options`` as there."""
        super().__init__(learning_rate=learning_rate, name=name, **options)
        self.beta_1, self.beta_2, self.epsilon = beta_1, beta_2, epsilon

    def build(self, variables: list[Any]) -> None:
        """Make two moments and a count for each variable."""
        if self.built:
            return
        super().build(variables)
        self._means, self._squares = self.add_optimizer_variables(variables, ["mean", "square"])
        self._counts = [self.add_variable((), name="count") for _ in variables]

    def update_step(self, gradient: Tensor, variable: Any, learning_rate: Tensor) -> None:
        """Change one variable in place."""
        index = self._get_variable_index(variable)
        mean, square, count = self._means[index], self._squares[index], self._counts[index]
        gradient = tf.cast(gradient, variable.dtype)
        self.assign_add(count, 1.0)
        self.assign_add(mean, (gradient - mean) * (1 - self.beta_1))
        self.assign_add(square, (tf.square(gradient) - square) * (1 - self.beta_2))
        steps = tf.cast(tf.convert_to_tensor(count), tf.float64)  # 1 - 0.999 has five right digits in float32
        bias, deviation_bias = (1 - tf.pow(tf.constant(beta, tf.float64), steps) for beta in (self.beta_1, self.beta_2))
        size = tf.cast(tf.cast(learning_rate, tf.float64) / bias, variable.dtype)
        deviation = tf.sqrt(tf.convert_to_tensor(square)) / tf.cast(tf.sqrt(deviation_bias), variable.dtype)
        self.assign_sub(variable, size * mean / (deviation + self.epsilon))

    def get_config(self) -> dict[str, Any]:
        """What Keras keeps of it in files."""
        return {**super().get_config(), "beta_1": self.beta_1, "beta_2": self.beta_2, "epsilon": self.epsilon}
