"""wav2vec 2.0 (Baevski et al. 2020), in the order in which a waveform passes through it.

Module names are those of the checkpoints. Shapes: ``frames`` is ``config.num_frames(samples)``, 49 per second for the
released models; ``hidden`` is ``config.hidden_size``.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wav2vec2_core import masking
from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.errors import InputError
from wav2vec2_core.inputs import check_shape, check_shortest, check_waveforms
from wav2vec2_core.outputs import Wav2Vec2BaseModelOutput
from wav2vec2_core.parameters import ctc_input_size, has_attention_adapters
from wav2vec2_torch import layers
from wav2vec2_torch.dropout import Dropout
from wav2vec2_torch.pretrained import Wav2Vec2PreTrainedModel

# ---- feature encoder: waveform -> latent speech representations Z (section 2) ----------------------------------


class ConvLayer(nn.Module):
    """One block of the feature encoder: convolution, normalisation where the configuration has one, activation."""

    def __init__(self, config: Wav2Vec2Config, index: int) -> None:
        super().__init__()
        inputs = config.conv_dim[index - 1] if index > 0 else 1
        outputs, kernel, stride = config.conv_dim[index], config.conv_kernel[index], config.conv_stride[index]
        self.conv = layers.Conv1d(inputs, outputs, kernel, stride, bias=config.conv_bias)
        self.layer_norm = None
        if config.feat_extract_norm == "layer":
            self.layer_norm = layers.ChannelLayerNorm(outputs)
        elif index == 0:
            self.layer_norm = layers.ChannelGroupNorm(outputs)
        self.activation = layers.activation(config.feat_extract_activation)

    def forward(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        """(batch, channels, frames) -> (batch, channels', frames').

        ``lengths``: (batch,) valid frames of the result, for a group norm that must ignore padding.
        """
        x = self.conv(x)
        if self.layer_norm is not None:
            x = self.layer_norm(x, lengths)
        return self.activation(x)


class FeatureEncoder(nn.Module):
    """Temporal convolutions that turn 25 ms of waveform into one vector every 20 ms (section 4.2)."""

    def __init__(self, config: Wav2Vec2Config) -> None:
        super().__init__()
        self.config = config
        self.conv_layers = nn.ModuleList(ConvLayer(config, index) for index in range(config.num_feat_extract_layers))

    def forward(self, input_values: Tensor, lengths: Tensor | None) -> Tensor:
        """(batch, samples) -> (batch, frames, conv_dim[-1]); ``lengths``: (batch,) valid samples, None for all."""
        if not self.config.masked_group_norm:
            lengths = None
        if self.config.feat_extract_norm == "group":
            # The norm takes away what a waveform's mean adds to a channel; it finds less to take away without.
            valid = None if lengths is None else layers.frame_mask(lengths, input_values.shape[1])
            input_values = input_values - layers.masked_mean(input_values[..., None], valid)
        x = input_values[:, None, :]
        for layer, kernel, stride in zip(
            self.conv_layers, self.config.conv_kernel, self.config.conv_stride, strict=True
        ):
            if lengths is not None:
                lengths = (lengths - kernel) // stride + 1
            x = layer(x, lengths)
        return x.transpose(1, 2)


class FeatureProjection(nn.Module):
    """Layer norm and linear map from the feature encoder's width to the transformer's."""

    def __init__(self, config: Wav2Vec2Config) -> None:
        super().__init__()
        self.layer_norm = layers.LayerNorm(config.conv_dim[-1], config.layer_norm_eps)
        self.projection = nn.Linear(config.conv_dim[-1], config.hidden_size)
        self.dropout = Dropout(config.feat_proj_dropout)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, frames, conv_dim[-1]) -> (batch, frames, hidden) and the normalised features, which are quantised."""
        features = self.layer_norm(features)
        return self.dropout(self.projection(features)), features


# ---- transformer: masked Z -> context representations C --------------------------------------------------------


class PositionalConvEmbedding(nn.Module):
    """Relative positions from one wide grouped convolution instead of fixed embeddings (section 2)."""

    def __init__(self, config: Wav2Vec2Config) -> None:
        super().__init__()
        self.conv = layers.WeightNormConv1d(
            config.hidden_size, config.num_conv_pos_embeddings, config.num_conv_pos_embedding_groups
        )
        self.activation = layers.activation(config.feat_extract_activation)

    def forward(self, hidden: Tensor) -> Tensor:
        """(batch, frames, hidden) -> (batch, frames, hidden)."""
        positions = self.conv(hidden.transpose(1, 2))[
            :, :, : hidden.shape[1]
        ]  # an even kernel yields one frame too many
        return self.activation(positions).transpose(1, 2)


class Attention(nn.Module):
    """Multi-head self-attention."""

    def __init__(self, config: Wav2Vec2Config) -> None:
        super().__init__()
        self.num_heads, self.head_dim = config.num_attention_heads, config.head_dim
        self.dropout = config.attention_dropout
        self.q_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.k_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.v_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.out_proj = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, hidden: Tensor, mask: Tensor | None, with_weights: bool) -> tuple[Tensor, Tensor | None]:
        """(batch, frames, hidden) -> the same, and the weights (batch, heads, frames, frames) where asked for."""
        query, key, value = (self._split(project(hidden)) for project in (self.q_proj, self.k_proj, self.v_proj))
        dropout = self.dropout if self.training else 0.0
        context, weights = layers.attend(query, key, value, mask, dropout, with_weights)
        return self.out_proj(context.transpose(1, 2).flatten(2)), weights

    def _split(self, x: Tensor) -> Tensor:
        """(batch, frames, hidden) -> (batch, heads, frames, head_dim)."""
        return x.unflatten(2, (self.num_heads, self.head_dim)).transpose(1, 2)


class FeedForward(nn.Module):
    """The position-wise part of a transformer layer."""

    def __init__(self, config: Wav2Vec2Config) -> None:
        super().__init__()
        self.intermediate_dense = nn.Linear(config.hidden_size, config.intermediate_size)
        self.activation = layers.activation(config.hidden_act)
        self.intermediate_dropout = Dropout(config.activation_dropout)
        self.output_dense = nn.Linear(config.intermediate_size, config.hidden_size)
        self.output_dropout = Dropout(config.hidden_dropout)

    def forward(self, hidden: Tensor) -> Tensor:
        """(batch, frames, hidden) -> the same."""
        hidden = self.intermediate_dropout(self.activation(self.intermediate_dense(hidden)))
        return self.output_dropout(self.output_dense(hidden))


class AttentionAdapter(nn.Module):
    """Bottleneck at the end of a transformer layer, one set per language in MMS (Pratap et al. 2023, section 4)."""

    def __init__(self, config: Wav2Vec2Config, size: int) -> None:
        super().__init__()
        self.norm = layers.LayerNorm(config.hidden_size)
        self.linear_1 = nn.Linear(config.hidden_size, size)
        self.linear_2 = nn.Linear(size, config.hidden_size)

    def forward(self, hidden: Tensor) -> Tensor:
        """(batch, frames, hidden) -> the same, to be added to the input."""
        return self.linear_2(F.relu(self.linear_1(self.norm(hidden))))


class EncoderLayer(nn.Module):
    """One transformer layer: post-norm (BASE) or pre-norm (LARGE lv60, XLS-R, MMS)."""

    def __init__(self, config: Wav2Vec2Config) -> None:
        super().__init__()
        self.pre_norm = config.do_stable_layer_norm
        self.attention = Attention(config)
        self.dropout = Dropout(config.hidden_dropout)
        self.layer_norm = layers.LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.feed_forward = FeedForward(config)
        self.final_layer_norm = layers.LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.adapter_layer = None
        if has_attention_adapters(config) and config.adapter_attn_dim is not None:
            self.adapter_layer = AttentionAdapter(config, config.adapter_attn_dim)

    def forward(self, hidden: Tensor, mask: Tensor | None, with_weights: bool) -> tuple[Tensor, Tensor | None]:
        """(batch, frames, hidden) -> the same, and the attention weights where asked for."""
        attended, weights = self.attention(self.layer_norm(hidden) if self.pre_norm else hidden, mask, with_weights)
        hidden = hidden + self.dropout(attended)
        if self.pre_norm:
            hidden = hidden + self.feed_forward(self.final_layer_norm(hidden))
        else:
            hidden = self.layer_norm(hidden)
            hidden = self.final_layer_norm(hidden + self.feed_forward(hidden))
        if self.adapter_layer is not None:
            hidden = hidden + self.adapter_layer(hidden)
        return hidden, weights


class Encoder(nn.Module):
    """The transformer. Its layer norm comes first for post-norm layers and last for pre-norm layers."""

    def __init__(self, config: Wav2Vec2Config) -> None:
        super().__init__()
        self.pre_norm = config.do_stable_layer_norm
        self.pos_conv_embed = PositionalConvEmbedding(config)
        self.layer_norm = layers.LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.dropout = Dropout(config.hidden_dropout)
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.num_hidden_layers))
        self.checkpointing: dict[str, object] | None = None

    def forward(
        self, hidden: Tensor, mask: Tensor | None, layer_keep: Tensor | None, with_states: bool, with_weights: bool
    ) -> tuple[Tensor, tuple[Tensor, ...] | None, tuple[Tensor, ...] | None]:
        """Run every layer.

        Args:
            hidden: (batch, frames, hidden).
            mask: (batch, frames) bool, True for valid frames; None for all.
            layer_keep: (layers,) bool, False for a layer to be skipped (layer drop); None to keep all. A skipped
                layer is computed and its result dropped: each step costs the same and uses every parameter; but see
                ``layers.skipping_layers``.
            with_states, with_weights: return hidden states and attention weights too, instead of None.

        Returns:
            Context representations, hidden states (input of each layer and the final result), attention weights.
        """
        if mask is not None:
            hidden = hidden.masked_fill(~mask[..., None], 0.0)
        hidden = hidden + self.pos_conv_embed(hidden)
        hidden = self.dropout(hidden if self.pre_norm else self.layer_norm(hidden))
        states, attentions = [], []
        skipped = frozenset() if with_weights else layers.to_skip(layer_keep)
        for index, layer in enumerate(self.layers):
            if with_states:
                states.append(hidden)
            if index in skipped:
                continue
            if self.checkpointing is not None and self.training:
                output, weights = layers.checkpointed(layer, hidden, mask, with_weights, **self.checkpointing)
            else:
                output, weights = layer(hidden, mask, with_weights)
            hidden = output if layer_keep is None else torch.where(layer_keep[index], output, hidden)
            attentions.append(weights)
        if self.pre_norm:
            hidden = self.layer_norm(hidden)
        return hidden, (*states, hidden) if with_states else None, tuple(attentions) if with_weights else None


# ---- convolutional adapter: fewer frames, for tasks whose output is much shorter than speech --------------------


class AdapterLayer(nn.Module):
    """Strided convolution with a gated linear unit."""

    def __init__(self, config: Wav2Vec2Config) -> None:
        super().__init__()
        size = ctc_input_size(config)
        self.conv = nn.Conv1d(size, 2 * size, config.adapter_kernel_size, config.adapter_stride, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, frames) -> (batch, channels, frames')."""
        return F.glu(self.conv(x), dim=1)


class Adapter(nn.Module):
    """Optional projection, then ``num_adapter_layers`` strided convolutions."""

    def __init__(self, config: Wav2Vec2Config) -> None:
        super().__init__()
        self.config = config
        outputs = ctc_input_size(config)
        self.proj, self.proj_layer_norm = None, None
        if outputs != config.hidden_size:
            self.proj = nn.Linear(config.hidden_size, outputs)
            self.proj_layer_norm = layers.LayerNorm(outputs)
        self.layers = nn.ModuleList(AdapterLayer(config) for _ in range(config.num_adapter_layers))

    def forward(self, hidden: Tensor, lengths: Tensor | None) -> Tensor:
        """(batch, frames, hidden) -> (batch, frames', output_hidden).

        ``lengths``: (batch,) valid frames. With ``masked_group_norm`` the convolutions see zeros after the end of an
        utterance, as they would if it were alone; otherwise what the transformer made of its padding.
        """
        if self.proj is not None and self.proj_layer_norm is not None:
            hidden = self.proj_layer_norm(self.proj(hidden))
        x = hidden.transpose(1, 2)
        for layer in self.layers:
            if lengths is not None and self.config.masked_group_norm:
                x = x.masked_fill(~layers.frame_mask(lengths, x.shape[2])[:, None], 0.0)
                lengths = (lengths + 2 - self.config.adapter_kernel_size) // self.config.adapter_stride + 1
            x = layer(x)
        return x.transpose(1, 2).contiguous()  # a linear layer on the view would not export with dynamic lengths


# ---- the body ---------------------------------------------------------------------------------------------------


class Wav2Vec2Model(Wav2Vec2PreTrainedModel):
    """Feature encoder, masking, transformer and optional convolutional adapter, without a head."""

    head = "Model"

    def __init__(self, config: Wav2Vec2Config) -> None:
        super().__init__(config)
        config = self.config
        with self.construction():
            self.feature_extractor = FeatureEncoder(config)
            self.feature_projection = FeatureProjection(config)
            self.masked_spec_embed = None
            if config.mask_time_prob > 0 or config.mask_feature_prob > 0:
                # Without masking nothing uses it; distributed training then must not wait for its gradient.
                self.masked_spec_embed = nn.Parameter(
                    torch.empty(config.hidden_size), requires_grad=config.apply_spec_augment
                )
            self.encoder = Encoder(config)
            self.adapter = Adapter(config) if config.add_adapter else None

    def forward(
        self,
        input_values: Tensor,
        attention_mask: Tensor | None = None,
        mask_time_indices: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        *,
        mask_feature_indices: Tensor | None = None,
        layer_keep: Tensor | None = None,
        output_feature_penalty: bool = False,
    ) -> Wav2Vec2BaseModelOutput | tuple[Tensor, ...]:
        """Turn waveforms into context representations.

        Args:
            input_values: (batch, samples) waveforms at the sampling rate of the checkpoint, normalised as it expects.
            attention_mask: (batch, samples), 1 for samples and 0 for the padding after them; None for no padding.
            mask_time_indices: (batch, frames) bool, frames to replace by the mask embedding; drawn in training
                where None.
            output_attentions, output_hidden_states, return_dict: as the configuration says where None.
            mask_feature_indices: (batch, hidden) bool, features to set to zero; drawn in training where None.
            layer_keep: (layers,) bool, False for layers to skip; drawn in training where None.
            output_feature_penalty: also return the mean square of the feature encoder's output over the valid frames of
                utterances with a masked frame: those that only fill up a batch have none.

        Raises:
            InputError: a shape is invalid, or an utterance is shorter than one frame.
        """
        config = self.config
        check_waveforms(config, input_values.shape, None if attention_mask is None else attention_mask.shape)
        samples = None if attention_mask is None else self._lengths(attention_mask)
        frames = None if samples is None else config.num_frames(samples, add_adapter=False)
        if self.training:
            width = config.num_frames(input_values.shape[1], add_adapter=False)
            mask_time_indices, mask_feature_indices, layer_keep = self.draw_missing(
                len(input_values), width, frames, mask_time_indices, mask_feature_indices, layer_keep
            )
        if layer_keep is not None:
            check_shape("layer_keep", layer_keep.shape, (config.num_hidden_layers,), "(layers,)")

        features = self.feature_extractor(input_values.to(self.dtype), samples)
        if config.feature_gradient_scale != 1.0:
            features = layers.scaled_gradient(features, config.feature_gradient_scale)
        mask = None if frames is None else layers.frame_mask(frames, features.shape[1])
        # As in fairseq the penalty is of what is scaled, so its own gradient is scaled too.
        penalty = self._penalty(features, mask, mask_time_indices) if output_feature_penalty else None
        hidden, features = self.feature_projection(features)
        hidden = self.mask_hidden_states(hidden, mask_time_indices, mask_feature_indices)
        hidden, states, attentions = self.encoder(
            hidden,
            mask,
            layer_keep,
            with_states=config.output_hidden_states if output_hidden_states is None else output_hidden_states,
            with_weights=config.output_attentions if output_attentions is None else output_attentions,
        )
        if self.adapter is not None:
            hidden = self.adapter(hidden, frames)
        output = Wav2Vec2BaseModelOutput(
            last_hidden_state=hidden,
            extract_features=features,
            hidden_states=states,
            attentions=attentions,
            feature_penalty=penalty,
        )
        return self.as_requested(output, return_dict)

    def scores(self, hidden: Tensor, lengths: Tensor | None) -> Tensor:
        """A head's computation, of which the body has none: its (batch, frames, hidden) states as they are."""
        return hidden

    def draw_missing(
        self,
        batch: int,
        width: int,
        frames: Tensor | None,
        mask_time_indices: Tensor | None,
        mask_feature_indices: Tensor | None,
        layer_keep: Tensor | None,
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Draw what a training step needs and was not given: (batch, width) and (batch, hidden) masks, (layers,) keeps.

        ``frames``: (batch,) valid frames, ``width`` each where None. What the configuration switches off stays None.
        """
        config = self.config
        if config.apply_spec_augment and config.mask_time_prob > 0 and mask_time_indices is None:
            mask_time_indices = layers.draw(
                masking.time_mask,
                [width] * batch if frames is None else frames,
                width,
                prob=config.mask_time_prob,
                length=config.mask_time_length,
                min_masks=config.mask_time_min_masks,
                device=self.device,
            )
        if config.apply_spec_augment and config.mask_feature_prob > 0 and mask_feature_indices is None:
            mask_feature_indices = layers.draw(
                masking.feature_mask,
                batch,
                config.hidden_size,
                prob=config.mask_feature_prob,
                length=config.mask_feature_length,
                min_masks=config.mask_feature_min_masks,
                device=self.device,
            )
        if config.layerdrop > 0 and layer_keep is None:
            layer_keep = layers.draw(masking.layer_keep, config.num_hidden_layers, config.layerdrop, device=self.device)
        return mask_time_indices, mask_feature_indices, layer_keep

    def mask_hidden_states(
        self, hidden: Tensor, mask_time_indices: Tensor | None, mask_feature_indices: Tensor | None
    ) -> Tensor:
        """Mask spans of time (section 3.1) and of features (SpecAugment, section 4.4) in (batch, frames, hidden).

        ``apply_spec_augment=False`` switches off both, given or not. Raises ``InputError``.
        """
        if not self.config.apply_spec_augment:
            return hidden
        batch, width, features = hidden.shape
        if mask_time_indices is not None:
            check_shape("mask_time_indices", mask_time_indices.shape, (batch, width), "(batch, frames)")
            if self.masked_spec_embed is None:
                raise InputError(
                    "mask_time_indices is given and mask_time_prob and mask_feature_prob are 0: such a model has no "
                    "mask embedding, set one of them above 0 in the configuration"
                )
            hidden = torch.where(mask_time_indices.bool()[..., None], self.masked_spec_embed.to(hidden.dtype), hidden)
        if mask_feature_indices is not None:
            check_shape("mask_feature_indices", mask_feature_indices.shape, (batch, features), "(batch, hidden)")
            hidden = hidden.masked_fill(mask_feature_indices.bool()[:, None], 0.0)
        return hidden

    @staticmethod
    def _penalty(features: Tensor, valid: Tensor | None, masked: Tensor | None) -> Tensor:
        """Mean square of (batch, frames, features); ``valid``, ``masked``: (batch, frames), None for all."""
        if masked is None:
            return layers.masked_mean_square(features, valid)
        chosen = masked.bool().any(1)[:, None].expand(features.shape[:2])
        return layers.masked_mean_square(features, chosen if valid is None else chosen & valid)

    def _lengths(self, attention_mask: Tensor) -> Tensor:
        """(batch, samples) mask -> (batch,) samples, none of them shorter than a frame."""
        samples = attention_mask.long().sum(1)
        if not layers.is_tracing():
            check_shortest(self.config, int(samples.min()))
        return samples
