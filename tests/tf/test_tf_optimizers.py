"""Adam with a count for each parameter."""

import keras
import numpy as np
import pytest

from wav2vec2_tf.optimizers import Adam

BETAS, EPSILON, RATE = (0.9, 0.98), 1e-3, 0.01


def by_the_book(start, gradients):
    """The values of algorithm 1 of Kingma and Ba (2015) after these gradients, in float64."""
    value, mean, square = start.astype(np.float64), 0.0, 0.0
    for step, gradient in enumerate(gradients, start=1):
        mean = BETAS[0] * mean + (1 - BETAS[0]) * gradient
        square = BETAS[1] * square + (1 - BETAS[1]) * gradient**2
        bias, square_bias = (1 - beta**step for beta in BETAS)
        value = value - RATE * (mean / bias) / (np.sqrt(square / square_bias) + EPSILON)
    return value


def test_a_parameter_that_thaws_later_starts_with_its_own_first_step():
    generator = np.random.default_rng(0)
    head, body = (generator.standard_normal(7).astype(np.float32) for _ in range(2))
    gradients = generator.standard_normal((12, 2, 7)).astype(np.float32) * 1e-3
    variables = [keras.Variable(head), keras.Variable(body)]
    optimizer = Adam(RATE, *BETAS, epsilon=EPSILON)
    optimizer.build(variables)
    for number, step in enumerate(gradients):
        trained = slice(0, 1) if number < 8 else slice(0, 2)
        optimizer.apply(list(step[trained]), variables[trained])
    expected = by_the_book(head, gradients[:, 0]), by_the_book(body, gradients[8:, 1])
    for variable, value, start in zip(variables, expected, (head, body), strict=True):
        moved = np.abs(value - start).max()
        assert np.abs(variable.numpy() - value).max() <= 1e-5 * moved + 1e-7 * np.abs(start).max()


def test_it_is_written_and_made_again():
    optimizer = keras.optimizers.deserialize(keras.optimizers.serialize(Adam(RATE, *BETAS, epsilon=EPSILON)))
    assert (optimizer.beta_1, optimizer.beta_2, optimizer.epsilon) == (*BETAS, EPSILON)
    assert float(optimizer.learning_rate) == pytest.approx(RATE)
