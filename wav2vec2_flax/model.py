"""wav2vec 2.0 (Baevski et al. 2020), in the order in which a waveform passes through it.

Module names are those of the checkpoints. Shapes: ``frames`` is ``config.num_frames(samples)``, 49 per second for the
released models; ``hidden`` is ``config.hidden_size``. ``key`` arguments are the randomness of training, None otherwise.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.errors import InputError
from wav2vec2_core.inputs import check_shape, check_shortest, check_waveforms
from wav2vec2_core.outputs import Wav2Vec2BaseModelOutput
from wav2vec2_core.parameters import ctc_input_size, has_attention_adapters
from wav2vec2_flax import layers
from wav2vec2_flax.layers import Precision
from wav2vec2_flax.pretrained import FlaxWav2Vec2PreTrainedModel

# ---- feature encoder: waveform -> latent speech representations Z (section 2) ----------------------------------


class ConvLayer(nnx.Module):
    """One block of the feature encoder: convolution, normalisation where the configuration has one, activation."""

    def __init__(self, config: Wav2Vec2Config, index: int, types: Precision) -> None:
        inputs = config.conv_dim[index - 1] if index > 0 else 1
        outputs, kernel, stride = config.conv_dim[index], config.conv_kernel[index], config.conv_stride[index]
        self.conv = layers.Conv(inputs, outputs, kernel, stride, types, bias=config.conv_bias)
        norm = None
        if config.feat_extract_norm == "layer":
            norm = layers.ChannelLayerNorm(outputs, types)
        elif index == 0:
            norm = layers.ChannelGroupNorm(outputs, types)
        self.layer_norm = norm
        self.activation = layers.activation(config.feat_extract_activation)

    def __call__(self, x: Array, lengths: Array | None) -> Array:
        """(batch, frames, channels) -> (batch, frames', channels').

        ``lengths``: (batch,) valid frames of the result, for a group norm that must ignore padding.
        """
        x = self.conv(x)
        if self.layer_norm is not None:
            x = self.layer_norm(x, lengths)
        return self.activation(x)


class FeatureEncoder(nnx.Module):
    """Temporal convolutions that turn 25 ms of waveform into one vector every 20 ms (section 4.2)."""

    def __init__(self, config: Wav2Vec2Config, types: Precision) -> None:
        self.masked_group_norm = config.masked_group_norm
        self.sizes = tuple(zip(config.conv_kernel, config.conv_stride, strict=True))
        self.conv_layers = nnx.List(ConvLayer(config, index, types) for index in range(config.num_feat_extract_layers))

    def __call__(self, input_values: Array, lengths: Array | None) -> Array:
        """(batch, samples) -> (batch, frames, conv_dim[-1]); ``lengths``: (batch,) valid samples, None for all."""
        x = input_values[..., None]
        if not self.masked_group_norm:
            lengths = None
        for layer, (kernel, stride) in zip(self.conv_layers, self.sizes, strict=True):
            if lengths is not None:
                lengths = (lengths - kernel) // stride + 1
            x = layer(x, lengths)
        return x


class FeatureProjection(nnx.Module):
    """Layer norm and linear map from the feature encoder's width to the transformer's."""

    def __init__(self, config: Wav2Vec2Config, types: Precision) -> None:
        self.layer_norm = layers.LayerNorm(config.conv_dim[-1], types, config.layer_norm_eps)
        self.projection = layers.Linear(config.conv_dim[-1], config.hidden_size, types)
        self.dropout = config.feat_proj_dropout

    def __call__(self, features: Array, key: Array | None) -> tuple[Array, Array]:
        """(batch, frames, conv_dim[-1]) -> (batch, frames, hidden) and the normalised features, which are quantised."""
        features = self.layer_norm(features)
        return layers.dropout(self.projection(features), self.dropout, key), features


# ---- transformer: masked Z -> context representations C --------------------------------------------------------


class PositionalConvEmbedding(nnx.Module):
    """Relative positions from one wide grouped convolution instead of fixed embeddings (section 2)."""

    def __init__(self, config: Wav2Vec2Config, types: Precision) -> None:
        self.conv = layers.WeightNormConv1d(
            config.hidden_size, config.num_conv_pos_embeddings, config.num_conv_pos_embedding_groups, types
        )
        self.activation = layers.activation(config.feat_extract_activation)

    def __call__(self, hidden: Array) -> Array:
        """(batch, frames, hidden) -> (batch, frames, hidden)."""
        return self.activation(self.conv(hidden)[:, : hidden.shape[1]])  # an even kernel yields one frame too many


class Attention(nnx.Module):
    """Multi-head self-attention."""

    def __init__(self, config: Wav2Vec2Config, types: Precision) -> None:
        self.num_heads, self.head_dim = config.num_attention_heads, config.head_dim
        self.dropout = config.attention_dropout
        self.q_proj = layers.Linear(config.hidden_size, config.hidden_size, types)
        self.k_proj = layers.Linear(config.hidden_size, config.hidden_size, types)
        self.v_proj = layers.Linear(config.hidden_size, config.hidden_size, types)
        self.out_proj = layers.Linear(config.hidden_size, config.hidden_size, types)

    def __call__(self, hidden: Array, mask: Array | None, key: Array | None) -> tuple[Array, Array]:
        """(batch, frames, hidden) -> the same, and the weights (batch, heads, frames, frames)."""
        query, keys, value = (self._split(project(hidden)) for project in (self.q_proj, self.k_proj, self.v_proj))
        context, weights = layers.attend(query, keys, value, mask, self.dropout, key)
        return self.out_proj(context.reshape(hidden.shape)), weights

    def _split(self, x: Array) -> Array:
        """(batch, frames, hidden) -> (batch, frames, heads, head_dim)."""
        return x.reshape(*x.shape[:2], self.num_heads, self.head_dim)


class FeedForward(nnx.Module):
    """The position-wise part of a transformer layer."""

    def __init__(self, config: Wav2Vec2Config, types: Precision) -> None:
        self.intermediate_dense = layers.Linear(config.hidden_size, config.intermediate_size, types)
        self.activation = layers.activation(config.hidden_act)
        self.intermediate_dropout = config.activation_dropout
        self.output_dense = layers.Linear(config.intermediate_size, config.hidden_size, types)
        self.output_dropout = config.hidden_dropout

    def __call__(self, hidden: Array, key: Array | None) -> Array:
        """(batch, frames, hidden) -> the same."""
        inner, outer = layers.split(key, 2)
        hidden = layers.dropout(self.activation(self.intermediate_dense(hidden)), self.intermediate_dropout, inner)
        return layers.dropout(self.output_dense(hidden), self.output_dropout, outer)


class AttentionAdapter(nnx.Module):
    """Bottleneck at the end of a transformer layer, one set per language in MMS (Pratap et al. 2023, section 4)."""

    def __init__(self, config: Wav2Vec2Config, size: int, types: Precision) -> None:
        self.norm = layers.LayerNorm(config.hidden_size, types)
        self.linear_1 = layers.Linear(config.hidden_size, size, types)
        self.linear_2 = layers.Linear(size, config.hidden_size, types)

    def __call__(self, hidden: Array) -> Array:
        """(batch, frames, hidden) -> the same, to be added to the input."""
        return self.linear_2(jax.nn.relu(self.linear_1(self.norm(hidden))))


class EncoderLayer(nnx.Module):
    """One transformer layer: post-norm (BASE) or pre-norm (LARGE lv60, XLS-R, MMS)."""

    def __init__(self, config: Wav2Vec2Config, types: Precision) -> None:
        self.pre_norm = config.do_stable_layer_norm
        self.attention = Attention(config, types)
        self.dropout = config.hidden_dropout
        self.layer_norm = layers.LayerNorm(config.hidden_size, types, config.layer_norm_eps)
        self.feed_forward = FeedForward(config, types)
        self.final_layer_norm = layers.LayerNorm(config.hidden_size, types, config.layer_norm_eps)
        size = config.adapter_attn_dim if has_attention_adapters(config) else None
        self.adapter_layer = None if size is None else AttentionAdapter(config, size, types)

    def __call__(self, hidden: Array, mask: Array | None, key: Array | None) -> tuple[Array, Array]:
        """(batch, frames, hidden) -> the same, and the attention weights."""
        attention_key, drop_key, feed_forward_key = layers.split(key, 3)
        attended, weights = self.attention(self.layer_norm(hidden) if self.pre_norm else hidden, mask, attention_key)
        hidden = hidden + layers.dropout(attended, self.dropout, drop_key)
        if self.pre_norm:
            hidden = hidden + self.feed_forward(self.final_layer_norm(hidden), feed_forward_key)
        else:
            hidden = self.layer_norm(hidden)
            hidden = self.final_layer_norm(hidden + self.feed_forward(hidden, feed_forward_key))
        if self.adapter_layer is not None:
            hidden = hidden + self.adapter_layer(hidden)
        return hidden, weights


class Encoder(nnx.Module):
    """The transformer. Its layer norm comes first for post-norm layers and last for pre-norm layers."""

    def __init__(self, config: Wav2Vec2Config, types: Precision) -> None:
        self.pre_norm = config.do_stable_layer_norm
        self.pos_conv_embed = PositionalConvEmbedding(config, types)
        self.layer_norm = layers.LayerNorm(config.hidden_size, types, config.layer_norm_eps)
        self.dropout = config.hidden_dropout
        self.layers = nnx.List(EncoderLayer(config, types) for _ in range(config.num_hidden_layers))
        self.scan = False
        self.remat: str | None = None

    def __call__(
        self,
        hidden: Array,
        mask: Array | None,
        layer_keep: Array | None,
        key: Array | None,
        *,
        with_states: bool,
        with_weights: bool,
    ) -> tuple[Array, tuple[Array, ...] | None, tuple[Array, ...] | None]:
        """Run every layer.

        Args:
            hidden: (batch, frames, hidden).
            mask: (batch, frames) bool, True for valid frames; None for all.
            layer_keep: (layers,) bool, False for a layer to be skipped (layer drop); None to keep all. A skipped
                layer is computed and its result dropped: each step costs the same and uses every parameter.
            key: of dropout.
            with_states, with_weights: return hidden states and attention weights too, instead of None.

        Returns:
            Context representations, hidden states (input of each layer and the final result), attention weights.
        """
        if mask is not None:
            hidden = jnp.where(mask[..., None], hidden, 0)
        hidden = hidden + self.pos_conv_embed(hidden)
        drop_key, layers_key = layers.split(key, 2)
        hidden = layers.dropout(hidden if self.pre_norm else self.layer_norm(hidden), self.dropout, drop_key)

        def step(layer: EncoderLayer, hidden: Array, now: Any) -> tuple[Array, Any]:
            output, weights = layer(hidden, mask, now["key"])
            hidden = output if now["keep"] is None else jnp.where(now["keep"], output, hidden)
            return hidden, (hidden if with_states else None, weights if with_weights else None)

        keys = None if layers_key is None else layers.split(layers_key, len(self.layers))
        inputs = {"key": keys, "keep": layer_keep}
        first = hidden
        hidden, results = layers.run_layers(self.layers, step, hidden, inputs, scan=self.scan, remat=self.remat)
        if self.pre_norm:
            hidden = self.layer_norm(hidden)
        states = (first, *(state for state, _ in results)) if with_states else None
        states = (*states[:-1], hidden) if states else None
        return hidden, states, tuple(weights for _, weights in results) if with_weights else None


# ---- convolutional adapter: fewer frames, for tasks whose output is much shorter than speech --------------------


class AdapterLayer(nnx.Module):
    """Strided convolution with a gated linear unit."""

    def __init__(self, config: Wav2Vec2Config, types: Precision) -> None:
        size = ctc_input_size(config)
        self.conv = layers.Conv(
            size, 2 * size, config.adapter_kernel_size, config.adapter_stride, types, bias=True, padding=1
        )

    def __call__(self, x: Array) -> Array:
        """(batch, frames, channels) -> (batch, frames', channels)."""
        return jax.nn.glu(self.conv(x), axis=-1)


class Adapter(nnx.Module):
    """Optional projection, then ``num_adapter_layers`` strided convolutions."""

    def __init__(self, config: Wav2Vec2Config, types: Precision) -> None:
        self.masked_group_norm = config.masked_group_norm
        self.kernel, self.stride = config.adapter_kernel_size, config.adapter_stride
        outputs = ctc_input_size(config)
        projects = outputs != config.hidden_size
        self.proj = layers.Linear(config.hidden_size, outputs, types) if projects else None
        self.proj_layer_norm = layers.LayerNorm(outputs, types) if projects else None
        self.layers = nnx.List(AdapterLayer(config, types) for _ in range(config.num_adapter_layers))

    def __call__(self, hidden: Array, lengths: Array | None) -> Array:
        """(batch, frames, hidden) -> (batch, frames', output_hidden).

        ``lengths``: (batch,) valid frames. With ``masked_group_norm`` the convolutions see zeros after the end of an
        utterance, as they would if it were alone; otherwise what the transformer made of its padding.
        """
        if self.proj is not None and self.proj_layer_norm is not None:
            hidden = self.proj_layer_norm(self.proj(hidden))
        for layer in self.layers:
            if lengths is not None and self.masked_group_norm:
                hidden = jnp.where(layers.frame_mask(lengths, hidden.shape[1])[..., None], hidden, 0)
                lengths = (lengths + 2 - self.kernel) // self.stride + 1
            hidden = layer(hidden)
        return hidden


# ---- the body ---------------------------------------------------------------------------------------------------


class FlaxWav2Vec2Model(FlaxWav2Vec2PreTrainedModel):
    """Feature encoder, masking, transformer and optional convolutional adapter, without a head."""

    head = "Model"

    def build(self, config: Wav2Vec2Config, types: Precision) -> None:
        """Create the submodules."""
        self.feature_extractor = FeatureEncoder(config, types)
        self.feature_projection = FeatureProjection(config, types)
        masks = config.mask_time_prob > 0 or config.mask_feature_prob > 0
        self.masked_spec_embed = layers.parameter((config.hidden_size,), types) if masks else None
        self.encoder = Encoder(config, types)
        self.adapter = Adapter(config, types) if config.add_adapter else None

    def forward(
        self,
        input_values: Any,
        attention_mask: Any = None,
        mask_time_indices: Any = None,
        *,
        dropout_rng: Array | None = None,
        train: bool = False,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        freeze_feature_encoder: bool = False,
        return_dict: bool | None = None,
        mask_feature_indices: Any = None,
        layer_keep: Any = None,
        output_feature_penalty: bool = False,
    ) -> Wav2Vec2BaseModelOutput | tuple[Any, ...]:
        """Turn waveforms into context representations. Arrays may be of numpy or of JAX.

        Args:
            input_values: (batch, samples) waveforms at the sampling rate of the checkpoint, normalised as it expects.
            attention_mask: (batch, samples), 1 for samples and 0 for the padding after them; None for no padding.
            mask_time_indices: (batch, frames) bool, frames to replace by the mask embedding; drawn in training
                where None.
            dropout_rng: key of everything that training draws.
            train: drop, mask and skip layers as the configuration says.
            output_attentions, output_hidden_states, return_dict: as the configuration says where None.
            freeze_feature_encoder: let no gradient into the convolutions.
            mask_feature_indices: (batch, hidden) bool, features to set to zero; drawn in training where None.
            layer_keep: (layers,) bool, False for layers to skip; drawn in training where None.
            output_feature_penalty: also return the mean square of the feature encoder's output over the valid frames of
                utterances with a masked frame: those that only fill up a batch have none.

        Raises:
            InputError: a shape is invalid, an utterance is shorter than one frame, or training has no key.
        """
        config = self.config
        key = self.training_key(train, dropout_rng)
        check_waveforms(config, jnp.shape(input_values), None if attention_mask is None else jnp.shape(attention_mask))
        samples = None if attention_mask is None else self._lengths(attention_mask)

        frames = None if samples is None else config.num_frames(samples, add_adapter=False)
        draw_key, projection_key, encoder_key = layers.split(key, 3)
        if draw_key is not None:
            width = config.num_frames(jnp.shape(input_values)[1], add_adapter=False)
            lengths = jnp.full(len(input_values), width) if frames is None else frames
            mask_time_indices, mask_feature_indices, layer_keep = self.draw_missing(
                draw_key, width, lengths, mask_time_indices, mask_feature_indices, layer_keep
            )

        if layer_keep is not None:
            check_shape("layer_keep", jnp.shape(layer_keep), (config.num_hidden_layers,), "(layers,)")
            layer_keep = jnp.asarray(layer_keep, bool)

        features = self.feature_extractor(jnp.asarray(input_values, self.dtype), samples)
        if freeze_feature_encoder:
            features = jax.lax.stop_gradient(features)
        if config.feature_gradient_scale != 1.0:
            features = layers.scaled_gradient(features, config.feature_gradient_scale)
        mask = None if frames is None else layers.frame_mask(frames, features.shape[1])
        # As in fairseq the penalty is of what is scaled, so its own gradient is scaled too.
        penalty = self._penalty(features, mask, mask_time_indices) if output_feature_penalty else None
        hidden, features = self.feature_projection(features, projection_key)
        hidden = self.mask_hidden_states(hidden, mask_time_indices, mask_feature_indices)
        hidden, states, attentions = self.encoder(
            hidden,
            mask,
            layer_keep,
            encoder_key,
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

    def scores(self, hidden: Array, lengths: Array | None) -> Array:
        """A head's computation, of which the body has none: its (batch, frames, hidden) states as they are."""
        return hidden

    def draw_missing(
        self,
        key: Array,
        width: int,
        frames: Array,
        mask_time_indices: Any,
        mask_feature_indices: Any,
        layer_keep: Any,
    ) -> tuple[Any, Any, Any]:
        """Draw what a training step needs and was not given: (batch, width) and (batch, hidden) masks, (layers,) keeps.

        ``frames``: (batch,) valid frames. What the configuration switches off stays None.
        """
        config = self.config
        time_key, feature_key, keep_key = jax.random.split(key, 3)
        if config.apply_spec_augment and config.mask_time_prob > 0 and mask_time_indices is None:
            mask_time_indices = layers.draw_spans(
                time_key,
                frames,
                width,
                prob=config.mask_time_prob,
                length=config.mask_time_length,
                min_masks=config.mask_time_min_masks,
            )
        if config.apply_spec_augment and config.mask_feature_prob > 0 and mask_feature_indices is None:
            mask_feature_indices = layers.draw_spans(
                feature_key,
                jnp.full_like(frames, config.hidden_size),
                config.hidden_size,
                prob=config.mask_feature_prob,
                length=config.mask_feature_length,
                min_masks=config.mask_feature_min_masks,
            )
        if config.layerdrop > 0 and layer_keep is None:
            layer_keep = layers.draw_layer_keep(keep_key, config.num_hidden_layers, config.layerdrop)
        return mask_time_indices, mask_feature_indices, layer_keep

    def mask_hidden_states(self, hidden: Array, mask_time_indices: Any, mask_feature_indices: Any) -> Array:
        """Mask spans of time (section 3.1) and of features (SpecAugment, section 4.4) in (batch, frames, hidden).

        ``apply_spec_augment=False`` switches off both, given or not. Raises ``InputError``.
        """
        if not self.config.apply_spec_augment:
            return hidden
        batch, width, features = hidden.shape
        if mask_time_indices is not None:
            check_shape("mask_time_indices", jnp.shape(mask_time_indices), (batch, width), "(batch, frames)")
            if self.masked_spec_embed is None:
                raise InputError(
                    "mask_time_indices is given and mask_time_prob and mask_feature_prob are 0: such a model has no "
                    "mask embedding, set one of them above 0 in the configuration"
                )
            embedding = layers.value(self.masked_spec_embed).astype(hidden.dtype)
            hidden = jnp.where(jnp.asarray(mask_time_indices, bool)[..., None], embedding, hidden)
        if mask_feature_indices is not None:
            check_shape("mask_feature_indices", jnp.shape(mask_feature_indices), (batch, features), "(batch, hidden)")
            hidden = jnp.where(jnp.asarray(mask_feature_indices, bool)[:, None], 0, hidden)
        return hidden

    @staticmethod
    def _penalty(features: Array, valid: Array | None, masked: Any) -> Array:
        """Mean square of (batch, frames, features); ``valid``, ``masked``: (batch, frames), None for all."""
        if masked is None:
            return layers.masked_mean_square(features, valid)
        chosen = jnp.broadcast_to(jnp.asarray(masked, bool).any(1)[:, None], features.shape[:2])
        return layers.masked_mean_square(features, chosen if valid is None else chosen & valid)

    def _lengths(self, attention_mask: Any) -> Array:
        """(batch, samples) mask -> (batch,) samples, none of them shorter than a frame."""
        samples = jnp.asarray(attention_mask, jnp.int32).sum(1)
        if not layers.is_tracing(samples):
            check_shortest(self.config, int(samples.min()))
        return samples
