"""Recordings into batches."""

import numpy as np

from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.data import pad_batch, similar_lengths, unpad_scores


def test_batches_hold_similar_lengths_up_to_a_limit():
    lengths = [5, 100, 7, 40, 6, 45]
    assert similar_lengths(lengths, 90) == [[0, 4, 2], [3, 5], [1]]
    assert similar_lengths([], 90) == []


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
