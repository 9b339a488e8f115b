"""Language models beside KenLM: estimation beside lmplz, loading beside the kenlm package, scores and perplexity.

    python benchmarks/language_model.py --text TEXT --held-out TEXT [--order 3] [--lmplz PATH]
    python benchmarks/language_model.py --words 10000000

Without ``--text`` it makes a text of ``--words`` words: frequencies after Zipf's law, each word likely to bring one of
twelve others. Times are processor time of one thread each; both sides read files from the page cache. ``lmplz`` and
``kenlm`` are measured where they are installed.
"""

from __future__ import annotations

import argparse
import importlib
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np


def make_text(path: Path, words: int, vocabulary: int, seed: int) -> None:
    """Write sentences of 3 to 29 words."""
    structure = np.random.default_rng(99)
    names = np.unique(
        ["".join(map(chr, structure.integers(97, 123, structure.integers(1, 9)))) for _ in range(vocabulary)]
    )
    structure.shuffle(names)
    followers = (structure.zipf(1.3, (len(names), 12)) % len(names)).tolist()
    draw = np.random.default_rng(seed)
    free = ((draw.zipf(1.15, words) - 1) % len(names)).tolist()
    choice = np.minimum(draw.geometric(0.35, words) - 1, 11).tolist()
    bound = (draw.random(words) < 0.65).tolist()
    said, last = [], 0
    for position in range(words):
        last = followers[last][choice[position]] if bound[position] else free[position]
        said.append(last)
    text = names[said].tolist()
    with path.open("w", encoding="utf-8") as file:
        start = 0
        while start < words:
            end = start + int(draw.integers(3, 30))
            file.write(" ".join(text[start:end]) + "\n")
            start = end


def seconds(work: Callable[[], Any]) -> tuple[Any, float]:
    """Result and processor time of some work, processes that it starts included."""
    before = time.process_time(), resource.getrusage(resource.RUSAGE_CHILDREN)
    result = work()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    children = after.ru_utime + after.ru_stime - before[1].ru_utime - before[1].ru_stime
    return result, time.process_time() - before[0] + children


def report(name: str, ours: float, theirs: float | None) -> None:
    """One line: both times and their ratio."""
    beside = "" if theirs is None else f"  beside {theirs:8.3f} s  ratio {ours / theirs:.2f}"
    print(f"{name:<34} {ours:8.3f} s{beside}", flush=True)


def measure_estimation(folder: Path, text: Path, order: int, memory: int, lmplz: str | None) -> Path | None:
    """Estimate with both; returns KenLM's file."""
    from wav2vec2_core.language_model.estimation import estimate

    _, ours = seconds(
        lambda: estimate([text], folder / "ours.arpa", order=order, memory=memory, discount_fallback=(0.5, 1, 1.5))
    )
    if lmplz is None:
        report(f"estimation, order {order}", ours, None)
        return None
    command = [lmplz, "-o", str(order), "-S", f"{memory >> 20}M", "-T", str(folder), "--discount_fallback"]
    with text.open("rb") as source, (folder / "theirs.arpa").open("wb") as target:
        _, theirs = seconds(
            lambda: subprocess.run(command, stdin=source, stdout=target, stderr=subprocess.DEVNULL, check=True)
        )
    report(f"estimation, order {order}, and lmplz", ours, theirs)
    return folder / "theirs.arpa"


def measure_loading(folder: Path, kenlm: Any) -> None:
    """ARPA file to tables, and tables from the cache; kenlm reads the ARPA file and our binary."""
    from wav2vec2_core.language_model.ngram import NgramModel

    path = folder / "ours.arpa"
    made, first = seconds(lambda: NgramModel.open(path))
    config = None
    if kenlm:
        config = kenlm.Config()
        config.show_progress = False
        config.arpa_complain = kenlm.ARPALoadComplain.NONE
    report(
        "ARPA file, first time, and kenlm", first, seconds(lambda: kenlm.Model(str(path), config))[1] if kenlm else None
    )
    start = time.perf_counter()
    NgramModel.open(path)
    print(f"{'ARPA file, from the cache':<34} {1e3 * (time.perf_counter() - start):8.1f} ms", flush=True)
    print(f"{'n-grams':<34} {sum(made.layout.counts):,}")


def compare_scores(folder: Path, held_out: Path, theirs: Path | None, kenlm: Any) -> None:
    """Perplexity of held-out text with our model, and with KenLM's."""
    from wav2vec2_core.language_model.ngram import NgramModel
    from wav2vec2_core.language_model.scoring import score_texts

    model = NgramModel.open(folder / "ours.arpa")
    score_texts(model, [held_out])  # compiles
    ours, ours_time = seconds(lambda: score_texts(model, [held_out]))
    print(f"{'perplexity, ours':<34} {ours.perplexity:12.4f}")
    if theirs is not None:
        found = score_texts(NgramModel.open(theirs), [held_out])
        print(f"{'perplexity, lmplz':<34} {found.perplexity:12.4f}  ratio {ours.perplexity / found.perplexity:.6f}")
    if kenlm:
        config = kenlm.Config()
        config.show_progress = False
        config.arpa_complain = kenlm.ARPALoadComplain.NONE
        other = kenlm.Model(str(folder / "ours.arpa"), config)
        lines = held_out.read_text(encoding="utf-8").splitlines()
        total, theirs_time = seconds(lambda: sum(other.score(line) for line in lines))
        report("scoring sentences, and kenlm", ours_time, theirs_time)
        print(f"{'log10 probability, ours - kenlm':<34} {ours.score - total:12.6f} of {total:.1f}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, help="one sentence a line; made where missing")
    parser.add_argument("--held-out", type=Path)
    parser.add_argument("--words", type=int, default=1_000_000)
    parser.add_argument("--vocabulary", type=int, default=200_000)
    parser.add_argument("--order", type=int, default=3)
    parser.add_argument("--memory", type=int, default=2048, help="MiB for both")
    parser.add_argument("--lmplz", default=shutil.which("lmplz"))
    options = parser.parse_args()
    try:
        kenlm = importlib.import_module("kenlm")
    except ImportError:
        kenlm = None
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["XDG_CACHE_HOME"] = name
        text, held_out = options.text or folder / "text", options.held_out or folder / "held-out"
        if options.text is None:
            make_text(text, options.words, options.vocabulary, 7)
        if options.held_out is None:
            make_text(held_out, max(options.words // 50, 1000), options.vocabulary, 8)
        print(f"Python {sys.version.split()[0]}, numpy {np.__version__}, {text.stat().st_size / 1e6:.1f} MB of text")
        theirs = measure_estimation(folder, text, options.order, options.memory << 20, options.lmplz)
        measure_loading(folder, kenlm)
        compare_scores(folder, held_out, theirs, kenlm)


if __name__ == "__main__":
    main()
