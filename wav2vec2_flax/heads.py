"""The five heads: pretraining, CTC, sequence and frame classification, x-vectors."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array

from wav2vec2_core.checkpoint import HEAD, resize_head
from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.errors import ConfigError, InputError
from wav2vec2_core.inputs import (
    check_draws,
    check_largest,
    check_letters,
    check_pretraining,
    check_shape,
    check_targets,
)
from wav2vec2_core.outputs import (
    CausalLMOutput,
    ModelOutput,
    SequenceClassifierOutput,
    TokenClassifierOutput,
    Wav2Vec2BaseModelOutput,
    Wav2Vec2ForPreTrainingOutput,
    XVectorOutput,
)
from wav2vec2_core.parameters import ctc_input_size
from wav2vec2_core.tokenization.vocabulary import Vocabulary
from wav2vec2_flax import layers, losses
from wav2vec2_flax.layers import Precision
from wav2vec2_flax.model import FlaxWav2Vec2Model
from wav2vec2_flax.pretrained import FlaxWav2Vec2PreTrainedModel
from wav2vec2_flax.weights import fill_weights, places, to_array


def body(config: Wav2Vec2Config, types: Precision) -> FlaxWav2Vec2Model:
    """The body inside a head, without values."""
    return FlaxWav2Vec2Model(config, dtype=types.dtype, param_dtype=types.param_dtype, _do_init=False)


#: Fields of pretraining that a tuple does not have.
DICT_ONLY = (
    "contrastive_loss", "diversity_loss", "contrastive_accuracy", "feature_penalty", "soft_codevector_perplexity",
    "hard_codevector_perplexity",
)  # fmt: skip
#: Name -> the sum of a loss over a batch, and the number of what it is the sum of.
Sums = dict[str, tuple[Array, Array]]

# ---- pretraining ------------------------------------------------------------------------------------------------


class GumbelVectorQuantizer(nnx.Module):
    """Product quantisation with a choice per group that gradients pass through (section 2 and equation 1)."""

    def __init__(self, config: Wav2Vec2Config, types: Precision) -> None:
        self.groups, self.entries = config.num_codevector_groups, config.num_codevectors_per_group
        self.codevectors = layers.parameter(
            (1, self.groups * self.entries, config.codevector_dim // self.groups), types
        )
        self.weight_proj = layers.Linear(config.conv_dim[-1], self.groups * self.entries, types)
        self.dtype = types.dtype

    def __call__(
        self, features: Array, mask: Array | None, noise: Array | None, temperature: Any
    ) -> tuple[Array, tuple[Array, Array], Array]:
        """Choose codevectors.

        Args:
            features: (batch, frames, conv_dim[-1]).
            mask: (batch, frames) bool, frames that count for the perplexity; None for all.
            noise: (batch, frames, groups, entries) Gumbel noise of training, None in inference.
            temperature: of the choice with noise.

        Returns:
            (batch, frames, codevector_dim); the perplexities (groups,) of the probabilities and of the most probable
            choices, both without noise; the numbers of the chosen codevectors, (batch, frames, groups).
        """
        shape = (*features.shape[:2], self.groups, self.entries)
        logits = layers.widened(self.weight_proj(features).reshape(shape))
        if noise is not None:
            check_shape("gumbel_noise", jnp.shape(noise), shape, "(batch, frames, groups, entries)")
            choice = layers.hard_gumbel_softmax(logits, jnp.asarray(noise, logits.dtype), temperature)
        else:
            choice = layers.one_hot_argmax(logits)
        soft = losses.codevector_perplexities(jax.nn.softmax(logits, axis=-1), mask)
        hard = losses.codevector_perplexities(layers.one_hot_argmax(logits), mask)
        codebook = layers.value(self.codevectors).astype(self.dtype).reshape(self.groups, self.entries, -1)
        chosen = jnp.einsum("btge,ged->btgd", choice.astype(self.dtype), codebook)
        return chosen.reshape(*features.shape[:2], -1), (soft, hard), choice.argmax(-1)


class FlaxWav2Vec2ForPreTraining(FlaxWav2Vec2PreTrainedModel):
    """The body, a quantizer and the contrastive task: recognise the quantised vector of a masked frame."""

    head = "ForPreTraining"

    def build(self, config: Wav2Vec2Config, types: Precision) -> None:
        """Create the submodules."""
        _refuse_other_width(config, self.head)
        self.wav2vec2 = body(config, types)
        self.dropout_features = config.feat_quantizer_dropout
        self.quantizer = GumbelVectorQuantizer(config, types)
        self.project_q = layers.Linear(config.codevector_dim, config.proj_codevector_dim, types)
        self.project_hid = layers.Linear(config.hidden_size, config.proj_codevector_dim, types)
        self.gumbel_temperature = 2.0  # fairseq starts here and anneals; see set_gumbel_temperature

    def set_gumbel_temperature(self, temperature: float) -> None:
        """Set the temperature of the straight-through choice; pretraining lowers it from 2.0 to 0.5 (section 4.2).

        A compiled step is compiled again for a new one: pass ``gumbel_temperature`` to the call there.
        """
        self.gumbel_temperature = float(temperature)

    def forward(
        self,
        input_values: Any,
        attention_mask: Any = None,
        mask_time_indices: Any = None,
        sampled_negative_indices: Any = None,
        *,
        gumbel_temperature: Any = None,
        dropout_rng: Array | None = None,
        gumbel_rng: Array | None = None,
        train: bool = False,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        freeze_feature_encoder: bool = False,
        return_dict: bool | None = None,
        mask_feature_indices: Any = None,
        layer_keep: Any = None,
        gumbel_noise: Any = None,
        sampled_negative_counts: Any = None,
    ) -> Wav2Vec2ForPreTrainingOutput | tuple[Any, ...]:
        """Project context representations and quantised features; with distractors, compute the losses too.

        Args:
            input_values, attention_mask, output_attentions, output_hidden_states, return_dict, mask_feature_indices,
                layer_keep, dropout_rng, train, freeze_feature_encoder: as in ``FlaxWav2Vec2Model``.
            mask_time_indices: (batch, frames) bool, masked frames; the losses need them.
            sampled_negative_indices: (batch, frames, negatives) positions of distractors in the flattened
                (batch * frames) axis, of the same utterance, from ``wav2vec2_core.masking.negative_indices``.
            gumbel_temperature: a number or scalar array, which compiled steps take without compiling again; that of
                ``set_gumbel_temperature`` where None.
            gumbel_rng: key of the Gumbel noise; made from ``dropout_rng`` where None.
            gumbel_noise: (batch, frames, groups, entries); drawn in training where None, not used otherwise.
            sampled_negative_counts: (batch, frames, frames), the same as counts, from
                ``wav2vec2_core.masking.count_negatives``; no losses where both are None.

        Raises:
            InputError: a shape is invalid, training has no key, or distractors come without ``mask_time_indices``, with
                padding among them, or where masks are switched off.
        """
        draws = {
            "mask_time_indices": mask_time_indices,
            "sampled_negative_indices": sampled_negative_indices,
            "sampled_negative_counts": sampled_negative_counts,
        }
        draws = {name: array for name, array in draws.items() if array is not None}
        has_losses = check_pretraining(self.config, draws)
        body_key, dropout_key, own_gumbel_key = layers.split(self.training_key(train, dropout_rng), 3)
        outputs = self.wav2vec2(
            input_values,
            attention_mask,
            mask_time_indices,
            dropout_rng=body_key,
            train=train,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            freeze_feature_encoder=freeze_feature_encoder,
            return_dict=True,
            mask_feature_indices=mask_feature_indices,
            layer_keep=layer_keep,
            output_feature_penalty=has_losses,
        )
        projected = self.scores(outputs.last_hidden_state, None)
        mask = None if mask_time_indices is None else jnp.asarray(mask_time_indices, bool)
        features = layers.dropout(outputs.extract_features, self.dropout_features, dropout_key)
        if not train:
            gumbel_noise = None
        elif gumbel_noise is None:
            shape = (*features.shape[:2], self.quantizer.groups, self.quantizer.entries)
            gumbel_noise = layers.gumbel_noise(own_gumbel_key if gumbel_rng is None else gumbel_rng, shape)
        temperature = self.gumbel_temperature if gumbel_temperature is None else gumbel_temperature
        quantized, (soft, hard), codes = self.quantizer(features, mask, gumbel_noise, temperature)
        quantized = self.project_q(quantized)
        perplexity = (soft if train else hard).sum()
        terms: dict[str, Array] = {}
        if mask is not None and has_losses:
            _refuse_fewer_frames(quantized.shape[1], projected.shape[1])
            counts = self._distractors(draws, attention_mask)
            penalty = outputs.feature_penalty
            terms = self._losses(projected, quantized, codes, counts, mask, perplexity, penalty)
        output = Wav2Vec2ForPreTrainingOutput(
            terms,
            projected_states=projected,
            projected_quantized_states=quantized,
            codevector_perplexity=perplexity,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
            soft_codevector_perplexity=soft,
            hard_codevector_perplexity=hard,
        )
        return self.as_requested(output, return_dict, dict_only=DICT_ONLY)

    def scores(self, hidden: Array, lengths: Array | None) -> Array:
        """Predictions of quantised vectors: (batch, frames, hidden) -> (batch, frames, proj_codevector_dim)."""
        return self.project_hid(hidden)

    def loss_sums(self, output: ModelOutput, batch: Mapping[str, Any]) -> Sums:
        """Losses as sums over masked frames with their number, and what else was measured times it.

        ``output``: of a call with ``batch``, distractors in it. Perplexities of groups are numbered from 0.
        """
        frames = jnp.asarray(batch["mask_time_indices"], jnp.int32).sum()
        sums = {name: output[name] for name in ("loss", "contrastive_loss", "diversity_loss")}
        for name in ("codevector_perplexity", "contrastive_accuracy", "feature_penalty"):
            sums[name] = output[name] * frames
        for kind in ("soft", "hard"):
            for group in range(self.quantizer.groups):
                sums[f"{kind}_perplexity_{group}"] = output[f"{kind}_codevector_perplexity"][group] * frames
        return {name: (total, frames) for name, total in sums.items()}

    def _distractors(self, draws: Mapping[str, Any], attention_mask: Any) -> Array:
        """Distractors as counts (batch, frames, frames), from those of a call, which are checked."""
        batch, width = jnp.shape(draws["mask_time_indices"])
        indices, counts = draws.get("sampled_negative_indices"), draws.get("sampled_negative_counts")
        if indices is not None:
            shape = jnp.shape(indices)
            check_shape("sampled_negative_indices", shape, (batch, width, shape[-1]), "(batch, frames, negatives)")
        if counts is not None:
            check_shape("sampled_negative_counts", jnp.shape(counts), (batch, width, width), "(batch, frames, frames)")
        if not layers.is_tracing(*draws.values(), attention_mask):
            samples = None if attention_mask is None else np.asarray(attention_mask).sum(1)
            check_draws(self.config, {name: np.asarray(array) for name, array in draws.items()}, samples)
        return losses.count_distractors(jnp.asarray(indices)) if indices is not None else jnp.asarray(counts)

    def _losses(
        self,
        projected: Array,
        quantized: Array,
        codes: Array,
        counts: Array,
        mask: Array,
        perplexity: Array,
        penalty: Array,
    ) -> dict[str, Array]:
        """Contrastive and diversity loss, both summed over masked frames, their weighted sum with the penalty, which
        counts once for each masked frame as in fairseq, and the accuracy.
        """
        config = self.config
        similarity = losses.similarities(projected, quantized, config.contrastive_logits_temperature)
        competing = losses.competitors(codes, counts)
        contrastive = losses.contrastive_loss_of_frames(similarity, competing, mask)
        codevectors = config.num_codevectors_per_group * config.num_codevector_groups
        diversity = losses.diversity_loss(perplexity, codevectors, mask)
        loss = contrastive + config.diversity_loss_weight * diversity
        if config.feature_penalty_weight > 0:
            loss = loss + config.feature_penalty_weight * penalty * mask.sum()
        return {
            "loss": loss,
            "contrastive_loss": contrastive,
            "diversity_loss": diversity,
            "contrastive_accuracy": losses.contrastive_accuracy(jax.lax.stop_gradient(similarity), competing, mask),
            "feature_penalty": penalty,
        }

    @staticmethod
    def compute_contrastive_logits(
        target_features: Array, negative_features: Array, predicted_features: Array, temperature: float = 0.1
    ) -> Array:
        """``losses.contrastive_logits`` under the name that training scripts call."""
        return losses.contrastive_logits(target_features, negative_features, predicted_features, temperature)


# ---- speech recognition -----------------------------------------------------------------------------------------


class FlaxWav2Vec2ForCTC(FlaxWav2Vec2PreTrainedModel):
    """The body and a linear map to letters, trained with CTC (section 3.3)."""

    head = "ForCTC"

    def build(self, config: Wav2Vec2Config, types: Precision) -> None:
        """Create the submodules."""
        self.wav2vec2 = body(config, types)
        self.dropout = config.final_dropout
        self.lm_head = layers.Linear(ctc_input_size(config), config.vocab_size, types)

    def forward(
        self,
        input_values: Any,
        attention_mask: Any = None,
        mask_time_indices: Any = None,
        *,
        labels: Any = None,
        dropout_rng: Array | None = None,
        train: bool = False,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        freeze_feature_encoder: bool = False,
        return_dict: bool | None = None,
        mask_feature_indices: Any = None,
        layer_keep: Any = None,
    ) -> CausalLMOutput | tuple[Any, ...]:
        """Letters for every frame and, with labels, the CTC loss.

        Args:
            labels: (batch, letters), token numbers below ``vocab_size``; negative entries are padding.
            others: as in ``FlaxWav2Vec2Model``.

        Raises:
            InputError: a shape is invalid, a label is not below ``vocab_size``, or training has no key.
        """
        body_key, dropout_key = layers.split(self.training_key(train, dropout_rng), 2)
        outputs = self.wav2vec2(
            input_values,
            attention_mask,
            mask_time_indices,
            dropout_rng=body_key,
            train=train,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            freeze_feature_encoder=freeze_feature_encoder,
            return_dict=True,
            mask_feature_indices=mask_feature_indices,
            layer_keep=layer_keep,
        )
        logits = self.scores(layers.dropout(outputs.last_hidden_state, self.dropout, dropout_key), None)
        loss = None
        if labels is not None:
            loss = self._ctc(losses.ctc_loss, logits, input_values, attention_mask, labels)
        output = CausalLMOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )
        return self.as_requested(output, return_dict)

    def scores(self, hidden: Array, lengths: Array | None) -> Array:
        """Letters: (batch, frames, hidden) -> (batch, frames, vocab)."""
        return self.lm_head(hidden)

    def loss_sums(self, output: ModelOutput, batch: Mapping[str, Any]) -> Sums:
        """The loss as a sum with the number of utterances or letters: see ``losses.ctc_loss_sum``.

        ``output``: of a call with ``batch``, labels or not.
        """
        given = batch["input_values"], batch.get("attention_mask"), batch["labels"]
        return {"loss": self._ctc(losses.ctc_loss_sum, output["logits"], *given)}

    def _ctc(
        self,
        function: Callable[..., Any],
        logits: Array,
        input_values: Any,
        attention_mask: Any,
        labels: Any,
    ) -> Any:
        """``losses.ctc_loss`` or ``ctc_loss_sum`` as the configuration says; raises ``InputError``, ``ConfigError``."""
        config, labels = self.config, jnp.asarray(labels)
        batch, samples = jnp.shape(input_values)
        letters = labels.shape[-1] if labels.ndim > 0 else 0
        check_shape("labels", labels.shape, (batch, letters), "(batch, letters)")
        if config.pad_token_id is None or not 0 <= config.pad_token_id < config.vocab_size:
            raise ConfigError(
                f"pad_token_id={config.pad_token_id} is the blank of the CTC loss: set it to the pad token's number, "
                f"below vocab_size={config.vocab_size}"
            )
        lengths = jnp.full(batch, samples) if attention_mask is None else jnp.asarray(attention_mask, jnp.int32).sum(1)
        frames = config.num_frames(lengths)
        if not layers.is_tracing(labels, frames):
            check_letters(config, np.asarray(labels), np.asarray(frames))
        return function(
            logits,
            frames,
            labels,
            blank=config.pad_token_id,
            reduction=config.ctc_loss_reduction,
            zero_infinity=config.ctc_zero_infinity,
        )

    def resize_vocabulary(self, old: Vocabulary, new: Vocabulary, *, seed: int = 0) -> tuple[str, ...]:
        """Give the head another vocabulary: the letters that both have keep their rows, the others get first values.

        ``config.vocab_size`` and ``config.pad_token_id`` follow: read ``params`` and make an optimizer state after
        this, not before.

        Args:
            old, new: tokenizers of the vocabulary that the head has and of the one that it gets.
            seed: of the first values, which are the same in every back end.

        Returns:
            The tokens that have kept their rows: see ``wav2vec2_core.checkpoint.shared_rows``.

        Raises:
            InputError: ``new`` has no blank.
        """
        found = places(self)
        arrays = {name: to_array(found[name]) for name in HEAD}
        resized = resize_head(self.config, arrays, old, new, seed=seed)
        self._resize_vocabulary(resized.config)
        fill_weights(self, resized.arrays.items())
        return resized.kept

    def _resize_vocabulary(self, config: Wav2Vec2Config) -> None:
        if config.vocab_size != self.config.vocab_size:
            self.lm_head = layers.Linear(ctc_input_size(config), config.vocab_size, self.types)
        config = config.bound(())
        self.info = dataclasses.replace(self.info, config=config)
        self.wav2vec2.info = dataclasses.replace(self.wav2vec2.info, config=config)


# ---- classification ---------------------------------------------------------------------------------------------


class _Classifier(FlaxWav2Vec2PreTrainedModel):
    """Base of the classification heads: they read the last hidden states or a learned mixture of all."""

    def build_body(self, config: Wav2Vec2Config, types: Precision) -> None:
        """Create the body and the mixture weights."""
        self.wav2vec2 = body(config, types)
        mixes = config.use_weighted_layer_sum
        self.layer_weights = layers.parameter((config.num_hidden_layers + 1,), types) if mixes else None

    def encode(
        self, input_values: Any, attention_mask: Any, output_hidden_states: bool | None, **options: Any
    ) -> tuple[Array, Wav2Vec2BaseModelOutput]:
        """Run the body: (batch, frames, hidden) states for the head, and all outputs."""
        if self.layer_weights is not None:
            output_hidden_states = True
        outputs = self.wav2vec2(
            input_values, attention_mask, output_hidden_states=output_hidden_states, return_dict=True, **options
        )
        mixes = self.layer_weights is not None
        return self.mixed(outputs.hidden_states) if mixes else outputs.last_hidden_state, outputs

    def shares(self) -> Array:
        """(layers + 1,) of each layer in the mixture; of a model that has one."""
        assert self.layer_weights is not None
        return jax.nn.softmax(layers.value(self.layer_weights)).astype(self.dtype)

    def mixed(self, states: Sequence[Array]) -> Array:
        """The mixture of (batch, frames, hidden) each, the first layer's input and every layer's output."""
        return jnp.einsum("l,lbtd->btd", self.shares(), jnp.stack(list(states)))

    def head_frames(self, frames: Any) -> Any:
        """As of any model; a mixture is of states before the convolutional adapter."""
        return super().head_frames(frames) if self.layer_weights is None else frames

    def frame_lengths(self, attention_mask: Any) -> Array | None:
        """(batch,) frames of the states that ``encode`` returns; None where all are valid."""
        if attention_mask is None:
            return None
        samples = jnp.asarray(attention_mask, jnp.int32).sum(1)
        return self.head_frames(self.config.num_frames(samples, add_adapter=False))

    def loss_sums(self, output: ModelOutput, batch: Mapping[str, Any]) -> Sums:
        """The loss as a sum with the number of labels; ``output``: of a call with ``batch``, labels or not."""
        return {"loss": self.loss_sum(output["logits"], batch["labels"])}

    def loss_sum(self, logits: Array, labels: Any) -> tuple[Array, Array]:
        """The sum of which the loss is the mean, and the number of labels that count. Raises ``InputError``."""
        raise NotImplementedError


class TanhClassifier(nnx.Module):
    """Labels by two layers with tanh between them: the head of emotion models of the community."""

    def __init__(self, config: Wav2Vec2Config, types: Precision) -> None:
        self.dense = layers.Linear(config.hidden_size, config.hidden_size, types)
        self.out_proj = layers.Linear(config.hidden_size, config.num_labels or 0, types)

    def __call__(self, pooled: Array) -> Array:
        """(batch, hidden) -> (batch, labels)."""
        return self.out_proj(jnp.tanh(self.dense(pooled)))


class FlaxWav2Vec2ForSequenceClassification(_Classifier):
    """One class for a whole utterance: language, emotion, keyword ...; or values of it, such as arousal."""

    head = "ForSequenceClassification"

    def build(self, config: Wav2Vec2Config, types: Precision) -> None:
        """Create the submodules."""
        _refuse_adapter(config, self.head)
        self.build_body(config, types)
        if config.classifier_head == "tanh":
            self.projector, self.classifier = None, TanhClassifier(config, types)
        else:
            self.projector = layers.Linear(config.hidden_size, config.classifier_proj_size, types)
            self.classifier = layers.Linear(config.classifier_proj_size, config.num_labels or 0, types)

    def forward(
        self,
        input_values: Any,
        attention_mask: Any = None,
        mask_time_indices: Any = None,
        *,
        labels: Any = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        **options: Any,
    ) -> SequenceClassifierOutput | tuple[Any, ...]:
        """Classify utterances by the mean of their frames.

        Args:
            labels: (batch,) class numbers, for the cross entropy; or values, for the squared error, see
                ``inputs.check_targets``.
            others: as in ``FlaxWav2Vec2Model``.

        Raises:
            InputError: a shape is invalid, a label is not below ``num_labels``, or training has no key.
        """
        options["mask_time_indices"] = mask_time_indices
        hidden, outputs = self.encode(input_values, attention_mask, output_hidden_states, **options)
        logits = self.scores(hidden, self.frame_lengths(attention_mask))
        loss = None if labels is None else _mean(self.loss_sum(logits, labels))
        output = SequenceClassifierOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )
        return self.as_requested(output, return_dict)

    def scores(self, hidden: Array, lengths: Array | None) -> Array:
        """Classes of utterances: (batch, frames, hidden), of which (batch,) are valid -> (batch, labels)."""
        return self.classified(self.pooled(hidden, lengths))

    def pooled(self, hidden: Array, lengths: Array | None) -> Array:
        """Means of the valid frames, (batch, size); those of stretches, weighed by their frames, give the whole's."""
        hidden = hidden if self.projector is None else self.projector(hidden)
        mask = None if lengths is None else layers.frame_mask(lengths, hidden.shape[1])
        return layers.masked_mean(hidden, mask)

    def classified(self, pooled: Array) -> Array:
        """(batch, size) of ``pooled`` -> (batch, labels)."""
        return self.classifier(pooled)

    def loss_sum(self, logits: Array, labels: Any) -> tuple[Array, Array]:
        """The sum of cross entropies or squared errors of (batch, labels), and their number."""
        labels = jnp.asarray(labels)
        if check_targets(
            self.config, labels.shape, len(logits), are_numbers=jnp.issubdtype(labels.dtype, jnp.floating)
        ):
            return losses.squared_error_sum(logits, labels)
        return losses.cross_entropy_sum(logits, check_classes(labels, self.config).reshape(-1))


class FlaxWav2Vec2ForAudioFrameClassification(_Classifier):
    """One class for every frame: voice activity, diarization ..."""

    head = "ForAudioFrameClassification"

    def build(self, config: Wav2Vec2Config, types: Precision) -> None:
        """Create the submodules."""
        _refuse_adapter(config, self.head)
        self.build_body(config, types)
        self.classifier = layers.Linear(config.hidden_size, config.num_labels or 0, types)

    def forward(
        self,
        input_values: Any,
        attention_mask: Any = None,
        mask_time_indices: Any = None,
        *,
        labels: Any = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        **options: Any,
    ) -> TokenClassifierOutput | tuple[Any, ...]:
        """Classify frames.

        Args:
            labels: (batch, frames, labels), one-hot, for the cross entropy over all frames but those with a negative
                entry.
            others: as in ``FlaxWav2Vec2Model``.

        Raises:
            InputError: a shape is invalid, or training has no key.
        """
        options["mask_time_indices"] = mask_time_indices
        hidden, outputs = self.encode(input_values, attention_mask, output_hidden_states, **options)
        logits = self.scores(hidden, self.frame_lengths(attention_mask))
        loss = None if labels is None else _mean(self.loss_sum(logits, labels))
        output = TokenClassifierOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )
        return self.as_requested(output, return_dict)

    def scores(self, hidden: Array, lengths: Array | None) -> Array:
        """Classes of frames: (batch, frames, hidden) -> (batch, frames, labels)."""
        return self.classifier(hidden)

    def loss_sum(self, logits: Array, labels: Any) -> tuple[Array, Array]:
        """The sum of cross entropies of (batch, frames, labels) and one-hot labels, and the number of frames."""
        check_shape("labels", jnp.shape(labels), logits.shape, "(batch, frames, labels), one-hot")
        labels = jnp.asarray(labels)
        classes = jnp.where((labels < 0).any(-1), -100, labels.argmax(-1))
        return losses.cross_entropy_sum(logits.reshape(-1, logits.shape[-1]), classes.reshape(-1))


# ---- speakers ---------------------------------------------------------------------------------------------------


class TDNNLayer(nnx.Module):
    """Dilated convolution of an x-vector network (Snyder et al. 2018); its kernel is stored as a linear layer."""

    def __init__(self, config: Wav2Vec2Config, index: int, types: Precision) -> None:
        inputs = config.tdnn_dim[max(index - 1, 0)]
        self.kernel_size, self.dilation = config.tdnn_kernel[index], config.tdnn_dilation[index]
        self.kernel = layers.Linear(inputs * self.kernel_size, config.tdnn_dim[index], types)

    def __call__(self, x: Array) -> Array:
        """(batch, frames, tdnn_dim[index - 1]) -> (batch, frames - dilation * (kernel - 1), tdnn_dim[index])."""
        kernel, bias = layers.value(self.kernel.kernel), layers.value(self.kernel.bias)
        return jax.nn.relu(layers.dilated_conv(x, kernel, bias, self.kernel_size, self.dilation))


class AMSoftmaxLoss(nnx.Module):
    """Holds a direction vector for each training speaker."""

    def __init__(self, config: Wav2Vec2Config, types: Precision) -> None:
        self.weight = layers.parameter((config.xvector_output_dim, config.num_labels or 0), types)

    def __call__(self, embeddings: Array, labels: Array) -> Array:
        """(batch, xvector_output_dim) and (batch,) speaker numbers -> scalar loss."""
        return _mean(self.loss_sum(embeddings, labels))

    def loss_sum(self, embeddings: Array, labels: Array) -> tuple[Array, Array]:
        """The sum of which the loss is the mean, and the number of speakers that count."""
        logits = losses.am_softmax_logits(embeddings, layers.value(self.weight), labels)
        return losses.cross_entropy_sum(logits, labels.reshape(-1))


class FlaxWav2Vec2ForXVector(_Classifier):
    """Speaker embeddings: a time-delay network, statistics over time and two linear layers."""

    head = "ForXVector"

    def build(self, config: Wav2Vec2Config, types: Precision) -> None:
        """Create the submodules."""
        _refuse_other_width(config, self.head)
        self.build_body(config, types)
        self.projector = layers.Linear(config.hidden_size, config.tdnn_dim[0], types)
        self.tdnn = nnx.List(TDNNLayer(config, index, types) for index in range(len(config.tdnn_dim)))
        self.feature_extractor = layers.Linear(2 * config.tdnn_dim[-1], config.xvector_output_dim, types)
        self.classifier = layers.Linear(config.xvector_output_dim, config.xvector_output_dim, types)
        self.objective = AMSoftmaxLoss(config, types)

    def forward(
        self,
        input_values: Any,
        attention_mask: Any = None,
        mask_time_indices: Any = None,
        *,
        labels: Any = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        **options: Any,
    ) -> XVectorOutput | tuple[Any, ...]:
        """Embed speakers; compare ``embeddings`` by cosine.

        Args:
            labels: (batch,) speaker numbers, for the additive-margin softmax.
            others: as in ``FlaxWav2Vec2Model``.

        Raises:
            InputError: a shape is invalid, an utterance is too short, a label is not below ``num_labels``, or
                training has no key.
        """
        options["mask_time_indices"] = mask_time_indices
        hidden, outputs = self.encode(input_values, attention_mask, output_hidden_states, **options)
        embeddings = self.vectors(hidden, self.frame_lengths(attention_mask))
        logits = self.classifier(embeddings)
        loss = None if labels is None else _mean(self.loss_sum(logits, labels))
        output = XVectorOutput(
            loss=loss,
            logits=logits,
            embeddings=embeddings,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )
        return self.as_requested(output, return_dict)

    def vectors(self, hidden: Array, lengths: Array | None) -> Array:
        """Speaker vectors: (batch, frames, hidden), of which (batch,) are valid -> (batch, xvector_output_dim).

        Raises ``InputError`` where an utterance is too short.
        """
        hidden = self.projector(hidden)
        self.check_frames(hidden.shape[1], dilated=True)
        for layer in self.tdnn:
            hidden = layer(hidden)
        mask = None if lengths is None else self._pooling_mask(lengths, hidden.shape[1])
        return self.feature_extractor(jnp.concatenate(layers.masked_mean_and_std(hidden, mask), axis=-1))

    def scores(self, hidden: Array, lengths: Array | None) -> Array:
        """The classifier's output for ``vectors``, in the same shape."""
        return self.classifier(self.vectors(hidden, lengths))

    def loss_sum(self, logits: Array, labels: Any) -> tuple[Array, Array]:
        """The sum of additive-margin losses of (batch, xvector_output_dim) and (batch,) speakers, and their number."""
        return self.objective.loss_sum(logits, check_classes(labels, self.config))

    def _pooling_mask(self, lengths: Array, frames: int) -> Array:
        """(batch, frames) bool, frames of the last TDNN layer to take statistics of.

        transformers counts the frames lost to kernels but not to their dilation, so it pools some frames that see
        padding. ``masked_group_norm`` pools those that see none.
        """
        dilated = self.config.masked_group_norm
        if not layers.is_tracing(lengths):
            self.check_frames(int(lengths.min()), dilated)
        return layers.frame_mask(lengths - self._context(dilated), frames)

    def check_frames(self, frames: int, dilated: bool) -> None:
        """Check that the time-delay network and its statistics have frames enough. Raises ``InputError``."""
        needed = self._context(dilated) + 2  # a standard deviation needs two frames
        if frames < needed:
            raise InputError(
                f"an utterance has {frames} frames, the x-vector network needs {needed}: "
                "leave it out or use a longer one"
            )

    def _context(self, dilated: bool) -> int:
        """Frames that the time-delay network loses."""
        dilations = self.config.tdnn_dilation if dilated else (1,) * len(self.tdnn)
        return sum(dilation * (kernel - 1) for kernel, dilation in zip(self.config.tdnn_kernel, dilations, strict=True))


# ---- rules ------------------------------------------------------------------------------------------------------


def _mean(summed: tuple[Array, Array]) -> Array:
    total, count = summed
    return total / count


def check_classes(labels: Any, config: Wav2Vec2Config) -> Array:
    """Class numbers (batch,), checked against ``num_labels``. Raises ``InputError``."""
    labels = jnp.asarray(labels)
    if not layers.is_tracing(labels) and labels.size > 0:
        remedy = "set num_labels or id2label to the classes of the data"
        check_largest("labels", int(labels.max()), config.num_labels or 0, remedy)
    return labels


def _refuse_fewer_frames(quantized: int, projected: int) -> None:
    if projected != quantized:
        raise InputError(
            f"the adapter shortens {quantized} frames to {projected}, the contrastive loss "
            "compares them one by one: pretrain with add_adapter=False"
        )


def _refuse_adapter(config: Wav2Vec2Config, head: str) -> None:
    if config.add_adapter:
        raise ConfigError(f"add_adapter=True does not work with {head}: set add_adapter=False")


def _refuse_other_width(config: Wav2Vec2Config, head: str) -> None:
    if ctc_input_size(config) != config.hidden_size:
        raise ConfigError(
            f"output_hidden_size={config.output_hidden_size} with add_adapter=True differs from "
            f"hidden_size={config.hidden_size}, the width that {head} reads: make them equal or set add_adapter=False"
        )
