"""The five heads: pretraining, CTC, sequence and frame classification, x-vectors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from wav2vec2_core.checkpoint import HEAD, resize_head
from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.errors import ConfigError, InputError
from wav2vec2_core.inputs import check_draws, check_largest, check_letters, check_pretraining, check_targets
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
from wav2vec2_tf import layers, losses
from wav2vec2_tf.layers import Size, Tensor
from wav2vec2_tf.model import TFWav2Vec2Model
from wav2vec2_tf.pretrained import FOLLOWED, TFWav2Vec2PreTrainedModel
from wav2vec2_tf.weights import fill_weights, find_variable, to_array

#: Fields of pretraining that a tuple does not have.
DICT_ONLY = (
    "contrastive_loss", "diversity_loss", "contrastive_accuracy", "feature_penalty", "soft_codevector_perplexity",
    "hard_codevector_perplexity",
)  # fmt: skip
#: Name -> the sum of a loss over a batch, and the number of what it is the sum of.
Sums = dict[str, tuple[Tensor, Tensor]]

# ---- pretraining ------------------------------------------------------------------------------------------------


class GumbelVectorQuantizer(layers.Layer):
    """Product quantisation with a choice per group that gradients pass through (section 2 and equation 1)."""

    def __init__(self, config: Wav2Vec2Config) -> None:
        super().__init__(name="quantizer")
        self.groups, self.entries = config.num_codevector_groups, config.num_codevectors_per_group
        self.width = config.codevector_dim
        shape = (1, self.groups * self.entries, self.width // self.groups)
        self.codevectors = self.add_weight(shape=shape, initializer="zeros", name="codevectors")
        self.weight_proj = layers.linear(config.conv_dim[-1], self.groups * self.entries, "weight_proj")
        # A variable, so that graphs which exist already follow it. fairseq starts with 2; see set_gumbel_temperature.
        self.temperature = self.add_weight(
            shape=(), initializer=keras.initializers.Constant(2.0), trainable=False, dtype="float32", name="temperature"
        )

    def call(
        self, features: Tensor, counted: Tensor | None, noise: Tensor | None = None, training: bool | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor], Tensor]:
        """Choose codevectors.

        Args:
            features: (batch, frames, conv_dim[-1]).
            counted: (batch, frames) bool, frames that count for the perplexity; None for all.
            noise: (batch, frames, groups, entries) Gumbel noise of training, drawn where None.
            training: whether the choice is random.

        Returns:
            (batch, frames, codevector_dim); the perplexities (groups,) of the probabilities and of the most probable
            choices, both without noise; the numbers of the chosen codevectors, (batch, frames, groups).
        """
        shape = (layers.size(features, 0), layers.size(features, 1), self.groups, self.entries)
        logits = tf.cast(tf.reshape(self.weight_proj(features), shape), tf.float32)
        if training:
            noise = layers.gumbel_noise_like(logits) if noise is None else tf.cast(noise, tf.float32)
            layers.check_shape("gumbel_noise", noise, tuple(logits.shape), "(batch, frames, groups, entries)")
            choice = layers.hard_gumbel_softmax(logits, noise, tf.convert_to_tensor(self.temperature))
        else:
            choice = layers.one_hot_argmax(logits)
        soft, hard = (
            losses.perplexities_of_sums(*layers.of_all_shares(*losses.codevector_sums(shares, counted)))
            for shares in (tf.nn.softmax(logits), layers.one_hot_argmax(logits))
        )
        codebook = tf.reshape(self.codevectors, (self.groups, self.entries, -1))
        chosen = tf.einsum("btge,ged->btgd", tf.cast(choice, codebook.dtype), codebook)
        return tf.reshape(chosen, (shape[0], shape[1], self.width)), (soft, hard), tf.argmax(choice, axis=-1)


@layers.savable
class TFWav2Vec2ForPreTraining(TFWav2Vec2PreTrainedModel):
    """The body, a quantizer and the contrastive task: recognise the quantised vector of a masked frame."""

    head = "ForPreTraining"
    loss_is_mean = False

    def __init__(self, config: Wav2Vec2Config, **options: Any) -> None:
        super().__init__(config, **options)
        config = self.config
        _refuse_other_width(config, self.head)
        with self.construction():
            self.wav2vec2 = TFWav2Vec2Model(config, name="wav2vec2")
            self.dropout_features = keras.layers.Dropout(config.feat_quantizer_dropout)
            self.quantizer = GumbelVectorQuantizer(config)
            self.project_q = layers.linear(config.codevector_dim, config.proj_codevector_dim, "project_q")
            self.project_hid = layers.linear(config.hidden_size, config.proj_codevector_dim, "project_hid")

    def set_gumbel_temperature(self, temperature: float) -> None:
        """Set the temperature of the straight-through choice; pretraining lowers it from 2.0 to 0.5 (section 4.2)."""
        self.quantizer.temperature.assign(temperature)

    def call(
        self,
        input_values: Tensor,
        attention_mask: Tensor | None = None,
        mask_time_indices: Tensor | None = None,
        sampled_negative_indices: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        *,
        mask_feature_indices: Tensor | None = None,
        layer_keep: Tensor | None = None,
        gumbel_noise: Tensor | None = None,
        sampled_negative_counts: Tensor | None = None,
        training: bool | None = None,
    ) -> Wav2Vec2ForPreTrainingOutput | tuple[Any, ...]:
        """Project context representations and quantised features; with distractors, compute the losses too.

        Args:
            input_values, attention_mask, output_attentions, output_hidden_states, return_dict, mask_feature_indices,
                layer_keep, training: as in ``TFWav2Vec2Model``.
            mask_time_indices: (batch, frames) bool, masked frames; the losses need them.
            sampled_negative_indices: (batch, frames, negatives) positions of distractors in the flattened
                (batch * frames) axis, of the same utterance, from ``wav2vec2_core.masking.negative_indices``.
            gumbel_noise: (batch, frames, groups, entries); drawn in training where None, not used otherwise.
            sampled_negative_counts: (batch, frames, frames), the same as counts, from
                ``wav2vec2_core.masking.count_negatives``; no losses where both are None.

        Raises:
            InputError: a shape is invalid, or distractors come without ``mask_time_indices``, with padding among them,
                or where masks are switched off.
        """
        draws = {
            "mask_time_indices": mask_time_indices,
            "sampled_negative_indices": sampled_negative_indices,
            "sampled_negative_counts": sampled_negative_counts,
        }
        draws = {name: tensor for name, tensor in draws.items() if tensor is not None}
        has_losses = check_pretraining(self.config, draws)
        outputs = self.wav2vec2(
            input_values,
            attention_mask,
            mask_time_indices,
            output_attentions,
            output_hidden_states,
            return_dict=True,
            mask_feature_indices=mask_feature_indices,
            layer_keep=layer_keep,
            output_feature_penalty=has_losses,
            training=training,
        )
        projected = self.scores(outputs.last_hidden_state, None)
        mask = None if mask_time_indices is None else tf.cast(mask_time_indices, tf.bool)
        features = self.dropout_features(outputs.extract_features, training=training)
        quantized, (soft, hard), codes = self.quantizer(features, mask, gumbel_noise, training=training)
        quantized = self.project_q(quantized)
        perplexity = tf.reduce_sum(soft if training else hard)
        terms: dict[str, Tensor] = {}
        if mask is not None and has_losses:
            if self.config.add_adapter:
                _refuse_fewer_frames(layers.size(quantized, 1), layers.size(projected, 1))
            counts = self._distractors(draws, attention_mask)
            penalty = outputs.feature_penalty
            terms = self._pretraining_losses(projected, quantized, codes, counts, mask, perplexity, penalty)
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

    def scores(self, hidden: Tensor, lengths: Tensor | None) -> Tensor:
        """Predictions of quantised vectors: (batch, frames, hidden) -> (batch, frames, proj_codevector_dim)."""
        return self.project_hid(hidden)

    def loss_sums(self, output: ModelOutput, batch: Mapping[str, Tensor]) -> Sums:
        """Losses as sums over masked frames with their number, and what else was measured times it.

        ``output``: of a call with ``batch``, distractors in it. Perplexities of groups are numbered from 0.
        """
        frames = tf.reduce_sum(tf.cast(batch["mask_time_indices"], tf.int32))
        number = tf.cast(frames, tf.float32)
        sums = {name: output[name] for name in ("loss", "contrastive_loss", "diversity_loss")}
        for name in ("codevector_perplexity", "contrastive_accuracy", "feature_penalty"):
            sums[name] = output[name] * number
        for kind in ("soft", "hard"):
            for group in range(self.quantizer.groups):
                sums[f"{kind}_perplexity_{group}"] = output[f"{kind}_codevector_perplexity"][group] * number
        return {name: (total, frames) for name, total in sums.items()}

    def _distractors(self, draws: Mapping[str, Tensor], attention_mask: Tensor | None) -> Tensor:
        """Distractors as counts (batch, frames, frames), from those of a call, which are checked."""
        batch, width = draws["mask_time_indices"].shape
        indices, counts = draws.get("sampled_negative_indices"), draws.get("sampled_negative_counts")
        if indices is not None:
            expected = (batch, width, indices.shape[-1])
            layers.check_shape("sampled_negative_indices", indices, expected, "(batch, frames, negatives)")
        if counts is not None:
            layers.check_shape("sampled_negative_counts", counts, (batch, width, width), "(batch, frames, frames)")
        if not layers.is_tracing():
            samples = None if attention_mask is None else np.asarray(attention_mask).sum(1)
            check_draws(self.config, {name: np.asarray(tensor) for name, tensor in draws.items()}, samples)
        return counts if counts is not None else losses.count_distractors(draws["sampled_negative_indices"])

    def _pretraining_losses(
        self,
        projected: Tensor,
        quantized: Tensor,
        codes: Tensor,
        counts: Tensor,
        mask: Tensor,
        perplexity: Tensor,
        penalty: Tensor,
    ) -> dict[str, Tensor]:
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
            loss = loss + config.feature_penalty_weight * penalty * tf.reduce_sum(tf.cast(mask, tf.float32))
        return {
            "loss": loss,
            "contrastive_loss": contrastive,
            "diversity_loss": diversity,
            "contrastive_accuracy": losses.contrastive_accuracy(tf.stop_gradient(similarity), competing, mask),
            "feature_penalty": penalty,
        }

    @staticmethod
    def compute_contrastive_logits(
        target_features: Tensor, negative_features: Tensor, predicted_features: Tensor, temperature: float = 0.1
    ) -> Tensor:
        """``losses.contrastive_logits`` under the name that training scripts call."""
        return losses.contrastive_logits(target_features, negative_features, predicted_features, temperature)


# ---- speech recognition -----------------------------------------------------------------------------------------


@layers.savable
class TFWav2Vec2ForCTC(TFWav2Vec2PreTrainedModel):
    """The body and a linear map to letters, trained with CTC (section 3.3)."""

    head = "ForCTC"

    def __init__(self, config: Wav2Vec2Config, **options: Any) -> None:
        super().__init__(config, **options)
        config = self.config
        with self.construction():
            self.wav2vec2 = TFWav2Vec2Model(config, name="wav2vec2")
            self.dropout = keras.layers.Dropout(config.final_dropout)
            self.lm_head = layers.linear(ctc_input_size(config), config.vocab_size, "lm_head")
        self.loss_is_mean = config.ctc_loss_reduction == "mean"

    def call(
        self,
        input_values: Tensor,
        attention_mask: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        labels: Tensor | None = None,
        *,
        mask_time_indices: Tensor | None = None,
        mask_feature_indices: Tensor | None = None,
        layer_keep: Tensor | None = None,
        training: bool | None = None,
    ) -> CausalLMOutput | tuple[Any, ...]:
        """Letters for every frame and, with labels, the CTC loss.

        Args:
            labels: (batch, letters), token numbers below ``vocab_size``; negative entries are padding.
            others: as in ``TFWav2Vec2Model``.

        Raises:
            InputError: a shape is invalid, or a label is not below ``vocab_size``.
        """
        outputs = self.wav2vec2(
            input_values,
            attention_mask,
            mask_time_indices,
            output_attentions,
            output_hidden_states,
            return_dict=True,
            mask_feature_indices=mask_feature_indices,
            layer_keep=layer_keep,
            training=training,
        )
        logits = self.scores(self.dropout(outputs.last_hidden_state, training=training), None)
        loss = None
        if labels is not None:
            loss = self._ctc(losses.ctc_loss, logits, input_values, attention_mask, labels)
        output = CausalLMOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )
        return self.as_requested(output, return_dict)

    def scores(self, hidden: Tensor, lengths: Tensor | None) -> Tensor:
        """Letters: (batch, frames, hidden) -> (batch, frames, vocab)."""
        return self.lm_head(hidden)

    def loss_sums(self, output: ModelOutput, batch: Mapping[str, Tensor]) -> Sums:
        """The loss as a sum with the number of utterances or letters: see ``losses.ctc_loss_sum``.

        ``output``: of a call with ``batch``, labels or not.
        """
        given = batch["input_values"], batch.get("attention_mask"), batch["labels"]
        return {"loss": self._ctc(losses.ctc_loss_sum, output["logits"], *given)}

    def _ctc(
        self,
        function: Callable[..., Any],
        logits: Tensor,
        input_values: Tensor,
        attention_mask: Tensor | None,
        labels: Tensor,
    ) -> Any:
        """``losses.ctc_loss`` or ``ctc_loss_sum`` as the configuration says; raises ``InputError``, ``ConfigError``."""
        config = self.config
        letters = labels.shape[-1] if len(labels.shape) else 0
        layers.check_shape("labels", labels, (input_values.shape[0], letters), "(batch, letters)")
        if config.pad_token_id is None or not 0 <= config.pad_token_id < config.vocab_size:
            raise ConfigError(
                f"pad_token_id={config.pad_token_id} is the blank of the CTC loss: set it to the pad token's number, "
                f"below vocab_size={config.vocab_size}"
            )
        if attention_mask is None:
            lengths = tf.fill((layers.size(input_values, 0),), layers.size(input_values, 1))
        else:
            lengths = tf.reduce_sum(tf.cast(attention_mask, tf.int32), axis=1)
        frames = config.num_frames(lengths)
        if not layers.is_tracing():
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

        ``config.vocab_size`` and ``config.pad_token_id`` follow: call ``compile`` after this, not before.

        Args:
            old, new: tokenizers of the vocabulary that the head has and of the one that it gets.
            seed: of the first values, which are the same in every back end.

        Returns:
            The tokens that have kept their rows: see ``wav2vec2_core.checkpoint.shared_rows``.

        Raises:
            InputError: ``new`` has no blank.
        """
        arrays = {name: to_array(*find_variable(self, name)) for name in HEAD}
        resized = resize_head(self.config, arrays, old, new, seed=seed)
        self._resize_vocabulary(resized.config)
        fill_weights(self, resized.arrays.items())
        return resized.kept

    def _resize_vocabulary(self, config: Wav2Vec2Config) -> None:
        trainable = self.trainable_names()
        if config.vocab_size != self.config.vocab_size:
            with layers.dtype_policy(self.dtype_policy):
                head = layers.linear(ctc_input_size(config), config.vocab_size, "lm_head")
            layers.forget(self, self.lm_head)
            self.lm_head = head
        self.config = self.wav2vec2.config = config.bound(FOLLOWED)
        self.set_trainable(trainable)


# ---- classification ---------------------------------------------------------------------------------------------


class _Classifier(TFWav2Vec2PreTrainedModel):
    """Base of the classification heads: they read the last hidden states or a learned mixture of all."""

    def build_body(self, config: Wav2Vec2Config) -> None:
        """Create the body and the mixture weights."""
        self.wav2vec2 = TFWav2Vec2Model(config, name="wav2vec2")
        self.layer_weights = None
        if config.use_weighted_layer_sum:
            self.layer_weights = self.add_weight(
                shape=(config.num_hidden_layers + 1,), initializer="zeros", name="layer_weights"
            )

    def encode(
        self, input_values: Tensor, attention_mask: Tensor | None, output_hidden_states: bool | None, **options: Any
    ) -> tuple[Tensor, Wav2Vec2BaseModelOutput]:
        """Run the body: (batch, frames, hidden) states for the head, and all outputs."""
        if self.layer_weights is not None:
            output_hidden_states = True
        outputs = self.wav2vec2(
            input_values, attention_mask, output_hidden_states=output_hidden_states, return_dict=True, **options
        )
        mixes = self.layer_weights is not None
        return self.mixed(outputs.hidden_states) if mixes else outputs.last_hidden_state, outputs

    def shares(self) -> Tensor:
        """(layers + 1,) of each layer in the mixture; of a model that has one."""
        assert self.layer_weights is not None
        return tf.nn.softmax(tf.convert_to_tensor(self.layer_weights))

    def mixed(self, states: Sequence[Tensor]) -> Tensor:
        """The mixture of (batch, frames, hidden) each, the first layer's input and every layer's output."""
        return tf.einsum("l,lbtd->btd", self.shares(), tf.stack(list(states)))

    def head_frames(self, frames: Any) -> Any:
        """As of any model; a mixture is of states before the convolutional adapter."""
        return super().head_frames(frames) if self.layer_weights is None else frames

    def frame_lengths(self, attention_mask: Tensor | None) -> Tensor | None:
        """(batch,) frames of the states that ``encode`` returns; None where all are valid."""
        if attention_mask is None:
            return None
        samples = tf.reduce_sum(tf.cast(attention_mask, tf.int32), axis=1)
        return self.head_frames(self.config.num_frames(samples, add_adapter=False))

    def loss_sums(self, output: ModelOutput, batch: Mapping[str, Tensor]) -> Sums:
        """The loss as a sum with the number of labels; ``output``: of a call with ``batch``, labels or not."""
        return {"loss": self.loss_sum(output["logits"], batch["labels"])}

    def loss_sum(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The sum of which the loss is the mean, and the number of labels that count. Raises ``InputError``."""
        raise NotImplementedError


class TanhClassifier(layers.Layer):
    """Labels by two layers with tanh between them: the head of emotion models of the community."""

    def __init__(self, config: Wav2Vec2Config, name: str | None = None) -> None:
        super().__init__(name)
        self.dense = layers.linear(config.hidden_size, config.hidden_size, "dense")
        self.out_proj = layers.linear(config.hidden_size, config.num_labels or 0, "out_proj")

    def call(self, pooled: Tensor) -> Tensor:
        """(batch, hidden) -> (batch, labels)."""
        return self.out_proj(tf.tanh(self.dense(pooled)))


@layers.savable
class TFWav2Vec2ForSequenceClassification(_Classifier):
    """One class for a whole utterance: language, emotion, keyword ...; or values of it, such as arousal."""

    head = "ForSequenceClassification"

    def __init__(self, config: Wav2Vec2Config, **options: Any) -> None:
        super().__init__(config, **options)
        config = self.config
        _refuse_adapter(config, self.head)
        with self.construction():
            self.build_body(config)
            if config.classifier_head == "tanh":
                self.projector, self.classifier = None, TanhClassifier(config, name="classifier")
            else:
                self.projector = layers.linear(config.hidden_size, config.classifier_proj_size, "projector")
                self.classifier = layers.linear(config.classifier_proj_size, config.num_labels or 0, "classifier")

    def call(
        self,
        input_values: Tensor,
        attention_mask: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        labels: Tensor | None = None,
        *,
        mask_time_indices: Tensor | None = None,
        mask_feature_indices: Tensor | None = None,
        layer_keep: Tensor | None = None,
        training: bool | None = None,
    ) -> SequenceClassifierOutput | tuple[Any, ...]:
        """Classify utterances by the mean of their frames.

        Args:
            labels: (batch,) class numbers, for the cross entropy; or values, for the squared error, see
                ``inputs.check_targets``.
            others: as in ``TFWav2Vec2Model``.

        Raises:
            InputError: a shape is invalid, or a label is not below ``num_labels``.
        """
        hidden, outputs = self.encode(
            input_values,
            attention_mask,
            output_hidden_states,
            output_attentions=output_attentions,
            mask_time_indices=mask_time_indices,
            mask_feature_indices=mask_feature_indices,
            layer_keep=layer_keep,
            training=training,
        )
        logits = self.scores(hidden, self.frame_lengths(attention_mask))
        loss = None if labels is None else _mean(self.loss_sum(logits, labels))
        output = SequenceClassifierOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )
        return self.as_requested(output, return_dict)

    def scores(self, hidden: Tensor, lengths: Tensor | None) -> Tensor:
        """Classes of utterances: (batch, frames, hidden), of which (batch,) are valid -> (batch, labels)."""
        return self.classified(self.pooled(hidden, lengths))

    def pooled(self, hidden: Tensor, lengths: Tensor | None) -> Tensor:
        """Means of the valid frames, (batch, size); those of stretches, weighed by their frames, give the whole's."""
        hidden = hidden if self.projector is None else self.projector(hidden)
        mask = None if lengths is None else layers.frame_mask(lengths, layers.size(hidden, 1))
        return layers.masked_mean(hidden, mask)

    def classified(self, pooled: Tensor) -> Tensor:
        """(batch, size) of ``pooled`` -> (batch, labels)."""
        return self.classifier(pooled)

    def loss_sum(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The sum of cross entropies or squared errors of (batch, labels), and their number."""
        labels = tf.convert_to_tensor(labels)
        if check_targets(self.config, labels.shape, labels.shape[0], are_numbers=labels.dtype.is_floating):
            return losses.squared_error_sum(logits, labels)
        check_classes(labels, self.config)
        return losses.cross_entropy_sum(logits, tf.reshape(labels, (-1,)))


@layers.savable
class TFWav2Vec2ForAudioFrameClassification(_Classifier):
    """One class for every frame: voice activity, diarization ..."""

    head = "ForAudioFrameClassification"

    def __init__(self, config: Wav2Vec2Config, **options: Any) -> None:
        super().__init__(config, **options)
        config = self.config
        _refuse_adapter(config, self.head)
        with self.construction():
            self.build_body(config)
            self.classifier = layers.linear(config.hidden_size, config.num_labels or 0, "classifier")

    def call(
        self,
        input_values: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        *,
        mask_time_indices: Tensor | None = None,
        mask_feature_indices: Tensor | None = None,
        layer_keep: Tensor | None = None,
        training: bool | None = None,
    ) -> TokenClassifierOutput | tuple[Any, ...]:
        """Classify frames.

        Args:
            labels: (batch, frames, labels), one-hot, for the cross entropy over all frames but those with a negative
                entry.
            others: as in ``TFWav2Vec2Model``.

        Raises:
            InputError: a shape is invalid.
        """
        hidden, outputs = self.encode(
            input_values,
            attention_mask,
            output_hidden_states,
            output_attentions=output_attentions,
            mask_time_indices=mask_time_indices,
            mask_feature_indices=mask_feature_indices,
            layer_keep=layer_keep,
            training=training,
        )
        logits = self.scores(hidden, self.frame_lengths(attention_mask))
        loss = None if labels is None else _mean(self.loss_sum(logits, labels))
        output = TokenClassifierOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )
        return self.as_requested(output, return_dict)

    def scores(self, hidden: Tensor, lengths: Tensor | None) -> Tensor:
        """Classes of frames: (batch, frames, hidden) -> (batch, frames, labels)."""
        return self.classifier(hidden)

    def loss_sum(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The sum of cross entropies of (batch, frames, labels) and one-hot labels, and the number of frames."""
        layers.check_shape("labels", labels, tuple(logits.shape), "(batch, frames, labels), one-hot")
        classes = tf.argmax(labels, axis=-1, output_type=tf.int32)
        classes = tf.where(tf.reduce_any(labels < 0, axis=-1), tf.constant(-100), classes)
        return losses.cross_entropy_sum(tf.reshape(logits, (-1, logits.shape[-1])), tf.reshape(classes, (-1,)))


# ---- speakers ---------------------------------------------------------------------------------------------------


class TDNNLayer(layers.Layer):
    """Dilated convolution of an x-vector network (Snyder et al. 2018); its kernel is stored as a linear layer."""

    def __init__(self, config: Wav2Vec2Config, index: int) -> None:
        super().__init__(name=f"tdnn_{index}")
        inputs = config.tdnn_dim[max(index - 1, 0)]
        self.kernel_size, self.dilation = config.tdnn_kernel[index], config.tdnn_dilation[index]
        self.kernel = layers.linear(inputs * self.kernel_size, config.tdnn_dim[index], "kernel")

    def call(self, x: Tensor) -> Tensor:
        """(batch, frames, tdnn_dim[index - 1]) -> (batch, frames - dilation * (kernel - 1), tdnn_dim[index])."""
        frames = layers.size(x, 1) - self.dilation * (self.kernel_size - 1)
        starts = [position * self.dilation for position in range(self.kernel_size)]
        return tf.nn.relu(self.kernel(tf.concat([x[:, start : start + frames] for start in starts], axis=-1)))


class AMSoftmaxLoss(layers.Layer):
    """Holds a direction vector for each training speaker."""

    def __init__(self, config: Wav2Vec2Config) -> None:
        super().__init__(name="objective")
        shape = (config.xvector_output_dim, config.num_labels or 0)
        self.weight = self.add_weight(shape=shape, initializer="zeros", name="weight")

    def call(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """(batch, xvector_output_dim) and (batch,) speaker numbers -> scalar loss."""
        return _mean(self.loss_sum(embeddings, labels))

    def loss_sum(self, embeddings: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The sum of which the loss is the mean, and the number of speakers that count."""
        logits = losses.am_softmax_logits(embeddings, tf.convert_to_tensor(self.weight), labels)
        return losses.cross_entropy_sum(logits, tf.reshape(labels, (-1,)))


@layers.savable
class TFWav2Vec2ForXVector(_Classifier):
    """Speaker embeddings: a time-delay network, statistics over time and two linear layers."""

    head = "ForXVector"

    def __init__(self, config: Wav2Vec2Config, **options: Any) -> None:
        super().__init__(config, **options)
        config = self.config
        _refuse_other_width(config, self.head)
        with self.construction():
            self.build_body(config)
            self.projector = layers.linear(config.hidden_size, config.tdnn_dim[0], "projector")
            self.tdnn = [TDNNLayer(config, index) for index in range(len(config.tdnn_dim))]
            self.feature_extractor = layers.linear(
                2 * config.tdnn_dim[-1], config.xvector_output_dim, "feature_extractor"
            )
            self.classifier = layers.linear(config.xvector_output_dim, config.xvector_output_dim, "classifier")
            self.objective = AMSoftmaxLoss(config)

    def call(
        self,
        input_values: Tensor,
        attention_mask: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        labels: Tensor | None = None,
        *,
        mask_time_indices: Tensor | None = None,
        mask_feature_indices: Tensor | None = None,
        layer_keep: Tensor | None = None,
        training: bool | None = None,
    ) -> XVectorOutput | tuple[Any, ...]:
        """Embed speakers; compare ``embeddings`` by cosine.

        Args:
            labels: (batch,) speaker numbers, for the additive-margin softmax.
            others: as in ``TFWav2Vec2Model``.

        Raises:
            InputError: a shape is invalid, an utterance is too short, or a label is not below ``num_labels``.
        """
        hidden, outputs = self.encode(
            input_values,
            attention_mask,
            output_hidden_states,
            output_attentions=output_attentions,
            mask_time_indices=mask_time_indices,
            mask_feature_indices=mask_feature_indices,
            layer_keep=layer_keep,
            training=training,
        )
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

    def vectors(self, hidden: Tensor, lengths: Tensor | None) -> Tensor:
        """Speaker vectors: (batch, frames, hidden), of which (batch,) are valid -> (batch, xvector_output_dim).

        Raises ``InputError`` where an utterance is too short.
        """
        hidden = self.projector(hidden)
        if hidden.shape[1] is not None:
            self.check_frames(hidden.shape[1], dilated=True)
        for layer in self.tdnn:
            hidden = layer(hidden)
        mask = None if lengths is None else self._pooling_mask(lengths, layers.size(hidden, 1))
        return self.feature_extractor(tf.concat(layers.masked_mean_and_std(hidden, mask), axis=-1))

    def scores(self, hidden: Tensor, lengths: Tensor | None) -> Tensor:
        """The classifier's output for ``vectors``, in the same shape."""
        return self.classifier(self.vectors(hidden, lengths))

    def loss_sum(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The sum of additive-margin losses of (batch, xvector_output_dim) and (batch,) speakers, and their number."""
        check_classes(labels, self.config)
        return self.objective.loss_sum(logits, labels)

    def _pooling_mask(self, lengths: Tensor, frames: Size) -> Tensor:
        """(batch, frames) bool, frames of the last TDNN layer to take statistics of.

        transformers counts the frames lost to kernels but not to their dilation, so it pools some frames that see
        padding. ``masked_group_norm`` pools those that see none.
        """
        dilated = self.config.masked_group_norm
        if not layers.is_tracing():
            self.check_frames(int(tf.reduce_min(lengths)), dilated)
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


def _mean(summed: tuple[Tensor, Tensor]) -> Tensor:
    total, count = summed
    return total / tf.cast(count, total.dtype)


def check_classes(labels: Tensor, config: Wav2Vec2Config) -> None:
    """Check class numbers (batch,) against ``num_labels``. Raises ``InputError``."""
    _check_largest(labels, config.num_labels or 0, "set num_labels or id2label to the classes of the data")


def _check_largest(labels: Tensor, limit: int, remedy: str) -> None:
    if not layers.is_tracing() and int(tf.size(labels)) > 0:
        check_largest("labels", int(tf.reduce_max(labels)), limit, remedy)


def _refuse_fewer_frames(quantized: Size, projected: Size) -> None:
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
