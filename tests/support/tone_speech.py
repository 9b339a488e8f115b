"""Utterances that a small model can learn: each digit is a tone, in a manifest with their words."""

import json

import numpy as np
import soundfile

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def write_tones(folder, count, seed=0, rate=16000):
    """Write ``count`` recordings of one to three digits of half a second and ``train.jsonl``; its path."""
    generator = np.random.default_rng(seed)
    time = np.arange(rate // 2) / rate
    rows = []
    for number in range(count):
        digits = generator.integers(0, 10, generator.integers(1, 4))
        tones = [np.sin(2 * np.pi * (200 + 120 * digit) * time) * np.hanning(len(time)) for digit in digits]
        samples = np.concatenate(tones) + 0.01 * generator.standard_normal(len(digits) * len(time))
        soundfile.write(folder / f"{number}.wav", samples, rate)
        rows.append({"audio_filepath": f"{number}.wav", "text": " ".join(WORDS[digit] for digit in digits)})
    manifest = folder / "train.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return manifest
