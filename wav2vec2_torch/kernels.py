"""Matrix products and attention of the engine on a processor: several ways each, the fastest one chosen by measuring.

Which way is the fastest depends on the processor and on the release of PyTorch. Weights that oneDNN has packed once
double the speed of float32 on AMD's processors, and change nothing on Intel's. So a choice is measured, in a fraction
of a second, and kept in the user's cache folder for this processor, these releases and this number of threads. A way
that is not there, fails, or whose numbers are not those of the plain way, is not chosen: its operators are PyTorch's
own but not public.
"""

from __future__ import annotations

import functools
import hashlib
import os
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wav2vec2_core.devices import processor
from wav2vec2_core.errors import BackendError, Wav2Vec2Error
from wav2vec2_core.files import make_folder, read_json, user_cache_folder, write_json
from wav2vec2_torch import layers

#: (rows, inputs) -> (rows, outputs).
Linear = Callable[[Tensor], Tensor]
#: Queries, keys and values (frames, 3, heads, head_dim) of one utterance -> (frames, heads * head_dim).
Attention = Callable[[Tensor], Tensor]

#: What is measured: a third of a second of a base model, three products and one attention.
ROWS, WIDTH, HEADS, ROUNDS = 256, 768, 12, 5
#: Share of the plain way's time that another way may take at most: noise must not decide.
MARGIN = 0.9
#: Width of a model from which on there is something to win; smaller ones are plain everywhere.
SMALLEST_WIDTH = 256
#: Largest difference from the plain way, relative to its largest number.
TOLERANCES = {torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 4e-3}
#: Queries whose scores one call holds at once.
QUERY_ROWS = 512
#: Increment when a way changes, so that choices are measured again.
REVISION = 1


@dataclass(frozen=True)
class Kernels:
    """The ways that an engine takes; the default is the plain one everywhere.

    product: of PRODUCTS, for numbers of the model's type; product8: of PRODUCTS8, for 8 bits; attention: of ATTENTIONS.
    """

    product: str = "plain"
    product8: str = "plain"
    attention: str = "plain"

    def linear(self, weight: Tensor, bias: Tensor | None, activation: str | None = None) -> Linear:
        """x -> activation(x weight^T + bias); ``activation``: a name as in configurations."""
        if self.product == "prepacked":
            return _prepacked(weight, bias, activation)
        return activated(lambda x: F.linear(x, weight, bias), activation)

    def linear8(self, weight: Tensor, bias: Tensor | None, activation: str | None = None) -> Linear:
        """The same with weights and inputs in 8 bits, float32 in and out. Raises ``BackendError`` if torch has none."""
        return activated(Int8Linear(weight, bias, self.product8), activation)

    @property
    def is_packed(self) -> bool:
        """Whether products have copies of the weights in a layout of their own."""
        return self.product == "prepacked"

    def describe(self) -> str:
        """The ways that are not plain, for people; empty where all are."""
        named = {
            "prepacked": "products prepacked by oneDNN",
            "onednn": "8-bit products by oneDNN",
            "by head": "attention head by head",
        }
        return ", ".join(named[way] for way in asdict(self).values() if way in named)


PLAIN = Kernels()


def release_weights(modules: Iterable[nn.Module]) -> None:
    """Give back the memory of these modules' weights, which keep their shapes; to use them is an error of torch's."""
    for module in modules:
        weight = cast("nn.Parameter", module.weight)
        module.weight = nn.Parameter(weight.detach().to("meta"), requires_grad=False)


def activation_(name: str) -> Callable[[Tensor], Tensor]:
    """The activation with this transformers name, in place where that is possible: large fresh tensors are slow."""
    function = layers.activation(name)
    if function is F.gelu:
        return torch.ops.aten.gelu_
    return function


def activated(product: Linear, activation: str | None) -> Linear:
    """``product``, and then the activation with this name."""
    if activation is None:
        return product
    function = activation_(activation)
    return lambda x: function(product(x))


def _prepacked(weight: Tensor, bias: Tensor | None, activation: str | None = None) -> Linear:
    """A product by oneDNN whose weights were put into its own layout once; it computes GELU before it stores."""
    fused = activation is not None and layers.activation(activation) is F.gelu
    after, algorithm = ("gelu", "none") if fused else ("none", "")
    multiply: Any = torch.ops.mkldnn._linear_pointwise
    packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach().contiguous(), QUERY_ROWS)
    offset = None if bias is None else bias.detach()
    return activated(lambda x: multiply(x, packed, offset, after, [], algorithm), None if fused else activation)


class Int8Linear:
    """A linear layer with 8-bit weights, one scale per output, and inputs quantised call by call with one scale.

    Where a CPU lacks VNNI, pairs of products are added in 16 bits. Weights of 7 bits keep such a sum in range whatever
    the inputs are; inputs of 7 bits, the other remedy, would lose more, as a whole call shares their scale.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, way: str = "plain") -> None:
        """``way``: of PRODUCTS8: the library that PyTorch chooses for this processor, or a library's name."""
        limit = 127 if torch.cpu._is_vnni_supported() else 63
        weight = weight.detach().float()
        scale = weight.abs().amax(1).clamp(min=torch.finfo(torch.float32).tiny).double() / limit
        offset = None if bias is None else bias.detach().float()
        quantized: Any = torch.backends.quantized
        chosen = quantized.engine
        try:
            with warnings.catch_warnings():
                # The tensor type is to go, and the only 8-bit kernels with one interface on every CPU take it.
                warnings.filterwarnings("ignore", message=".*deprecated", category=UserWarning)
                rows = torch.zeros(len(weight), dtype=torch.long)
                packable = torch.quantize_per_channel(weight, scale, rows, 0, torch.qint8)
                if way != "plain":
                    quantized.engine = way
                self._packed = torch.ops.quantized.linear_prepack(packable, offset)
        except (AttributeError, RuntimeError) as error:
            raise BackendError(
                f"this torch ({torch.__version__}) has no 8-bit layers for this CPU: use dtype float32 or bfloat16"
            ) from error
        finally:
            if way != "plain":
                quantized.engine = chosen

    def __call__(self, x: Tensor) -> Tensor:
        """(rows, inputs) float32 -> (rows, outputs) float32."""
        return torch.ops.quantized.linear_dynamic(x, self._packed, False)


def attend_plain(split: Tensor) -> Tensor:
    """Attention as PyTorch does it for all heads at once, see ``Attention``."""
    query, key, value = split.permute(1, 2, 0, 3)[:, None].unbind(0)
    return F.scaled_dot_product_attention(query, key, value)[0].transpose(0, 1).flatten(1)


def attend_by_head(split: Tensor) -> Tensor:
    """The same by products of oneDNN, one head after the other."""
    multiply: Any = torch.ops.mkldnn._linear_pointwise
    frames, _, heads, width = split.shape
    made = torch.empty(frames, heads, width, dtype=split.dtype)
    query, key, value = split.permute(1, 2, 0, 3).unbind(0)
    query, key, value = (query * width**-0.5).contiguous(), key.contiguous(), value.transpose(1, 2).contiguous()
    for head in range(heads):
        for rows in range(0, frames, QUERY_ROWS):
            scores = multiply(query[head, rows : rows + QUERY_ROWS], key[head], None, "none", [], "")
            shares = torch.softmax(scores, -1)
            made[rows : rows + QUERY_ROWS, head] = multiply(shares, value[head], None, "none", [], "")
    return made.flatten(1)


#: Ways of each part; the first one is the plain one.
PRODUCTS = ("plain", "prepacked")
PRODUCTS8 = ("plain", "onednn")
ATTENTIONS: dict[str, Attention] = {"plain": attend_plain, "by head": attend_by_head}


def fastest(dtype: torch.dtype, width: int, *, int8: bool = False) -> Kernels:
    """The fastest ways on this processor for models of this type of number and hidden width.

    Measured once, then read from the cache folder; a folder that cannot be written or a damaged file only costs the
    measuring again. ``int8``: whether there are 8-bit products too.
    """
    if width < SMALLEST_WIDTH or dtype not in TOLERANCES:
        return PLAIN
    name = "int8" if int8 else str(dtype).removeprefix("torch.")
    path = user_cache_folder("kernels") / f"{_machine()}-{name}.json"
    return _kept(path) or _measured(dtype, int8, path)


def _kept(path: Path) -> Kernels | None:
    """The choice in a file of ours; ``None`` where there is none that is whole."""
    try:
        found = read_json(path)
    except Wav2Vec2Error:
        return None
    ways = {"product": PRODUCTS, "product8": PRODUCTS8, "attention": tuple(ATTENTIONS)}
    if set(found) != set(ways) or any(found[part] not in known for part, known in ways.items()):
        return None
    return Kernels(**found)


def _measured(dtype: torch.dtype, int8: bool, path: Path) -> Kernels:
    """Measure, and keep the choice at ``path`` where that is possible."""
    generator = torch.Generator().manual_seed(0)
    with torch.inference_mode():
        x = torch.randn(ROWS, WIDTH, generator=generator).to(dtype)
        weight = torch.randn(WIDTH, WIDTH, generator=generator).mul_(WIDTH**-0.5).to(dtype)
        split = torch.randn(ROWS, 3, HEADS, WIDTH // HEADS, generator=generator).to(dtype)
        tolerance = TOLERANCES[dtype]

        def products(way: str) -> Callable[[], Tensor]:
            return functools.partial(Kernels(product=way).linear(weight, weight[0], "gelu"), x)

        def products8(way: str) -> Callable[[], Tensor]:
            return functools.partial(Int8Linear(weight, weight[0], way), x)

        def attentions(way: str) -> Callable[[], Tensor]:
            return functools.partial(ATTENTIONS[way], split)

        kernels = Kernels(
            product=_fastest(PRODUCTS, products, tolerance),
            # Both round the inputs to 8 bits, and may round a number that lies between two of them to either.
            product8=_fastest(PRODUCTS8, products8, 1e-2) if int8 else PRODUCTS8[0],
            attention=_fastest(tuple(ATTENTIONS), attentions, tolerance),
        )
    try:
        make_folder(path.parent)
        write_json(path, asdict(kernels))
    except Wav2Vec2Error:
        pass  # measured again next time
    return kernels


def _fastest(ways: Sequence[str], make: Callable[[str], Callable[[], Tensor]], tolerance: float) -> str:
    """The way whose call takes the least time, among those with the numbers of the first one."""
    plain = make(ways[0])
    expected = plain().float()
    calls = {ways[0]: plain}
    for way in ways[1:]:
        try:
            call = make(way)
            difference = (call().float() - expected).abs().amax() / expected.abs().amax()
        except (AttributeError, RuntimeError, BackendError):  # not in this PyTorch, or not for this processor
            continue
        if difference <= tolerance:
            calls[way] = call
    if len(calls) == 1:
        return ways[0]
    # Other work on the machine does not count; a processor's time of several threads would count their waiting.
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    times = dict.fromkeys(calls, float("inf"))
    for _ in range(ROUNDS):
        for way, call in calls.items():
            start = clock()
            call()
            times[way] = min(times[way], clock() - start)
    best = min(times, key=times.__getitem__)
    return best if times[best] <= MARGIN * times[ways[0]] else ways[0]


def _machine() -> str:
    """What a choice depends on, as a part of a file's name."""
    # These make the libraries use fewer instructions than the processor has.
    limits = [os.environ.get(name, "") for name in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY")]
    parts = [REVISION, torch.__version__, processor(), torch.get_num_threads(), *limits]
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:24]
