"""Recordings into batches."""

from wav2vec2_core.data import similar_lengths


def test_batches_hold_similar_lengths_up_to_a_limit():
    lengths = [5, 100, 7, 40, 6, 45]
    assert similar_lengths(lengths, 90) == [[0, 4, 2], [3, 5], [1]]
    assert similar_lengths([], 90) == []
