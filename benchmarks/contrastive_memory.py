"""The contrastive loss from a matrix of similarities beside the one with a vector for each distractor: time and memory.

    pip install -c constraints.txt -e ".[torch]"
    python benchmarks/contrastive_memory.py                       # 4 x 781 frames, 256 features, 100 distractors
    python benchmarks/contrastive_memory.py --rows 8 --device cuda

Loss and gradients of the same inputs in turns; memory is what the forward pass keeps for the backward pass, and on a
GPU the peak. The losses must agree to 1e-5.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
import torch
from side_by_side import ratio, take_turns
from torch import Tensor

from wav2vec2_core import masking
from wav2vec2_torch import losses

KAPPA = 0.1


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=4)
    parser.add_argument("--frames", type=int, default=781, help="of a crop: 781 of 250,000 samples")
    parser.add_argument("--features", type=int, default=256)
    parser.add_argument("--negatives", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(1)
    generator = np.random.default_rng(0)
    shape = options.rows, options.frames
    mask = masking.time_mask(
        [options.frames] * options.rows, options.frames, prob=0.65, length=10, min_masks=2, generator=generator
    )
    indices = masking.negative_indices(mask, options.negatives, generator)
    counts = masking.count_negatives(indices)
    place = lambda array: torch.from_numpy(array).to(options.device)  # noqa: E731
    codes = place(generator.integers(0, 320, (*shape, 2)))
    states = [place(generator.standard_normal((*shape, options.features), np.float32)) for _ in range(2)]
    for state in states:
        state.requires_grad_()
    mask, indices, counts = place(mask), place(indices), place(counts)

    def gathered() -> Tensor:
        chosen = indices.permute(2, 0, 1)
        negatives = states[1].flatten(0, 1)[chosen]
        logits = losses.contrastive_logits(states[1][None], negatives, states[0], KAPPA)
        return losses.contrastive_loss(logits, (codes == codes.flatten(0, 1)[chosen]).all(-1), mask)

    def compared() -> Tensor:
        similarity = losses.similarities(states[0], states[1], KAPPA)
        return losses.contrastive_loss_of_frames(similarity, losses.competitors(codes, counts), mask)

    runs: dict[str, Callable[[], Tensor]] = {"a vector for each distractor": gathered, "a matrix": compared}
    results = {name: differentiated(run, states) for name, run in runs.items()}
    (one, ones), (other, others) = results.values()
    assert abs(one / other - 1) < 1e-5
    assert all((a - b).abs().max() <= 1e-4 * a.abs().max() for a, b in zip(ones, others, strict=True))
    print(f"{options.rows} x {options.frames} frames, {options.features} features, {options.negatives} distractors")
    for name, run in runs.items():
        peak = "" if options.device == "cpu" else f", peak {peak_of(run, states, options.device) / 2**20:.0f} MiB"
        print(f"{name}: keeps {kept(run) / 2**20:.0f} MiB{peak}")
    times = take_turns(
        {name: lambda run=run: differentiated(run, states) for name, run in runs.items()}, options.rounds
    )
    print(f"a matrix is faster by {ratio(times['a matrix'], times['a vector for each distractor'])}")


def differentiated(run: Callable[[], Tensor], states: list[Tensor]) -> tuple[float, tuple[Tensor, ...]]:
    """The loss and its gradient by both states."""
    loss = run()
    gradients = torch.autograd.grad(loss, states)
    return loss.item(), gradients


def kept(run: Callable[[], Tensor]) -> int:
    """Bytes that the forward pass keeps, each storage once."""
    sizes: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = run()
    del loss
    return sum(sizes.values())


def peak_of(run: Callable[[], Tensor], states: list[Tensor], device: str) -> int:
    """Bytes allocated on a GPU at most, beside the inputs."""
    torch.cuda.synchronize(device)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    differentiated(run, states)
    return torch.cuda.max_memory_allocated(device) - before


if __name__ == "__main__":
    main()
