"""Parts of ``gpu.sh`` that measure, each a process: the last line of standard output is JSON.

    python benchmarks/gpu_parts.py inference --preset base --device cuda
    python benchmarks/gpu_parts.py training --backend flax --preset base

Times are by the clock, from numpy arrays to numpy arrays. Weights are random.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from engine import RATE, logit_error, recordings
from side_by_side import ratio, take_turns

from wav2vec2_core.backend import load_backend
from wav2vec2_core.config import PRESETS, Wav2Vec2Config
from wav2vec2_core.devices import Devices
from wav2vec2_core.flops import forward_flops, training_flops
from wav2vec2_core.transcription import EMBEDDED_MODEL
from wav2vec2_torch import Wav2Vec2ForCTC
from wav2vec2_torch.cuda_graphs import SIGHTINGS
from wav2vec2_torch.inference import load_model

#: (waveforms) -> (frames, vocab) logits of each.
Run = Callable[[Sequence[np.ndarray]], list[np.ndarray]]
#: Rows of a padded batch of the others.
BATCH = 8


def workloads(seconds: float = 10.0, count: int = 32) -> dict[str, list[np.ndarray]]:
    """One recording, ``count`` of the same length, and a mix of a tenth to all of twice this length."""
    (one,) = recordings(0, seconds)
    same = [np.roll(one, shift) for shift in range(count)]
    return {
        f"1 x {seconds:g} s": [one],
        f"{count} x {seconds:g} s": same,
        f"{count} x {seconds / 5:g} to {2 * seconds:g} s": recordings(count, 2 * seconds),
    }


def inference(
    config: Wav2Vec2Config, device: str, dtype: str, work: Mapping[str, list[np.ndarray]], rounds: int
) -> dict[str, Any]:
    """The engine beside others on the same weights: milliseconds, error, share of the device's peak."""
    peak = Devices(torch.cuda.get_device_name() if device == "cuda" else "cpu").peak(dtype)
    with tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(0)
        Wav2Vec2ForCTC(config).save_pretrained(folder)
        exact = load_model(folder, device=device)
        engine = load_model(folder, device=device, dtype=dtype)
        runs: dict[str, Run] = {"engine": engine.logits}
        left_out = {}
        for name, make in PEERS.items():
            try:
                runs[name] = make(folder, device, dtype)
            except Exception as error:  # whatever is wrong with a peer, ours is measured
                left_out[name] = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        lines, found = [f"left out: {name}, {why}" for name, why in left_out.items()], {}
        for what, waveforms in work.items():
            expected = exact.logits(waveforms)
            found[what] = measured(runs, waveforms, expected, rounds)
            operations = sum(sum(forward_flops(config, "ForCTC", len(one)).values()) for one in waveforms)
            for name, row in found[what].items():
                row["share of peak"] = peak and operations / row["seconds"] / peak
                lines.append(described(what, name, row, sum(map(len, waveforms)) / RATE))
    return {"lines": lines, "left out": left_out, "peak": peak, "runs": found, "engine": engine.summary()}


def measured(
    runs: Mapping[str, Run], waveforms: list[np.ndarray], expected: list[np.ndarray], rounds: int
) -> dict[str, dict[str, Any]]:
    """Seconds by the clock, error, and the ratio to the first one, of runs that take turns."""
    errors = {name: logit_error(run(waveforms), expected) for name, run in runs.items()}
    ours, first = next(iter(runs.items()))
    for _ in range(SIGHTINGS + 1):  # packs of recurring shapes are recorded
        first(waveforms)
    calls = {name: (lambda run=run: run(waveforms)) for name, run in runs.items()}
    times = take_turns(calls, rounds, clock=time.perf_counter)
    return {
        name: {"seconds": statistics.median(spent), "error": errors[name], "times ours": ratio(times[ours], spent)}
        for name, spent in times.items()
    }


def described(what: str, name: str, row: Mapping[str, Any], seconds: float) -> str:
    """A line for people; ``seconds``: of audio."""
    share = "" if row["share of peak"] is None else f", {100 * row['share of peak']:.1f} % of peak"
    beside = "" if name == "engine" else f", {name} / engine = {row['times ours']}"
    speed = f"{1e3 * row['seconds']:.2f} ms, {seconds / row['seconds']:,.0f} x real time"
    return f"{what}, {name}: {speed}, error {row['error']:.1e}{share}{beside}"


def transformers(folder: str, device: str, dtype: str) -> Run:
    """transformers' model over padded batches."""
    from peers import transformers_model

    model = transformers_model(folder, dtype).to(device)
    return in_batches(lambda rows: model(rows).logits, device, getattr(torch, dtype))


def torchaudio(folder: str, device: str, dtype: str) -> Run:
    """torchaudio's model, made of that of transformers, over padded batches."""
    from peers import transformers_model
    from torchaudio.models.wav2vec2.utils import import_huggingface_model

    model = import_huggingface_model(transformers_model(folder, "float32")).eval().to(device, getattr(torch, dtype))
    return in_batches(lambda rows: model(rows)[0], device, getattr(torch, dtype))


def in_batches(call: Callable[[torch.Tensor], torch.Tensor], device: str, dtype: torch.dtype) -> Run:
    """Batches in the given order, zeros after the shorter rows."""

    @torch.inference_mode()
    def run(waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
        made = []
        for start in range(0, len(waveforms), BATCH):
            rows = [torch.from_numpy(waveform) for waveform in waveforms[start : start + BATCH]]
            batch = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True).to(device, dtype)
            made += list(call(batch).float().cpu().numpy())
        return made

    return run


PEERS: dict[str, Callable[[str, str, str], Run]] = {"transformers": transformers, "torchaudio": torchaudio}


def training(
    backend: str, config: Wav2Vec2Config, dtype: str, rows: int, seconds: float, rounds: int
) -> dict[str, Any]:
    """Updates with CTC, convolutions frozen, on the best device: seconds of the first and of others, share of peak."""
    from training_step import prepare

    from wav2vec2_core.training.steps import StepValues

    with tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(0)
        Wav2Vec2ForCTC(config).save_pretrained(folder)
        for name in ("vocab.json", "tokenizer_config.json", "special_tokens_map.json"):
            shutil.copy(EMBEDDED_MODEL / name, folder)
        options = Namespace(steps_of=backend, model=folder, rows=rows, seconds=seconds, dtype=dtype, set=[])
        trainer, batch = prepare(options)
    times = []
    for number in range(rounds + 3):
        started = time.perf_counter()
        trainer.fetch(trainer.step([batch], number, StepValues(1e-5, rows, clip=1.0)))
        times.append(time.perf_counter() - started)
    step, peak = statistics.median(times[3:]), trainer.devices.peak(dtype)
    operations = rows * training_flops(config, "ForCTC", round(seconds * RATE), train_feature_encoder=False)
    share = peak and operations / step / peak
    line = f"{backend}, {rows} x {seconds:g} s, {dtype}: {1e3 * step:.1f} ms an update, the first {times[0]:.1f} s"
    line += "" if share is None else f", {100 * share:.1f} % of peak"
    return {"lines": [line], "first": times[0], "seconds": step, "share of peak": share, "peak": peak}


def check_accelerator(backend: str) -> None:
    """Raise ``SystemExit`` if this back end has nothing but a processor."""
    if load_backend(backend).devices()[0] == "cpu":
        raise SystemExit(f"{backend} sees no GPU here")


def main() -> None:
    """Measure, and print JSON in one line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("inference", "training"))
    parser.add_argument("--preset", choices=PRESETS, default="base")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), default="bfloat16")
    parser.add_argument("--backend", choices=("torch", "tf", "flax"), default="torch")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    config = Wav2Vec2Config.preset(options.preset, mask_time_prob=0.0)
    if options.what == "inference":
        made = inference(config, options.device, options.dtype, workloads(), options.rounds)
    else:
        check_accelerator(options.backend)
        made = training(options.backend, config, options.dtype, 8, 10.0, options.rounds)
    print(*made["lines"], sep="\n", file=sys.stderr)
    print(json.dumps(made))


if __name__ == "__main__":
    main()
