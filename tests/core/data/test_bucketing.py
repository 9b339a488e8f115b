"""Recordings into batches."""

import numpy as np
import pytest

from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.data import pad_batch, similar_lengths, unpad_scores
from wav2vec2_core.data.bucketing import epoch_steps, next_of_few


def test_batches_hold_similar_lengths_up_to_a_limit():
    lengths = [5, 100, 7, 40, 6, 45]
    assert similar_lengths(lengths, 90) == [[0, 4, 2], [3, 5], [1]]
    assert similar_lengths([], 90) == []


def test_batches_are_filled_in_a_given_order_and_the_longest_counts():
    assert similar_lengths([40, 5, 40, 5], 90, order=[0, 1, 3, 2]) == [[0, 1], [3, 2]]


@pytest.mark.parametrize("epoch", range(3))
def test_an_epoch_has_every_recording_once_in_steps_and_micro_batches_that_fit(epoch):
    lengths = np.random.default_rng(0).integers(1_000, 20_000, 200).tolist()
    steps = epoch_steps(lengths, 200_000, 50_000, 7, epoch)
    assert sorted(index for step in steps for bucket in step for index in bucket) == list(range(200))
    assert max(len(step) for step in steps) > 1
    for step in steps:
        assert sum(lengths[index] for bucket in step for index in bucket) <= 200_000
        for bucket in step:
            longest, shortest = (which(lengths[index] for index in bucket) for which in (max, min))
            assert len(bucket) * next_of_few(longest) <= 50_000
            assert longest < 4 * shortest  # of lengths that differ by 20 times


def test_an_epoch_is_a_function_of_seed_and_number():
    lengths = list(range(1_000, 3_000, 10))
    first = epoch_steps(lengths, 40_000, 10_000, 7, 0)
    assert first == epoch_steps(lengths, 40_000, 10_000, 7, 0)
    for seed, epoch in ((7, 1), (8, 0)):
        other = epoch_steps(lengths, 40_000, 10_000, seed, epoch)
        assert other != first
        # Other neighbours too, not only another order of the same batches.
        assert {tuple(sorted(bucket)) for step in other for bucket in step} != {
            tuple(sorted(bucket)) for step in first for bucket in step
        }


def test_few_lengths_are_at_most_an_eighth_too_long():
    lengths = range(1, 500_000, 7)
    few = [next_of_few(length) for length in lengths]
    assert all(length <= padded for length, padded in zip(lengths, few, strict=True))
    assert max(padded / length for length, padded in zip(lengths, few, strict=True)) <= 1.125
    assert len({padded for padded in few if padded > 16_000}) < 50


def test_padding_and_what_is_left_of_it():
    waveforms = [np.full(400, 2.0, np.float32), np.full(1040, 3.0, np.float32)]
    values, mask = pad_batch(waveforms, 4, 2000)
    assert values.shape == mask.shape == (4, 2000)
    assert (values.dtype, mask.dtype) == (np.float32, np.int32)
    assert mask.sum(1).tolist() == [400, 1040, 2000, 2000]  # rows that fill up the batch are valid silence
    assert values.sum(1).tolist() == [800, 3120, 0, 0]
    scores = np.arange(4 * 5 * 2).reshape(4, 5, 2)
    first, second = unpad_scores(scores, waveforms, Wav2Vec2Config())
    assert np.array_equal(first, scores[0, :1])
    assert np.array_equal(second, scores[1, :3])
    assert np.array_equal(unpad_scores(scores[:, 0], waveforms, Wav2Vec2Config()), scores[:2, 0])
