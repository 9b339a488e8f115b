"""What the runs found: tables with intervals over seeds and utterances, and the curves."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wav2vec2_core.metrics import character_errors, word_errors

STARTS = ("pretrained", "scratch")
_RESAMPLES = 1000


@dataclass(frozen=True)
class Run:
    """A fine-tuning run. labels: the size of its data; start: what it begins with."""

    labels: str
    start: str
    seed: int

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"{self.labels}-{self.start}-{self.seed}"

    def is_of(self, labels: str, start: str) -> bool:
        """Whether it differs from others of these in nothing but the seed."""
        return (self.labels, self.start) == (labels, start)


def write_report(folder: Path, runs: Sequence[Run], tests: Sequence[str]) -> None:
    """Write ``results.md`` and ``curves.png`` into the folder of the runs."""
    lines: list[str] = []
    for rate in ("WER", "CER"):
        lines += [f"| labels | test | {rate} pretrained | {rate} from scratch | difference |", "|---|---|---|---|---|"]
        for labels, test in itertools.product(dict.fromkeys(run.labels for run in runs), tests):
            errors = [
                np.stack(
                    [_errors(folder / run.name / f"{test}.json", rate) for run in runs if run.is_of(labels, start)]
                )
                for start in STARTS
            ]
            lines.append(f"| {labels} | {test} | {' | '.join(_compared(*errors))} |")
        lines.append("")
    (folder / "results.md").write_text("\n".join(lines), encoding="utf-8")
    _draw(folder, runs)


def _errors(path: Path, rate: str) -> np.ndarray:
    """(2, utterances): errors and lengths of an evaluation, in words or in characters."""
    count = word_errors if rate == "WER" else character_errors
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
    found = [count(row["reference"], row["hypothesis"]) for row in rows]
    return np.array([[errors.total for errors in found], [errors.length for errors in found]])


def _compared(pretrained: np.ndarray, scratch: np.ndarray) -> list[str]:
    """The rate of each start and their difference, with the middle 95 % of resamples.

    A resample draws seeds and utterances with replacement; the same utterances for both starts.

    Args:
        pretrained, scratch: (seeds, 2, utterances) each.
    """
    generator = np.random.default_rng(0)
    resamples: list[tuple[float, float]] = []
    for _ in range(_RESAMPLES):
        utterances = generator.integers(pretrained.shape[2], size=pretrained.shape[2])
        drawn = [
            runs[generator.integers(len(runs), size=len(runs))][:, :, utterances] for runs in (pretrained, scratch)
        ]
        resamples.append((_rate(drawn[0]), _rate(drawn[1])))
    first, second = np.array(resamples).T
    rates = _rate(pretrained), _rate(scratch)
    found: list[str] = []
    for value, drawn, sign in (
        (rates[0], first, ""),
        (rates[1], second, ""),
        (rates[0] - rates[1], first - second, "+"),
    ):
        low, high = np.percentile(drawn, [2.5, 97.5])
        found.append(f"{100 * value:{sign}.1f} ({100 * low:{sign}.1f} to {100 * high:{sign}.1f})")
    return found


def _rate(runs: np.ndarray) -> float:
    errors, lengths = runs.sum(axis=(0, 2))
    return float(errors / lengths)


def _draw(folder: Path, runs: Sequence[Run]) -> None:
    """The losses and the error rates on the development data, a line for each run."""
    from matplotlib.figure import Figure

    sizes = list(dict.fromkeys(run.labels for run in runs))
    figure = Figure(figsize=(4 * len(sizes), 5), layout="constrained")
    panels = figure.subplots(2, len(sizes), sharex="col", sharey="row", squeeze=False)
    for column, labels in enumerate(sizes):
        panels[0][column].set_title(f"{labels} of labels")
        panels[1][column].set_xlabel("updates")
        for run in runs:
            if run.labels != labels:
                continue
            style = {"color": f"C{STARTS.index(run.start)}", "label": run.start if run.seed == 0 else None}
            records = [json.loads(line) for line in (folder / run.name / "train.jsonl").read_text().splitlines()]
            losses = [record["loss"] for record in records if "loss" in record]
            width = max(1, len(losses) // 30)
            means = [np.mean(losses[end - width : end]) for end in range(width, len(losses) + 1, width)]
            panels[0][column].plot(np.arange(1, len(means) + 1) * width, means, linewidth=1, **style)
            scores = [(record["step"], 100 * record["scores"]["cer"]) for record in records if "scores" in record]
            panels[1][column].plot(*np.array(scores).T, marker="o", markersize=3, linewidth=1, **style)
    panels[0][0].set_ylabel("training loss")
    panels[1][0].set_ylabel("CER of dev.jsonl, %")
    panels[0][0].legend()
    figure.savefig(folder / "curves.png", dpi=90)
