"""Mistakes that ports of wav2vec 2.0 make, put into the PyTorch back end one at a time: the suite must notice each.

A mutation is a patch and the tasks of the plan that could see it. What no check can see in principle is not here but in
``faults.INVISIBLE``, with its reason.
"""

# ruff: noqa: E501  the list is a table: a line for each mistake

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import torch
from torch.nn import functional as F

from conformance.torch_backend import TorchBackend
from wav2vec2_torch import heads, layers, losses, model

Patch = Callable[[], AbstractContextManager[Any]]
BASE, LARGE, MMS = "ForCTC-base-padded", "ForCTC-large-padded", "ForCTC-mms-padded"
BASE_EVEN = "ForCTC-base-even"
PRETRAINING, XVECTOR = "ForPreTraining-large-padded", "ForXVector-base-padded"


@dataclass(frozen=True)
class Mutation:
    """One mistake. cases: of the plan, all of whose checks run."""

    name: str
    cases: tuple[str, ...]
    patch: Patch


def replaced(owner: Any, name: str, made: Callable[[Any], Any]) -> Patch:
    """A patch that sets ``owner.name`` to what ``made`` makes of it."""
    return lambda: patch.object(
        owner, name, made(vars(owner)[name] if isinstance(owner, type) else getattr(owner, name))
    )


def activation(wrong: Any) -> Patch:
    """Another function in the place of gelu."""
    return lambda: patch.dict(layers._ACTIVATIONS, {"gelu": wrong})


def configured(**fields: Any) -> Patch:
    """The back end reads another configuration than the checkpoint's."""

    def made(build: Any) -> Any:
        def mutated(self: Any, config: Any, *args: Any, **options: Any) -> Any:
            values = {name: value(config) if callable(value) else value for name, value in fields.items()}
            return build(self, config.replace(**values), *args, **options)

        return mutated

    return replaced(TorchBackend, "build", made)


def together(*patches: Patch) -> Patch:
    """Several patches at once."""

    def entered() -> AbstractContextManager[Any]:
        stack = ExitStack()
        for one in patches:
            stack.enter_context(one())
        return stack

    return entered


def changed(index: int, change: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A function whose argument number ``index`` is changed first."""

    def made(original: Any) -> Any:
        def mutated(*args: Any, **options: Any) -> Any:
            given = list(args)
            given[index] = change(given[index])
            return original(*given, **options)

        return mutated

    return made


def named(option: str, value: Any) -> Callable[[Any], Any]:
    """A function whose named argument has this value."""
    return lambda original: lambda *args, **options: original(*args, **{**options, option: value})


def result(change: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A function whose result is changed."""
    return lambda original: lambda *args, **options: change(original(*args, **options))


# ---- wrong computations ---------------------------------------------------------------------------------------------


def _all_different(codes: torch.Tensor) -> torch.Tensor:
    return torch.arange(codes.numel()).view(codes.shape)


def _over_frames(original: Any) -> Any:
    def forward(self: Any, x: torch.Tensor, lengths: Any = None) -> torch.Tensor:
        normal = F.layer_norm(x, x.shape[2:], eps=self.eps)
        return normal * self.weight[:, None] + self.bias[:, None]

    return forward


def _cropped_at_the_start(original: Any) -> Any:
    def forward(self: Any, hidden: torch.Tensor) -> torch.Tensor:
        return self.activation(self.conv(hidden.transpose(1, 2))[:, :, -hidden.shape[1] :]).transpose(1, 2)

    return forward


def _heads_interleaved(original: Any) -> Any:
    def split(self: Any, x: torch.Tensor) -> torch.Tensor:
        return x.unflatten(2, (self.head_dim, self.num_heads)).permute(0, 3, 1, 2)

    return split


def _without_affine(original: Any) -> Any:
    def forward(self: Any, x: torch.Tensor, lengths: Any = None) -> torch.Tensor:
        return F.group_norm(x, self.num_groups, eps=self.eps)

    return forward


def _unbiased(original: Any) -> Any:
    def forward(self: Any, x: torch.Tensor) -> torch.Tensor:
        deviation = (x.var(-1, unbiased=True, keepdim=True) + self.eps).sqrt()
        return (x - x.mean(-1, keepdim=True)) / deviation * self.weight + self.bias

    return forward


def _gate_first(original: Any) -> Any:
    return lambda x, dim: original(x.roll(x.shape[dim] // 2, dim), dim)


def _norm_over_inputs(original: Any) -> Any:
    def forward(self: Any, x: torch.Tensor) -> torch.Tensor:
        norm = torch.linalg.vector_norm(self.weight_v, dim=1, keepdim=True)
        weight = self.weight_v * (self.weight_g / norm)
        return F.conv1d(x, weight, self.bias, padding=weight.shape[2] // 2, groups=self.groups)

    return forward


def _soft_choice(logits: torch.Tensor, noise: torch.Tensor, temperature: float) -> torch.Tensor:
    return F.softmax((logits + noise) / temperature, dim=-1)


def _choice_without_gradient(logits: torch.Tensor, noise: torch.Tensor, temperature: float) -> torch.Tensor:
    return layers.one_hot_argmax((logits + noise) / temperature)


def _biased_deviation(original: Any) -> Any:
    def mutated(x: torch.Tensor, mask: torch.Tensor | None) -> Any:
        mean, deviation = original(x, mask)
        count = x.shape[1] if mask is None else mask.sum(1)[:, None]
        return mean, deviation * ((count - 1) / count) ** 0.5

    return mutated


def _keys_for_values(original: Any) -> Any:
    return lambda query, key, value, *rest: original(query, value, key, *rest)


def _dropped_before_the_activation(original: Any) -> Any:
    def forward(self: Any, hidden: torch.Tensor) -> torch.Tensor:
        hidden = self.activation(self.intermediate_dropout(self.intermediate_dense(hidden)))
        return self.output_dropout(self.output_dense(hidden))

    return forward


def _dropped_before_the_projection(original: Any) -> Any:
    def forward(self: Any, features: torch.Tensor) -> Any:
        features = self.layer_norm(features)
        return self.projection(self.dropout(features)), features

    return forward


MUTATIONS: tuple[Mutation, ...] = (
    Mutation("attention mask ignored", (BASE,), replaced(layers, "attend", changed(3, lambda mask: None))),
    Mutation("padding not zeroed before positions", (BASE,), replaced(model.Encoder, "forward", changed(2, torch.ones_like))),
    Mutation("attention scaled twice", (BASE,), replaced(layers, "attend", changed(0, lambda q: q * q.shape[-1] ** -0.5))),
    Mutation("keys and values swapped", (BASE,), replaced(layers, "attend", _keys_for_values)),
    Mutation("heads interleaved", (BASE,), replaced(model.Attention, "_split", _heads_interleaved)),
    Mutation("epsilon of norms changed", (LARGE,), configured(layer_norm_eps=1e-5)),
    Mutation("gelu approximated", (BASE,), activation(layers._gelu_tanh)),
    Mutation("relu for gelu", (BASE,), activation(F.relu)),
    Mutation("quick gelu for gelu", (BASE,), activation(layers._quick_gelu)),
    Mutation("norm over frames instead of channels", (LARGE,), replaced(layers.ChannelLayerNorm, "forward", _over_frames)),
    Mutation("post-norm for pre-norm", (LARGE,), configured(do_stable_layer_norm=False)),
    Mutation("pre-norm for post-norm", (BASE,), configured(do_stable_layer_norm=True)),
    Mutation("positional convolution missing", (BASE,), replaced(model.PositionalConvEmbedding, "forward", result(torch.zeros_like))),
    Mutation("even kernel cropped at the start", (BASE,), replaced(model.PositionalConvEmbedding, "forward", _cropped_at_the_start)),
    Mutation("weight norm over inputs only", (BASE,), replaced(layers.WeightNormConv1d, "forward", _norm_over_inputs)),
    Mutation("group norm without affine", (BASE,), replaced(layers.ChannelGroupNorm, "forward", _without_affine)),
    Mutation("unbiased variance in layer norm", (BASE,), replaced(torch.nn.LayerNorm, "forward", _unbiased)),
    Mutation("group norm over padding", ("ForCTC-base-alone-padded",), configured(masked_group_norm=False)),
    Mutation("attention adapter skipped", (MMS,), replaced(model.AttentionAdapter, "forward", result(torch.zeros_like))),
    Mutation("gate and value swapped", ("ForCTC-adapter-padded",), replaced(F, "glu", _gate_first)),
    Mutation("adapter sees padding", ("ForCTC-adapter-alone-padded",), replaced(model.Adapter, "forward", changed(2, lambda n: None))),
    Mutation("mask embedding not used", (BASE,), replaced(model.Wav2Vec2Model, "mask_hidden_states", changed(2, lambda mask: None))),
    Mutation("feature mask not used", (BASE,), replaced(model.Wav2Vec2Model, "mask_hidden_states", changed(3, lambda mask: None))),
    Mutation("layer drop ignored", ("Model-base-padded",), replaced(model.Encoder, "forward", changed(3, lambda keep: None))),
    Mutation("dropout left on", ("ForCTC-base-even",), replaced(torch.nn.Module, "train", lambda train: lambda self, mode=True: train(self, True))),
    Mutation("no hidden dropout", (BASE_EVEN,), configured(hidden_dropout=0.0)),
    Mutation("no activation dropout", (BASE_EVEN,), configured(activation_dropout=0.0)),
    Mutation("no attention dropout", (BASE_EVEN,), configured(attention_dropout=0.0)),
    Mutation("no dropout after the projection", (BASE_EVEN,), configured(feat_proj_dropout=0.0)),
    Mutation("no dropout before the quantizer", ("ForPreTraining-large-even",), configured(feat_quantizer_dropout=0.0)),
    Mutation("no dropout before the head", (BASE_EVEN,), configured(final_dropout=0.0)),
    Mutation("attention drops as the activation does", (BASE_EVEN,), configured(attention_dropout=lambda config: config.activation_dropout)),
    Mutation("dropout before the activation", (BASE_EVEN,), replaced(model.FeedForward, "forward", _dropped_before_the_activation)),
    Mutation("dropout before the projection", (BASE_EVEN,), replaced(model.FeatureProjection, "forward", _dropped_before_the_projection)),
    Mutation("dropout without scaling", (BASE_EVEN,), replaced(F, "dropout", lambda drop: lambda x, p=0.5, training=True, inplace=False: drop(x, p, training) * (1 - p * training))),
    Mutation("wrong blank", (BASE,), replaced(losses, "ctc_loss", named("blank", 1))),
    Mutation("padding of labels counted", (BASE,), replaced(losses, "ctc_loss", changed(2, lambda labels: labels.clamp(min=1)))),
    Mutation("CTC sees padded frames", (BASE,), replaced(losses, "ctc_loss", changed(1, lambda n: torch.full_like(n, int(n.max()))))),
    Mutation("zero_infinity ignored", ("ForCTC-sum-impossible-padded",), replaced(losses, "ctc_loss", named("zero_infinity", False))),
    Mutation("sum for mean in CTC", ("ForCTC-mean-padded",), replaced(losses, "ctc_loss", named("reduction", "sum"))),
    Mutation("contrastive temperature ignored", (PRETRAINING,), replaced(losses, "similarities", changed(2, lambda t: 1.0))),
    Mutation("Gumbel temperature ignored", (PRETRAINING,), replaced(layers, "hard_gumbel_softmax", changed(2, lambda t: 1.0))),
    Mutation("soft Gumbel choice", (PRETRAINING,), replaced(layers, "hard_gumbel_softmax", lambda _: _soft_choice)),
    Mutation("Gumbel choice without gradient", (PRETRAINING,), replaced(layers, "hard_gumbel_softmax", lambda _: _choice_without_gradient)),
    Mutation("Gumbel noise ignored", (PRETRAINING,), replaced(layers, "hard_gumbel_softmax", changed(1, torch.zeros_like))),
    Mutation("negatives shifted by one", (PRETRAINING,), replaced(heads.Wav2Vec2ForPreTraining, "_losses", changed(4, lambda counts: counts.roll(1, -1)))),
    Mutation("equal negatives compete", (PRETRAINING,), replaced(losses, "competitors", changed(0, _all_different))),
    Mutation("contrastive loss over all frames", (PRETRAINING,), replaced(losses, "contrastive_loss_of_frames", changed(2, torch.ones_like))),
    Mutation("diversity over all frames", (PRETRAINING,), replaced(losses, "codevector_sums", changed(1, lambda mask: None))),
    Mutation("diversity not times frames", (PRETRAINING,), replaced(losses, "diversity_loss", changed(2, lambda mask: torch.ones(())))),
    Mutation("diversity weight ignored", (PRETRAINING,), configured(diversity_loss_weight=1.0)),
    Mutation("distractors count once", (PRETRAINING,), replaced(losses, "competitors", changed(1, lambda counts: counts.clamp(max=1)))),
    Mutation("penalty of padded frames", ("ForPreTraining-penalty-padded",), replaced(layers, "masked_mean_square", changed(1, lambda mask: None))),
    Mutation("penalty of normalised features", ("ForPreTraining-penalty-padded",), replaced(layers, "masked_mean_square", changed(0, lambda x: F.layer_norm(x, x.shape[-1:])))),
    Mutation("penalty ignored", ("ForPreTraining-penalty-padded",), configured(feature_penalty_weight=0.0)),
    Mutation("gradient of features not scaled", ("ForPreTraining-penalty-padded",), replaced(layers, "scaled_gradient", changed(1, lambda scale: 1.0))),
    Mutation("features scaled too", ("ForPreTraining-penalty-padded",), replaced(layers, "scaled_gradient", lambda _: lambda x, scale: x * scale)),
    Mutation("mean pooled over padding", ("ForSequenceClassification-base-padded",), replaced(layers, "masked_mean", changed(1, lambda mask: None))),
    Mutation("mixture of layers without softmax", ("ForXVector-weighted-sum-padded",), replaced(heads.F, "softmax", lambda _: lambda x, dim: x)),
    Mutation("biased deviation in x-vectors", (XVECTOR,), replaced(layers, "masked_mean_and_std", _biased_deviation)),
    Mutation("x-vectors without margin", (XVECTOR,), replaced(losses, "am_softmax_logits", named("margin", 0.0))),
    Mutation("dilation ignored", (XVECTOR,), configured(tdnn_dilation=lambda config: (1,) * len(config.tdnn_dim))),
    Mutation("optimizer without momentum", (BASE,), replaced(torch.optim, "SGD", named("momentum", 0.0))),
    Mutation("last layer missing", (BASE,), replaced(model.Encoder, "forward", changed(3, lambda keep: torch.tensor([True, False])))),
    Mutation("files written in half precision", (MMS,), replaced(TorchBackend, "load", result(lambda made: (made.fill({name: array.astype("float16").astype("float32") for name, array in made.weights().items()}), made)[1]))),
)  # fmt: skip
