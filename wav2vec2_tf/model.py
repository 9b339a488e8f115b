"""wav2vec 2.0 (Baevski et al. 2020), in the order in which a waveform passes through it.

Layer names are those of the checkpoints. Shapes: ``frames`` is ``config.num_frames(samples)``, 49 per second for the
released models; ``hidden`` is ``config.hidden_size``.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from wav2vec2_core import masking
from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.errors import InputError
from wav2vec2_core.inputs import check_shortest
from wav2vec2_core.outputs import Wav2Vec2BaseModelOutput
from wav2vec2_core.parameters import ctc_input_size, has_attention_adapters
from wav2vec2_tf import layers
from wav2vec2_tf.layers import Size, Tensor
from wav2vec2_tf.pretrained import TFWav2Vec2PreTrainedModel

# ---- feature encoder: waveform -> latent speech representations Z (section 2) ----------------------------------


class ConvLayer(layers.Layer):
    """One block of the feature encoder: convolution, normalisation where the configuration has one, activation."""

    def __init__(self, config: Wav2Vec2Config, index: int) -> None:
        super().__init__(name=f"conv_layers_{index}")
        inputs = config.conv_dim[index - 1] if index > 0 else 1
        outputs, kernel, stride = config.conv_dim[index], config.conv_kernel[index], config.conv_stride[index]
        self.conv = layers.convolution(inputs, outputs, kernel, stride, bias=config.conv_bias)
        self.layer_norm = None
        if config.feat_extract_norm == "layer":
            self.layer_norm = layers.ChannelLayerNorm(outputs)
        elif index == 0:
            self.layer_norm = layers.ChannelGroupNorm(outputs)
        self.activation = layers.activation(config.feat_extract_activation)

    def call(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        """(batch, frames, channels) -> (batch, frames', channels').

        ``lengths``: (batch,) valid frames of the result, for a group norm that must ignore padding.
        """
        x = self.conv(x)
        if self.layer_norm is not None:
            x = self.layer_norm(x, lengths=lengths)
        return self.activation(x)


class FeatureEncoder(layers.Layer):
    """Temporal convolutions that turn 25 ms of waveform into one vector every 20 ms (section 4.2)."""

    def __init__(self, config: Wav2Vec2Config) -> None:
        super().__init__(name="feature_extractor")
        self.config = config
        self.conv_layers = [ConvLayer(config, index) for index in range(config.num_feat_extract_layers)]

    def call(self, input_values: Tensor, lengths: Tensor | None) -> Tensor:
        """(batch, samples) -> (batch, frames, conv_dim[-1]); ``lengths``: (batch,) valid samples, None for all."""
        x = tf.expand_dims(input_values, 2)
        if not self.config.masked_group_norm:
            lengths = None
        for layer, kernel, stride in zip(
            self.conv_layers, self.config.conv_kernel, self.config.conv_stride, strict=True
        ):
            if lengths is not None:
                lengths = (lengths - kernel) // stride + 1
            x = layer(x, lengths)
        return x


class FeatureProjection(layers.Layer):
    """Layer norm and linear map from the feature encoder's width to the transformer's."""

    def __init__(self, config: Wav2Vec2Config) -> None:
        super().__init__(name="feature_projection")
        self.layer_norm = layers.LayerNorm(config.conv_dim[-1], config.layer_norm_eps)
        self.projection = layers.linear(config.conv_dim[-1], config.hidden_size, "projection")
        self.dropout = keras.layers.Dropout(config.feat_proj_dropout)

    def call(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, frames, conv_dim[-1]) -> (batch, frames, hidden) and the normalised features, which are quantised."""
        features = self.layer_norm(features)
        return self.dropout(self.projection(features)), features


# ---- transformer: masked Z -> context representations C --------------------------------------------------------


class PositionalConvEmbedding(layers.Layer):
    """Relative positions from one wide grouped convolution instead of fixed embeddings (section 2)."""

    def __init__(self, config: Wav2Vec2Config) -> None:
        super().__init__(name="pos_conv_embed")
        self.conv = layers.WeightNormConv1d(
            config.hidden_size, config.num_conv_pos_embeddings, config.num_conv_pos_embedding_groups
        )
        self.activation = layers.activation(config.feat_extract_activation)

    def call(self, hidden: Tensor) -> Tensor:
        """(batch, frames, hidden) -> (batch, frames, hidden)."""
        return self.activation(self.conv(hidden))


class Attention(layers.Layer):
    """Multi-head self-attention."""

    # ``valid`` and not ``mask``, as in all layers here: Keras hangs masks of that name onto tensors.

    def __init__(self, config: Wav2Vec2Config) -> None:
        super().__init__(name="attention")
        self.num_heads, self.head_dim = config.num_attention_heads, config.head_dim
        self.dropout = keras.layers.Dropout(config.attention_dropout)
        self.q_proj = layers.linear(config.hidden_size, config.hidden_size, "q_proj")
        self.k_proj = layers.linear(config.hidden_size, config.hidden_size, "k_proj")
        self.v_proj = layers.linear(config.hidden_size, config.hidden_size, "v_proj")
        self.out_proj = layers.linear(config.hidden_size, config.hidden_size, "out_proj")

    def call(self, hidden: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor]:
        """(batch, frames, hidden) -> the same, and the weights (batch, heads, frames, frames)."""
        query, key, value = (self._split(project(hidden)) for project in (self.q_proj, self.k_proj, self.v_proj))
        context, weights = layers.attend(query, key, value, valid, self.dropout)
        context = tf.reshape(tf.transpose(context, (0, 2, 1, 3)), tf.shape(hidden))
        return self.out_proj(context), weights

    def _split(self, x: Tensor) -> Tensor:
        """(batch, frames, hidden) -> (batch, heads, frames, head_dim)."""
        shape = (layers.size(x, 0), layers.size(x, 1), self.num_heads, self.head_dim)
        return tf.transpose(tf.reshape(x, shape), (0, 2, 1, 3))


class FeedForward(layers.Layer):
    """The position-wise part of a transformer layer."""

    def __init__(self, config: Wav2Vec2Config) -> None:
        super().__init__(name="feed_forward")
        self.intermediate_dense = layers.linear(config.hidden_size, config.intermediate_size, "intermediate_dense")
        self.activation = layers.activation(config.hidden_act)
        self.intermediate_dropout = keras.layers.Dropout(config.activation_dropout)
        self.output_dense = layers.linear(config.intermediate_size, config.hidden_size, "output_dense")
        self.output_dropout = keras.layers.Dropout(config.hidden_dropout)

    def call(self, hidden: Tensor) -> Tensor:
        """(batch, frames, hidden) -> the same."""
        hidden = self.intermediate_dropout(self.activation(self.intermediate_dense(hidden)))
        return self.output_dropout(self.output_dense(hidden))


class AttentionAdapter(layers.Layer):
    """Bottleneck at the end of a transformer layer, one set per language in MMS (Pratap et al. 2023, section 4)."""

    def __init__(self, config: Wav2Vec2Config, size: int) -> None:
        super().__init__(name="adapter_layer")
        self.norm = layers.LayerNorm(config.hidden_size, name="norm")
        self.linear_1 = layers.linear(config.hidden_size, size, "linear_1")
        self.linear_2 = layers.linear(size, config.hidden_size, "linear_2")

    def call(self, hidden: Tensor) -> Tensor:
        """(batch, frames, hidden) -> the same, to be added to the input."""
        return self.linear_2(tf.nn.relu(self.linear_1(self.norm(hidden))))


class EncoderLayer(layers.Layer):
    """One transformer layer: post-norm (BASE) or pre-norm (LARGE lv60, XLS-R, MMS)."""

    def __init__(self, config: Wav2Vec2Config, index: int) -> None:
        super().__init__(name=f"layers_{index}")
        self.pre_norm = config.do_stable_layer_norm
        self.attention = Attention(config)
        self.dropout = keras.layers.Dropout(config.hidden_dropout)
        self.layer_norm = layers.LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.feed_forward = FeedForward(config)
        self.final_layer_norm = layers.LayerNorm(config.hidden_size, config.layer_norm_eps, "final_layer_norm")
        self.adapter_layer = None
        if has_attention_adapters(config) and config.adapter_attn_dim is not None:
            self.adapter_layer = AttentionAdapter(config, config.adapter_attn_dim)

    def call(self, hidden: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor]:
        """(batch, frames, hidden) -> the same, and the attention weights."""
        attended, weights = self.attention(self.layer_norm(hidden) if self.pre_norm else hidden, valid)
        hidden = hidden + self.dropout(attended)
        if self.pre_norm:
            hidden = hidden + self.feed_forward(self.final_layer_norm(hidden))
        else:
            hidden = self.layer_norm(hidden)
            hidden = self.final_layer_norm(hidden + self.feed_forward(hidden))
        if self.adapter_layer is not None:
            hidden = hidden + self.adapter_layer(hidden)
        return hidden, weights


class Encoder(layers.Layer):
    """The transformer. Its layer norm comes first for post-norm layers and last for pre-norm layers."""

    def __init__(self, config: Wav2Vec2Config) -> None:
        super().__init__(name="encoder")
        self.pre_norm = config.do_stable_layer_norm
        self.pos_conv_embed = PositionalConvEmbedding(config)
        self.layer_norm = layers.LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.dropout = keras.layers.Dropout(config.hidden_dropout)
        self.layers = [EncoderLayer(config, index) for index in range(config.num_hidden_layers)]

    def call(
        self, hidden: Tensor, valid: Tensor | None, layer_keep: Tensor | None, with_states: bool, with_weights: bool
    ) -> tuple[Tensor, tuple[Tensor, ...] | None, tuple[Tensor, ...] | None]:
        """Run every layer.

        Args:
            hidden: (batch, frames, hidden).
            valid: (batch, frames) bool, False for padding; None where there is none.
            layer_keep: (layers,) bool, False for a layer to be skipped (layer drop); None to keep all. A skipped
                layer is computed and its result dropped: each step costs the same and uses every parameter.
            with_states, with_weights: return hidden states and attention weights too, instead of None.

        Returns:
            Context representations, hidden states (input of each layer and the final result), attention weights.
        """
        if valid is not None:
            hidden = tf.where(tf.expand_dims(valid, 2), hidden, tf.zeros_like(hidden))
        hidden = hidden + self.pos_conv_embed(hidden)
        hidden = self.dropout(hidden if self.pre_norm else self.layer_norm(hidden))
        states, attentions = [], []
        for index, layer in enumerate(self.layers):
            if with_states:
                states.append(hidden)
            output, weights = layer(hidden, valid)
            hidden = output if layer_keep is None else tf.where(layer_keep[index], output, hidden)
            if with_weights:
                attentions.append(weights)
        if self.pre_norm:
            hidden = self.layer_norm(hidden)
        return hidden, (*states, hidden) if with_states else None, tuple(attentions) if with_weights else None


# ---- convolutional adapter: fewer frames, for tasks whose output is much shorter than speech --------------------


class AdapterLayer(layers.Layer):
    """Strided convolution with a gated linear unit."""

    def __init__(self, config: Wav2Vec2Config, index: int) -> None:
        super().__init__(name=f"layers_{index}")
        width = ctc_input_size(config)
        self.conv = layers.convolution(width, 2 * width, config.adapter_kernel_size, config.adapter_stride)

    def call(self, x: Tensor) -> Tensor:
        """(batch, frames, features) -> (batch, frames', features)."""
        return layers.gated_linear_unit(self.conv(tf.pad(x, [[0, 0], [1, 1], [0, 0]])))


class Adapter(layers.Layer):
    """Optional projection, then ``num_adapter_layers`` strided convolutions."""

    def __init__(self, config: Wav2Vec2Config) -> None:
        super().__init__(name="adapter")
        self.config = config
        outputs = ctc_input_size(config)
        self.proj, self.proj_layer_norm = None, None
        if outputs != config.hidden_size:
            self.proj = layers.linear(config.hidden_size, outputs, "proj")
            self.proj_layer_norm = layers.LayerNorm(outputs, name="proj_layer_norm")
        self.layers = [AdapterLayer(config, index) for index in range(config.num_adapter_layers)]

    def call(self, hidden: Tensor, lengths: Tensor | None) -> Tensor:
        """(batch, frames, hidden) -> (batch, frames', output_hidden).

        ``lengths``: (batch,) valid frames. With ``masked_group_norm`` the convolutions see zeros after the end of an
        utterance, as they would if it were alone; otherwise what the transformer made of its padding.
        """
        if self.proj is not None and self.proj_layer_norm is not None:
            hidden = self.proj_layer_norm(self.proj(hidden))
        for layer in self.layers:
            if lengths is not None and self.config.masked_group_norm:
                mask = layers.frame_mask(lengths, layers.size(hidden, 1))
                hidden = tf.where(tf.expand_dims(mask, 2), hidden, tf.zeros_like(hidden))
                lengths = (lengths + 2 - self.config.adapter_kernel_size) // self.config.adapter_stride + 1
            hidden = layer(hidden)
        return hidden


# ---- the body ---------------------------------------------------------------------------------------------------


@layers.savable
class TFWav2Vec2Model(TFWav2Vec2PreTrainedModel):
    """Feature encoder, masking, transformer and optional convolutional adapter, without a head."""

    head = "Model"

    def __init__(self, config: Wav2Vec2Config, **options: Any) -> None:
        super().__init__(config, **options)
        config = self.config
        with self.construction():
            self.feature_extractor = FeatureEncoder(config)
            self.feature_projection = FeatureProjection(config)
            self.masked_spec_embed = None
            if config.mask_time_prob > 0 or config.mask_feature_prob > 0:
                self.masked_spec_embed = self.add_weight(
                    shape=(config.hidden_size,),
                    name="masked_spec_embed",
                    trainable=config.apply_spec_augment,  # without masking nothing uses it
                )
            self.encoder = Encoder(config)
            self.adapter = Adapter(config) if config.add_adapter else None

    def call(
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
        training: bool | None = None,
    ) -> Wav2Vec2BaseModelOutput | tuple[Tensor, ...]:
        """Turn waveforms into context representations.

        Args:
            input_values: (batch, samples) waveforms at the sampling rate of the checkpoint, normalised as it expects;
                or a mapping of these arguments.
            attention_mask: (batch, samples), 1 for samples and 0 for the padding after them; None for no padding.
            mask_time_indices: (batch, frames) bool, frames to replace by the mask embedding; drawn in training
                where None.
            output_attentions, output_hidden_states, return_dict: as the configuration says where None.
            mask_feature_indices: (batch, hidden) bool, features to set to zero; drawn in training where None.
            layer_keep: (layers,) bool, False for layers to skip; drawn in training where None.
            output_feature_penalty: also return the mean square of the feature encoder's output over the valid frames of
                utterances with a masked frame: those that only fill up a batch have none.
            training: whether dropout and masking are on.

        Raises:
            InputError: a shape is invalid, or an utterance is shorter than one frame.
        """
        config = self.config
        layers.check_waveforms(config, input_values, attention_mask)
        samples = None if attention_mask is None else self._lengths(attention_mask)
        frames = None if samples is None else config.num_frames(samples, add_adapter=False)
        if training:
            width = config.num_frames(layers.size(input_values, 1), add_adapter=False)
            mask_time_indices, mask_feature_indices, layer_keep = self.draw_missing(
                layers.size(input_values, 0), width, frames, mask_time_indices, mask_feature_indices, layer_keep
            )

        if layer_keep is not None:
            layers.check_shape("layer_keep", layer_keep, (config.num_hidden_layers,), "(layers,)")

        features = self.feature_extractor(tf.cast(input_values, self.compute_dtype), samples)
        if config.feature_gradient_scale != 1.0:
            features = layers.scaled_gradient(features, config.feature_gradient_scale)
        valid = None if frames is None else layers.frame_mask(frames, layers.size(features, 1))
        # As in fairseq the penalty is of what is scaled, so its own gradient is scaled too.
        penalty = self._penalty(features, valid, mask_time_indices) if output_feature_penalty else None
        hidden, features = self.feature_projection(features)
        hidden = self.mask_hidden_states(hidden, mask_time_indices, mask_feature_indices)
        hidden, states, attentions = self.encoder(
            hidden,
            valid,
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
        batch: Size,
        width: Size,
        frames: Tensor | None,
        mask_time_indices: Tensor | None,
        mask_feature_indices: Tensor | None,
        layer_keep: Tensor | None,
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Draw what a training step needs and was not given: (batch, width) and (batch, hidden) masks, (layers,) keeps.

        ``frames``: (batch,) valid frames, ``width`` each where None. What the configuration switches off stays None.
        """
        given = {
            "mask_time_indices": mask_time_indices,
            "mask_feature_indices": mask_feature_indices,
            "layer_keep": layer_keep,
        }
        needed = self.drawn_in_training(given)
        if not needed:
            return mask_time_indices, mask_feature_indices, layer_keep
        lengths = tf.fill((batch,), width) if frames is None else frames
        shapes = [(None, None), (None, self.config.hidden_size), (self.config.num_hidden_layers,)]
        drawn = layers.draw_on_host(self.draw, [lengths, width], [(tf.bool, shape) for shape in shapes])
        time, feature, keep = (
            draw if name in needed else value for draw, (name, value) in zip(drawn, given.items(), strict=True)
        )
        return time, feature, keep

    def draw(
        self, generator: np.random.Generator, lengths: np.ndarray, width: int | np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What training draws as the configuration says: (batch, width) and (batch, hidden) masks, (layers,) keeps.

        ``lengths``: (batch,) valid frames.
        """
        config = self.config
        time = masking.time_mask(
            lengths,
            int(width),
            prob=config.mask_time_prob,
            length=config.mask_time_length,
            min_masks=config.mask_time_min_masks,
            generator=generator,
        )
        feature = masking.feature_mask(
            len(lengths),
            config.hidden_size,
            prob=config.mask_feature_prob,
            length=config.mask_feature_length,
            min_masks=config.mask_feature_min_masks,
            generator=generator,
        )
        return time, feature, masking.layer_keep(config.num_hidden_layers, config.layerdrop, generator)

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
            layers.check_shape("mask_time_indices", mask_time_indices, (batch, width), "(batch, frames)")
            if self.masked_spec_embed is None:
                raise InputError(
                    "mask_time_indices is given and mask_time_prob and mask_feature_prob are 0: such a model has no "
                    "mask embedding, set one of them above 0 in the configuration"
                )
            chosen = tf.expand_dims(tf.cast(mask_time_indices, tf.bool), 2)
            hidden = tf.where(chosen, tf.cast(self.masked_spec_embed, hidden.dtype), hidden)
        if mask_feature_indices is not None:
            layers.check_shape("mask_feature_indices", mask_feature_indices, (batch, features), "(batch, hidden)")
            hidden = tf.where(tf.expand_dims(tf.cast(mask_feature_indices, tf.bool), 1), tf.zeros_like(hidden), hidden)
        return hidden

    @staticmethod
    def _penalty(features: Tensor, valid: Tensor | None, masked: Tensor | None) -> Tensor:
        """Mean square of (batch, frames, features); ``valid``, ``masked``: (batch, frames), None for all."""
        if masked is None:
            return layers.masked_mean_square(features, valid)
        chosen = tf.reduce_any(tf.cast(masked, tf.bool), axis=1, keepdims=True)
        everywhere = tf.ones_like(features[:, :, 0], tf.bool) if valid is None else valid
        return layers.masked_mean_square(features, chosen & everywhere)

    def _lengths(self, attention_mask: Tensor) -> Tensor:
        """(batch, samples) mask -> (batch,) samples, none of them shorter than a frame."""
        samples = tf.reduce_sum(tf.cast(attention_mask, tf.int32), axis=1)
        if not layers.is_tracing():
            check_shortest(self.config, int(tf.reduce_min(samples)))
        return samples
