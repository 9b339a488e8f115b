"""Parameter names of other training programs, as tables from their places to ours.

A place is a parameter's name without its last part, with ``{}`` for the layer number; if the last part differs too, the
table has the whole name. All layouts are PyTorch's, except that fairseq's language adapters have a leading axis of
length 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from wav2vec2_core.errors import CheckpointError
from wav2vec2_core.names import BODY_PREFIX
from wav2vec2_core.weight_files.arrays import WeightFile
from wav2vec2_core.weight_files.checkpoint import canonical_name

_SHOWN = 3  # names in a message


@dataclass(frozen=True)
class Dialect:
    """The names of one program.

    Attributes:
        name: of the program.
        telltale: a name that all its models have and no other program's models have.
        body, heads: their place -> ours, for parameters below ``wav2vec2.`` and for the others.
        extra_axis: canonical names of parameters stored with a leading axis of length 1.
    """

    name: str
    telltale: str
    body: Mapping[str, str]
    heads: Mapping[str, str]
    extra_axis: frozenset[str] = field(default=frozenset())

    def canonical(self, stored: str) -> tuple[str, bool] | None:
        """Our name, without prefix, for their parameter, and whether it belongs to the body; None if it is unknown."""
        stored = canonical_name(stored)
        for table, in_body in ((self.body, True), (self.heads, False)):
            found = _translated(stored, table)
            if found is not None:
                return found, in_body
        return None

    def stored(self, canonical: str, leave_out: Iterable[str] = ()) -> str | None:
        """Their name for our parameter, without prefix; ``leave_out``: places of theirs to avoid."""
        for table in (self.body, self.heads):
            inverse = {ours: theirs for theirs, ours in table.items() if theirs not in leave_out}
            found = _translated(canonical, inverse)
            if found is not None:
                return found
        return None

    def has_extra_axis(self, canonical: str) -> bool:
        """Whether they store this parameter with a leading axis of length 1."""
        return _pattern(canonical)[0] in self.extra_axis


def _translated(name: str, table: Mapping[str, str]) -> str | None:
    for pattern, number in ((name, ""), _pattern(name)):  # literally first: pos_conv.0 is a fixed place
        owner, _, leaf = pattern.rpartition(".")
        if pattern in table:
            return table[pattern].format(number)
        if owner in table:
            return f"{table[owner].format(number)}.{leaf}"
    return None


def _pattern(name: str) -> tuple[str, str]:
    """The name with ``{}`` for its first number, and that number."""
    parts = name.split(".")
    index = next((index for index, part in enumerate(parts) if part.isascii() and part.isdigit()), None)
    if index is None:
        return name, ""
    number, parts[index] = parts[index], "{}"
    return ".".join(parts), number


_LAYER = "encoder.layers.{}"
_ATTENTION = f"{_LAYER}.attention"
_FAIRSEQ_ADAPTER = {
    "W_a": "linear_1.weight", "b_a": "linear_1.bias", "W_b": "linear_2.weight", "b_b": "linear_2.bias",
    "ln_W": "norm.weight", "ln_b": "norm.bias",
}  # fmt: skip
_QUANTIZER = {"quantizer.vars": "quantizer.codevectors", "quantizer.weight_proj": "quantizer.weight_proj"}

#: In group norm models ``2`` is the norm, in layer norm models the norm is within a transposition.
GROUP_NORM_PLACE = "feature_extractor.conv_layers.{}.2"
LAYER_NORM_PLACE = "feature_extractor.conv_layers.{}.2.1"

FAIRSEQ = Dialect(
    name="fairseq",
    telltale="post_extract_proj.weight",
    body={
        "feature_extractor.conv_layers.{}.0": "feature_extractor.conv_layers.{}.conv",
        GROUP_NORM_PLACE: "feature_extractor.conv_layers.{}.layer_norm",
        LAYER_NORM_PLACE: "feature_extractor.conv_layers.{}.layer_norm",
        "layer_norm": "feature_projection.layer_norm",
        "post_extract_proj": "feature_projection.projection",
        "mask_emb": "masked_spec_embed",
        "encoder.pos_conv.0": "encoder.pos_conv_embed.conv",
        "encoder.layer_norm": "encoder.layer_norm",
        **{f"{_LAYER}.self_attn.{part}_proj": f"{_ATTENTION}.{part}_proj" for part in ("k", "v", "q", "out")},
        f"{_LAYER}.self_attn_layer_norm": f"{_LAYER}.layer_norm",
        f"{_LAYER}.fc1": f"{_LAYER}.feed_forward.intermediate_dense",
        f"{_LAYER}.fc2": f"{_LAYER}.feed_forward.output_dense",
        f"{_LAYER}.final_layer_norm": f"{_LAYER}.final_layer_norm",
        **{f"{_LAYER}.adapter_layer.{a}": f"{_LAYER}.adapter_layer.{b}" for a, b in _FAIRSEQ_ADAPTER.items()},
    },
    heads={**_QUANTIZER, "project_q": "project_q", "final_proj": "project_hid", "proj": "lm_head"},
    extra_axis=frozenset(f"{_LAYER}.adapter_layer.{ours}" for ours in _FAIRSEQ_ADAPTER.values()),
)

_INNER = "encoder.transformer"
TORCHAUDIO = Dialect(
    name="torchaudio",
    telltale="encoder.feature_projection.projection.weight",
    body={
        "feature_extractor.conv_layers.{}.conv": "feature_extractor.conv_layers.{}.conv",
        "feature_extractor.conv_layers.{}.layer_norm": "feature_extractor.conv_layers.{}.layer_norm",
        "encoder.feature_projection.layer_norm": "feature_projection.layer_norm",
        "encoder.feature_projection.projection": "feature_projection.projection",
        f"{_INNER}.pos_conv_embed.conv": "encoder.pos_conv_embed.conv",
        f"{_INNER}.layer_norm": "encoder.layer_norm",
        **{
            f"{_INNER}.layers.{{}}.{part}": f"{_LAYER}.{part}"
            for part in (
                *(f"attention.{projection}_proj" for projection in ("k", "v", "q", "out")),
                "layer_norm", "feed_forward.intermediate_dense", "feed_forward.output_dense", "final_layer_norm",
            )
        },
    },
    heads={"aux": "lm_head"},
)  # fmt: skip

_FRONTEND = "encoder_frontend"
_FAIRSEQ2_BODY = {
    f"{_FRONTEND}.feature_extractor.layers.{{}}.conv": "feature_extractor.conv_layers.{}.conv",
    f"{_FRONTEND}.feature_extractor.layers.{{}}.layer_norm": "feature_extractor.conv_layers.{}.layer_norm",
    f"{_FRONTEND}.feature_extractor.layers.{{}}.group_norm": "feature_extractor.conv_layers.{}.layer_norm",
    f"{_FRONTEND}.post_extract_layer_norm": "feature_projection.layer_norm",
    f"{_FRONTEND}.model_dim_proj": "feature_projection.projection",
    f"{_FRONTEND}.pos_encoder.conv": "encoder.pos_conv_embed.conv",
    f"{_FRONTEND}.layer_norm": "encoder.layer_norm",  # of post-norm models, which have it before the layers
    "masker.temporal_mask_embed": "masked_spec_embed",
    "encoder.layer_norm": "encoder.layer_norm",
    **{f"{_LAYER}.self_attn.{part}_proj": f"{_ATTENTION}.{part}_proj" for part in ("k", "v", "q")},
    f"{_LAYER}.self_attn.output_proj": f"{_ATTENTION}.out_proj",
    f"{_LAYER}.self_attn_layer_norm": f"{_LAYER}.layer_norm",
    f"{_LAYER}.ffn.inner_proj": f"{_LAYER}.feed_forward.intermediate_dense",
    f"{_LAYER}.ffn.output_proj": f"{_LAYER}.feed_forward.output_dense",
    f"{_LAYER}.ffn_layer_norm": f"{_LAYER}.final_layer_norm",
}
_FAIRSEQ2_TELLTALE = f"{_FRONTEND}.model_dim_proj.weight"
FAIRSEQ2_CTC = Dialect("fairseq2", _FAIRSEQ2_TELLTALE, _FAIRSEQ2_BODY, {"final_proj": "lm_head"})
FAIRSEQ2_PRETRAINING = Dialect(
    "fairseq2",
    _FAIRSEQ2_TELLTALE,
    _FAIRSEQ2_BODY,
    {
        "quantizer.entries": "quantizer.codevectors",
        "quantizer.entry_proj": "quantizer.weight_proj",
        "final_target_proj": "project_q",
        "final_proj": "project_hid",
    },
)


class DialectFile:
    """The tensors of another program's checkpoint under our names (a ``WeightFile``).

    Attributes:
        renamed: our name -> theirs.

    Raises:
        CheckpointError: a name does not belong to a wav2vec 2.0 model, or two names map to the same parameter.
    """

    def __init__(self, file: WeightFile, dialect: Dialect, prefixes: tuple[str, ...] = ("",)) -> None:
        """``prefixes``: possible prefixes of their names, tried in this order."""
        self.path = file.path
        self.dialect = dialect
        self._file = file
        self.renamed: dict[str, str] = {}
        found = {stored: self._canonical(canonical_name(stored), prefixes) for stored in file.shapes}
        unknown = [stored for stored, name in found.items() if name is None]
        if unknown:
            raise CheckpointError(
                f"{file.path} looks like {dialect.name}'s but has parameters that wav2vec 2.0 has not "
                f"({', '.join(unknown[:_SHOWN])}{', ...' if len(unknown) > _SHOWN else ''}; {len(unknown)} in all): "
                "it is of another architecture, convert a wav2vec 2.0, XLS-R or MMS checkpoint"
            )
        known = {stored: name for stored, name in found.items() if name is not None}
        has_head = any(not in_body for _, in_body in known.values())
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.dtypes: dict[str, str] = {}
        for stored, (name, in_body) in known.items():
            ours = f"{BODY_PREFIX}{name}" if in_body and has_head else name
            if ours in self.renamed:
                raise CheckpointError(f"{file.path} has {ours!r} twice, as {self.renamed[ours]!r} and {stored!r}")
            self.renamed[ours] = stored
            self.shapes[ours] = self._shape(stored, name)
            self.dtypes[ours] = file.dtypes[stored]

    def read(self, name: str) -> np.ndarray:
        """A fresh, writable, C-contiguous array. Raises ``CheckpointError``."""
        return self._file.read(self.renamed[name]).reshape(self.shapes[name])

    def _canonical(self, stored: str, prefixes: tuple[str, ...]) -> tuple[str, bool] | None:
        for prefix in prefixes:
            found = self.dialect.canonical(stored.removeprefix(prefix)) if stored.startswith(prefix) else None
            if found is not None:
                return found
        return None

    def _shape(self, stored: str, name: str) -> tuple[int, ...]:
        shape = self._file.shapes[stored]
        if not self.dialect.has_extra_axis(name):
            return shape
        if len(shape) < 2 or shape[0] != 1:
            raise CheckpointError(
                f"{self.path} has {stored!r:.100} of shape {shape}, adapters of {shape[0] if shape else 0} languages: "
                "one language a file is what can be converted"
            )
        return shape[1:]
