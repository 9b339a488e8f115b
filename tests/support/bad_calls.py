"""Calls that cannot work, as data: one table for every back end, which must answer each in the same words."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from model_cases import FRAMES, SAMPLES

from wav2vec2_core.errors import ConfigError, InputError
from wav2vec2_core.parameters import HEADS


@dataclass(frozen=True)
class BadCall:
    """A call of a tiny model (or its construction, where ``call`` is None), and the error it must raise."""

    name: str
    head: str
    message: str
    call: dict[str, Any] | None = None
    fields: dict[str, Any] = field(default_factory=dict)
    train: bool = False
    error: type[Exception] = InputError


def zeros(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.int64)


def ones(*shape: int) -> np.ndarray:
    return np.ones(shape, np.int64)


VALUES = np.random.default_rng(0).standard_normal((3, SAMPLES)).astype(np.float32)
SHORT_ROW = ones(3, SAMPLES)
SHORT_ROW[1, 20:] = 0
WAVES = {
    "no samples": ((2, 0), r"input_values has 0 samples, one frame sees 30: pad with zeros"),
    "too short": ((2, 29), r"input_values has 29 samples, one frame sees 30"),
    "no rows": ((0, 400), r"input_values has shape \(0, 400\): give at least one utterance"),
    "one dimension": ((400,), r"input_values has shape \(400,\), it must be \(batch, samples\)"),
    "three dimensions": ((1, 1, 400), r"input_values has shape \(1, 1, 400\), it must be \(batch, samples\)"),
}


def values_and(**others: Any) -> dict[str, Any]:
    return {"input_values": VALUES, **others}


WITH_MASK = {"mask_time_indices": ones(3, FRAMES).astype(bool)}
NEGATIVES = zeros(3, FRAMES, 4)
OWN_NEGATIVES = NEGATIVES + FRAMES * np.arange(3)[:, None, None]
ENDING_EARLY = ones(3, SAMPLES)
ENDING_EARLY[1, 700:] = 0  # 34 frames
EARLY_FRAMES = ones(3, FRAMES).astype(bool)
EARLY_FRAMES[1, 34:] = False
PADDING = NEGATIVES.copy()
PADDING[0] += 73
PADDING[1] += FRAMES + 34
COUNTS = zeros(3, FRAMES, FRAMES)
COUNTS[:, :, 34] = 4
BAD_CALLS = [
    *(
        BadCall(f"{name}, {head}", head, message, {"input_values": np.zeros(shape, np.float32)})
        for head in HEADS
        for name, (shape, message) in WAVES.items()
    ),
    BadCall("mask of frames", "Model", r"attention_mask has shape \(3, 74\), input_values has \(3, 1500\)",
            values_and(attention_mask=ones(3, FRAMES))),
    BadCall("short row", "Model", "attention_mask has a row with 20 samples, one frame sees 30",
            values_and(attention_mask=SHORT_ROW)),
    BadCall("time mask", "Model", r"mask_time_indices has shape \(3, 73\), it must be \(3, 74\)",
            values_and(mask_time_indices=zeros(3, 73).astype(bool))),
    BadCall("feature mask", "Model", r"mask_feature_indices has shape \(3, 74\), it must be \(3, 32\)",
            values_and(mask_feature_indices=zeros(3, FRAMES).astype(bool))),
    BadCall("layer keep", "Model", r"layer_keep has shape \(3,\), it must be \(2,\), \(layers,\)",
            values_and(layer_keep=ones(3).astype(bool))),
    BadCall("noise", "ForPreTraining", r"gumbel_noise has shape \(2, 8\), it must be \(3, 74, 2, 8\)",
            values_and(gumbel_noise=np.zeros((2, 8), np.float32)), train=True),
    BadCall("no mask embedding", "Model", "such a model has no mask embedding",
            values_and(**WITH_MASK), {"mask_time_prob": 0.0}),
    BadCall("letter", "ForCTC", "labels hold the value 11, the limit is 10: use the model's tokenizer",
            values_and(labels=np.array([[1, 11], [1, 2], [1, -100]]))),
    *(
        BadCall(f"labels {shape}", "ForCTC", r"labels has shape .* it must be \(3,.*\(batch, letters\)",
                values_and(labels=ones(*shape)))
        for shape in ((2, 4), (3,), (), (3, 4, 1))
    ),
    *(
        BadCall(f"blank {blank}", "ForCTC", rf"pad_token_id={blank} is the blank of the CTC loss",
                values_and(labels=ones(3, 4)), {"pad_token_id": blank}, error=ConfigError)
        for blank in (None, 11, -1)
    ),
    *(
        BadCall(f"class, {head}", head, "labels hold the value 5, the limit is 4: set num_labels",
                values_and(labels=np.array([1, 5, 0])))
        for head in ("ForSequenceClassification", "ForXVector")
    ),
    BadCall("frame labels", "ForAudioFrameClassification", r"labels has shape \(3, 74\), it must be \(3, 74, 5\)",
            values_and(labels=zeros(3, FRAMES))),
    BadCall("negatives alone", "ForPreTraining", "without mask_time_indices",
            values_and(sampled_negative_indices=NEGATIVES)),
    BadCall("negatives", "ForPreTraining", r"sampled_negative_indices has shape \(3, 9, 4\), it must be \(3, 74, 4\)",
            values_and(**WITH_MASK, sampled_negative_indices=NEGATIVES[:, :9])),
    BadCall("negatives twice", "ForPreTraining", "sampled_negative_indices and sampled_negative_counts say the same",
            values_and(**WITH_MASK, sampled_negative_indices=OWN_NEGATIVES, sampled_negative_counts=COUNTS)),
    BadCall("counts", "ForPreTraining", r"sampled_negative_counts has shape \(3, 74, 4\), it must be \(3, 74, 74\)",
            values_and(**WITH_MASK, sampled_negative_counts=NEGATIVES)),
    BadCall("negatives of another utterance", "ForPreTraining",
            "sampled_negative_indices holds 0 for frame 0 of utterance 1, whose frames are 74 to 147: draw distractors",
            values_and(**WITH_MASK, sampled_negative_indices=NEGATIVES)),
    BadCall("masked padding", "ForPreTraining",
            "mask_time_indices masks frame 34 of utterance 1, which has 34 frames: mask no padding",
            values_and(attention_mask=ENDING_EARLY, **WITH_MASK, sampled_negative_indices=OWN_NEGATIVES)),
    BadCall("negatives in padding", "ForPreTraining",
            "sampled_negative_indices holds 108 for frame 0 of utterance 1, whose frames are 74 to 107: draw",
            values_and(attention_mask=ENDING_EARLY, mask_time_indices=EARLY_FRAMES, sampled_negative_indices=PADDING)),
    BadCall("counts in padding", "ForPreTraining",
            "sampled_negative_counts counts frame 34 for frame 0 of utterance 1, which has 34 frames: draw distractors",
            values_and(attention_mask=ENDING_EARLY, mask_time_indices=EARLY_FRAMES, sampled_negative_counts=COUNTS)),
    BadCall("pretraining without masks", "ForPreTraining", "apply_spec_augment=False leaves masked frames as they are",
            values_and(**WITH_MASK, sampled_negative_indices=OWN_NEGATIVES), {"apply_spec_augment": False}),
    BadCall("pretraining with adapter", "ForPreTraining", "pretrain with add_adapter=False",
            values_and(**WITH_MASK, sampled_negative_indices=NEGATIVES), {"add_adapter": True}),
    BadCall("short x-vector", "ForXVector", "has 5 frames, the x-vector network needs 6",
            {"input_values": VALUES[:1, :115]}),
    BadCall("adapter of another width", "ForPreTraining", r"output_hidden_size=28 .* differs from hidden_size=32",
            fields={"add_adapter": True, "output_hidden_size": 28}, error=ConfigError),
    BadCall("x-vector of another width", "ForXVector", r"output_hidden_size=28 .* differs from hidden_size=32",
            fields={"add_adapter": True, "output_hidden_size": 28}, error=ConfigError),
    BadCall("classifier with adapter", "ForSequenceClassification",
            "add_adapter=True does not work with ForSequenceClassification",
            fields={"add_adapter": True}, error=ConfigError),
    BadCall("frame classifier with adapter", "ForAudioFrameClassification",
            "add_adapter=True does not work with ForAudioFrameClassification",
            fields={"add_adapter": True}, error=ConfigError),
]  # fmt: skip
