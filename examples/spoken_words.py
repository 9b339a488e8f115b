"""A small data set out of the two samples: ``python examples/spoken_words.py FOLDER``.

Alignment finds the seven words in the samples; they are cut out, joined and disturbed (rate, level, noise), the same
way every time. FOLDER/train.jsonl and dev.jsonl hold utterances of one to three words with their texts,
words-train.jsonl and words-dev.jsonl single words with their label.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import soundfile

from wav2vec2_core.alignment import Aligner
from wav2vec2_core.audio import read_audio

SAMPLES = Path(__file__).parents[1] / "samples"
TEXTS = {"three-one-four": "three one four", "two-seven-one-eight": "two seven one eight"}
RATE = 16_000
MARGIN = 0.06  # seconds kept around a word


def words() -> list[tuple[str, np.ndarray]]:
    """The words of the samples with their sound."""
    aligner, found = Aligner(), []
    for name, text in TEXTS.items():
        samples = read_audio(SAMPLES / f"{name}.flac")
        for word in aligner.align((samples, RATE), text).words:
            start, end = max(0, int((word.start - MARGIN) * RATE)), int((word.end + MARGIN) * RATE)
            found.append((word.text, samples[start:end]))
    return found


def disturbed(samples: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """The same, a little faster or slower, louder or softer, over noise."""
    faster = generator.uniform(0.85, 1.15)
    there = np.arange(0, len(samples) - 1, faster)
    changed = np.interp(there, np.arange(len(samples)), samples) * generator.uniform(0.3, 1.0)
    return (changed + 0.003 * generator.standard_normal(len(changed))).astype(np.float32)


def write(folder: Path, name: str, rows: list[tuple[list[str], np.ndarray]]) -> None:
    """Recordings and their manifest."""
    (folder / name).mkdir(parents=True, exist_ok=True)
    lines = []
    for number, (spoken, samples) in enumerate(rows):
        path = f"{name}/{number:03}.wav"
        soundfile.write(folder / path, samples, RATE)
        lines.append(json.dumps({"path": path, "text": " ".join(spoken), "label": spoken[0]}))
    (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def main(folder: Path) -> None:
    """Write everything."""
    generator, cut = np.random.default_rng(0), words()
    pause = np.zeros(RATE // 10, np.float32)
    for name, count, longest in (("train", 48, 3), ("dev", 12, 3), ("words-train", 63, 1), ("words-dev", 28, 1)):
        rows = []
        for number in range(count):
            first = number % len(cut)  # every word as often as the others
            chosen = [cut[first], *(cut[i] for i in generator.integers(len(cut), size=generator.integers(longest)))]
            sound = [part for _, samples in chosen for part in (pause, disturbed(samples, generator))]
            rows.append(([word for word, _ in chosen], np.concatenate([*sound, pause])))
        write(folder, name, rows)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
