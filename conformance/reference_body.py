"""The body of wav2vec 2.0 in float64, the specification of every back end: waveforms to context representations.

Shapes: ``frames`` is ``config.num_frames(samples, add_adapter=False)``; ``hidden`` is ``config.hidden_size``. Every
array has its frames before its channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from conformance import reference_layers as layers
from conformance.autodiff import Tensor, scaled_gradient, where
from conformance.reference_layers import conv1d, frame_mask, layer_norm, linear
from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.parameters import BODY_PREFIX, ctc_input_size, has_attention_adapters


@dataclass(frozen=True)
class Randomness:
    """Every random draw of a training step as arrays; a draw that is None does not take place.

    mask_time_indices: (batch, frames) bool, frames replaced by the mask embedding.
    mask_feature_indices: (batch, hidden) bool, features set to zero.
    layer_keep: (layers,) bool, False for layers that are skipped.
    sampled_negative_indices: (batch, frames, negatives) distractors, positions in the flattened (batch * frames) axis.
    gumbel_noise: (batch, frames, groups, entries); the quantizer chooses as in training where it is given.
    gumbel_temperature: of that choice.
    dropout: by the name of a dropout (``encoder.layers.0.feed_forward.output_dropout``, ``feature_projection.dropout``,
        ``encoder.layers.0.attention.dropout`` for (batch, heads, frames, frames) weights, ...) what its input is
        multiplied with: 0 where dropped, 1 / (1 - probability) elsewhere.
    """

    mask_time_indices: np.ndarray | None = None
    mask_feature_indices: np.ndarray | None = None
    layer_keep: np.ndarray | None = None
    sampled_negative_indices: np.ndarray | None = None
    gumbel_noise: np.ndarray | None = None
    gumbel_temperature: float = 2.0
    dropout: Mapping[str, np.ndarray] = field(default_factory=dict)


class ForwardPass:
    """One pass through a model: its parameters as tensors, its randomness, and the stages passed so far.

    A stage is called as the module that computes it is called in a checkpoint, without the prefix of a head's body.
    """

    def __init__(
        self,
        config: Wav2Vec2Config,
        head: str,
        parameters: Mapping[str, np.ndarray],
        randomness: Randomness,
        *,
        tracked: bool,
    ) -> None:
        self.config = config
        self.randomness = randomness
        self.stages: dict[str, np.ndarray] = {}
        self.leaves: dict[str, Tensor] = {}
        self.features: Tensor  # of the feature encoder, before they are normalised
        self._arrays = parameters
        self._tracked = tracked
        self._prefix = "" if head == "Model" else BODY_PREFIX

    def head(self, name: str) -> Tensor:
        """A parameter by its name in the checkpoint. Without gradients nothing keeps the float64 copy."""
        if not self._tracked:
            return Tensor(self._arrays[name])
        if name not in self.leaves:
            self.leaves[name] = Tensor(self._arrays[name], tracked=True)
        return self.leaves[name]

    def body(self, name: str) -> Tensor:
        """A parameter of the body by its name in the bare model."""
        return self.head(self._prefix + name)

    def pair(self, module: str) -> tuple[Tensor, Tensor]:
        """Weight and bias of a module of the body."""
        return self.body(f"{module}.weight"), self.body(f"{module}.bias")

    def head_pair(self, module: str) -> tuple[Tensor, Tensor]:
        """Weight and bias of a module of the head."""
        return self.head(f"{module}.weight"), self.head(f"{module}.bias")

    def dropped(self, name: str, x: Tensor) -> Tensor:
        """``x`` after the dropout of this name."""
        kept = self.randomness.dropout.get(name)
        return x if kept is None else x * kept

    def stage(self, name: str, x: Tensor) -> Tensor:
        """Note the result of a stage, and return it."""
        self.stages[name] = x.data
        return x


def body(
    run: ForwardPass, input_values: np.ndarray, attention_mask: np.ndarray | None
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Context representations (batch, frames', output hidden), normalised features (batch, frames, conv_dim[-1]), and
    hidden states: the input of every transformer layer and the last one's output, each (batch, frames, hidden).

    Args:
        run: the model.
        input_values: (batch, samples).
        attention_mask: (batch, samples), 1 for samples and 0 for the padding after them; None for no padding.
    """
    config = run.config
    samples = None if attention_mask is None else np.asarray(attention_mask).astype(np.int64).sum(1)
    frames = None if samples is None else config.num_frames(samples, add_adapter=False)
    encoded = _feature_encoder(run, Tensor(input_values), samples)
    run.features = scaled_gradient(encoded, config.feature_gradient_scale)
    hidden, features = _feature_projection(run, run.features)
    hidden = run.stage("masked", _spec_augment(run, hidden))
    states = _encoder(run, hidden, frames)
    hidden = states[-1]
    if config.add_adapter:
        hidden = _conv_adapter(run, hidden, frames)
    return hidden, features, states


# ---- waveform -> latent speech representations (paper section 2) ------------------------------------------------


def _feature_encoder(run: ForwardPass, waveforms: Tensor, samples: np.ndarray | None) -> Tensor:
    """(batch, samples) -> (batch, frames, conv_dim[-1]); ``samples``: (batch,) valid ones, None for all."""
    config = run.config
    x = waveforms.reshape(*waveforms.shape, 1)
    lengths = samples if config.masked_group_norm else None
    for index, (kernel, stride) in enumerate(zip(config.conv_kernel, config.conv_stride, strict=True)):
        name = f"feature_extractor.conv_layers.{index}"
        bias = run.body(f"{name}.conv.bias") if config.conv_bias else None
        x = conv1d(x, run.body(f"{name}.conv.weight"), bias, stride=stride)
        if lengths is not None:
            lengths = (lengths - kernel) // stride + 1
        if config.feat_extract_norm == "layer":
            x = layer_norm(x, *run.pair(f"{name}.layer_norm"))
        elif index == 0:
            x = layers.channel_norm(x, *run.pair(f"{name}.layer_norm"), lengths)
        x = run.stage(name, layers.ACTIVATIONS[config.feat_extract_activation](x))
    return x


def _feature_projection(run: ForwardPass, features: Tensor) -> tuple[Tensor, Tensor]:
    """(batch, frames, conv_dim[-1]) -> (batch, frames, hidden), and the normalised features."""
    name = "feature_projection"
    features = layer_norm(features, *run.pair(f"{name}.layer_norm"), run.config.layer_norm_eps)
    run.stage(f"{name}.layer_norm", features)
    hidden = linear(features, *run.pair(f"{name}.projection"))
    return run.stage(name, run.dropped(f"{name}.dropout", hidden)), features


def _spec_augment(run: ForwardPass, hidden: Tensor) -> Tensor:
    """Mask spans of frames (section 3.1) and of features: (batch, frames, hidden) -> the same."""
    randomness = run.randomness
    if not run.config.apply_spec_augment:
        return hidden
    if randomness.mask_time_indices is not None:
        hidden = where(randomness.mask_time_indices[:, :, None], run.body("masked_spec_embed"), hidden)
    if randomness.mask_feature_indices is not None:
        hidden = where(randomness.mask_feature_indices[:, None, :], 0.0, hidden)
    return hidden


# ---- transformer ------------------------------------------------------------------------------------------------


def _encoder(run: ForwardPass, hidden: Tensor, lengths: np.ndarray | None) -> list[Tensor]:
    """(batch, frames, hidden) -> hidden states, the last of which is the encoder's result.

    Padded frames are zero at the start, and no frame attends to them; what becomes of them there is not masked again.
    """
    config, name = run.config, "encoder"
    mask = None if lengths is None else frame_mask(lengths, hidden.shape[1])
    if mask is not None:
        hidden = where(mask[:, :, None], hidden, 0.0)
    hidden = hidden + run.stage(f"{name}.pos_conv_embed", _positions(run, hidden))
    norm = *run.pair(f"{name}.layer_norm"), config.layer_norm_eps
    if not config.do_stable_layer_norm:
        hidden = layer_norm(hidden, *norm)
    hidden = run.stage(f"{name}.dropout", run.dropped(f"{name}.dropout", hidden))
    states = [hidden]
    for index in range(config.num_hidden_layers):
        if run.randomness.layer_keep is None or run.randomness.layer_keep[index]:
            hidden = _encoder_layer(run, f"{name}.layers.{index}", hidden, mask)
        states.append(run.stage(f"{name}.layers.{index}", hidden))
    if config.do_stable_layer_norm:
        states[-1] = layer_norm(hidden, *norm)
    run.stage(name, states[-1])
    return states


def _positions(run: ForwardPass, hidden: Tensor) -> Tensor:
    """Relative positions from a wide grouped convolution: (batch, frames, hidden) -> the same."""
    config, name = run.config, "encoder.pos_conv_embed.conv"
    weight = layers.weight_norm(run.body(f"{name}.weight_g"), run.body(f"{name}.weight_v"))
    padding, groups = config.num_conv_pos_embeddings // 2, config.num_conv_pos_embedding_groups
    positions = conv1d(hidden, weight, run.body(f"{name}.bias"), padding=padding, groups=groups)
    positions = positions[:, : hidden.shape[1]]  # an even kernel gives one frame too many
    return layers.ACTIVATIONS[config.feat_extract_activation](positions)


def _encoder_layer(run: ForwardPass, name: str, hidden: Tensor, mask: np.ndarray | None) -> Tensor:
    """(batch, frames, hidden) -> the same. Norms follow each half (BASE) or precede it (LARGE lv60, XLS-R, MMS)."""
    config = run.config
    first = *run.pair(f"{name}.layer_norm"), config.layer_norm_eps
    second = *run.pair(f"{name}.final_layer_norm"), config.layer_norm_eps
    pre_norm = config.do_stable_layer_norm
    attended = _attention(run, f"{name}.attention", layer_norm(hidden, *first) if pre_norm else hidden, mask)
    hidden = hidden + run.dropped(f"{name}.dropout", attended)
    if pre_norm:
        hidden = hidden + _feed_forward(run, f"{name}.feed_forward", layer_norm(hidden, *second))
    else:
        hidden = layer_norm(hidden, *first)
        hidden = layer_norm(hidden + _feed_forward(run, f"{name}.feed_forward", hidden), *second)
    if has_attention_adapters(config):
        hidden = hidden + _attention_adapter(run, f"{name}.adapter_layer", hidden)
    return hidden


def _attention(run: ForwardPass, name: str, hidden: Tensor, mask: np.ndarray | None) -> Tensor:
    """Scaled dot-product attention of several heads: (batch, frames, hidden) -> the same.

    ``mask``: (batch, frames) bool, frames that may be attended to; None for all.
    """
    batch, frames, width = hidden.shape
    heads, size = run.config.num_attention_heads, run.config.head_dim

    def split(projection: str) -> Tensor:
        x = linear(hidden, *run.pair(f"{name}.{projection}"))
        return x.reshape(batch, frames, heads, size).transpose(0, 2, 1, 3)

    scores = (split("q_proj") * size**-0.5) @ split("k_proj").transpose(0, 1, 3, 2)  # (batch, heads, frames, frames)
    if mask is not None:
        scores = where(mask[:, None, None, :], scores, -np.inf)
    weights = run.dropped(f"{name}.dropout", layers.softmax(scores))
    context = (weights @ split("v_proj")).transpose(0, 2, 1, 3).reshape(batch, frames, width)
    return run.stage(name, linear(context, *run.pair(f"{name}.out_proj")))


def _feed_forward(run: ForwardPass, name: str, hidden: Tensor) -> Tensor:
    """(batch, frames, hidden) -> the same."""
    hidden = linear(hidden, *run.pair(f"{name}.intermediate_dense"))
    hidden = run.dropped(f"{name}.intermediate_dropout", layers.ACTIVATIONS[run.config.hidden_act](hidden))
    hidden = linear(hidden, *run.pair(f"{name}.output_dense"))
    return run.stage(name, run.dropped(f"{name}.output_dropout", hidden))


def _attention_adapter(run: ForwardPass, name: str, hidden: Tensor) -> Tensor:
    """Bottleneck of a language in MMS (Pratap et al. 2023, section 4): (batch, frames, hidden) -> the same, to add."""
    inner = linear(layer_norm(hidden, *run.pair(f"{name}.norm")), *run.pair(f"{name}.linear_1"))
    return run.stage(name, linear(layers.relu(inner), *run.pair(f"{name}.linear_2")))


# ---- convolutional adapter --------------------------------------------------------------------------------------


def _conv_adapter(run: ForwardPass, hidden: Tensor, lengths: np.ndarray | None) -> Tensor:
    """Strided convolutions with gates: (batch, frames, hidden) -> (batch, frames', output hidden).

    ``lengths``: (batch,) valid frames. With ``masked_group_norm`` each convolution sees zeros after an utterance's end.
    """
    config = run.config
    size = ctc_input_size(config)
    if size != config.hidden_size:
        hidden = layer_norm(linear(hidden, *run.pair("adapter.proj")), *run.pair("adapter.proj_layer_norm"))
    for index in range(config.num_adapter_layers):
        if lengths is not None and config.masked_group_norm:
            hidden = where(frame_mask(lengths, hidden.shape[1])[:, :, None], hidden, 0.0)
            lengths = (lengths + 2 - config.adapter_kernel_size) // config.adapter_stride + 1
        name = f"adapter.layers.{index}"
        both = conv1d(hidden, *run.pair(f"{name}.conv"), stride=config.adapter_stride, padding=1)
        hidden = run.stage(name, both[:, :, :size] * layers.sigmoid(both[:, :, size:]))
    return hidden
