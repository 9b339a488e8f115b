"""Pretrain a small model, fine-tune it and its architecture from random weights with few labels, and compare them.

    python examples/pretrain_small/run.py data runs

``data`` is what ``prepare.py`` wrote. Every run has a folder in ``runs``; the command can be stopped and repeated, and
goes on where it was. What it finds are ``runs/results.md`` and ``runs/curves.png``.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

from report import STARTS, Run, write_report

RECIPE = Path(__file__).with_name("recipe.toml")
LABELS, TESTS = ("10m", "1h"), ("unseen", "other")


def main() -> None:
    """Read the arguments and run everything that is left to do."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder that prepare.py wrote")
    parser.add_argument("runs", type=Path, help="folder for the runs")
    parser.add_argument("--backend", default="torch", help="torch, tf or flax")
    parser.add_argument("--seeds", type=int, default=3, help="fine-tuning runs of each kind")
    parser.add_argument("--pretraining-steps", type=int, default=2000)
    parser.add_argument("--steps", type=int, default=2000, help="of fine-tuning")
    options = parser.parse_args()
    pretrained = options.runs / "pretrain" / "model"
    if not pretrained.exists():
        wav2vec2(
            "pretrain", "--preset", "tiny", "--train", options.data / "pretrain.jsonl", "--output", pretrained.parent,
            "--backend", options.backend, "--steps", options.pretraining_steps, "--resume",
        )  # fmt: skip
    scratch = options.runs / "scratch"
    scratch.mkdir(exist_ok=True)
    for file in pretrained.glob("*config.json"):  # the architecture and the feature extractor, without weights
        shutil.copy(file, scratch)
    models = {"pretrained": pretrained, "scratch": scratch}
    runs = [Run(labels, start, seed) for labels in LABELS for seed in range(options.seeds) for start in STARTS]
    for run in runs:
        finetune(run, models[run.start], options)
    write_report(options.runs, runs, TESTS)
    print((options.runs / "results.md").read_text(encoding="utf-8"))


def finetune(run: Run, model: Path, options: argparse.Namespace) -> None:
    """Train, and test the result, unless that has been done."""
    folder = options.runs / run.name
    if not (folder / "model").exists():
        wav2vec2(
            "finetune", "ctc", "--model", model, "--vocabulary", "text", "--train",
            options.data / f"labels-{run.labels}.jsonl", "--eval", options.data / "dev.jsonl", "--preset", RECIPE,
            "--seed", run.seed, "--steps", options.steps, "--backend", options.backend, "--output", folder, "--resume",
        )  # fmt: skip
    for test in TESTS:
        if not (folder / f"{test}.json").exists():
            wav2vec2(
                "evaluate", options.data / f"{test}.jsonl", "--model", folder / "model", "--backend", options.backend,
                "--worst", 0, "--output", folder / f"{test}.json",
            )  # fmt: skip


def wav2vec2(*arguments: object) -> None:
    """Run the command; this program ends where it fails."""
    command = [sys.executable, "-m", "wav2vec2_core", *map(str, arguments)]
    print("$ wav2vec2", *command[3:], flush=True)
    code = subprocess.run(command, check=False).returncode
    if code:
        raise SystemExit(code)


if __name__ == "__main__":
    main()
