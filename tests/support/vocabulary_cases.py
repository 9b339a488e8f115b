"""What ``resize_vocabulary`` and the labels of a CTC model must do in every back end."""

import numpy as np
import pytest

from wav2vec2_core import Wav2Vec2CTCTokenizer
from wav2vec2_core.checkpoint import resize_head

OLD = Wav2Vec2CTCTokenizer.from_texts(["abcdef"])  # 11 tokens, as many as the tiny models have outputs


def check_resizing(model, logits):
    """``model``: tiny, with random parameters; ``logits``: its numpy logits of some waveform."""
    trainable = model.trainable_names() - {"lm_head.bias"}
    model.set_trainable(trainable)
    old = OLD
    for texts, size in ((["cabbage"], 10), (["edcba"], 10), (["xyz ABC"], 11)):
        new = Wav2Vec2CTCTokenizer.from_texts(texts)
        before = {name: array.copy() for name, array in model.arrays().items()}
        expected = resize_head(model.config, before, old, new, seed=5)
        assert model.resize_vocabulary(old, new, seed=5) == expected.kept
        assert model.config.vocab_size == model.wav2vec2.config.vocab_size == size == len(new)
        after = model.arrays()
        assert after.keys() == before.keys()
        for name, array in (before | expected.arrays).items():
            assert np.array_equal(after[name], array), name
        assert model.trainable_names() == trainable
        assert logits(model).shape[-1] == size
        old = new


def check_labels_are_warned_of(call):
    """``call(labels)``: a tiny model on three waveforms of 74 frames each, without ``ctc_zero_infinity``."""
    with pytest.warns(UserWarning, match="labels end with 0, the blank, which is counted as a letter"):
        call(np.array([[1, 2, 3], [1, 2, 0], [1, -100, -100]]))
    with pytest.warns(
        UserWarning, match="row 2 of labels has 38 letters and 37 blanks between equal ones for 74 frames"
    ):
        call(np.array([[1] * 37 + [2], [3] * 37 + [-100], [5] * 38]))
    call(np.array([[1, 0, 3], [1, 2, 1], [-100, -100, -100]]))
