"""The batches of pretraining: crops of one length, as many masked frames in each, distractors. Those of step n are a
function of the seed and n."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.data.bucketing import equal_steps, previous_of_few
from wav2vec2_core.data.checking import Finding, Row
from wav2vec2_core.data.collate import LAYERS, MASKS, draw_masks, filled_batch
from wav2vec2_core.data.loader import Steps, dealt
from wav2vec2_core.data.manifest import Utterance
from wav2vec2_core.errors import InputError
from wav2vec2_core.feature_extraction import Wav2Vec2FeatureExtractor
from wav2vec2_core.masking import count_negatives, count_type, layer_keep, negative_indices

#: Why a row is left out.
TOO_SHORT_TO_MASK = "too short to mask"
#: Distinguish the kinds of draws from one seed, as those of ``collate``: the last number of their entropy.
_CROPS, _KEPT, _NEGATIVES = 4, 5, 6


class LongEnough:
    """What a row of pretraining must have: sound in which a span can be masked. See ``checking.Checker``."""

    def __init__(self, config: Wav2Vec2Config, shortest_samples: int) -> None:
        """``shortest_samples``: rows with fewer are left out, even if a span fits."""
        self.config, self.shortest_samples = config, shortest_samples

    def check(self, utterance: Utterance, samples: int) -> tuple[Row | None, Finding | None]:
        """The row, or why it is too short."""
        frames, span = self.config.num_frames(previous_of_few(samples), add_adapter=False), self.config.mask_time_length
        if samples < self.shortest_samples:
            detail = f"it has {samples} samples of at least {self.shortest_samples} (data.shortest_seconds)"
            return None, Finding(utterance, TOO_SHORT_TO_MASK, detail)
        if frames <= span:
            detail = f"its {frames} frames are too few to mask a span of {span} (model.mask_time_length)"
            return None, Finding(utterance, TOO_SHORT_TO_MASK, detail)
        return Row(utterance, samples, utterance.text or ""), None


class PretrainingLoader(Steps):
    """Rows as steps of pretraining.

    A micro-batch holds crops of one length, one of few, so nothing is padded and few shapes occur; a crop is drawn
    anew in each epoch. Masks are cut to the same count in all rows of a micro-batch, as fairseq does.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        feature_extractor: Wav2Vec2FeatureExtractor,
        config: Wav2Vec2Config,
        *,
        longest_samples: int,
        **options: Any,
    ) -> None:
        """Describe the data.

        Args:
            rows: checked by ``LongEnough``.
            longest_samples: of a crop.
            others: as of ``Steps``; seconds count crops. ``few_shapes`` fills micro-batches up with silence to one
                number of rows for each length.

        Raises:
            InputError: as ``Steps``, or masks would leave a row without a masked frame.
        """
        super().__init__(rows, feature_extractor, config, **options)
        if config.mask_time_min_masks < 1:
            raise InputError(
                f"mask_time_min_masks={config.mask_time_min_masks} may leave an utterance without a masked frame: "
                "set it to 1 or more"
            )
        frames = config.num_frames(previous_of_few(longest_samples), add_adapter=False)
        if frames <= config.mask_time_length:
            raise InputError(
                f"crops of {longest_samples} samples have {frames} frames, too few to mask a span of "
                f"{config.mask_time_length} (mask_time_length): make them longer (data.longest_seconds)"
            )
        self._lengths = [previous_of_few(min(row.samples, longest_samples)) for row in rows]

    def _steps_of(self, epoch: int) -> list[list[list[int]]]:
        return equal_steps(self._lengths, *self._limits, self.seed, epoch)

    def _masks(self, bucket: Sequence[int], step: int) -> np.ndarray:
        """(rows, frames) masked frames of a micro-batch, as many in each row."""
        frames = self.config.num_frames(self._lengths[bucket[0]], add_adapter=False)
        masks = np.array([draw_masks(self.config, frames, self._draw(step, row, MASKS))[0] for row in bucket])
        fewest = masks.sum(1).min()
        for mask, row in zip(masks, bucket, strict=True):
            surplus = self._draw(step, row, _KEPT).permutation(np.flatnonzero(mask))[fewest:]
            mask[surplus] = False
        return masks

    def _batch(self, bucket: Sequence[int], step: int, unreadable: list[str]) -> tuple[dict[str, np.ndarray], int]:
        length, config = self._lengths[bucket[0]], self.config
        masks = self._masks(bucket, step)
        targets = int(masks.sum())
        masks, _ = dealt(masks, self.process)
        share, rows_of_each = dealt(bucket, self.process)
        if self.few_shapes:
            rows_of_each = -(-max(1, min(self._limits) // length) // self.process[1])
        waveforms, silent = self._waveforms(share)
        unreadable += [self.unreadable[share[position]] for position in silent]
        masks[silent] = False
        counts = np.zeros((len(share), masks.shape[1], masks.shape[1]), count_type(config.num_negatives))
        for position, row in enumerate(share):
            drawn = negative_indices(masks[[position]], config.num_negatives, self._draw(step, row, _NEGATIVES))
            counts[position] = count_negatives(drawn)[0]
        crops = [self._crop(found, row, length, step) for found, row in zip(waveforms, share, strict=True)]
        batch = {
            "input_values": np.array(crops, np.float32).reshape(-1, length),
            "mask_time_indices": masks,
            "sampled_negative_counts": counts,
        }
        if config.mask_feature_prob > 0:
            features = [draw_masks(config, masks.shape[1], self._draw(step, row, MASKS))[1] for row in share]
            batch["mask_feature_indices"] = np.array(features, bool).reshape(-1, config.hidden_size)
        if config.layerdrop > 0:
            batch["layer_keep"] = layer_keep(config.num_hidden_layers, config.layerdrop, self._draw(step, 0, LAYERS))
        return filled_batch(batch, rows_of_each), targets

    def _crop(self, waveform: np.ndarray, row: int, length: int, step: int) -> np.ndarray:
        """A stretch of a row's waveform, anywhere in it: (length,)."""
        start = self._draw(step, row, _CROPS).integers(0, len(waveform) - length + 1)
        return waveform[start : start + length]

    def _draw(self, step: int, row: int, kind: int) -> np.random.Generator:
        return np.random.default_rng((self.seed, step, row, 0, kind))
