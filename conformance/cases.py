"""The cases: every head of every model family, tiny, and two full-size models. Deterministic.

A case says everything about a computation: configuration, parameters, waveforms, labels and the draws of a training
step. Every parameter is random, norms and biases too: a fresh model has zero biases, which hide mistakes.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from conformance.reference_body import Randomness
from wav2vec2_core import masking
from wav2vec2_core.config import ACTIVATIONS, Wav2Vec2Config
from wav2vec2_core.parameters import HEADS, parameter_table

_TINY: dict[str, Any] = {
    "vocab_size": 9, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 20,
    "conv_dim": (8, 10, 12), "conv_kernel": (10, 3, 2), "conv_stride": (5, 2, 2), "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 4, "num_codevectors_per_group": 6, "codevector_dim": 8, "proj_codevector_dim": 10,
    "classifier_proj_size": 14, "num_labels": 5, "tdnn_dim": (12, 12, 14), "tdnn_kernel": (3, 2, 1),
    "tdnn_dilation": (1, 2, 1), "xvector_output_dim": 10, "mask_time_length": 3, "layer_norm_eps": 1e-3,
    "mask_feature_prob": 0.1, "mask_feature_length": 3, "contrastive_logits_temperature": 0.3,
    "diversity_loss_weight": 0.2,
}  # fmt: skip
#: No dropout: a framework's own draws cannot be passed in, only noted (``dropout.py``). Layer drop can.
_QUIET: dict[str, Any] = {
    "hidden_dropout": 0.0, "activation_dropout": 0.0, "attention_dropout": 0.0, "feat_proj_dropout": 0.0,
    "feat_quantizer_dropout": 0.0, "final_dropout": 0.0, "layerdrop": 0.0,
}  # fmt: skip
_PRE_NORM: dict[str, Any] = {"do_stable_layer_norm": True}
_LARGE: dict[str, Any] = {**_PRE_NORM, "feat_extract_norm": "layer", "conv_bias": True}

#: Family -> fields beside those of a tiny model. ``base`` is group norm and post-norm; ``large`` as lv60 and XLS-R.
FAMILIES: dict[str, dict[str, Any]] = {
    "base": {},
    "large": _LARGE,
    "group-pre": {**_PRE_NORM, "conv_bias": True},
    "layer-post": {"feat_extract_norm": "layer"},
    "base-alone": {"masked_group_norm": True},
    "adapter": {**_LARGE, "add_adapter": True, "num_adapter_layers": 2},
    "wide-adapter": {"add_adapter": True, "num_adapter_layers": 1, "adapter_stride": 3,
                     "output_hidden_size": 28},
    "adapter-alone": {"add_adapter": True, "num_adapter_layers": 1, "masked_group_norm": True},
    "mms": {**_LARGE, "adapter_attn_dim": 6},
    "weighted-sum": {"use_weighted_layer_sum": True, **_LARGE},
}  # fmt: skip

#: Fields that transformers lacks, with the values that it behaves as.
OURS: dict[str, Any] = {
    "masked_group_norm": False, "feature_penalty_weight": 0.0, "feature_gradient_scale": 1.0,
    "classifier_head": "linear",
}  # fmt: skip

#: Samples of the utterances in a padded tiny batch, longest first: 25, 20 and 14 frames (no width of a tiny model).
LENGTHS = (520, 420, 300)
#: Of the full-size models: 1.0 s and 0.7 s.
FULL_LENGTHS = (16000, 11200)


@dataclass(frozen=True)
class Case:
    """One computation.

    name: unique, and the seed of everything random; ``ForCTC-base-padded`` ...
    family: a key of ``FAMILIES``, ``activations``, ``options`` or ``full-size``.
    config: without dropout.
    lengths: (batch,) samples of each utterance.
    padded: with an attention mask over the lengths; without one all utterances are as long as the longest.
    full_size: of the size of a released model, so not for every run.
    """

    name: str
    family: str
    head: str
    config: Wav2Vec2Config
    lengths: tuple[int, ...] = LENGTHS
    padded: bool = False
    full_size: bool = False

    def parameters(self) -> dict[str, np.ndarray]:
        """Random float32 arrays by checkpoint name: states stay near unit size, no bias is 0 and no gain 1.

        A deep model's layers add little each. Else attention would make all frames alike on the way up, and nothing
        that the upper layers do to positions would be seen: their queries' gradients would be 1e-7 of their values'.
        """
        generator = self._generator("parameters")
        parameters = {
            name: _random_parameter(generator, name, row.shape)
            for name, row in parameter_table(self.config, self.head).items()
        }
        if self.full_size:
            for name in parameters:
                if name.endswith(("attention.out_proj.weight", "feed_forward.output_dense.weight")):
                    parameters[name] /= np.float32(math.sqrt(self.config.num_hidden_layers))
        return parameters

    def inputs(self) -> dict[str, np.ndarray]:
        """``input_values`` (batch, samples) float32 and, where padded, ``attention_mask`` (batch, samples) int32."""
        longest = max(self.lengths)
        values = self._generator("inputs").standard_normal((len(self.lengths), longest), np.float32)
        if not self.padded:
            return {"input_values": values}
        mask = (np.arange(longest) < np.array(self.lengths)[:, None]).astype(np.int32)
        return {"input_values": values * mask, "attention_mask": mask}

    def labels(self) -> np.ndarray | None:
        """As the head wants them, int64: (batch, letters) with -100 after the last one, (batch,), or one-hot
        (batch, frames, labels); None for heads without."""
        generator, batch = self._generator("labels"), len(self.lengths)
        classes = self.config.num_labels or 0
        match self.head:
            case "ForCTC":
                return self._letters(generator)
            case "ForAudioFrameClassification":
                frames = self.config.num_frames(max(self.lengths))
                return np.eye(classes, dtype=np.int64)[generator.integers(0, classes, (batch, frames))]
            case "ForSequenceClassification" | "ForXVector":
                return generator.integers(0, classes, batch)
        return None

    def randomness(self) -> Randomness:
        """The draws of a training step: masks, layer drop, distractors, noise.

        The padded ``Model`` cases skip the first layer; elsewhere every layer runs, so that each has a gradient. An
        adapter changes the number of frames: there pretraining has projections and no losses, so no distractors.
        """
        generator, config, batch = self._generator("randomness"), self.config, len(self.lengths)
        width = config.num_frames(max(self.lengths), add_adapter=False)
        lengths = np.array(self.lengths if self.padded else [max(self.lengths)] * batch)
        frames = config.num_frames(lengths, add_adapter=False)
        has_embedding = config.mask_time_prob > 0 or config.mask_feature_prob > 0
        time = masking.time_mask(
            frames, width, prob=0.5, length=config.mask_time_length, min_masks=2, generator=generator
        )
        features = masking.feature_mask(
            batch, config.hidden_size, prob=0.2, length=config.mask_feature_length, min_masks=1, generator=generator
        )
        keep = np.ones(config.num_hidden_layers, bool)
        keep[:1] = not (self.head == "Model" and self.padded)
        draws = Randomness(
            mask_time_indices=time if has_embedding else None,
            mask_feature_indices=features if config.mask_feature_prob > 0 else None,
            layer_keep=keep,
        )
        if self.head != "ForPreTraining":
            return draws
        shape = (batch, width, config.num_codevector_groups, config.num_codevectors_per_group)
        negatives = None if config.add_adapter else masking.negative_indices(time, 7, generator)
        noise = generator.gumbel(size=shape).astype(np.float32)
        return replace(draws, sampled_negative_indices=negatives, gumbel_noise=noise, gumbel_temperature=1.5)

    @property
    def has_loss(self) -> bool:
        """Whether a training step has a loss; otherwise see ``reference.gradients`` for what is differentiated."""
        return self.head != "Model" and not (self.head == "ForPreTraining" and self.config.add_adapter)

    @property
    def is_shared(self) -> bool:
        """Whether transformers computes this too."""
        return all(getattr(self.config, name) == value for name, value in OURS.items())

    def unseen(self) -> list[str]:
        """Parameters whose gradient is 0 in exact arithmetic, so that only rounding is left of it.

        The softmax over keys takes no notice of their bias, nor group norm of the bias of the convolution before it.
        """
        ends = ["k_proj.bias"]
        if self.config.feat_extract_norm == "group":
            ends.append("conv_layers.0.conv.bias")
        return [name for name in parameter_table(self.config, self.head) if name.endswith(tuple(ends))]

    def _letters(self, generator: np.random.Generator) -> np.ndarray:
        """Labels that fit the frames, the second utterance's with a repeated letter, the last one's padded."""
        batch, config = len(self.lengths), self.config
        blank = config.pad_token_id or 0
        letters = np.array([letter for letter in range(min(config.vocab_size, 40)) if letter != blank])
        count = 3 if config.add_adapter else 5
        labels = np.stack([generator.permutation(letters)[:count] for _ in range(batch)]).astype(np.int64)
        labels[1, 1] = labels[1, 0]
        labels[-1, count - 1 :] = -100
        if config.ctc_zero_infinity:  # the first utterance has more letters than frames
            longer = np.full((batch, 60), -100)
            longer[:, :count] = labels
            longer[0] = np.resize(letters, 60)
            return longer
        return labels

    def _generator(self, purpose: str) -> np.random.Generator:
        return np.random.default_rng(zlib.crc32(f"{self.name}/{purpose}".encode()))


def _random_parameter(generator: np.random.Generator, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """float32; weights keep the variance of what passes through them, gains are around 1, biases around 0."""
    values = generator.standard_normal(shape, np.float32)
    if name.endswith("weight_g"):
        # |weight_v| is near sqrt(out) per position, so this is a gain near 1 for the sum over the kernel.
        return np.float32(1.5) * (1 + np.float32(0.3) * values) / np.float32(math.sqrt(shape[-1]))
    if len(shape) == 1:
        return np.float32(name.endswith("norm.weight")) + np.float32(0.3) * values
    if name in {"quantizer.codevectors", "objective.weight"}:
        return values
    return values * np.float32(1.3 / math.sqrt(math.prod(shape[1:])))


# ---- the list ---------------------------------------------------------------------------------------------------


def tiny_cases() -> list[Case]:
    """Every head of every family that it works with, with and without padding; every activation; more options."""
    return [*_family_cases(), *_activation_cases(), *_option_cases()]


def full_size_cases() -> list[Case]:
    """BASE and LARGE (lv60) with a CTC head and a padded batch: 94 and 315 million parameters."""
    return [
        Case(
            name=f"ForCTC-{preset}-full-size",
            family="full-size",
            head="ForCTC",
            config=Wav2Vec2Config.preset(preset, **_QUIET),
            lengths=FULL_LENGTHS,
            padded=True,
            full_size=True,
        )
        for preset in ("base", "large-lv60")
    ]


def find(name: str) -> Case:
    """The case of this name. Raises ``KeyError``."""
    return {case.name: case for case in [*tiny_cases(), *full_size_cases()]}[name]


def _family_cases() -> Iterator[Case]:
    for family, fields in FAMILIES.items():
        config = Wav2Vec2Config(**{**_TINY, **_QUIET, **fields})
        for head in HEADS:
            if not _exists(head, config):
                continue
            # masked_group_norm differs with padding only.
            for padded in (True,) if config.masked_group_norm else (False, True):
                name = f"{head}-{family}-{'padded' if padded else 'even'}"
                yield Case(name=name, family=family, head=head, config=config, padded=padded)


def _exists(head: str, config: Wav2Vec2Config) -> bool:
    """Whether a head works with a configuration and computes something else than with a simpler one."""
    if config.use_weighted_layer_sum:
        return head in {"ForSequenceClassification", "ForAudioFrameClassification", "ForXVector"}
    if config.add_adapter and config.output_hidden_size != config.hidden_size:
        return head in {"Model", "ForCTC"}
    if config.add_adapter:
        shorter = config.num_adapter_layers > 1  # too few frames for the time-delay network
        return head in {"Model", "ForCTC", "ForPreTraining"} or (head == "ForXVector" and not shorter)
    return True


def _activation_cases() -> Iterator[Case]:
    """Each activation, in the transformer or in the feature encoder: back ends look both up in one table."""
    for inner, outer in zip(ACTIVATIONS[::2], ACTIVATIONS[1::2], strict=True):
        fields = {"hidden_act": inner, "feat_extract_activation": outer}
        config = Wav2Vec2Config(**{**_TINY, **_QUIET, **fields})
        yield Case(name=f"Model-activations-{inner}-{outer}", family="activations", head="Model", config=config)


def _option_cases() -> Iterator[Case]:
    """Options that change little: CTC reductions and an utterance without a path, masks switched off, odd kernels."""
    options: dict[tuple[str, str], dict[str, Any]] = {
        ("ForCTC", "mean"): {"ctc_loss_reduction": "mean", "pad_token_id": 4},
        ("ForCTC", "none"): {"ctc_loss_reduction": "none"},
        ("ForCTC", "mean-impossible"): {"ctc_loss_reduction": "mean", "ctc_zero_infinity": True},
        ("ForCTC", "sum-impossible"): {"ctc_loss_reduction": "sum", "ctc_zero_infinity": True},
        ("ForCTC", "unmasked"): {"apply_spec_augment": False},
        ("ForPreTraining", "penalty"): {"feature_penalty_weight": 2.0, "feature_gradient_scale": 0.3},
        ("ForSequenceClassification", "tanh"): {"classifier_head": "tanh", "masked_group_norm": True},
        ("Model", "no-mask-embedding"): {"mask_time_prob": 0.0, "mask_feature_prob": 0.0},
        ("Model", "odd-positions"): {"num_conv_pos_embeddings": 7},
        ("Model", "even-adapter"): {"add_adapter": True, "num_adapter_layers": 1, "adapter_kernel_size": 4},
    }
    for (head, option), fields in options.items():
        config = Wav2Vec2Config(**{**_TINY, **_QUIET, **fields})
        yield Case(name=f"{head}-{option}-padded", family="options", head=head, config=config, padded=True)
