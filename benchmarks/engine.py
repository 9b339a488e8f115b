"""The inference engine beside other engines: same weights, same audio, one process, processor time.

    pip install -c constraints.txt -e ".[torch]" transformers==4.57.6
    pip install onnxruntime onnx onnxscript openvino nncf ctranslate2    # each optional
    python benchmarks/engine.py --seconds 10                         # one recording of 10 s, every peer that is there
    python benchmarks/engine.py --mix 32 --peers transformers        # 2 to 20 s: one by one, and padded batches of 8
    python benchmarks/engine.py --seconds 10,60 --mix 16 --dtype float32,bfloat16,int8 \\
        --peers transformers:float32,openvino:float32,openvino:bfloat16,openvino:int8
    python benchmarks/engine.py --seconds 10 --threads 2 --peers ""      # by the clock, beside one thread

The engines take turns; a figure is the median of the ratios of neighbouring runs (above 1: faster than the other).
Weights are random, so errors are of arithmetic: root mean square over all logits, relative to their standard deviation,
against this library's plain model in float32.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from peers import PEERS, UnavailableError, transformers_model
from side_by_side import ratio, take_turns

from wav2vec2_core.config import PRESETS, Wav2Vec2Config
from wav2vec2_torch import Wav2Vec2ForCTC
from wav2vec2_torch.inference import InferenceModel, load_model
from wav2vec2_torch.kernels import PLAIN

RATE = 16_000
Run = Callable[[Sequence[np.ndarray]], Sequence[np.ndarray]]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=PRESETS, default="base")
    parser.add_argument("--seconds", help="lengths of single recordings, with commas; 10 where there is no --mix")
    parser.add_argument("--mix", type=int, default=0, help="also this many recordings of a tenth to all of --longest")
    parser.add_argument("--longest", type=float, default=20.0, help="seconds of the longest of a mix")
    parser.add_argument("--dtype", default="float32", help="float32, bfloat16, float16, int8, with commas")
    parser.add_argument(
        "--peers", default=",".join(PEERS), help="name or name:type with commas; our first type if none"
    )
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1, help="of each; several are measured by the clock")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    lengths = options.seconds or ("" if options.mix else "10")
    works = {f"1 x {one} s": recordings(0, float(one)) for one in filter(None, lengths.split(","))}
    if options.mix:
        longest = options.longest
        works[f"{options.mix} x {longest / 10:g} to {longest:g} s"] = recordings(options.mix, longest)
    with tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(0)
        Wav2Vec2ForCTC(Wav2Vec2Config.preset(options.preset, mask_time_prob=0.0)).save_pretrained(folder)
        plain = Wav2Vec2ForCTC.from_pretrained(folder)
        runs = ours(folder, options.dtype.split(","), options.threads)
        theirs = peers(folder, [one for one in options.peers.split(",") if one], options.dtype.split(",")[0])
    for what, waveforms in works.items():
        chosen = runs | (theirs if len(waveforms) > 1 else {n: r for n, r in theirs.items() if "padded" not in n})
        calls = {name: partial(run, waveforms) for name, run in chosen.items()}
        expected = plain_logits(plain, waveforms)
        errors = {name: logit_error(call(), expected) for name, call in calls.items()}
        clock = time.process_time if options.threads == 1 else time.perf_counter
        times = take_turns(calls, options.rounds, warmups=0, clock=clock)  # computing the errors was the warm-up
        print(f"{options.preset}, {what}, {options.threads} thread(s), {options.rounds} rounds")
        report(times, errors, sum(map(len, waveforms)) / RATE)


def ours(folder: str, types: Sequence[str], threads: int) -> dict[str, Run]:
    """The engine in each type; with plain kernels where others were chosen; with one thread where there are several."""
    runs: dict[str, Run] = {}
    for dtype in types:
        engine = load_model(folder, device="cpu", dtype=dtype)
        print(f"engine {dtype}: {engine.summary()}")
        runs[f"engine {dtype}"] = engine.logits
        if engine.kernels != PLAIN:
            kept_as = "float32" if dtype == "int8" else dtype
            unchosen = InferenceModel(Wav2Vec2ForCTC.from_pretrained(folder, dtype=kept_as), dtype)
            runs[f"engine with plain kernels {dtype}"] = unchosen.logits
        if threads > 1:
            runs[f"engine, one thread {dtype}"] = partial(with_one_thread, engine.logits)
    return runs


def with_one_thread(run: Run, waveforms: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
    """The same call with one thread of PyTorch."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    made = run(waveforms)
    torch.set_num_threads(threads)
    return made


def peers(folder: str, names: Sequence[str], dtype: str) -> dict[str, Run]:
    """Other engines, those that are here; transformers also in padded batches."""
    runs: dict[str, Run] = {}
    for given in names:
        name, _, kind = given.partition(":")
        try:
            run = PEERS[name](folder, kind or dtype)
        except UnavailableError as error:
            print(f"{name} {kind or dtype}: left out, it {error}")
            continue
        runs[f"{name} {kind or dtype}"] = lambda waveforms, run=run: [run(waveform) for waveform in waveforms]
        if name == "transformers":
            runs[f"transformers, padded batches of 8 {kind or dtype}"] = partial(
                padded, transformers_model(folder, kind or dtype)
            )
    return runs


def report(times: dict[str, list[float]], errors: dict[str, float], seconds: float) -> None:
    """Each run's time and error; how much faster it is than transformers, and each engine than peers of its type."""
    for name, spent in times.items():
        line = f"{1000 * statistics.median(spent) / seconds:.1f} ms for a second of audio, error {errors[name]:.1e}"
        for other in times:
            same_type = name.startswith("engine ") and other.split()[-1] == name.split()[-1]
            if other != name and (other.startswith("transformers") or same_type):
                line += f"; {other} / this = {ratio(spent, times[other])}"
        print(f"  {name}: {line}")


def recordings(mix: int, seconds: float) -> list[np.ndarray]:
    """White noise, (samples,) each: one of these ``seconds``, or a mix of a tenth of them to all.

    A random model makes nothing of quiet stretches but amplified rounding, which would hide the errors of interest.
    """
    generator = np.random.default_rng(0)
    lengths = generator.uniform(seconds / 10, seconds, mix) if mix else [seconds]
    return [generator.standard_normal(int(length * RATE), np.float32) for length in lengths]


@torch.inference_mode()
def padded(model: Any, waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Batches of 8 in the given order, with zeros after the shorter ones, as a pipeline of transformers runs them."""
    kind = torch.float32 if model.dtype == torch.qint8 else model.dtype
    results = []
    for start in range(0, len(waveforms), 8):
        rows = [torch.from_numpy(waveform).to(kind) for waveform in waveforms[start : start + 8]]
        results += list(model(torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)).logits.float().numpy())
    return results


@torch.inference_mode()
def plain_logits(model: Wav2Vec2ForCTC, waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
    """What the model of the paper makes of each waveform alone."""
    return [model(torch.from_numpy(waveform)[None])["logits"][0].numpy() for waveform in waveforms]


def logit_error(ours: Sequence[np.ndarray], expected: Sequence[np.ndarray]) -> float:
    """Root mean square difference over each utterance's frames, relative to the deviation of the logits."""
    differences = [one[: len(other)] - other for one, other in zip(ours, expected, strict=True)]
    return float(np.sqrt(np.mean(np.concatenate(differences) ** 2)) / np.std(np.concatenate(expected)))


if __name__ == "__main__":
    main()
