"""The inference engine beside other engines: same weights, same audio, one process, processor time.

    pip install -c constraints.txt -e ".[torch]" transformers==4.57.6
    pip install onnxruntime onnx onnxscript openvino ctranslate2    # each optional
    python benchmarks/engine.py --seconds 10                         # one recording of 10 s, every peer that is there
    python benchmarks/engine.py --mix 32 --peers transformers        # 2 to 20 s: one by one, and padded batches of 8
    python benchmarks/engine.py --seconds 10 --dtype int8 --baseline float32

The engines take turns; a figure is the median of the ratios of neighbouring runs (above 1: this library is faster).
Weights are random, so errors are of arithmetic: root mean square over all logits, relative to their standard deviation,
against this library's plain model in float32.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable, Sequence
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


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=PRESETS, default="base")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of the one recording")
    parser.add_argument(
        "--mix", type=int, default=0, help="this many recordings of a tenth to all of --longest instead"
    )
    parser.add_argument("--longest", type=float, default=20.0, help="seconds of the longest of a mix")
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16", "int8"), default="float32")
    parser.add_argument("--baseline", help="type of the peers where it shall be another")
    parser.add_argument("--peers", default=",".join(PEERS), help="names with commas, or nothing")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    waveforms = recordings(options.mix, options.longest if options.mix else options.seconds)
    baseline = options.baseline or options.dtype
    with tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(0)
        Wav2Vec2ForCTC(Wav2Vec2Config.preset(options.preset, mask_time_prob=0.0)).save_pretrained(folder)
        plain = Wav2Vec2ForCTC.from_pretrained(folder)
        engine = load_model(folder, device="cpu", dtype=options.dtype)
        runs: dict[str, Callable[[], Any]] = {"engine": lambda: engine.logits(waveforms)}
        if engine.kernels != PLAIN:
            kept_as = "float32" if options.dtype == "int8" else options.dtype
            unchosen = InferenceModel(Wav2Vec2ForCTC.from_pretrained(folder, dtype=kept_as), options.dtype)
            runs["engine with plain kernels"] = lambda: unchosen.logits(waveforms)
        for name in filter(None, options.peers.split(",")):
            try:
                run = PEERS[name](folder, baseline)
            except UnavailableError as error:
                print(f"{name} {baseline}: left out, it {error}")
                continue
            runs[name] = lambda run=run: [run(waveform) for waveform in waveforms]
        if "transformers" in runs and options.mix:
            model = transformers_model(folder, baseline)
            runs["transformers, padded batches of 8"] = lambda: padded(model, waveforms)
    expected = plain_logits(plain, waveforms)
    seconds = sum(map(len, waveforms)) / RATE
    errors = {name: logit_error(run(), expected) for name, run in runs.items()}
    times = take_turns(runs, options.rounds, warmups=0)  # computing the errors was the warm-up
    longest = options.longest
    what = f"{options.mix} x {longest / 10:g} to {longest:g} s" if options.mix else f"1 x {options.seconds:g} s"
    print(f"{options.preset} {what}, {options.threads} thread(s), {options.rounds} rounds; {engine.summary()}")
    for name, spent in times.items():
        kind = options.dtype if name.startswith("engine") else baseline
        speed = f"{seconds / statistics.median(spent):.2f} s of audio per processor second, error {errors[name]:.1e}"
        beside = "" if name == "engine" else f"; {name} / engine = {ratio(times['engine'], spent)}"
        print(f"  {name} {kind}: {speed}{beside}")


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
