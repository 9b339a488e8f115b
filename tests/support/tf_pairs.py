"""Pairs of one model in transformers (PyTorch) and in wav2vec2_tf with the same parameters, all of them random."""

import numpy as np
import tensorflow as tf
import torch
import transformers
from model_cases import MEASURES
from torch_pairs import TINY, copy_parameters, randomise, their_config

import wav2vec2_tf
import wav2vec2_torch
from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.weight_files.checkpoint import canonical_name
from wav2vec2_tf import layers
from wav2vec2_tf.weights import fill_weights


def make_pair(head, seed=0, **fields):
    """The transformers model in eval mode with random parameters, and ours with the same ones."""
    fields = {**TINY, **fields}
    theirs = getattr(transformers, f"Wav2Vec2{head}")(their_config(fields)).eval()
    randomise(theirs, seed)
    return theirs, tensorflow_model(theirs, head, fields)


def tensorflow_model(theirs, head, fields):
    values = {canonical_name(name): value.numpy().copy() for name, value in theirs.state_dict().items()}
    with layers.without_values():
        ours = getattr(wav2vec2_tf, f"TFWav2Vec2{head}")(Wav2Vec2Config(**fields))
    assert set(values) == set(ours.parameter_table())
    fill_weights(ours, values.items())
    return ours


def torch_model(theirs, head, fields):
    """Our PyTorch model with the same parameters, in eval mode."""
    ours = getattr(wav2vec2_torch, f"Wav2Vec2{head}")(Wav2Vec2Config(**{**TINY, **fields})).eval()
    copy_parameters(theirs, ours)
    return ours


def to_tf(call):
    """Arguments of a PyTorch call for TensorFlow."""
    return {name: tf.constant(value.numpy()) if torch.is_tensor(value) else value for name, value in call.items()}


def relative(ours, theirs):
    """Largest difference of a TensorFlow and a PyTorch tensor, relative to the largest value."""
    ours, theirs = ours.numpy(), theirs.detach().numpy()
    assert ours.shape == theirs.shape
    return float(np.abs(ours - theirs).max() / max(np.abs(theirs).max(), 1e-30))


def compare(ours, theirs, limit, skip=()):
    """Check that two outputs have the same fields and numbers."""
    assert list(ours)[: len(theirs)] == list(theirs)
    assert set(list(ours)[len(theirs) :]) <= MEASURES
    for name in theirs:
        if name in skip:
            continue
        mine, reference = ours[name], theirs[name]
        if torch.is_tensor(reference):
            mine, reference = (mine,), (reference,)
        assert len(mine) == len(reference), name
        for index, (one, other) in enumerate(zip(mine, reference, strict=True)):
            error = relative(one, other)
            assert error <= limit, f"{name}[{index}]: {error:.2e}"
