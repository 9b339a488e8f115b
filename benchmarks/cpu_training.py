"""Parts of a training step on a processor beside PyTorch's own: ratios of processor time, and errors of gradients.

    python benchmarks/cpu_training.py             # about five minutes
    python benchmarks/cpu_training.py --rounds 9

Every line has its two sides in turn, in one process with one thread: above 1 this library is faster.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from unittest.mock import patch

import torch
from side_by_side import ratio, take_turns
from torch import Tensor, nn
from torch.nn import functional as F

from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_torch import block_attention, layers
from wav2vec2_torch.dropout import Dropout
from wav2vec2_torch.model import FeatureEncoder

SAMPLES = 160_000
DTYPES = (torch.float32, torch.bfloat16)
BASE = Wav2Vec2Config(masked_group_norm=True)
LARGE = Wav2Vec2Config(feat_extract_norm="layer", conv_bias=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    torch.manual_seed(0)
    for name, config in (("base", BASE), ("LARGE", LARGE)):
        for dtype in DTYPES:
            for trained in (False, True):
                title = f"feature encoder of {name}, 2 x 10 s, {'trained' if trained else 'frozen'}, {dtype}"
                print(title, speed(*feature_encoders(config, dtype, trained), rounds), flush=True)
    for shape in ((2, 12, 781, 64), (4, 16, 1000, 64)):
        for dtype in DTYPES:
            print(f"attention with dropout, {shape}, {dtype}", speed(*attentions(shape, dtype), rounds), flush=True)
    for dtype in DTYPES:
        print(f"dropout, 6248 x 768, {dtype}", speed(*dropouts(dtype), rounds), flush=True)
    for rows, features in ((1562, 768), (6248, 768), (124_544, 64)):
        here, there = (norm_error(kind, rows, features) for kind in (layers.LayerNorm, nn.LayerNorm))
        print(
            f"layer norm in bfloat16, {rows} x {features}: wrong share of the weight's gradient {here:.2%}, {there:.0%}"
        )


Run = Callable[[], object]


def feature_encoders(config: Wav2Vec2Config, dtype: torch.dtype, trained: bool) -> tuple[Run, Run]:
    """This library's, and the same with PyTorch's convolutions and norms."""
    model = FeatureEncoder(config).requires_grad_(trained)
    samples, lengths = torch.randn(2, SAMPLES), torch.tensor([SAMPLES, SAMPLES - 1000])

    def run() -> None:
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            features = model(samples, lengths)
        if trained:
            features.sum().backward()

    def plain() -> None:
        with (
            patch.object(layers.Conv1d, "_suits_channels_last", lambda *_: False),
            patch.object(layers.LayerNorm, "forward", nn.LayerNorm.forward),
        ):
            run()

    return run, plain


def attentions(shape: tuple[int, int, int, int], dtype: torch.dtype) -> tuple[Run, Run]:
    """In blocks and fused, forward and backward, with a dropout of 0.1."""
    rows, heads, frames, features = shape
    query, key, value = (torch.randn(rows, frames, heads, features, dtype=dtype, requires_grad=True) for _ in range(3))
    lengths = [frames] * rows

    def run(attend: Callable[..., Tensor]) -> None:
        attend(query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2)).sum().backward()

    return (
        lambda: run(lambda q, k, v: block_attention.attend(q, k, v, lengths, 0.1, 0)),
        lambda: run(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, dropout_p=0.1)),
    )


def dropouts(dtype: torch.dtype) -> tuple[Run, Run]:
    """Both, forward and backward."""
    x = torch.randn(6248, 768, dtype=dtype, requires_grad=True)
    return lambda: Dropout(0.1)(x).sum().backward(), lambda: nn.Dropout(0.1)(x).sum().backward()


def norm_error(kind: type[nn.LayerNorm], rows: int, features: int) -> float:
    """Relative error of the gradient of a weight in bfloat16."""
    x, gradient = torch.randn(rows, features), torch.randn(rows, features)

    def computed(dtype: torch.dtype) -> Tensor:
        norm = kind(features)
        norm(x.to(dtype)).backward(gradient.to(dtype))
        assert norm.weight.grad is not None
        return norm.weight.grad

    exact = computed(torch.float32)
    return float((computed(torch.bfloat16) - exact).norm() / exact.norm())


def speed(run: Run, other: Run, rounds: int) -> str:
    """How many times as fast the first is."""
    times = take_turns({"here": run, "PyTorch": other}, rounds, warmups=1)
    return ratio(times["here"], times["PyTorch"])


if __name__ == "__main__":
    main()
