"""Forced alignment: time and memory of long recordings, and the ratio to a plain numpy Viterbi.

    pip install -e ".[lm]"
    python benchmarks/alignment.py                 # a minute beside plain numpy, then an hour
    NUMBA_DISABLE_JIT=1 python benchmarks/alignment.py

Logits are made up: letters last 1 to 3 frames, with 1 to 3 blanks between them; in ``--errors`` of the frames another
token is the best one. Peak memory is the process's largest resident memory over what it had with the logits.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

from wav2vec2_core.compilation import COMPILED
from wav2vec2_core.decoding.forced_alignment import align_words
from wav2vec2_core.tokenization import Wav2Vec2CTCTokenizer

FRAMES_A_SECOND = 50
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ'"
TOKENS = ["<pad>", "<s>", "</s>", "<unk>", "|", *LETTERS]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=3600)
    parser.add_argument("--errors", type=float, default=0.02)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        vocabulary = Path(folder) / "vocab.json"
        vocabulary.write_text(json.dumps({token: i for i, token in enumerate(TOKENS)}))
        tokenizer = Wav2Vec2CTCTokenizer(vocabulary)
    print(f"compiled by numba: {COMPILED}")
    compare(tokenizer, options.errors)
    logits, text = recording(options.seconds * FRAMES_A_SECOND, options.errors)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    wall, processor = time.perf_counter(), time.process_time()
    align_words(logits, [text], tokenizer)
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(
        f"{options.seconds} s of audio, {len(text)} characters: {processor:.1f} s of processor time, {wall:.1f} s, "
        f"{peak / 1024:.0f} MB over the logits' {logits.nbytes / 2**20:.0f} MB"
    )


def compare(tokenizer: Wav2Vec2CTCTokenizer, errors: float) -> None:
    """A minute, by turns with plain numpy."""
    logits, text = recording(60 * FRAMES_A_SECOND, errors)
    labels = np.array([TOKENS.index(letter) for letter in text.replace(" ", "|")])
    ours, plain = [], []
    align_words(logits, [text], tokenizer)  # compiles
    for _ in range(5):
        start = time.process_time()
        align_words(logits, [text], tokenizer, untranscribed="none")
        ours.append(time.process_time() - start)
        start = time.process_time()
        plain_viterbi(logits, labels)
        plain.append(time.process_time() - start)
    print(
        f"60 s of audio, {len(text)} characters: {1000 * min(ours):.0f} ms with words and probabilities, plain numpy "
        f"{1000 * min(plain):.0f} ms for the path alone, {min(plain) / min(ours):.1f} x"
    )


def recording(frames: int, errors: float) -> tuple[np.ndarray, str]:
    """(frames, vocab) float32 and what is said in it."""
    generator = np.random.default_rng(0)
    spoken = np.zeros(frames, int)
    words: list[str] = []
    frame = 0
    while frame + 60 < frames:
        word = generator.integers(len(LETTERS), size=generator.integers(1, 9))
        words.append("".join(LETTERS[i] for i in word))
        for letter in word:
            lasts = int(generator.integers(1, 4))
            spoken[frame : frame + lasts] = 5 + letter
            frame += lasts + int(generator.integers(1, 4))
        spoken[frame] = TOKENS.index("|")
        frame += int(generator.integers(2, 7))
    wrong = generator.random(frames) < errors
    spoken[wrong] = generator.integers(len(TOKENS), size=wrong.sum())
    logits = generator.normal(0, 1, (frames, len(TOKENS))).astype(np.float32)
    logits[np.arange(frames), spoken] += 8
    return logits, " ".join(words)


def plain_viterbi(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The best label of each frame; every state of every frame is kept."""
    scores = logits - logits.max(1, keepdims=True)
    scores -= np.log(np.exp(scores).sum(1, keepdims=True))
    states = np.zeros(2 * len(labels) + 1, int)
    states[1::2] = labels
    barred = np.full(len(states), -np.inf, np.float32)
    barred[3::2][labels[1:] != labels[:-1]] = 0
    best = np.full(len(states), -np.inf, np.float32)
    best[:2] = scores[0, states[:2]]
    steps = np.zeros((len(scores), len(states)), np.uint8)
    for frame in range(1, len(scores)):
        one, two = np.full_like(best, -np.inf), np.full_like(best, -np.inf)
        one[1:], two[2:] = best[:-1], best[:-2] + barred[2:]
        ways = np.stack([best, one, two])
        steps[frame] = ways.argmax(0)
        best = ways.max(0) + scores[frame, states]
    state = len(states) - (1 if best[-1] > best[-2] else 2)
    path = np.empty(len(scores), int)
    for frame in range(len(scores) - 1, -1, -1):
        path[frame] = states[state]
        state -= int(steps[frame, state])
    return path


if __name__ == "__main__":
    main()
