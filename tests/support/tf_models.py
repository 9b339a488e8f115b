"""Small models for the tests of the TensorFlow back end, every parameter random."""

import itertools

import keras
import numpy as np
import tensorflow as tf

import wav2vec2_tf
from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.errors import ConfigError
from wav2vec2_core.parameters import HEADS, parameter_table
from wav2vec2_tf import layers
from wav2vec2_tf.weights import fill_weights

TINY = {
    "vocab_size": 11, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 40,
    "conv_dim": (16, 20, 24), "conv_kernel": (10, 3, 2), "conv_stride": (5, 2, 2), "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4, "num_codevectors_per_group": 8, "codevector_dim": 16, "proj_codevector_dim": 12,
    "classifier_proj_size": 14, "num_labels": 5, "tdnn_dim": (18, 18, 20), "tdnn_kernel": (3, 2, 1),
    "tdnn_dilation": (1, 2, 1), "xvector_output_dim": 10, "mask_time_length": 4,
}  # fmt: skip
QUIET = {
    "hidden_dropout": 0.0, "activation_dropout": 0.0, "attention_dropout": 0.0, "feat_proj_dropout": 0.0,
    "feat_quantizer_dropout": 0.0, "final_dropout": 0.0, "layerdrop": 0.0,
}  # fmt: skip
NORMS = {
    f"{feature}-{'pre' if stable else 'post'}": {"feat_extract_norm": feature, "do_stable_layer_norm": stable}
    for feature, stable in itertools.product(("group", "layer"), (False, True))
}
VARIANTS = {
    "plain": {"conv_bias": True},
    "adapter": {"add_adapter": True, "num_adapter_layers": 2},
    "wide-adapter": {"add_adapter": True, "num_adapter_layers": 1, "adapter_stride": 3, "adapter_kernel_size": 4,
                     "output_hidden_size": 28},
    "attention-adapters": {"adapter_attn_dim": 6},
    "weighted-sum": {"use_weighted_layer_sum": True},
}  # fmt: skip
FRAMES = 74
SAMPLES = 1500
LENGTHS = (1500, 1203, 700)


def model_class(head):
    return getattr(wav2vec2_tf, f"TFWav2Vec2{head}")


def tiny(head="Model", seed=0, dtype=None, **fields):
    """A model with random biases, norms and gains."""
    config = Wav2Vec2Config(**{**TINY, **fields})
    keras.utils.set_random_seed(seed)
    with layers.without_values():
        model = model_class(head)(config, dtype=dtype)
    fill_weights(model, random_values(config, head, seed))
    return model


def random_values(config, head, seed=0):
    """(name, array) of every parameter: the first values and noise on top of them."""
    from wav2vec2_core.parameters import initial_values

    generator = np.random.default_rng(seed)
    for name, array in initial_values(parameter_table(config, head), seed):
        yield name, array + np.float32(0.2) * generator.standard_normal(array.shape, np.float32)


def legal_models():
    """(head, fields) of every head, norm and variant that go together."""
    for head, norm, variant in itertools.product(HEADS, NORMS, VARIANTS):
        fields = {**NORMS[norm], **VARIANTS[variant]}
        try:
            with layers.without_values():
                model_class(head)(Wav2Vec2Config(**{**TINY, **fields}))
        except ConfigError:
            continue
        yield head, norm, variant


def waveforms(batch=3, samples=SAMPLES, seed=1):
    return np.random.default_rng(seed).standard_normal((batch, samples)).astype(np.float32)


def padded(lengths=LENGTHS, rubbish=0.0):
    mask = (np.arange(max(lengths)) < np.array(lengths)[:, None]).astype(np.int32)
    return (waveforms(len(lengths), max(lengths)) * mask + np.float32(rubbish) * (1 - mask)).astype(np.float32), mask


def relative(ours, theirs):
    """Largest difference, relative to the largest value."""
    ours, theirs = np.asarray(tf.cast(ours, tf.float32)), np.asarray(tf.cast(theirs, tf.float32))
    assert ours.shape == theirs.shape
    return float(np.abs(ours - theirs).max() / max(np.abs(theirs).max(), 1e-30))


def assert_same(output, expected, limit=1e-5):
    """The same class, fields and numbers."""
    assert list(output) == list(expected)
    for name, value in expected.items():
        pairs = [(output[name], value)] if tf.is_tensor(value) else zip(output[name], value, strict=True)
        for one, other in pairs:
            assert relative(one, other) <= limit, name
