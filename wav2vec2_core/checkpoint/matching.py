"""Matching a checkpoint's arrays to a model's parameters: strict, with the exceptions listed here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from wav2vec2_core.errors import ParameterMismatchError
from wav2vec2_core.names import BODY_PREFIX, MASK_EMBEDDING
from wav2vec2_core.parameters import Parameter
from wav2vec2_core.weight_files.checkpoint import Checkpoint

#: First parts of the names of head parameters. ``feature_extractor`` is the x-vector head's last layer if the body has
#: its prefix, otherwise the body's convolutions; the last two are heads that ``emotion_heads.py`` knows.
HEAD_NAMES = frozenset(
    (
        "lm_head", "quantizer", "project_q", "project_hid", "projector", "classifier", "layer_weights", "tdnn",
        "feature_extractor", "objective", "age", "gender",
    )
)  # fmt: skip
_HEAD_GROUPS = ("head", "quantizer")
_SHOWN = 20  # names per list of the error


@dataclass(frozen=True)
class LoadPlan:
    """How to fill a model.

    sources: name in the model -> name in the checkpoint.
    new: parameters that the checkpoint does not have, in the model's order; they keep their initial values.
    ignored: names in the checkpoint that the model does not use.
    resized: those of ``new`` that the checkpoint has in another shape: name in the model, the checkpoint's shape, the
    model's.
    """

    sources: dict[str, str]
    new: tuple[str, ...]
    ignored: tuple[str, ...]
    resized: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...] = ()

    def info(self) -> dict[str, list[Any]]:
        """The plan as transformers' ``output_loading_info``."""
        resized = {name for name, _, _ in self.resized}
        return {
            "missing_keys": [name for name in self.new if name not in resized],
            "unexpected_keys": list(self.ignored),
            "mismatched_keys": list(self.resized),
            "error_msgs": [],
        }

    def filled_by(self, other: LoadPlan) -> LoadPlan:
        """This plan after ``other`` filled some of its new parameters."""
        return replace(self, new=tuple(name for name in self.new if name not in other.sources))


def plan_loading(
    table: Mapping[str, Parameter], checkpoint: Checkpoint, *, ignore_mismatched_sizes: bool = False
) -> LoadPlan:
    """Match a model's parameter table with a checkpoint, whether or not their bodies carry the prefix ``wav2vec2.``.

    Allowed are a head, the attention adapters or the convolutional adapter that the checkpoint lacks completely (new),
    a missing mask embedding (new), an unused one and the parameters of other heads (ignored), and with
    ``ignore_mismatched_sizes`` head parameters of another shape (new).

    Raises:
        ParameterMismatchError: anything else is missing, unexpected or of another shape. The first line of the message
            is complete in itself; four lists of names and one of shapes follow it.
    """
    sides = _Sides(table, checkpoint)
    in_head = {name for name, row in table.items() if row.group in _HEAD_GROUPS}
    in_adapters = [
        {name for name, row in table.items() if row.group == group} for group in ("conv_adapter", "attention_adapter")
    ]

    wrong_shape = {ours for ours, theirs in sides.sources.items() if checkpoint.shapes[theirs] != table[ours].shape}
    resized = wrong_shape & in_head if ignore_mismatched_sizes else set()
    unfilled = resized | (table.keys() - sides.sources.keys())
    new = resized | {name for name in unfilled if name.removeprefix(BODY_PREFIX) == MASK_EMBEDDING}
    for together in (in_head, *in_adapters):
        if together <= unfilled:
            new |= together

    sources = {ours: theirs for ours, theirs in sides.sources.items() if ours not in resized}
    unused = checkpoint.shapes.keys() - sources.values()
    ignored = {name for name in unused if sides.may_ignore(name)} | {sides.sources[name] for name in resized}

    missing, unexpected, wrong_shape = unfilled - new, unused - ignored, wrong_shape - resized
    if missing or unexpected or wrong_shape:
        raise ParameterMismatchError(_message(table, checkpoint, missing, unexpected, wrong_shape, sides.sources))
    return LoadPlan(
        sources,
        tuple(name for name in table if name in new),
        tuple(name for name in checkpoint.shapes if name in ignored),
        tuple((name, checkpoint.shapes[sides.sources[name]], table[name].shape) for name in table if name in resized),
    )


class _Sides:
    """The names of both sides, matched."""

    def __init__(self, table: Mapping[str, Parameter], checkpoint: Checkpoint) -> None:
        self.prefixed = any(name.startswith(BODY_PREFIX) for name in checkpoint.shapes)
        self.sources: dict[str, str] = {}
        for ours, row in table.items():
            theirs = ours if row.group in _HEAD_GROUPS else self._body_name(ours)
            if theirs in checkpoint.shapes:
                self.sources[ours] = theirs
        self.our_heads = {_first_part(name) for name, row in table.items() if row.group in _HEAD_GROUPS}

    def _body_name(self, ours: str) -> str:
        return (BODY_PREFIX if self.prefixed else "") + ours.removeprefix(BODY_PREFIX)

    def may_ignore(self, theirs: str) -> bool:
        """Whether an array without a parameter may be ignored: one of another head, or the mask embedding."""
        if theirs == self._body_name(MASK_EMBEDDING):
            return True
        first = _first_part(theirs)
        if first == "feature_extractor" and not self.prefixed:
            return False
        return first in HEAD_NAMES and first not in self.our_heads


def _first_part(name: str) -> str:
    return name.split(".", 1)[0]


def _message(
    table: Mapping[str, Parameter],
    checkpoint: Checkpoint,
    missing: set[str],
    unexpected: set[str],
    wrong_shape: set[str],
    sources: Mapping[str, str],
) -> str:
    only_ours = [name for name in table if name in missing]
    only_theirs = [name for name in checkpoint.shapes if name in unexpected]
    shapes = [
        f"{name}: ours {row.shape}, theirs {checkpoint.shapes[sources[name]]}"
        for name, row in table.items()
        if name in wrong_shape
    ]
    counts = [
        f"{len(names)} {what} ({names[0]}{', ...' if len(names) > 1 else ''})"
        for what, names in (("missing", only_ours), ("unexpected", only_theirs), ("of another shape", shapes))
        if names
    ]
    remedy = _remedy(table, missing, unexpected, wrong_shape)
    lists = (
        ("ours", list(table)),
        ("theirs", list(checkpoint.shapes)),
        ("only ours", only_ours),
        ("only theirs", only_theirs),
        ("of another shape", shapes),
    )
    return "\n".join(
        [
            f"{checkpoint.files[0]} does not fit the model, parameters {', '.join(counts)}: {remedy}",
            *(_listing(title, names) for title, names in lists),
        ]
    )


def _remedy(table: Mapping[str, Parameter], missing: set[str], unexpected: set[str], wrong_shape: set[str]) -> str:
    only_head = not unexpected and all(table[name].group in _HEAD_GROUPS for name in missing | wrong_shape)
    if only_head and missing:
        return "its head is of another kind, use the class that its config.json names under architectures"
    if only_head:
        return "use its own config.json, or pass ignore_mismatched_sizes=True to start these parameters anew"
    return "use the config.json that belongs to these weights"


def _listing(title: str, names: list[str]) -> str:
    cut = [f"  ... and {len(names) - _SHOWN} more"] if len(names) > _SHOWN else []
    return "\n".join([f"{title} ({len(names)}):", *(f"  {name}" for name in names[:_SHOWN]), *cut])
