"""Which array of a checkpoint fills which parameter of a model; strict about everything but what is named here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from wav2vec2_core.checkpoint.checkpoint import Checkpoint
from wav2vec2_core.errors import ParameterMismatchError
from wav2vec2_core.parameters import BODY_PREFIX, Parameter

#: First parts of the names of head parameters. ``feature_extractor`` is the x-vector head's last layer where the body
#: has its prefix, and the body's convolutions where it has not.
HEAD_NAMES = frozenset(
    (
        "lm_head", "quantizer", "project_q", "project_hid", "projector", "classifier", "layer_weights", "tdnn",
        "feature_extractor", "objective",
    )
)  # fmt: skip
_HEAD_GROUPS = ("head", "quantizer")
_MASK_EMBEDDING = "masked_spec_embed"
_SHOWN = 20  # names per list of the error


@dataclass(frozen=True)
class LoadPlan:
    """How to fill a model.

    sources: name in the checkpoint by name in the model. new: names in the model that the checkpoint does not fill, in
    the model's order; they keep their first values. ignored: names in the checkpoint that the model does not use.
    """

    sources: dict[str, str]
    new: tuple[str, ...]
    ignored: tuple[str, ...]


def plan_loading(
    table: Mapping[str, Parameter], checkpoint: Checkpoint, *, ignore_mismatched_sizes: bool = False
) -> LoadPlan:
    """Match a model's parameter table with a checkpoint, whether or not their bodies carry the prefix ``wav2vec2.``.

    Allowed are a head, or all attention adapters, that the checkpoint lacks completely (new), a missing mask embedding
    (new), an unused one and the parameters of other heads (ignored), and with ``ignore_mismatched_sizes`` head
    parameters of another shape (new).

    Raises:
        ParameterMismatchError: anything else is missing, unexpected or of another shape. The first line of the message
            is complete in itself; four lists of names and one of shapes follow it.
    """
    sides = _Sides(table, checkpoint)
    wrong_shape = [ours for ours, theirs in sides.sources.items() if checkpoint.shapes[theirs] != table[ours].shape]
    new = {name for name in wrong_shape if ignore_mismatched_sizes and table[name].group in _HEAD_GROUPS}
    wrong_shape = [name for name in wrong_shape if name not in new]
    missing = {name for name in table if name not in sides.sources}
    for groups in (_HEAD_GROUPS, ("attention_adapter",)):
        rows = {name for name, row in table.items() if row.group in groups}
        if rows <= missing | new:
            new |= rows
    new |= {name for name in missing if name.removeprefix(BODY_PREFIX) == _MASK_EMBEDDING}
    missing -= new
    unused = [name for name in checkpoint.shapes if name not in set(sides.sources.values())]
    ignored = [name for name in unused if sides.may_ignore(name)]
    unexpected = [name for name in unused if name not in set(ignored)]
    if missing or unexpected or wrong_shape:
        raise ParameterMismatchError(_message(table, checkpoint, missing, unexpected, wrong_shape, sides.sources))
    return LoadPlan(
        {ours: theirs for ours, theirs in sides.sources.items() if ours not in new},
        tuple(name for name in table if name in new),
        tuple(ignored),
    )


class _Sides:
    """The names of both sides, brought together."""

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
        """Whether an array that fills none of our parameters is harmless: another head's, or the mask embedding."""
        if theirs == self._body_name(_MASK_EMBEDDING):
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
    unexpected: list[str],
    wrong_shape: list[str],
    sources: Mapping[str, str],
) -> str:
    ordered = [name for name in table if name in missing]
    shapes = [f"{name}: ours {table[name].shape}, theirs {checkpoint.shapes[sources[name]]}" for name in wrong_shape]
    parts = []
    if ordered:
        parts.append(f"{len(ordered)} missing (such as {ordered[0]})")
    if unexpected:
        parts.append(f"{len(unexpected)} unexpected (such as {unexpected[0]})")
    if shapes:
        parts.append(f"{len(shapes)} of another shape ({shapes[0]})")
    summary = (
        f"{checkpoint.files[0]} does not fit the model: {', '.join(parts)}; "
        f"{_remedy(table, ordered, unexpected, wrong_shape)}"
    )
    lists = (
        ("ours", list(table)),
        ("theirs", list(checkpoint.shapes)),
        ("only ours", ordered),
        ("only theirs", unexpected),
        ("other shape", shapes),
    )
    return "\n".join([summary, *(_listing(title, names) for title, names in lists)])


def _remedy(table: Mapping[str, Parameter], missing: list[str], unexpected: list[str], wrong_shape: list[str]) -> str:
    def heads_only(names: list[str]) -> bool:
        return all(table[name].group in _HEAD_GROUPS for name in names)

    if wrong_shape and not missing and not unexpected and heads_only(wrong_shape):
        return "pass ignore_mismatched_sizes=True to start these anew, or set the sizes of the checkpoint's config.json"
    if missing and not unexpected and heads_only([*missing, *wrong_shape]):
        return "its head is of another kind: use the class that config.json names under architectures"
    return "use the config.json that belongs to these weights"


def _listing(title: str, names: Iterable[str]) -> str:
    names = list(names)
    cut = [f"  ... and {len(names) - _SHOWN} more"] if len(names) > _SHOWN else []
    return "\n".join([f"{title} ({len(names)}):", *(f"  {name}" for name in names[:_SHOWN]), *cut])
