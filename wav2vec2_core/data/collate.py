"""Padding waveforms into one array and back; training batches with all their random draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.data.bucketing import next_of_few
from wav2vec2_core.errors import InputError
from wav2vec2_core.masking import feature_mask, layer_keep, time_mask


def pad_batch(waveforms: Sequence[np.ndarray], rows: int, samples: int) -> tuple[np.ndarray, np.ndarray]:
    """Waveforms as one array with zeros after each, and the mask that marks valid samples.

    Args:
        waveforms: (samples,) each.
        rows, samples: shape of the batch; rows that no waveform fills are silence, marked as valid.

    Returns:
        values (rows, samples) float32 and mask (rows, samples) int32.
    """
    values, mask = np.zeros((rows, samples), np.float32), np.zeros((rows, samples), np.int32)
    mask[len(waveforms) :] = 1
    for row, waveform in enumerate(waveforms):
        values[row, : len(waveform)] = waveform
        mask[row, : len(waveform)] = 1
    return values, mask


def filled_batch(batch: Mapping[str, np.ndarray], rows: int) -> dict[str, np.ndarray]:
    """A batch with as many rows as asked for: those that it lacks are silence without a label, and add nothing.

    Args:
        batch: of any head, as ``wav2vec2_core.training.steps.Batch``.
        rows: at least as many as the batch has.

    Raises:
        InputError: labels of a regression, where every row counts.
    """
    missing = rows - len(batch["input_values"])
    labels = batch.get("labels")
    if missing > 0 and labels is not None and labels.ndim < 3 and np.issubdtype(labels.dtype, np.floating):
        raise InputError(
            f"labels of a regression count in every row, so {len(labels)} rows cannot become {rows}: choose batches "
            "whose rows divide evenly among processes and devices"
        )
    fillings = {"labels": -100, "attention_mask": 1}
    return {
        name: array
        if missing <= 0 or name == "layer_keep"
        else np.concatenate([array, np.full((missing, *array.shape[1:]), fillings.get(name, 0), array.dtype)])
        for name, array in batch.items()
    }


def unpad_scores(scores: np.ndarray, waveforms: Sequence[np.ndarray], config: Wav2Vec2Config) -> list[np.ndarray]:
    """The scores of each waveform: its valid frames of (rows, frames, ...), or its vector of (rows, size)."""
    scores = scores[: len(waveforms)]
    if scores.ndim == 2:  # one vector for each utterance
        return list(scores)
    frames = [config.num_frames(len(waveform)) for waveform in waveforms]
    return [row[:count].copy() for row, count in zip(scores, frames, strict=True)]


#: Distinguishes the kinds of draws from one seed: the last number of their entropy.
MASKS, LAYERS = 2, 3


def training_batch(
    waveforms: Sequence[np.ndarray],
    rows: Sequence[int],
    config: Wav2Vec2Config,
    *,
    seed: int,
    step: int,
    samples: int | None = None,
    few_shapes: bool = False,
) -> dict[str, np.ndarray]:
    """A micro-batch without its labels, with every random choice made: a function of its arguments.

    Masks are drawn from (seed, step, row) and layer drop from (seed, step), so it does not matter with which others
    a row is in a micro-batch, nor in which process.

    Args:
        waveforms: (samples,) each, as the feature extractor returns them.
        rows: the number of each in the data.
        config: its masking and layer drop are used.
        seed, step: of the draws.
        samples: to pad to; those of the longest where None.
        few_shapes: pad to a few lengths instead of the longest: for frameworks that compile a step for every shape.

    Returns:
        See ``wav2vec2_core.training.steps.Batch``.
    """
    size = next_of_few if few_shapes else int
    longest = max(map(len, waveforms)) if samples is None else samples
    values, mask = pad_batch(waveforms, len(waveforms), size(longest))
    batch = {"input_values": values, "attention_mask": mask}
    frames = [config.num_frames(len(waveform), add_adapter=False) for waveform in waveforms]
    width = config.num_frames(values.shape[1], add_adapter=False)
    drawn = [
        draw_masks(config, count, np.random.default_rng((seed, step, row, 0, MASKS)))
        for count, row in zip(frames, rows, strict=True)
    ]
    if config.apply_spec_augment and config.mask_time_prob > 0:
        batch["mask_time_indices"] = np.zeros((len(drawn), width), bool)
        for row, (time, _) in zip(batch["mask_time_indices"], drawn, strict=True):
            row[: len(time)] = time
    if config.apply_spec_augment and config.mask_feature_prob > 0:
        features = [feature for _, feature in drawn]
        batch["mask_feature_indices"] = np.array(features, bool).reshape(len(drawn), config.hidden_size)
    if config.layerdrop > 0:
        generator = np.random.default_rng((seed, step, 0, 0, LAYERS))
        batch["layer_keep"] = layer_keep(config.num_hidden_layers, config.layerdrop, generator)
    return batch


def draw_masks(config: Wav2Vec2Config, frames: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Masked frames (frames,) and features (hidden,) of one row, as a configuration says."""
    time = time_mask(
        [frames],
        frames,
        prob=config.mask_time_prob,
        length=config.mask_time_length,
        min_masks=config.mask_time_min_masks,
        generator=generator,
    )
    feature = feature_mask(
        1,
        config.hidden_size,
        prob=config.mask_feature_prob,
        length=config.mask_feature_length,
        min_masks=config.mask_feature_min_masks,
        generator=generator,
    )
    return time[0], feature[0]
