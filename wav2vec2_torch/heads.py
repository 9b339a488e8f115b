"""The five heads: pretraining, CTC, sequence and frame classification, x-vectors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

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
from wav2vec2_torch import layers, losses
from wav2vec2_torch.dropout import Dropout
from wav2vec2_torch.model import Wav2Vec2Model
from wav2vec2_torch.pretrained import FOLLOWED, Wav2Vec2PreTrainedModel
from wav2vec2_torch.weights import fill_weights, to_array

#: Fields of pretraining that a tuple does not have.
DICT_ONLY = (
    "contrastive_loss", "diversity_loss", "contrastive_accuracy", "feature_penalty", "soft_codevector_perplexity",
    "hard_codevector_perplexity",
)  # fmt: skip
#: Name -> the sum of a loss over a batch, and the number of what it is the sum of.
Sums = dict[str, tuple[Tensor, Tensor]]

# ---- pretraining ------------------------------------------------------------------------------------------------


class GumbelVectorQuantizer(nn.Module):
    """Product quantisation with a choice per group that gradients pass through (section 2 and equation 1)."""

    def __init__(self, config: Wav2Vec2Config) -> None:
        super().__init__()
        self.groups, self.entries = config.num_codevector_groups, config.num_codevectors_per_group
        self.codevectors = nn.Parameter(
            torch.empty(1, self.groups * self.entries, config.codevector_dim // self.groups)
        )
        self.weight_proj = nn.Linear(config.conv_dim[-1], self.groups * self.entries)
        self.temperature = 2.0  # fairseq starts here and anneals; see set_gumbel_temperature

    def forward(
        self, features: Tensor, mask: Tensor | None, noise: Tensor | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor], Tensor]:
        """Choose codevectors.

        Args:
            features: (batch, frames, conv_dim[-1]).
            mask: (batch, frames) bool, frames that count for the perplexity; None for all.
            noise: (batch, frames, groups, entries) Gumbel noise of training, drawn where None.

        Returns:
            (batch, frames, codevector_dim); the perplexities (groups,) of the probabilities and of the most probable
            choices, both without noise; the numbers of the chosen codevectors, (batch, frames, groups).
        """
        logits = self.weight_proj(features).unflatten(2, (self.groups, self.entries)).float()
        if self.training:
            noise = layers.gumbel_noise_like(logits) if noise is None else noise.float()
            check_shape("gumbel_noise", noise.shape, logits.shape, "(batch, frames, groups, entries)")
            choice = layers.hard_gumbel_softmax(logits, noise, self.temperature)
        else:
            choice = layers.one_hot_argmax(logits)
        soft, hard = (
            losses.perplexities_of_sums(*layers.of_all_shares(*losses.codevector_sums(shares, mask)))
            for shares in (F.softmax(logits, dim=-1), layers.one_hot_argmax(logits))
        )
        codebook = self.codevectors.view(self.groups, self.entries, -1)
        chosen = torch.einsum("btge,ged->btgd", choice.to(codebook.dtype), codebook)
        return chosen.flatten(2), (soft, hard), choice.argmax(-1)


class Wav2Vec2ForPreTraining(Wav2Vec2PreTrainedModel):
    """The body, a quantizer and the contrastive task: recognise the quantised vector of a masked frame."""

    head = "ForPreTraining"

    def __init__(self, config: Wav2Vec2Config) -> None:
        super().__init__(config)
        config = self.config
        _refuse_other_width(config, self.head)
        with self.construction():
            self.wav2vec2 = Wav2Vec2Model(config)
            self.dropout_features = Dropout(config.feat_quantizer_dropout)
            self.quantizer = GumbelVectorQuantizer(config)
            self.project_q = nn.Linear(config.codevector_dim, config.proj_codevector_dim)
            self.project_hid = nn.Linear(config.hidden_size, config.proj_codevector_dim)

    def set_gumbel_temperature(self, temperature: float) -> None:
        """Set the temperature of the straight-through choice; pretraining lowers it from 2.0 to 0.5 (section 4.2)."""
        self.quantizer.temperature = temperature

    def forward(
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
    ) -> Wav2Vec2ForPreTrainingOutput | tuple[Any, ...]:
        """Project context representations and quantised features; with distractors, compute the losses too.

        Args:
            input_values, attention_mask, output_attentions, output_hidden_states, return_dict, mask_feature_indices,
                layer_keep: as in ``Wav2Vec2Model``.
            mask_time_indices: (batch, frames) bool, masked frames; the losses need them.
            sampled_negative_indices: (batch, frames, negatives) positions of distractors in the flattened
                (batch * frames) axis, of the same utterance, from ``wav2vec2_core.masking.negative_indices``.
            gumbel_noise: (batch, frames, groups, entries); drawn in training where None, not used in eval mode.
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
        )
        projected = self.scores(outputs.last_hidden_state, None)
        mask = None if mask_time_indices is None else mask_time_indices.bool()
        quantized, (soft, hard), codes = self.quantizer(
            self.dropout_features(outputs.extract_features), mask, gumbel_noise
        )
        quantized = self.project_q(quantized)
        perplexity = (soft if self.training else hard).sum()
        terms: dict[str, Tensor] = {}
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

    def scores(self, hidden: Tensor, lengths: Tensor | None) -> Tensor:
        """Predictions of quantised vectors: (batch, frames, hidden) -> (batch, frames, proj_codevector_dim)."""
        return self.project_hid(hidden)

    def loss_sums(self, output: ModelOutput, batch: Mapping[str, Tensor]) -> Sums:
        """Losses as sums over masked frames with their number, and what else was measured times it.

        ``output``: of a call with ``batch``, distractors in it. Perplexities of groups are numbered from 0.
        """
        frames = batch["mask_time_indices"].sum()
        sums = {name: output[name] for name in ("loss", "contrastive_loss", "diversity_loss")}
        for name in ("codevector_perplexity", "contrastive_accuracy", "feature_penalty"):
            sums[name] = output[name] * frames
        for kind in ("soft", "hard"):
            for group in range(self.quantizer.groups):
                sums[f"{kind}_perplexity_{group}"] = output[f"{kind}_codevector_perplexity"][group] * frames
        return {name: (total, frames) for name, total in sums.items()}

    def _distractors(self, draws: Mapping[str, Tensor], attention_mask: Tensor | None) -> Tensor:
        """Distractors as counts (batch, frames, frames), from those of a call, which are checked."""
        batch, width = draws["mask_time_indices"].shape
        indices, counts = draws.get("sampled_negative_indices"), draws.get("sampled_negative_counts")
        if indices is not None:
            expected = (batch, width, indices.shape[-1])
            check_shape("sampled_negative_indices", indices.shape, expected, "(batch, frames, negatives)")
        if counts is not None:
            check_shape("sampled_negative_counts", counts.shape, (batch, width, width), "(batch, frames, frames)")
        if not layers.is_tracing():
            samples = None if attention_mask is None else attention_mask.long().sum(1).cpu().numpy()
            check_draws(self.config, {name: tensor.cpu().numpy() for name, tensor in draws.items()}, samples)
        return counts if counts is not None else losses.count_distractors(draws["sampled_negative_indices"])

    def _losses(
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
            loss = loss + config.feature_penalty_weight * penalty * mask.sum()
        return {
            "loss": loss,
            "contrastive_loss": contrastive,
            "diversity_loss": diversity,
            "contrastive_accuracy": losses.contrastive_accuracy(similarity.detach(), competing, mask),
            "feature_penalty": penalty,
        }

    @staticmethod
    def compute_contrastive_logits(
        target_features: Tensor, negative_features: Tensor, predicted_features: Tensor, temperature: float = 0.1
    ) -> Tensor:
        """``losses.contrastive_logits`` under the name that training scripts call."""
        return losses.contrastive_logits(target_features, negative_features, predicted_features, temperature)


# ---- speech recognition -----------------------------------------------------------------------------------------


class Wav2Vec2ForCTC(Wav2Vec2PreTrainedModel):
    """The body and a linear map to letters, trained with CTC (section 3.3)."""

    head = "ForCTC"

    def __init__(self, config: Wav2Vec2Config) -> None:
        super().__init__(config)
        config = self.config
        with self.construction():
            self.wav2vec2 = Wav2Vec2Model(config)
            self.dropout = Dropout(config.final_dropout)
            self.lm_head = nn.Linear(ctc_input_size(config), config.vocab_size)

    def forward(
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
    ) -> CausalLMOutput | tuple[Any, ...]:
        """Letters for every frame and, with labels, the CTC loss.

        Args:
            labels: (batch, letters), token numbers below ``vocab_size``; negative entries are padding.
            others: as in ``Wav2Vec2Model``.

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
        )
        logits = self.scores(self.dropout(outputs.last_hidden_state), None)
        loss = None
        if labels is not None:
            loss = self._ctc(losses.ctc_loss, logits, input_values, attention_mask, labels)
        output = CausalLMOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )
        return self.as_requested(output, return_dict)

    def scores(self, hidden: Tensor, lengths: Tensor | None) -> Tensor:
        """Letters: (batch, frames, hidden) -> (batch, frames, vocab)."""
        return layers.exactly(self.lm_head, hidden)

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
        batch, samples = input_values.shape
        letters = labels.shape[-1] if labels.dim() > 0 else 0
        check_shape("labels", labels.shape, (batch, letters), "(batch, letters)")
        if config.pad_token_id is None or not 0 <= config.pad_token_id < config.vocab_size:
            raise ConfigError(
                f"pad_token_id={config.pad_token_id} is the blank of the CTC loss: set it to the pad token's number, "
                f"below vocab_size={config.vocab_size}"
            )
        if attention_mask is None:
            lengths = torch.full((batch,), samples, device=labels.device)
        else:
            lengths = attention_mask.long().sum(1)
        frames = config.num_frames(lengths)
        if not layers.is_tracing():
            check_letters(config, labels.cpu().numpy(), frames.cpu().numpy())
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

        ``config.vocab_size`` and ``config.pad_token_id`` follow: make an optimizer after this call, not before.

        Args:
            old, new: tokenizers of the vocabulary that the head has and of the one that it gets.
            seed: of the first values, which are the same in every back end.

        Returns:
            The tokens that have kept their rows: see ``wav2vec2_core.checkpoint.shared_rows``.

        Raises:
            InputError: ``new`` has no blank.
        """
        arrays = {name: to_array(self.get_parameter(name)) for name in HEAD}
        resized = resize_head(self.config, arrays, old, new, seed=seed)
        self._resize_vocabulary(resized.config)
        fill_weights(self, resized.arrays.items())
        return resized.kept

    def _resize_vocabulary(self, config: Wav2Vec2Config) -> None:
        trainable = self.trainable_names()
        if config.vocab_size != self.config.vocab_size:
            old = self.lm_head
            self.lm_head = nn.Linear(
                old.in_features, config.vocab_size, device=old.weight.device, dtype=old.weight.dtype
            )
        self.config = self.wav2vec2.config = config.bound(FOLLOWED)
        self.set_trainable(trainable)


# ---- classification ---------------------------------------------------------------------------------------------


class _Classifier(Wav2Vec2PreTrainedModel):
    """Base of the classification heads: they read the last hidden states or a learned mixture of all."""

    wav2vec2: Wav2Vec2Model
    layer_weights: nn.Parameter | None

    def build_body(self, config: Wav2Vec2Config) -> None:
        """Create the body and the mixture weights."""
        self.wav2vec2 = Wav2Vec2Model(config)
        self.layer_weights = None
        if config.use_weighted_layer_sum:
            self.layer_weights = nn.Parameter(torch.empty(config.num_hidden_layers + 1))

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
        return F.softmax(self.layer_weights, dim=-1)

    def mixed(self, states: Sequence[Tensor]) -> Tensor:
        """The mixture of (batch, frames, hidden) each, the first layer's input and every layer's output."""
        return torch.einsum("l,lbtd->btd", self.shares(), torch.stack(list(states)))

    def head_frames(self, frames: Any) -> Any:
        """As of any model; a mixture is of states before the convolutional adapter."""
        return super().head_frames(frames) if self.layer_weights is None else frames

    def frame_lengths(self, attention_mask: Tensor | None) -> Tensor | None:
        """(batch,) frames of the states that ``encode`` returns; None where all are valid."""
        if attention_mask is None:
            return None
        return self.head_frames(self.config.num_frames(attention_mask.long().sum(1), add_adapter=False))

    def loss_sums(self, output: ModelOutput, batch: Mapping[str, Tensor]) -> Sums:
        """The loss as a sum with the number of labels; ``output``: of a call with ``batch``, labels or not."""
        return {"loss": self.loss_sum(output["logits"], batch["labels"].to(output["logits"].device))}

    def loss_sum(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The sum of which the loss is the mean, and the number of labels that count. Raises ``InputError``."""
        raise NotImplementedError


class TanhClassifier(nn.Module):
    """Labels by two layers with tanh between them: the head of emotion models of the community."""

    def __init__(self, config: Wav2Vec2Config) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.out_proj = nn.Linear(config.hidden_size, config.num_labels or 0)

    def forward(self, pooled: Tensor) -> Tensor:
        """(batch, hidden) -> (batch, labels)."""
        return layers.exactly(self.out_proj, torch.tanh(layers.exactly(self.dense, pooled)))


class Wav2Vec2ForSequenceClassification(_Classifier):
    """One class for a whole utterance: language, emotion, keyword ...; or values of it, such as arousal."""

    head = "ForSequenceClassification"

    def __init__(self, config: Wav2Vec2Config) -> None:
        super().__init__(config)
        config = self.config
        _refuse_adapter(config, self.head)
        with self.construction():
            self.build_body(config)
            if config.classifier_head == "tanh":
                self.projector, self.classifier = None, TanhClassifier(config)
            else:
                self.projector = nn.Linear(config.hidden_size, config.classifier_proj_size)
                self.classifier = nn.Linear(config.classifier_proj_size, config.num_labels or 0)

    def forward(
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
    ) -> SequenceClassifierOutput | tuple[Any, ...]:
        """Classify utterances by the mean of their frames.

        Args:
            labels: (batch,) class numbers, for the cross entropy; or values, for the squared error, see
                ``inputs.check_targets``.
            others: as in ``Wav2Vec2Model``.

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
        mask = None if lengths is None else layers.frame_mask(lengths, hidden.shape[1])
        return layers.masked_mean(hidden, mask)

    def classified(self, pooled: Tensor) -> Tensor:
        """(batch, size) of ``pooled`` -> (batch, labels)."""
        if isinstance(self.classifier, nn.Linear):
            return layers.exactly(self.classifier, pooled)
        return self.classifier(pooled)

    def loss_sum(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The sum of cross entropies or squared errors of (batch, labels), and their number."""
        if check_targets(self.config, labels.shape, len(logits), are_numbers=labels.is_floating_point()):
            return losses.squared_error_sum(logits, labels)
        check_classes(labels, self.config)
        return losses.cross_entropy_sum(logits, labels.flatten())


class Wav2Vec2ForAudioFrameClassification(_Classifier):
    """One class for every frame: voice activity, diarization ..."""

    head = "ForAudioFrameClassification"

    def __init__(self, config: Wav2Vec2Config) -> None:
        super().__init__(config)
        config = self.config
        _refuse_adapter(config, self.head)
        with self.construction():
            self.build_body(config)
            self.classifier = nn.Linear(config.hidden_size, config.num_labels or 0)

    def forward(
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
    ) -> TokenClassifierOutput | tuple[Any, ...]:
        """Classify frames.

        Args:
            labels: (batch, frames, labels), one-hot, for the cross entropy over all frames but those with a negative
                entry.
            others: as in ``Wav2Vec2Model``.

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
        )
        logits = self.scores(hidden, self.frame_lengths(attention_mask))
        loss = None if labels is None else _mean(self.loss_sum(logits, labels))
        output = TokenClassifierOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )
        return self.as_requested(output, return_dict)

    def scores(self, hidden: Tensor, lengths: Tensor | None) -> Tensor:
        """Classes of frames: (batch, frames, hidden) -> (batch, frames, labels)."""
        return layers.exactly(self.classifier, hidden)

    def loss_sum(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The sum of cross entropies of (batch, frames, labels) and one-hot labels, and the number of frames."""
        check_shape("labels", labels.shape, logits.shape, "(batch, frames, labels), one-hot")
        classes = torch.where((labels < 0).any(-1), -100, labels.argmax(-1))
        return losses.cross_entropy_sum(logits.flatten(0, 1), classes.flatten())


# ---- speakers ---------------------------------------------------------------------------------------------------


class TDNNLayer(nn.Module):
    """Dilated convolution of an x-vector network (Snyder et al. 2018); its kernel is stored as a linear layer."""

    def __init__(self, config: Wav2Vec2Config, index: int) -> None:
        super().__init__()
        inputs = config.tdnn_dim[max(index - 1, 0)]
        self.kernel_size, self.dilation = config.tdnn_kernel[index], config.tdnn_dilation[index]
        self.kernel = nn.Linear(inputs * self.kernel_size, config.tdnn_dim[index])

    def forward(self, x: Tensor) -> Tensor:
        """(batch, frames, tdnn_dim[index - 1]) -> (batch, frames - dilation * (kernel - 1), tdnn_dim[index])."""
        weight = self.kernel.weight.unflatten(1, (self.kernel_size, -1)).transpose(1, 2)
        return F.relu(F.conv1d(x.transpose(1, 2), weight, self.kernel.bias, dilation=self.dilation)).transpose(1, 2)


class AMSoftmaxLoss(nn.Module):
    """Holds a direction vector for each training speaker."""

    def __init__(self, config: Wav2Vec2Config) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(config.xvector_output_dim, config.num_labels or 0))

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """(batch, xvector_output_dim) and (batch,) speaker numbers -> scalar loss."""
        return _mean(self.loss_sum(embeddings, labels))

    def loss_sum(self, embeddings: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The sum of which the loss is the mean, and the number of speakers that count."""
        return losses.cross_entropy_sum(losses.am_softmax_logits(embeddings, self.weight, labels), labels.flatten())


class Wav2Vec2ForXVector(_Classifier):
    """Speaker embeddings: a time-delay network, statistics over time and two linear layers."""

    head = "ForXVector"

    def __init__(self, config: Wav2Vec2Config) -> None:
        super().__init__(config)
        config = self.config
        _refuse_other_width(config, self.head)
        with self.construction():
            self.build_body(config)
            self.projector = nn.Linear(config.hidden_size, config.tdnn_dim[0])
            self.tdnn = nn.ModuleList(TDNNLayer(config, index) for index in range(len(config.tdnn_dim)))
            self.feature_extractor = nn.Linear(2 * config.tdnn_dim[-1], config.xvector_output_dim)
            self.classifier = nn.Linear(config.xvector_output_dim, config.xvector_output_dim)
            self.objective = AMSoftmaxLoss(config)

    def forward(
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
    ) -> XVectorOutput | tuple[Any, ...]:
        """Embed speakers; compare ``embeddings`` by cosine.

        Args:
            labels: (batch,) speaker numbers, for the additive-margin softmax.
            others: as in ``Wav2Vec2Model``.

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
        )
        embeddings = self.vectors(hidden, self.frame_lengths(attention_mask))
        logits = layers.exactly(self.classifier, embeddings)
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
        self.check_frames(hidden.shape[1], dilated=True)
        for layer in self.tdnn:
            hidden = layer(hidden)
        mask = None if lengths is None else self._pooling_mask(lengths, hidden.shape[1])
        return self.feature_extractor(torch.cat(layers.masked_mean_and_std(hidden, mask), dim=-1))

    def scores(self, hidden: Tensor, lengths: Tensor | None) -> Tensor:
        """The classifier's output for ``vectors``, in the same shape."""
        return layers.exactly(self.classifier, self.vectors(hidden, lengths))

    def loss_sum(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The sum of additive-margin losses of (batch, xvector_output_dim) and (batch,) speakers, and their number."""
        check_classes(labels, self.config)
        return self.objective.loss_sum(logits, labels)

    def _pooling_mask(self, lengths: Tensor, frames: int) -> Tensor:
        """(batch, frames) bool, frames of the last TDNN layer to take statistics of.

        transformers counts the frames lost to kernels but not to their dilation, so it pools some frames that see
        padding. ``masked_group_norm`` pools those that see none.
        """
        dilated = self.config.masked_group_norm
        if not layers.is_tracing():
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


def _mean(summed: tuple[Tensor, Tensor]) -> Tensor:
    total, count = summed
    return total / count


def check_classes(labels: Tensor, config: Wav2Vec2Config) -> None:
    """Check class numbers (batch,) against ``num_labels``. Raises ``InputError``."""
    if not layers.is_tracing() and labels.numel() > 0:
        remedy = "set num_labels or id2label to the classes of the data"
        check_largest("labels", int(labels.max()), config.num_labels or 0, remedy)


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
