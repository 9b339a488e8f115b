"""Which recordings share a batch."""

from __future__ import annotations

from collections.abc import Sequence


def similar_lengths(lengths: Sequence[int], limit: int) -> list[list[int]]:
    """Put recordings of similar length together, so that little is padded.

    Args:
        lengths: samples of each recording.
        limit: samples of a batch with its padding; a longer recording is a batch of its own.

    Returns:
        Indices into ``lengths``, the shortest recordings first.
    """
    batches: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda index: lengths[index]):  # so the newest is the longest
        if batches and (len(batches[-1]) + 1) * lengths[index] <= limit:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches
