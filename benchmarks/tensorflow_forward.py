"""Base-size CTC on the CPU: wav2vec2_tf beside wav2vec2_torch in float32, same weights, same audio, one process.

    pip install -c constraints.txt -e ".[torch,tf]"
    python benchmarks/tensorflow_forward.py --seconds 10 --batch 1 --rounds 7

The two take turns; the figure is the median of the ratios of neighbouring runs (above 1: TensorFlow is faster).
"""

from __future__ import annotations

import argparse
import os
import statistics
from collections.abc import Callable

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
import torch
from side_by_side import ratio, take_turns

from wav2vec2_core.config import PRESETS, Wav2Vec2Config
from wav2vec2_tf import TFWav2Vec2ForCTC
from wav2vec2_tf.weights import fill_weights
from wav2vec2_torch import Wav2Vec2ForCTC
from wav2vec2_torch.weights import export_weights


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=PRESETS, default="base")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--xla", action="store_true", help="tf.function(jit_compile=True) instead of a plain graph")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    tf.config.threading.set_intra_op_parallelism_threads(options.threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)

    config = Wav2Vec2Config.preset(options.preset)
    torch_model = Wav2Vec2ForCTC(config).eval()
    tf_model = TFWav2Vec2ForCTC(config)
    fill_weights(tf_model, export_weights(torch_model).items())
    samples = int(options.seconds * 16_000)
    values = np.random.default_rng(0).standard_normal((options.batch, samples)).astype(np.float32)
    runs = {"tf": tensorflow_runner(tf_model, values, options.xla), "torch": torch_runner(torch_model, values)}
    left, right = runs["tf"](), runs["torch"]()
    print(f"largest logit difference, relative: {np.abs(left - right).max() / np.abs(right).max():.1e}")

    times = take_turns(runs, options.rounds)
    print(
        f"{options.preset} float32 {options.batch} x {options.seconds:g} s, {options.threads} thread(s), "
        f"{'XLA' if options.xla else 'graph'}: torch / tf = {ratio(times['tf'], times['torch'])} "
        f"({options.rounds} rounds, processor time; medians "
        f"{statistics.median(times['tf']):.2f} s and {statistics.median(times['torch']):.2f} s)"
    )


def torch_runner(model: Wav2Vec2ForCTC, values: np.ndarray) -> Callable[[], np.ndarray]:
    """One measured forward pass in PyTorch."""

    def run() -> np.ndarray:
        with torch.inference_mode():
            return model(torch.from_numpy(values)).logits.numpy()

    return run


def tensorflow_runner(model: TFWav2Vec2ForCTC, values: np.ndarray, xla: bool) -> Callable[[], np.ndarray]:
    """One measured forward pass in TensorFlow: a graph for any batch and length, or one that XLA compiled for these."""
    signature = None if xla else [tf.TensorSpec((None, None), tf.float32)]
    graph = tf.function(lambda x: model(x).logits, input_signature=signature, autograph=False, jit_compile=xla)
    return lambda: graph(tf.constant(values)).numpy()


if __name__ == "__main__":
    main()
