"""Beam search beside pyctcdecode 0.5.0 (and flashlight-text, if installed): processor time of one thread, in one run.

    pip install -e ".[lm]" kenlm==0.3.0 && pip install --no-deps pyctcdecode==0.5.0 && pip install pygtrie hypothesis
    python benchmarks/decoding.py
    python benchmarks/decoding.py --corpus sentences.txt --order 5

Synthetic CTC output of 10 s recordings (500 frames, 32 labels): mostly blank, one frame for most letters, and a share
of the letters ambiguous: 12 % (easy) or 45 % (hard). Text, and the text of the language model, is by default the
documentation that comes with Python. Decoders take turns, of three calls each; each figure is the median over the
recordings of the best of three turns.
"""

from __future__ import annotations

import argparse
import logging
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np

from wav2vec2_core.decoding import BeamSearchDecoder, build_ctcdecoder
from wav2vec2_core.language_model.estimation import estimate

LABELS = ["<pad>", "<s>", "</s>", "<unk>", "|", *"etaonihsrdlumwcfgypbvk'xjqz"]
FRAMES, SECONDS = 500, 10
SHARES = {"easy": 0.12, "hard": 0.45}
FIRST_USE = """
import time
import numpy as np
from wav2vec2_core.decoding import build_ctcdecoder
decoder = build_ctcdecoder({labels!r}, {model!r})
logits = np.random.default_rng(0).normal(0, 3, (500, 32))
ready = time.process_time()
decoder.decode(logits)
print(ready, time.process_time() - ready)
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, help="UTF-8 text, one sentence a line")
    parser.add_argument("--order", type=int, default=3)
    parser.add_argument("--recordings", type=int, default=8)
    parser.add_argument("--beam-width", type=int, default=100)
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    sentences = corpus(options.corpus)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "corpus.txt").write_text("\n".join(sentences))
        estimate([folder / "corpus.txt"], folder / "lm.arpa", order=options.order, discount_fallback=(0.5, 1.0, 1.5))
        estimate([folder / "corpus.txt"], folder / "lm.bin", order=options.order, discount_fallback=(0.5, 1.0, 1.5))
        words = sorted({word for sentence in sentences for word in sentence.split()})
        print(f"{options.order}-gram of {sum(len(s.split()) for s in sentences)} words, {len(words)} different")
        compare(folder, sentences, words, options)
        threads(folder, sentences, words, options)
        endless(folder, sentences, words, options)
        first_use(folder)


def corpus(path: Path | None) -> list[str]:
    """Sentences of lower-case words."""
    if path is not None:
        text = path.read_text(encoding="utf-8")
    else:
        from pydoc_data.topics import topics

        text = "\n".join(topics.values()).replace("\n\n", ".")
    lines = re.split(r"[.:;!?]" if path is None else "\n", text.lower())
    found = [" ".join(re.findall(r"[a-z][a-z']*", line)) for line in lines]
    return [line for line in found if line.count(" ") > 2]


def recordings(sentences: list[str], share: float, count: int, seed: int) -> list[np.ndarray]:
    """Logits of recordings of about 150 letters."""
    draw = random.Random(seed)
    found = []
    for number in range(count):
        text = " ".join(draw.choice(sentences) for _ in range(12))[:150]
        found.append(logits_of(text.rsplit(" ", 1)[0], share, np.random.default_rng(seed + number)))
    return found


def logits_of(text: str, share: float, generator: np.random.Generator) -> np.ndarray:
    """(frames, labels) float32: noise, the blank on top, letters at random frames, some of them with rivals."""
    ids = [LABELS.index("|" if letter == " " else letter) for letter in text]
    logits = generator.normal(0, 1, (FRAMES, len(LABELS))).astype(np.float32)
    logits[:, 1:4] -= 8
    logits[:, 0] += 13
    gaps = generator.dirichlet(np.full(len(ids) + 1, 2.0)) * (FRAMES - 2 * len(ids) - 1)
    places = (np.cumsum(gaps[:-1]) + 2 * np.arange(len(ids))).astype(int)
    for place, label in zip(places, ids, strict=True):
        logits[place, 0] -= 13
        logits[place, label] += 13
        if generator.random() < 0.15:
            logits[place + 1, 0] -= 7
            logits[place + 1, label] += 6
        if generator.random() < share:
            rivals = generator.choice(np.arange(4, len(LABELS)), generator.integers(1, 4), replace=False)
            logits[place, rivals] += generator.uniform(8, 13, len(rivals))
            if generator.random() < 0.5:
                logits[place, 0] += generator.uniform(8, 13)
    return logits


def compare(folder: Path, sentences: list[str], words: list[str], options: argparse.Namespace) -> None:
    """Print milliseconds per second of audio, and ratios."""
    import pyctcdecode

    model = str(folder / "lm.bin")
    pairs = {
        "no language model": (build_ctcdecoder(LABELS), pyctcdecode.build_ctcdecoder(LABELS)),
        f"{options.order}-gram": (
            build_ctcdecoder(LABELS, model, words),
            pyctcdecode.build_ctcdecoder(LABELS, model, words),
        ),
    }
    hotwords = random.Random(1).sample([word for word in words if len(word) > 4], 200)
    calls: dict[str, dict[str, Callable[[np.ndarray], Any]]] = {}
    for name, (ours, theirs) in pairs.items():
        calls[name] = {"ours": best(ours, options), "pyctcdecode": reference(theirs, options)}
        calls[f"{name}, all readings"] = {
            "ours": best(ours, options, n_best=None),
            "pyctcdecode": reference(theirs, options, prune_history=False),
        }
        calls[f"{name}, 200 hotwords"] = {
            "ours": best(ours, options, hotwords=hotwords),
            "without": best(ours, options),
        }
    flashlight = flashlight_decoder(folder, words, options)
    if flashlight is not None:
        calls[f"{options.order}-gram"]["flashlight"] = flashlight
    print(f"{'ms per second of audio, beam ' + str(options.beam_width):44s} {'easy':>34s} {'hard':>34s}")
    for name, decoders in calls.items():
        row = []
        for share in SHARES.values():
            times = measured(decoders, recordings(sentences, share, options.recordings, 7))
            others = [f"{key} {times[key] / times['ours']:.2f}x" for key in times if key != "ours"]
            row.append(f"{times['ours']:.3f} ({', '.join(others)})")
        print(f"{name:44s} {row[0]:>34s} {row[1]:>34s}")


def best(decoder: BeamSearchDecoder, options: argparse.Namespace, n_best: int | None = 1, **given: Any) -> Callable:
    """Text and word frames of the best reading or of all."""

    def run(logits: np.ndarray) -> Any:
        prune = n_best == 1
        beams = decoder.decode_beams(logits, n_best, beam_width=options.beam_width, prune_history=prune, **given)
        return [(beam.text, beam.word_frames) for beam in beams]

    return run


def reference(decoder: Any, options: argparse.Namespace, prune_history: bool = True) -> Callable:
    """What ``decode`` of pyctcdecode does, or ``decode_beams``."""
    return lambda logits: decoder.decode_beams(logits, beam_width=options.beam_width, prune_history=prune_history)


def flashlight_decoder(folder: Path, words: list[str], options: argparse.Namespace) -> Callable | None:
    """flashlight-text's decoder with a lexicon and KenLM, if they are installed."""
    try:
        from flashlight.lib.text import decoder as fl
        from flashlight.lib.text.dictionary import create_word_dict
    except ImportError as error:
        print(f"flashlight-text is left out: {error}")
        return None
    spelled = {word: [[*word, "|"]] for word in words}
    dictionary = create_word_dict({**spelled, "<unk>": []})
    language_model = fl.KenLM(str(folder / "lm.arpa"), dictionary)
    trie = fl.Trie(len(LABELS), LABELS.index("|"))
    start = language_model.start(False)
    for word in words:
        index = dictionary.get_index(word)
        trie.insert([LABELS.index(letter) for letter in [*word, "|"]], index, language_model.score(start, index)[1])
    trie.smear(fl.SmearingMode.MAX)
    chosen = fl.LexiconDecoderOptions(
        beam_size=options.beam_width, beam_size_token=len(LABELS), beam_threshold=10.0, lm_weight=0.5 * 2.302585,
        word_score=1.5, unk_score=float("-inf"), sil_score=0.0, log_add=True, criterion_type=fl.CriterionType.CTC,
    )  # fmt: skip
    unknown = dictionary.get_index("<unk>")
    decoder = fl.LexiconDecoder(chosen, trie, language_model, LABELS.index("|"), 0, unknown, [], False)

    def run(logits: np.ndarray) -> Any:
        shifted = logits - logits.max(1, keepdims=True)
        scores = np.ascontiguousarray(shifted - np.log(np.exp(shifted).sum(1, keepdims=True)), np.float32)
        return decoder.decode(scores.ctypes.data, *scores.shape)[0].words

    return run


def measured(decoders: dict[str, Callable], inputs: list[np.ndarray]) -> dict[str, float]:
    """Milliseconds of processor time per second of audio: the median over inputs of the best of three turns."""
    for run in decoders.values():
        run(inputs[0])
    times: dict[str, list[float]] = {name: [] for name in decoders}
    for logits in inputs:
        turns: dict[str, list[float]] = {name: [] for name in decoders}
        for _ in range(3):
            for name, run in decoders.items():
                for _ in range(3):
                    start = time.process_time()
                    run(logits)
                    turns[name].append(time.process_time() - start)
        for name, values in turns.items():
            times[name].append(min(values))
    return {name: 1e3 * statistics.median(values) / SECONDS for name, values in times.items()}


def threads(folder: Path, sentences: list[str], words: list[str], options: argparse.Namespace) -> None:
    """Print how much faster more threads decode a batch."""
    from concurrent.futures import ThreadPoolExecutor

    decoder = build_ctcdecoder(LABELS, str(folder / "lm.bin"), words)
    batch = recordings(sentences, SHARES["hard"], 64, 11)
    wall = {}
    for _ in range(3):
        for count in (1, 2, 4):
            with ThreadPoolExecutor(count) as pool:
                start = time.perf_counter()
                list(pool.map(decoder.decode_beams, batch))
                wall[count] = min(wall.get(count, 1e9), time.perf_counter() - start)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    ratios = ", ".join(f"{count} threads {wall[1] / wall[count]:.2f}x" for count in (2, 4))
    print(f"64 recordings, wall time on {cores} cores: 1 thread {1e3 * wall[1]:.0f} ms, {ratios}")


def endless(folder: Path, sentences: list[str], words: list[str], options: argparse.Namespace) -> None:
    """Print the memory of two hours' searches in streams, with and without dropping what beams cannot come back to."""
    from wav2vec2_core.decoding.search import beam_compaction

    pieces = recordings(sentences, SHARES["hard"], 64, 13)
    for name, model in (("no language model", None), (f"{options.order}-gram", str(folder / "lm.bin"))):
        decoder = build_ctcdecoder(LABELS, model, None if model is None else words)
        for rows in (beam_compaction.ROWS, 1 << 30):
            kept, beam_compaction.ROWS = beam_compaction.ROWS, rows
            stream, start, sizes, count = decoder.stream(), time.process_time(), [], 0
            for number in range(2 * 3600 // SECONDS):
                # In other words each time: letters change places, the special labels and the blank do not.
                order = np.r_[:5, 5 + np.random.default_rng(number).permutation(len(LABELS) - 5)]
                count += len(stream.feed(pieces[number % len(pieces)][:, order]))
                sizes.append(stream._search.size)
            beam_compaction.ROWS = kept
            hours = ", ".join(f"{sizes[len(sizes) * hour // 2 - 1] / 1e6:.1f} MB after {hour} h" for hour in (1, 2))
            print(
                f"stream, {name}, {'dropping' if rows == kept else 'keeping all'}: {hours}; {count} words, "
                f"{time.process_time() - start:.1f} s"
            )


def first_use(folder: Path) -> None:
    """Print the processor time of a fresh process; programs and tables were made and kept before.

    numba imports parts of scipy where it is installed, though no kernel needs it: measured with and without.
    """
    code = FIRST_USE.format(labels=LABELS, model=str(folder / "lm.arpa"))
    for name, first in (("", ""), (", without scipy", "import sys; sys.modules['scipy'] = None\n")):
        found = []
        for _ in range(6):
            run = subprocess.run([sys.executable, "-c", first + code], capture_output=True, text=True, check=True)
            found.append([float(value) for value in run.stdout.split()])
        ready, decoded = min(found[1:], key=sum)
        print(
            f"fresh process{name}: {ready + decoded:.2f} s of processor time, {ready:.2f} s to import and open the "
            f"language model, {decoded:.2f} s for the first recording"
        )


if __name__ == "__main__":
    main()
