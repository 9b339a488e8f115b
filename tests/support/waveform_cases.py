"""Random waveforms for the comparisons of feature extractors, and what a call comes to."""

import warnings

import numpy as np

TOLERANCE = 1e-6


def outcome(function):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return function()
        except Exception as error:
            return error


def pick(random, choices):
    return choices[int(random.integers(len(choices)))]


def waveform(random):
    length = int(random.integers(1, 60))
    scale = 10.0 ** random.integers(-4, 3)
    samples = random.standard_normal(length) * scale + random.standard_normal() * pick(random, (0, 0.1, 1)) * scale
    return samples if random.random() < 0.95 else np.zeros(length)
