"""What ``resize_vocabulary`` of a CTC model must do in every back end."""

import numpy as np

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
