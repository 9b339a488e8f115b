"""Forward pass of a CTC model: this library beside transformers, same weights, same audio, one process.

    pip install -c constraints.txt -e ".[torch]" transformers==4.57.6
    python benchmarks/forward.py --preset base --seconds 10 --batch 1 --rounds 15

The two take turns; the figure is the median of the ratios of neighbouring runs (above 1: this library is faster).
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable

import torch
import transformers
from side_by_side import ratio, take_turns

from wav2vec2_core.config import PRESETS, Wav2Vec2Config
from wav2vec2_torch import Wav2Vec2ForCTC


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=PRESETS, default="base")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--train", action="store_true", help="forward, CTC loss and backward instead of forward")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)

    dtype = getattr(torch, options.dtype)
    with tempfile.TemporaryDirectory() as folder:
        # No masks, dropout or layer drop: both sides do the same work.
        config = Wav2Vec2Config.preset(options.preset, mask_time_prob=0.0, layerdrop=0.0)
        Wav2Vec2ForCTC(config).save_pretrained(folder)
        ours = Wav2Vec2ForCTC.from_pretrained(folder, dtype=dtype)
        theirs = transformers.Wav2Vec2ForCTC.from_pretrained(folder, dtype=dtype).eval()
    ours.train(options.train)
    theirs.train(options.train)

    values = torch.randn(options.batch, int(options.seconds * 16_000), dtype=dtype)
    labels = torch.randint(1, config.vocab_size, (options.batch, 20))
    runs = {name: runner(model, values, labels, options.train) for name, model in (("ours", ours), ("theirs", theirs))}
    if not options.train:
        with torch.inference_mode():
            left, right = ours(values).logits.float(), theirs(values).logits.float()
        print(f"largest logit difference, relative: {((left - right).abs().max() / right.abs().max()).item():.1e}")
    times = take_turns(runs, options.rounds)
    print(
        f"{options.preset} {options.dtype} {options.batch} x {options.seconds:g} s, {options.threads} thread(s), "
        f"{'training step' if options.train else 'forward'}: "
        f"transformers / ours = {ratio(times['ours'], times['theirs'])} ({options.rounds} rounds, processor time)"
    )


def runner(model: torch.nn.Module, values: torch.Tensor, labels: torch.Tensor, train: bool) -> Callable[[], None]:
    """One measured step of a model."""

    def forward() -> None:
        with torch.inference_mode():
            model(values)

    def step() -> None:
        model.zero_grad()
        model(values, labels=labels).loss.backward()

    return step if train else forward


if __name__ == "__main__":
    main()
