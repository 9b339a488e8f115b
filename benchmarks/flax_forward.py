"""Forward pass of a CTC model in JAX beside the PyTorch back end: same weights, same audio, one process.

    pip install -c constraints.txt -e ".[torch,flax]"
    python benchmarks/flax_forward.py --preset base --seconds 10 --batch 1 --rounds 11

The two take turns on the same processors; the figure is the median of the ratios of neighbouring runs (above 1: JAX is
faster).
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable

from side_by_side import ratio, take_turns


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="base")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--masked", action="store_true", help="with an attention mask, as transcribing does")
    parser.add_argument("--clock", choices=("processor", "wall"), default="processor")
    options = parser.parse_args()
    # Both libraries size their thread pools by this; it must be set before they are imported.
    os.sched_setaffinity(0, set(sorted(os.sched_getaffinity(0))[: options.threads]))
    runs = runners(options)
    clock = time.process_time if options.clock == "processor" else time.perf_counter
    times = take_turns(runs, options.rounds, clock=clock)
    seconds = {name: statistics.median(values) for name, values in times.items()}
    print(
        f"{options.preset} {options.dtype} {options.batch} x {options.seconds:g} s, {options.threads} thread(s), "
        f"forward{' with mask' if options.masked else ''}: torch / flax = {ratio(times['flax'], times['torch'])} "
        f"({options.rounds} rounds, {options.clock} time; "
        f"torch {seconds['torch']:.2f} s, flax {seconds['flax']:.2f} s)"
    )


def runners(options: argparse.Namespace) -> dict[str, Callable[[], object]]:
    """One forward pass of each library."""
    import jax
    import numpy as np
    import torch

    import wav2vec2_flax
    import wav2vec2_torch
    from wav2vec2_core.config import Wav2Vec2Config

    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        config = Wav2Vec2Config.preset(options.preset, masked_group_norm=options.masked)
        wav2vec2_torch.Wav2Vec2ForCTC(config).save_pretrained(folder)
        left = wav2vec2_torch.Wav2Vec2ForCTC.from_pretrained(folder, dtype=options.dtype)
        right = wav2vec2_flax.FlaxWav2Vec2ForCTC.from_pretrained(folder, dtype=options.dtype, param_dtype=options.dtype)
    values = np.random.default_rng(0).standard_normal((options.batch, int(options.seconds * 16_000))).astype(np.float32)
    mask = np.ones(values.shape, np.int32) if options.masked else None
    step = jax.jit(lambda model, values, mask: model(values, mask).logits)

    def run_flax() -> np.ndarray:
        return np.asarray(step(right, values, mask))

    @torch.inference_mode()
    def run_torch() -> np.ndarray:
        logits = left(torch.from_numpy(values), None if mask is None else torch.from_numpy(mask)).logits
        return logits.float().numpy()

    ours, theirs = run_flax().astype(np.float32), run_torch()
    print(f"largest logit difference, relative: {np.abs(ours - theirs).max() / np.abs(theirs).max():.1e}")
    return {"flax": run_flax, "torch": run_torch}


if __name__ == "__main__":
    main()
