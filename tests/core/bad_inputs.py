"""THE table of mistakes in a model call, with the message that every back end gives for each.

A row: name, head, fields of the configuration beside ``TINY``, arguments of the call as numpy arrays, error class and
message (a regular expression). ``training`` among the arguments asks for training mode.
"""

import numpy as np

from wav2vec2_core.errors import ConfigError, InputError

TINY = {
    "vocab_size": 11, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 40,
    "conv_dim": (16, 20, 24), "conv_kernel": (10, 3, 2), "conv_stride": (5, 2, 2), "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4, "num_codevectors_per_group": 8, "codevector_dim": 16, "proj_codevector_dim": 12,
    "classifier_proj_size": 14, "num_labels": 5, "tdnn_dim": (18, 18, 20), "tdnn_kernel": (3, 2, 1),
    "tdnn_dilation": (1, 2, 1), "xvector_output_dim": 10, "mask_time_length": 4,
}  # fmt: skip
FRAMES, SAMPLES = 74, 1500
HEADS_WITH_LABELS = ("ForSequenceClassification", "ForXVector")


def waveforms(batch=3, samples=SAMPLES):
    return np.random.default_rng(1).standard_normal((batch, samples)).astype(np.float32)


def zeros(*shape, dtype=np.float32):
    return np.zeros(shape, dtype)


def mask(*shape):
    return np.ones(shape, bool)


def _short_row():
    rows = np.ones((3, SAMPLES), np.int32)
    rows[1, 20:] = 0
    return rows


_VALUES = {"input_values": waveforms()}
_RELEASED = {
    "conv_dim": (8,) * 7,
    "conv_kernel": (10, 3, 3, 3, 3, 2, 2),
    "conv_stride": (5, 2, 2, 2, 2, 2, 2),
}
CALLS = [
    ("no samples", "ForCTC", {}, {"input_values": zeros(2, 0)}, InputError,
     r"input_values has 0 samples, one frame sees 30: pad with zeros"),
    ("too few samples", "ForXVector", {}, {"input_values": zeros(2, 29)}, InputError,
     r"input_values has 29 samples, one frame sees 30"),
    ("no utterance", "ForCTC", {}, {"input_values": zeros(0, 400)}, InputError,
     r"input_values has shape \(0, 400\): give at least one utterance"),
    ("rank 1", "ForPreTraining", {}, {"input_values": zeros(400)}, InputError,
     r"input_values has shape \(400,\), it must be \(batch, samples\)"),
    ("rank 3", "Model", {}, {"input_values": zeros(1, 1, 400)}, InputError,
     r"input_values has shape \(1, 1, 400\), it must be \(batch, samples\)"),
    ("399 samples", "Model", _RELEASED, {"input_values": zeros(1, 399)}, InputError,
     "has 399 samples, one frame sees 400"),
    ("mask of frames", "ForCTC", {}, {**_VALUES, "attention_mask": mask(3, FRAMES)}, InputError,
     r"attention_mask has shape \(3, 74\), input_values has \(3, 1500\)"),
    ("short row", "ForCTC", {}, {**_VALUES, "attention_mask": _short_row()}, InputError,
     "attention_mask has a row with 20 samples, one frame sees 30"),
    ("time mask", "Model", {}, {**_VALUES, "mask_time_indices": mask(3, 73)}, InputError,
     r"mask_time_indices has shape \(3, 73\), it must be \(3, 74\)"),
    ("feature mask", "ForCTC", {}, {**_VALUES, "mask_feature_indices": mask(3, FRAMES)}, InputError,
     r"mask_feature_indices has shape \(3, 74\), it must be \(3, 32\)"),
    ("layer keep", "ForCTC", {}, {**_VALUES, "layer_keep": mask(3)}, InputError,
     r"layer_keep has shape \(3,\), it must be \(2,\), \(layers,\)"),
    ("gumbel noise", "ForPreTraining", {}, {**_VALUES, "gumbel_noise": zeros(2, 8), "training": True}, InputError,
     r"gumbel_noise has shape \(2, 8\), it must be \(3, 74, 2, 8\)"),
    ("no mask embedding", "Model", {"mask_time_prob": 0.0}, {**_VALUES, "mask_time_indices": mask(3, FRAMES)},
     InputError, "such a model has no mask embedding"),
    ("large letter", "ForCTC", {}, {**_VALUES, "labels": np.array([[1, 11], [1, 2], [1, -100]])}, InputError,
     "labels hold the value 11, the limit is 10: use the model's tokenizer"),
    ("labels of two", "ForCTC", {}, {**_VALUES, "labels": np.ones((2, 4), np.int64)}, InputError,
     r"labels has shape \(2, 4\), it must be \(3, 4\)"),
    *((f"large class {head}", head, {}, {**_VALUES, "labels": np.array([1, 5, 0])}, InputError,
       "labels hold the value 5, the limit is 4: set num_labels") for head in HEADS_WITH_LABELS),
    ("frame labels", "ForAudioFrameClassification", {}, {**_VALUES, "labels": zeros(3, FRAMES, dtype=np.int64)},
     InputError, r"labels has shape \(3, 74\), it must be \(3, 74, 5\)"),
    ("no blank", "ForCTC", {"pad_token_id": None}, {**_VALUES, "labels": np.ones((3, 4), np.int64)}, ConfigError,
     "pad_token_id=None is the blank of the CTC loss"),
    ("large blank", "ForCTC", {"pad_token_id": 11}, {**_VALUES, "labels": np.ones((3, 4), np.int64)}, ConfigError,
     "pad_token_id=11 is the blank of the CTC loss: .*, below vocab_size=11"),
    ("one label", "ForCTC", {}, {**_VALUES, "labels": np.array(1)}, InputError,
     r"labels has shape \(\), it must be \(3, 0\), \(batch, letters\)"),
    ("no masked frames", "ForPreTraining", {},
     {**_VALUES, "sampled_negative_indices": zeros(3, FRAMES, 4, dtype=np.int64)}, InputError,
     "without mask_time_indices"),
    ("negatives", "ForPreTraining", {},
     {**_VALUES, "mask_time_indices": mask(3, FRAMES), "sampled_negative_indices": zeros(3, 9, 4, dtype=np.int64)},
     InputError, r"sampled_negative_indices has shape \(3, 9, 4\), it must be \(3, 74, 4\)"),
    ("adapter", "ForPreTraining", {"add_adapter": True},
     {**_VALUES, "mask_time_indices": mask(3, FRAMES), "sampled_negative_indices": zeros(3, FRAMES, 4, dtype=np.int64)},
     InputError, "the adapter shortens 74 frames to 10, .*: pretrain with add_adapter=False"),
    ("short x-vector", "ForXVector", {}, {"input_values": waveforms(1, 115)}, InputError,
     "has 5 frames, the x-vector network needs 6"),
]  # fmt: skip

#: name, head, fields of the configuration, message: refused when the model is made.
CONSTRUCTIONS = [
    ("wide adapter", "ForPreTraining", {"add_adapter": True, "output_hidden_size": 28},
     r"output_hidden_size=28 .* differs from hidden_size=32"),
    ("wide adapter", "ForXVector", {"add_adapter": True, "output_hidden_size": 28},
     r"output_hidden_size=28 .* differs from hidden_size=32"),
    ("adapter", "ForSequenceClassification", {"add_adapter": True},
     "add_adapter=True does not work with ForSequenceClassification"),
    ("adapter", "ForAudioFrameClassification", {"add_adapter": True},
     "add_adapter=True does not work with ForAudioFrameClassification"),
]  # fmt: skip
