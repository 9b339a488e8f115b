"""What happens to speech on its way to a microphone: other voices, other rates of speaking, rooms, noise.

All functions take and return (samples,) float32 at 16 kHz and draw from a ``numpy.random.Generator``.
"""

from __future__ import annotations

import numpy as np
import soxr

RATE = 16_000
_FRAME, _SEARCH = 400, 80  # of stretching: 25 ms, and 5 ms to look for a place that fits
_KNOTS = np.array([60.0, 150, 400, 1000, 2500, 5000, 8000])  # Hz, of the response of a microphone


def other_voice(speech: np.ndarray, size: float, pace: float) -> np.ndarray:
    """Speech with formants and pitch ``size`` times as high, and ``pace`` times as fast."""
    moved = soxr.resample(speech, round(RATE * size), RATE)
    return stretch(moved, size / pace)


def stretch(speech: np.ndarray, factor: float) -> np.ndarray:
    """Speech ``factor`` times as long with its pitch kept: frames laid over each other where their waves agree."""
    hop = _FRAME // 2
    if len(speech) < 2 * (_FRAME + _SEARCH) or abs(factor - 1) < 0.02:
        return speech
    window = np.hanning(_FRAME + 1)[:-1].astype(np.float32)
    padded = np.pad(speech, (_SEARCH, _FRAME + 2 * _SEARCH))
    frames = int(len(speech) * factor) // hop
    found = np.zeros(frames * hop + _FRAME, np.float32)
    begin = _SEARCH
    for number in range(frames):
        if number:
            expected = padded[begin + hop : begin + hop + _FRAME]  # what followed the last frame
            target = int(number * hop / factor)
            around = padded[target : target + _FRAME + 2 * _SEARCH]
            if len(around) < _FRAME + 2 * _SEARCH or len(expected) < _FRAME:
                break
            begin = target + int(np.argmax(np.correlate(around, expected, "valid")))
        found[number * hop : number * hop + _FRAME] += window * padded[begin : begin + _FRAME]
    return found[: int(len(speech) * factor)]


def level(speech: np.ndarray, decibels: float = 0.0) -> np.ndarray:
    """Speech with a root mean square of 0.1, or so many decibels above."""
    return speech * np.float32(0.1 * 10 ** (decibels / 20) / (np.sqrt(np.mean(speech**2)) + 1e-6))


def in_a_room(speech: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Speech in a room, through a microphone: an echo that fades, a response that is not flat, maybe a telephone."""
    echo = _echo(generator) if generator.random() < 0.6 else np.ones(1)
    samples = _quick(len(speech) + len(echo))
    frequencies = np.fft.rfftfreq(samples, 1 / RATE)
    gains = np.interp(np.log(frequencies + 20), np.log(_KNOTS), generator.uniform(-6, 6, len(_KNOTS)))
    if generator.random() < 0.4:  # no more than a telephone has, or a little more
        gains -= 0.05 * np.maximum(0, frequencies - generator.uniform(3200, 6000))
    if generator.random() < 0.4:
        gains -= 0.3 * np.maximum(0, generator.uniform(80, 350) - frequencies)
    spectrum = np.fft.rfft(speech, samples) * np.fft.rfft(echo, samples) * 10 ** (gains / 20)
    return np.fft.irfft(spectrum, samples)[: len(speech)].astype(np.float32)


def with_noise(speech: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Speech in noise, white to brown, 5 to 45 dB below it."""
    samples = _quick(len(speech))
    white = np.fft.rfft(generator.standard_normal(samples))
    frequencies = np.fft.rfftfreq(samples, 1 / RATE)
    noise = np.fft.irfft(white / (frequencies + 50) ** generator.uniform(0, 1), samples)[: len(speech)]
    loudness = np.sqrt(np.mean(speech**2)) * 10 ** (-generator.uniform(5, 45) / 20)
    return speech + (noise * loudness / (np.sqrt(np.mean(noise**2)) + 1e-9)).astype(np.float32)


def trimmed(speech: np.ndarray, decibels: float = 35.0) -> np.ndarray:
    """Speech without the silence around it: frames of 10 ms so far below the loudest."""
    hop = RATE // 100
    frames = speech[: len(speech) // hop * hop].reshape(-1, hop)
    energy = np.mean(frames**2, axis=1)
    loud = np.flatnonzero(energy > energy.max(initial=0) * 10 ** (-decibels / 10))
    return speech[loud[0] * hop : (loud[-1] + 1) * hop] if len(loud) else speech[:0]


def _echo(generator: np.random.Generator) -> np.ndarray:
    """The answer of a room to a click: the click, then noise that fades by 60 dB in 0.1 to 0.7 s."""
    fading = generator.uniform(0.1, 0.7)
    times = np.arange(round(fading * RATE)) / RATE
    tail = generator.standard_normal(len(times)) * 10 ** (-3 * times / fading)
    tail[: generator.integers(20, 200)] = 0
    tail *= 10 ** (-generator.uniform(-2, 15) / 20) / (np.sqrt(np.sum(tail**2)) + 1e-9)
    tail[0] = 1
    return tail


def _quick(samples: int) -> int:
    """The next power of two: lengths with large prime factors take a hundred times as long to transform."""
    return 1 << (samples - 1).bit_length()
