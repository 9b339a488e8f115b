"""Grouping recordings into batches."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

#: How far a length may be moved, as a share of it, before lengths are sorted for an epoch: so neighbours change.
_JITTER = 0.1
#: Distinguishes the kinds of draws from one seed: the last number of their entropy.
_ORDER_OF_EPOCH = 1


def similar_lengths(lengths: Sequence[int], limit: int, order: Sequence[int] | None = None) -> list[list[int]]:
    """Put recordings of similar length together, so that little is padded.

    Args:
        lengths: samples of each recording.
        limit: samples of a batch with its padding; a longer recording is a batch of its own.
        order: indices in the order in which batches are filled; the shortest first where ``None``.

    Returns:
        Indices into ``lengths``, in that order.
    """
    batches: list[list[int]] = []
    longest = 0
    for index in sorted(range(len(lengths)), key=lambda index: lengths[index]) if order is None else order:
        if batches and (len(batches[-1]) + 1) * max(longest, lengths[index]) <= limit:
            batches[-1].append(index)
            longest = max(longest, lengths[index])
        else:
            batches.append([index])
            longest = lengths[index]
    return batches


def epoch_steps(lengths: Sequence[int], limit: int, micro_limit: int, seed: int, epoch: int) -> list[list[list[int]]]:
    """The optimizer steps of an epoch, each a list of micro-batches; every recording is in one of them.

    Recordings of similar length share a micro-batch; micro-batches are shuffled, and as many as fit make a step. It is
    a function of its arguments, so no state has to be kept for it.

    Args:
        lengths: samples of each recording.
        limit: samples of a step, padding not counted; a longer micro-batch is a step of its own.
        micro_limit: samples of a micro-batch with its padding, to ``next_of_few`` samples.
        seed, epoch: of the order.

    Returns:
        Indices into ``lengths``.
    """
    generator = np.random.default_rng((seed, epoch, 0, 0, _ORDER_OF_EPOCH))
    moved = np.asarray(lengths, float) * generator.uniform(1 - _JITTER, 1 + _JITTER, len(lengths))
    order = [int(index) for index in np.argsort(moved, kind="stable")]
    buckets = similar_lengths([next_of_few(length) for length in lengths], min(limit, micro_limit), order)
    return _collected(buckets, lengths, limit, generator)


def equal_steps(lengths: Sequence[int], limit: int, micro_limit: int, seed: int, epoch: int) -> list[list[list[int]]]:
    """The same with micro-batches of exactly equal lengths, in a new order in each epoch; arguments as there."""
    generator = np.random.default_rng((seed, epoch, 0, 0, _ORDER_OF_EPOCH))
    groups: dict[int, list[int]] = {}
    for index in generator.permutation(len(lengths)):
        groups.setdefault(lengths[index], []).append(int(index))
    buckets: list[list[int]] = []
    for length, group in sorted(groups.items()):
        rows = max(1, min(limit, micro_limit) // length)
        buckets += [group[first : first + rows] for first in range(0, len(group), rows)]
    return _collected(buckets, lengths, limit, generator)


def _collected(
    buckets: Sequence[list[int]], lengths: Sequence[int], limit: int, generator: np.random.Generator
) -> list[list[list[int]]]:
    """Micro-batches in any order, as many in a step as fit into ``limit`` samples."""
    steps: list[list[list[int]]] = []
    filled = 0
    for number in generator.permutation(len(buckets)):
        bucket = buckets[number]
        samples = sum(lengths[index] for index in bucket)
        if steps and filled + samples <= limit:
            steps[-1].append(bucket)
            filled += samples
        else:
            steps.append([bucket])
            filled = samples
    return steps


def next_of_few(length: int) -> int:
    """The next larger of few lengths, at most an eighth longer: for frameworks that compile a step for every shape."""
    grid = 1 << max(0, length.bit_length() - 4)
    return -(-length // grid) * grid


def next_width(longest: int) -> int:
    """The next power of two from 16 on, for letters: a width of their own would double the shapes of batches, and
    padding of letters costs next to nothing.
    """
    return max(16, 1 << (longest - 1).bit_length())


def previous_of_few(length: int) -> int:
    """The next smaller of few lengths, at most an eighth shorter."""
    grid = 1 << max(0, length.bit_length() - 4)
    return length // grid * grid
