"""Primitives of the model. PyTorch's peculiarities live here and only here.

Shapes: convolutions work on ``(batch, channels, frames)``, everything else on ``(batch, frames, features)``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils import _pytree as pytree
from torch.utils.checkpoint import checkpoint

from wav2vec2_core.outputs import OUTPUT_CLASSES, ModelOutput
from wav2vec2_torch import block_attention

# ---- activations ----------------------------------------------------------------------------------------------


# Functions with names, not lambdas: models are pickled when processes are spawned.


def _clipped_gelu(x: Tensor) -> Tensor:
    return F.gelu(x).clamp(-10.0, 10.0)


def _gelu_tanh(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")


def _quick_gelu(x: Tensor) -> Tensor:
    return x * torch.sigmoid(1.702 * x)


def _squared_relu(x: Tensor) -> Tensor:
    return F.relu(x).square()


def _identity(x: Tensor) -> Tensor:
    return x


def _laplace(x: Tensor) -> Tensor:
    # Cumulative Laplace-like gate of Mega (Ma et al. 2022): mean sqrt(1/2), deviation sqrt(1/(4 pi)), both rounded.
    return 0.5 * (1.0 + torch.erf((x - 0.707107) / (0.282095 * math.sqrt(2.0))))


_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_10": _clipped_gelu,
    "gelu_accurate": _gelu_tanh,
    "gelu_fast": _gelu_tanh,
    "gelu_new": _gelu_tanh,
    "gelu_python": F.gelu,
    "gelu_python_tanh": _gelu_tanh,
    "gelu_pytorch_tanh": _gelu_tanh,
    "laplace": _laplace,
    "leaky_relu": F.leaky_relu,
    "linear": _identity,
    "mish": F.mish,
    "quick_gelu": _quick_gelu,
    "relu": F.relu,
    "relu2": _squared_relu,
    "relu6": F.relu6,
    "sigmoid": torch.sigmoid,
    "silu": F.silu,
    "swish": F.silu,
    "tanh": torch.tanh,
}


def activation(name: str) -> Callable[[Tensor], Tensor]:
    """The activation with this transformers name; ``Wav2Vec2Config`` has checked that it is known."""
    return _ACTIVATIONS[name]


# ---- normalisation and convolution ----------------------------------------------------------------------------


class LayerNorm(nn.LayerNorm):
    """Layer norm whose weight and bias get their whole gradient in bfloat16 on a processor too.

    There PyTorch 2.13 adds up the gradients of all frames in bfloat16: 4 % are wrong after 2,000 frames, a third after
    100,000, which the first layers of LARGE's feature encoder have after half a minute of audio.
    """

    def forward(self, input: Tensor) -> Tensor:
        """(..., features) -> the same."""
        trains = torch.is_grad_enabled() and self.weight.requires_grad
        if not trains or input.dtype != torch.bfloat16 or input.device.type != "cpu":
            return super().forward(input)
        with torch.autocast("cpu", enabled=False):
            weight, bias = _widened(self.weight), _widened(self.bias)
            return F.layer_norm(_widened(input), self.normalized_shape, weight, bias, self.eps).to(input.dtype)


class ChannelLayerNorm(LayerNorm):
    """Layer norm over the channels, frame by frame."""

    def forward(self, input: Tensor, lengths: Tensor | None = None) -> Tensor:
        """(batch, channels, frames) -> the same; ``lengths`` make no difference to a single frame."""
        return super().forward(input.transpose(1, 2)).transpose(1, 2)


class ChannelGroupNorm(nn.GroupNorm):
    """Group norm with one group per channel: each channel is normalised over time, utterance by utterance."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels)

    def forward(self, input: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Normalise (batch, channels, frames), with ``lengths`` (batch,) by each utterance's own frames alone."""
        if lengths is None and not _has_channels_last(input):
            return super().forward(input)
        wide = _widened(input)
        # This is the largest array of the model, so passes over it count: the variance is a difference of two sums,
        # which is exact as long as means are small beside deviations; see ``FeatureEncoder``.
        own, count = wide, input.shape[2]
        if lengths is not None:
            own = wide * frame_mask(lengths, input.shape[2])[:, None]
            count = lengths[:, None, None].to(wide.dtype)
        mean = own.sum(2, keepdim=True) / count
        variance = (_sum_of_squares(own) / count - mean * mean).clamp(min=0.0)
        scale = self.weight[:, None] * torch.rsqrt(variance + self.eps)
        return torch.addcmul(self.bias[:, None] - mean * scale, wide, scale).to(input.dtype)


def _has_channels_last(x: Tensor) -> bool:
    """Whether the channels of a frame lie side by side, as ``Conv1d`` leaves them."""
    return not torch.compiler.is_exporting() and x.stride(1) == 1


def _sum_of_squares(x: Tensor) -> Tensor:
    """(batch, channels, frames) -> (batch, channels, 1), in the way that is fast for the layout."""
    if _has_channels_last(x):
        return x.square().sum(2, keepdim=True)
    norm = torch.linalg.vector_norm(x, dim=2, keepdim=True)
    return norm * norm


class Conv1d(nn.Conv1d):
    """Convolution without padding; on a processor in the layout that it computes fastest, with channels last."""

    def forward(self, input: Tensor) -> Tensor:
        """(batch, channels, frames) -> (batch, channels', frames')."""
        kernel, stride = self.kernel_size[0], self.stride[0]
        trains = torch.is_grad_enabled() and (input.requires_grad or self.weight.requires_grad)
        if not self._suits_channels_last(input, trains):
            return super().forward(input)
        if self.in_channels == 1:
            windows = input[:, 0].unfold(1, kernel, stride)
            return F.linear(windows, self.weight[:, 0], self.bias).transpose(1, 2)
        read = input
        if trains:
            # For the gradient of the weight in bfloat16, PyTorch 2.13 (oneDNN, AMX) multiplies memory behind the frames
            # that no kernel reads by zero; nothing has written there, and now and then it is not a number.
            read = input[..., : input.shape[2] - (input.shape[2] - kernel) % stride]
        pixels = read.unsqueeze(2).contiguous(memory_format=torch.channels_last)
        return F.conv2d(pixels, self.weight.unsqueeze(2), self.bias, (1, stride)).squeeze(2)

    def _suits_channels_last(self, x: Tensor, trains: bool) -> bool:
        if x.device.type != "cpu" or x.dtype not in (torch.float32, torch.bfloat16) or torch.compiler.is_exporting():
            return False
        return _computes_half(x) or not trains  # the gradients of oneDNN in float32 are slow


class WeightNormConv1d(nn.Module):
    """Grouped 1-d convolution whose weight is ``weight_g * weight_v / |weight_v|``, one norm per kernel position.

    torch's own weight norm renames the parameters; these two keep the names of the checkpoint.
    """

    def __init__(self, channels: int, kernel: int, groups: int) -> None:
        super().__init__()
        self.weight_g = nn.Parameter(torch.empty(1, 1, kernel))
        self.weight_v = nn.Parameter(torch.empty(channels, channels // groups, kernel))
        self.bias = nn.Parameter(torch.empty(channels))
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, frames) -> (batch, channels, frames + 1) for an even kernel, same frames for an odd one."""
        norm = torch.linalg.vector_norm(self.weight_v, dim=(0, 1), keepdim=True)
        weight = self.weight_v * (self.weight_g / norm)
        return grouped_conv1d(x, weight, self.bias, self.groups)


def _computes_half(x: Tensor) -> bool:
    """Whether a product of ``x`` on a processor is one in half precision."""
    return x.dtype == torch.bfloat16 or torch.is_autocast_enabled("cpu")


def grouped_conv1d(x: Tensor, weight: Tensor, bias: Tensor, groups: int) -> Tensor:
    """Grouped convolution with half a kernel of padding: (batch, channels, frames) -> the same, a frame more if even.

    On processors with AMX, groups of fewer than 16 channels come out wrong in bfloat16 (oneDNN in PyTorch 2.13), and so
    are computed in float32. Released models have 48 channels and more in a group.
    """
    padding = weight.shape[2] // 2
    if _computes_half(x) and weight.shape[1] < 16 and x.device.type == "cpu":
        with torch.autocast("cpu", enabled=False):
            wide = F.conv1d(_widened(x), _widened(weight), _widened(bias), padding=padding, groups=groups)
        return wide.to(x.dtype)
    return F.conv1d(x, weight, bias, padding=padding, groups=groups)


# ---- attention ------------------------------------------------------------------------------------------------


def attend(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, dropout: float, with_weights: bool
) -> tuple[Tensor, Tensor | None]:
    """Scaled dot-product attention over (batch, heads, frames, head_dim).

    Args:
        mask: (batch, frames) bool, True for the frames that may be attended to, the first ones of each row.
        dropout: probability of dropping an attention weight.
        with_weights: return the weights (batch, heads, frames, frames) too, which the fused kernel cannot.
    """
    if mask is not None:
        mask = mask[:, None, None, :]
        if torch.compiler.is_exporting():
            # As numbers to add: for truth values, exporters guard the softmax against rows in which nothing may be
            # attended to, two more passes over all weights in every layer. There are no such rows.
            mask = torch.zeros_like(mask, dtype=query.dtype).masked_fill(~mask, torch.finfo(query.dtype).min)
    if not with_weights:
        if _suits_blocks(query, dropout):
            lengths = [query.shape[2]] * len(query) if mask is None else mask.sum(-1).flatten().tolist()
            return block_attention.attend(query, key, value, lengths, dropout, draw_seed()), None
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout), None
    scores = query @ key.transpose(2, 3) * query.shape[-1] ** -0.5
    if mask is not None:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    weights = F.dropout(F.softmax(_widened(scores), dim=-1).to(value.dtype), p=dropout)
    return weights @ value, weights


def _suits_blocks(query: Tensor, dropout: float) -> bool:
    """Whether ``block_attention`` is faster: to train on a processor in bfloat16, or with dropout of many weights."""
    trains = torch.is_grad_enabled() and query.requires_grad and not torch.compiler.is_compiling()
    if not trains or query.device.type != "cpu":
        return False
    rows, heads, frames, _ = query.shape
    many = rows * heads * frames**2 > 2 * block_attention.BLOCK
    return query.dtype == torch.bfloat16 or (dropout > 0 and many)


# ---- masks and statistics over frames -------------------------------------------------------------------------


def frame_mask(lengths: Tensor, frames: int) -> Tensor:
    """(batch,) lengths -> (batch, frames) bool, True for the first ``length`` frames of each row."""
    return torch.arange(frames, device=lengths.device) < lengths[:, None]


def masked_mean(x: Tensor, mask: Tensor | None) -> Tensor:
    """Mean over the frames of (batch, frames, features) where ``mask`` (batch, frames) is True -> (batch, features)."""
    if mask is None:
        return x.mean(1)
    return ((_widened(x) * mask[..., None]).sum(1) / mask.sum(1)[:, None]).to(x.dtype)


def masked_mean_and_std(x: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Mean and unbiased standard deviation over frames: (batch, frames, features) -> two (batch, features)."""
    if mask is None:
        return x.mean(1), x.std(1)
    wide = _widened(x)
    mean = masked_mean(wide, mask)
    squares = ((wide - mean[:, None]) * mask[..., None]).square().sum(1)
    variance = squares / (mask.sum(1)[:, None] - 1)
    # A channel that is constant (dead after ReLU) has deviation 0 and must get gradient 0, not NaN.
    constant = variance == 0
    deviation = variance.masked_fill(constant, 1.0).sqrt().masked_fill(constant, 0.0)
    return mean.to(x.dtype), deviation.to(x.dtype)


def masked_mean_square(x: Tensor, mask: Tensor | None) -> Tensor:
    """Mean square of (batch, frames, features) where ``mask`` (batch, frames) is True, in float32; 0 of no frame."""
    squares = _widened(x).square().mean(-1)
    if mask is None:
        return squares.mean()
    total, frames = of_all_shares(torch.where(mask, squares, 0.0).sum(), mask.sum())
    return total / frames.clamp(min=1)


def scaled_gradient(x: Tensor, scale: float) -> Tensor:
    """``x`` itself, whose gradient is multiplied by ``scale``."""
    fixed = x.detach()
    return fixed + scale * (x - fixed)


def exactly(project: nn.Linear, x: Tensor) -> Tensor:
    """A linear layer in the type of its parameters, also where ``torch.autocast`` has others in half precision."""
    if not torch.is_autocast_enabled(x.device.type):
        return project(x)
    with torch.autocast(x.device.type, enabled=False):
        return project(x.to(project.weight.dtype))


def _widened(x: Tensor) -> Tensor:
    """``x`` in float32 at least: sums over many frames overflow or lose digits in half precision."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


# ---- randomness -----------------------------------------------------------------------------------------------


def draw_seed() -> int:
    """A seed from torch's own generator, so that ``torch.manual_seed`` governs every draw of this library."""
    return int(torch.randint(0, 2**63 - 1, (), dtype=torch.int64, device="cpu"))


def _draw(function: Callable[..., np.ndarray], *args: Any, device: torch.device, **options: Any) -> Tensor:
    args = tuple(value.tolist() if isinstance(value, Tensor) else value for value in args)
    generator = np.random.default_rng(draw_seed())
    return torch.from_numpy(function(*args, **options, generator=generator)).to(device)


def draw(function: Callable[..., np.ndarray], *args: Any, device: torch.device, **options: Any) -> Tensor:
    """Call a function of ``wav2vec2_core.masking`` with a generator that torch's own seeds.

    It runs between the graphs of ``torch.compile``.
    """
    if not is_tracing():
        return _draw(function, *args, device=device, **options)
    return _draw_between_graphs(function, *args, device=device, **options)


def _draw_between_graphs(*args: Any, **options: Any) -> Tensor:
    # Marked here and not at import: ``torch.compiler.disable`` imports the compiler, which takes longer than torch.
    return cast("Callable[..., Tensor]", torch.compiler.disable(_draw))(*args, **options)


@contextmanager
def seeded(device: torch.device, seed: int) -> Iterator[None]:
    """What torch draws inside, on ``device`` and the CPU, is a function of ``seed``; its generators are put back."""
    cuda = device.type == "cuda"
    with torch.random.fork_rng(devices=[device] if cuda else []):
        torch.default_generator.manual_seed(seed)
        if cuda:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield


def gumbel_noise_like(logits: Tensor) -> Tensor:
    """Standard Gumbel noise, -log(-log(uniform)), with the shape and dtype of ``logits``."""
    return -torch.empty_like(logits).exponential_().log()


def seeded_gumbel_noise(shape: Sequence[int], seeds: np.ndarray, device: torch.device) -> Tensor:
    """The same in float32 and of any shape, each row a function of its seed: (rows, 2) uint32."""
    rows = [torch.empty(tuple(shape[1:]), device=device) for _ in seeds]
    for row, (high, low) in zip(rows, seeds.tolist(), strict=True):
        row.exponential_(generator=torch.Generator(device).manual_seed((high << 32) + low))
    return -torch.stack(rows).log()


def hard_gumbel_softmax(logits: Tensor, noise: Tensor, temperature: float) -> Tensor:
    """One-hot choice of the largest ``logits + noise`` whose gradient is that of the softmax (straight-through)."""
    soft = F.softmax((logits + noise) / temperature, dim=-1)
    return one_hot_argmax(soft) - soft.detach() + soft


def one_hot_argmax(x: Tensor) -> Tensor:
    """1 at the largest entry of the last dimension, 0 elsewhere."""
    return torch.zeros_like(x).scatter_(-1, x.argmax(-1, keepdim=True), 1.0)


# ---- shares of a micro-batch ------------------------------------------------------------------------------------

_add_up: ContextVar[Callable[..., Sequence[Tensor]] | None] = ContextVar("add_up", default=None)


@contextmanager
def sharing(add_up: Callable[..., Sequence[Tensor]] | None) -> Iterator[None]:
    """Inside, a batch is one of several shares of a micro-batch, of which ``add_up(*sums)`` adds up sums."""
    token = _add_up.set(add_up)
    try:
        yield
    finally:
        _add_up.reset(token)


def of_all_shares(*sums: Tensor) -> Sequence[Tensor]:
    """Sums over this batch -> over the whole micro-batch that it is a share of: see ``sharing``.

    ``torch.compile`` and export see a batch by itself.
    """
    add_up = None if torch.compiler.is_compiling() else _add_up.get()
    return sums if add_up is None else add_up(*sums)


# ---- running modules ------------------------------------------------------------------------------------------


def checkpointed(layer: nn.Module, *args: Any, **options: Any) -> Any:
    """Call ``layer`` and compute its activations again in the backward pass instead of storing them."""
    return checkpoint(layer, *args, **{"use_reentrant": False, **options})


_skips: ContextVar[bool] = ContextVar("skips", default=False)


@contextmanager
def skipping_layers(skip: bool) -> Iterator[None]:
    """Inside, if ``skip``, dropped layers on a processor are not computed, and their parameters get no gradient.

    On a GPU it would have to be waited for to know which ones.
    """
    token = _skips.set(skip)
    try:
        yield
    finally:
        _skips.reset(token)


def to_skip(layer_keep: Tensor | None) -> frozenset[int]:
    """The layers that are not computed, of a (layers,) bool; see ``skipping_layers``."""
    if layer_keep is None or torch.compiler.is_compiling() or not _skips.get() or layer_keep.device.type != "cpu":
        return frozenset()
    return frozenset(index for index, keep in enumerate(layer_keep.tolist()) if not keep)


_unseen: ContextVar[bool] = ContextVar("unseen", default=False)


def is_tracing() -> bool:
    """Whether only shapes may be inspected, not values: torch compiles or exports, or ``values_unseen``."""
    return torch.compiler.is_compiling() or _unseen.get()


@contextmanager
def values_unseen() -> Iterator[None]:
    """Run a model on values that were already checked: inspecting them would wait for a GPU."""
    token = _unseen.set(True)
    try:
        yield
    finally:
        _unseen.reset(token)


@contextmanager
def without_values() -> Iterator[bool]:
    """Build modules without memory and initialisation; yields True where the caller is to fill them afterwards.

    Inside another such block, or where the user builds on the meta device, filling is the outer one's business.
    """
    outermost = torch.get_default_device().type != "meta"
    with torch.device("meta"):
        yield outermost


# ---- outputs --------------------------------------------------------------------------------------------------


def _register(output_class: type[ModelOutput]) -> None:
    """Let torch.compile, torch.export and distributed wrappers look inside the outputs."""

    def flatten(output: ModelOutput) -> tuple[list[Any], tuple[str, ...]]:
        return list(output.values()), tuple(output)

    def flatten_with_keys(output: ModelOutput) -> tuple[list[Any], tuple[str, ...]]:
        return [(pytree.MappingKey(name), value) for name, value in output.items()], tuple(output)

    def unflatten(values: Any, names: Any) -> ModelOutput:
        return output_class(dict(zip(names, values, strict=True)))

    pytree.register_pytree_node(
        output_class,
        flatten,
        unflatten,
        serialized_type_name=f"{output_class.__module__}.{output_class.__name__}",
        to_dumpable_context=list,
        from_dumpable_context=tuple,
        flatten_with_keys_fn=flatten_with_keys,
    )


for _output_class in OUTPUT_CLASSES:
    _register(_output_class)
