"""Exported programs beside optimum's export of the same weights: same runtime, one process, processor time.

    pip install -c constraints.txt -e ".[torch,openvino]" transformers==4.57.6 optimum-onnx==0.1.0
    python benchmarks/exports.py                    # base, 10 s, one thread, ONNX Runtime and OpenVINO

Programs take turns; a figure is the median of the ratios of neighbouring runs, optimum's / ours: above 1 ours is
faster. Weights are random; the difference of the logits is relative to their standard deviation.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from side_by_side import ratio, take_turns

from wav2vec2_core.config import PRESETS, Wav2Vec2Config
from wav2vec2_core.exporting import export
from wav2vec2_core.transcription import EMBEDDED_MODEL
from wav2vec2_torch import Wav2Vec2ForCTC

Run = Callable[[np.ndarray], np.ndarray]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=PRESETS, default="base")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    waveform = np.random.default_rng(0).standard_normal(int(options.seconds * 16_000), np.float32)
    with tempfile.TemporaryDirectory() as work:
        programs = write_programs(Path(work), options.preset)
        for name, run_of in {"ONNX Runtime": onnxruntime, "OpenVINO": openvino}.items():
            # One runtime after the other: fewer programs of a large model in memory.
            runs = {who: run_of(path, options.threads) for who, path in programs[name].items()}
            logits = {who: run(waveform) for who, run in runs.items()}
            times = take_turns({who: lambda run=run: run(waveform) for who, run in runs.items()}, options.rounds)
            error = np.sqrt(np.mean((logits["ours"] - logits["optimum"]) ** 2)) / np.std(logits["optimum"])
            what = f"{options.preset}, {options.seconds:g} s, {options.threads} thread(s), {options.rounds} rounds"
            beside = f"optimum / ours = {ratio(times['ours'], times['optimum'])}"
            print(f"{what}, {name}: {beside}; logits differ by {error:.1e}", flush=True)


def write_programs(work: Path, preset: str) -> dict[str, dict[str, Path]]:
    """Runtime -> who exported -> the program."""
    from optimum.exporters.onnx import main_export

    torch.manual_seed(0)
    model = work / "model"
    Wav2Vec2ForCTC(Wav2Vec2Config.preset(preset, mask_time_prob=0.0)).save_pretrained(model)
    preprocessor = Path(EMBEDDED_MODEL) / "preprocessor_config.json"
    (model / preprocessor.name).write_bytes(preprocessor.read_bytes())
    main_export(str(model), work / "optimum", task="automatic-speech-recognition", do_validation=False)
    export(model, work / "onnx", "onnx")
    export(model, work / "openvino", "openvino")
    (ours,) = (work / "openvino").glob("*.xml")
    theirs = work / "optimum" / "model.onnx"
    return {
        "ONNX Runtime": {"ours": work / "onnx" / "model.onnx", "optimum": theirs},
        "OpenVINO": {"ours": ours, "optimum": theirs},
    }


def onnxruntime(path: Path, threads: int) -> Run:
    """A program in ONNX Runtime."""
    import onnxruntime as ort

    settings = ort.SessionOptions()
    settings.intra_op_num_threads = threads
    session: Any = ort.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
    return lambda waveform: session.run(["logits"], {"input_values": waveform[None]})[0]


def openvino(path: Path, threads: int) -> Run:
    """A program in OpenVINO, in float32."""
    import openvino as ov

    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
    compiled = ov.Core().compile_model(str(path), "CPU", settings)

    def run(waveform: np.ndarray) -> np.ndarray:
        inputs = {"input_values": waveform[None]}
        if len(compiled.inputs) > 1:
            inputs["attention_mask"] = np.ones((1, len(waveform)), np.int64)
        return compiled(inputs)["logits"]

    return run


if __name__ == "__main__":
    main()
