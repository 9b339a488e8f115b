"""Checks of a model call's arguments, so that every back end raises the same one-line errors."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.errors import InputError

#: Arguments that hold the distractors of pretraining; a call has one of them.
DISTRACTORS = ("sampled_negative_indices", "sampled_negative_counts")


def check_waveforms(config: Wav2Vec2Config, shape: Sequence[int], mask_shape: Sequence[int] | None = None) -> None:
    """Check the shapes of ``input_values`` (batch, samples) and ``attention_mask`` (batch, samples).

    Raises:
        InputError: wrong rank, an empty batch, fewer samples than the receptive field, or a mask of another shape.
    """
    if len(shape) != 2:
        raise InputError(
            f"input_values has shape {_text(shape)}, it must be (batch, samples): "
            "add or remove dimensions, one row for each utterance"
        )
    if shape[0] == 0:
        raise InputError(f"input_values has shape {_text(shape)}: give at least one utterance")
    if shape[1] < config.receptive_field:
        raise InputError(
            f"input_values has {shape[1]} samples, one frame sees {config.receptive_field}: pad with zeros to at least "
            "that many or leave the utterance out"
        )
    if mask_shape is not None and tuple(mask_shape) != tuple(shape):
        raise InputError(
            f"attention_mask has shape {_text(mask_shape)}, input_values has {_text(shape)}: both must be "
            "(batch, samples), as the feature extractor returns them"
        )


def check_shortest(config: Wav2Vec2Config, samples: int) -> None:
    """Check the valid samples of the shortest row of a mask. Raises ``InputError`` if they are fewer than the receptive
    field.
    """
    if samples < config.receptive_field:
        raise InputError(
            f"attention_mask has a row with {samples} samples, one frame sees {config.receptive_field}: "
            "leave that utterance out or pad it with zeros and mark them as valid"
        )


def shortest_waveform(config: Wav2Vec2Config, head: str, frames: int = 1) -> int:
    """Samples that a waveform must have: those of ``frames`` frames, or of as many as the x-vector network needs."""
    if head == "ForXVector":
        lost = sum(d * (k - 1) for d, k in zip(config.tdnn_dilation, config.tdnn_kernel, strict=True))
        frames = max(frames, lost + 2)
    samples = config.receptive_field + (frames - 1) * config.inputs_to_logits_ratio
    while config.num_frames(samples) < frames:  # an adapter shortens further
        samples += config.inputs_to_logits_ratio
    return samples


def check_shape(name: str, shape: Sequence[int], expected: Sequence[int], meaning: str) -> None:
    """Check the shape of any other argument; ``meaning`` names its dimensions. Raises ``InputError``."""
    if tuple(shape) != tuple(expected):
        raise InputError(f"{name} has shape {_text(shape)}, it must be {_text(expected)}, {meaning}")


def check_features(config: Wav2Vec2Config, shape: Sequence[int]) -> None:
    """Check the shape of one utterance's encoder frames, (frames, conv_dim[-1]). Raises ``InputError``."""
    frames = shape[0] if shape else 0
    check_shape("features", shape, (max(frames, 1), config.conv_dim[-1]), "(frames, conv_dim[-1])")


def check_pretraining(config: Wav2Vec2Config, names: Collection[str]) -> bool:
    """Whether a call of a pretraining model with arguments of these ``names`` has losses: where it has distractors.

    Raises:
        InputError: they are given twice or without ``mask_time_indices``, or the configuration masks nothing.
    """
    distractors = [name for name in DISTRACTORS if name in names]
    if len(distractors) > 1:
        raise InputError(f"{' and '.join(distractors)} say the same: give one of them")
    if distractors and "mask_time_indices" not in names:
        raise InputError(f"{distractors[0]} is given without mask_time_indices: the losses need both")
    if distractors and not config.apply_spec_augment:
        raise InputError(
            "apply_spec_augment=False leaves masked frames as they are, so the model would see what it must predict: "
            "pretrain with apply_spec_augment=True"
        )
    return bool(distractors)


def check_draws(config: Wav2Vec2Config, draws: Mapping[str, np.ndarray], samples: np.ndarray | None) -> None:
    """Check that the losses of pretraining see no padding, and that distractors are of the same utterance.

    Args:
        config: of the model.
        draws: ``mask_time_indices`` (batch, frames) bool, True where masked, and one of ``sampled_negative_indices``
            (batch, frames, negatives), positions in the flattened (batch * frames) axis, and
            ``sampled_negative_counts`` (batch, frames, frames). Those of frames that are not masked may be anything.
        samples: (batch,) valid samples of each utterance; None for all.

    Raises:
        InputError: a masked frame or one of its distractors is padding, or of another utterance.
    """
    mask = np.asarray(draws["mask_time_indices"], bool)
    batch, width = mask.shape
    valid = np.full(batch, width) if samples is None else config.num_frames(np.asarray(samples), add_adapter=False)
    padding = np.arange(width) >= valid[:, None]
    remedy = "draw distractors of the same utterance, as masking.negative_indices does"
    for row, frame in np.argwhere(mask & padding)[:1]:
        raise InputError(
            f"mask_time_indices masks frame {frame} of utterance {row}, which has {valid[row]} frames: mask no "
            "padding, as masking.time_mask does"
        )
    if "sampled_negative_indices" in draws:
        negatives, first = np.asarray(draws["sampled_negative_indices"]), np.arange(batch) * width
        outside = (negatives < first[:, None, None]) | (negatives >= (first + valid)[:, None, None])
        for row, frame, number in np.argwhere(outside & mask[..., None])[:1]:
            raise InputError(
                f"sampled_negative_indices holds {negatives[row, frame, number]} for frame {frame} of utterance {row}, "
                f"whose frames are {first[row]} to {first[row] + valid[row] - 1}: {remedy}"
            )
    elif padding.any():
        counted = np.asarray(draws["sampled_negative_counts"]) > 0
        for row, frame, other in np.argwhere(counted & padding[:, None] & mask[..., None])[:1]:
            raise InputError(
                f"sampled_negative_counts counts frame {other} for frame {frame} of utterance {row}, which has "
                f"{valid[row]} frames: {remedy}"
            )


def check_adapter_frames(config: Wav2Vec2Config, frames: int) -> None:
    """Check that the convolutional adapter, if any, has at least one output frame for ``frames``. Raises
    ``InputError``.
    """
    if config.add_adapter and config.num_adapter_frames(frames) < 1:
        raise InputError(
            f"an utterance has {frames} frames, of which the convolutional adapter makes none: "
            "leave it out or use a longer one"
        )


def layer_numbers(config: Wav2Vec2Config, layers: Sequence[int]) -> list[int]:
    """Layer numbers counted from 0, the transformer's input; negative ones count from the last.
    Raises ``InputError``.
    """
    count = config.num_hidden_layers + 1
    for number in layers:
        if not -count <= number < count:
            raise InputError(f"layer {number} does not exist: use 0 to {count - 1}, or -1 to {-count} from the last")
    return [number % count for number in layers]


def check_statistics(waveforms: int, statistics: int) -> None:
    """Check that there are statistics for each waveform. Raises ``InputError``."""
    if waveforms != statistics:
        raise InputError(f"{waveforms} waveforms come with {statistics} statistics: give one for each")


def check_speakers(head: str) -> None:
    """Check that the head computes speaker vectors. Raises ``InputError``."""
    if head != "ForXVector":
        raise InputError(f"a Wav2Vec2{head} has no speaker vectors: load a model with head='ForXVector'")


def check_pools(head: str) -> None:
    """Check that the head pools the frames of a recording. Raises ``InputError``."""
    if head != "ForSequenceClassification":
        raise InputError(
            f"a Wav2Vec2{head} has no labels of whole recordings: load a model with head='ForSequenceClassification'"
        )


def check_largest(name: str, value: int, limit: int, remedy: str) -> None:
    """Check that the largest index of ``name`` is below ``limit``. Raises ``InputError``."""
    if value >= limit:
        raise InputError(f"{name} hold the value {value}, the limit is {limit - 1}: {remedy}")


def check_letters(config: Wav2Vec2Config, labels: np.ndarray, frames: np.ndarray) -> None:
    """Check the labels of a CTC call by their values, and warn of those that train a model badly.

    Args:
        config: of the model.
        labels: (batch, letters), negative for padding.
        frames: (batch,) valid frames.

    Raises:
        InputError: a label is not below ``vocab_size``.
    """
    if labels.size == 0:
        return
    check_largest("labels", int(labels.max()), config.vocab_size, "use the model's tokenizer or set vocab_size")
    letters = [row[row >= 0] for row in labels]
    if any(row.size > 0 and row[-1] == config.pad_token_id for row in letters):
        warnings.warn(
            f"labels end with {config.pad_token_id}, the blank, which is counted as a letter and makes the loss wrong: "
            "pad labels with -100 instead of pad_token_id",
            stacklevel=2,
        )
    if config.ctc_zero_infinity:
        return
    for number, (row, count) in enumerate(zip(letters, frames, strict=True)):
        repeats = int((row[1:] == row[:-1]).sum())
        if row.size + repeats > count:
            warnings.warn(
                f"row {number} of labels has {row.size} letters and {repeats} blanks between equal ones for {count} "
                "frames: its loss is infinite and its gradient no number; leave it out or set ctc_zero_infinity=True",
                stacklevel=2,
            )


def check_targets(config: Wav2Vec2Config, shape: Sequence[int], batch: int, *, are_numbers: bool) -> bool:
    """Whether the labels of utterances are values to approach, by squared error, and not class numbers.

    They are where ``problem_type`` is ``"regression"``, and where it is not set, ``num_labels`` is 1 and the labels
    are floating-point numbers (``are_numbers``).

    Raises:
        InputError: they are values and their ``shape`` has not one for each of ``batch`` utterances and output.
    """
    outputs = config.num_labels or 0
    if config.problem_type != "regression" and (config.problem_type or outputs != 1 or not are_numbers):
        return False
    if tuple(shape) not in ((batch, outputs), (batch,) if outputs == 1 else (batch, outputs)):
        raise InputError(f"labels have shape {_text(shape)}: a regression needs {_text((batch, outputs))}")
    return True


def _text(shape: Sequence[int]) -> str:
    return str(tuple(shape))
