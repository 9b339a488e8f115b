"""Reading a program as XLA compiled it for many chips: what they send to each other, and what each moves in its memory.

The compiler's own counts see the body of a loop once; here it counts as often as it runs.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

#: Kinds of traffic between the chips of a slice, and that between slices, which hosts carry.
KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
BETWEEN_SLICES = "between slices"
_BITS = {"pred": 8, "bf16": 16, "f8": 8, "u4": 4, "s4": 4, "c64": 64, "c128": 128}
#: Instructions that move nothing.
_FREE = frozenset({
    "parameter", "constant", "get-tuple-element", "tuple", "bitcast", "while", "conditional", "call", "after-all",
    "partition-id", "replica-id", "opt-barrier", "send", "send-done", "recv", "recv-done", "copy-done",
    "all-reduce-done", "all-gather-done",
    "collective-permute-done", "slice-done", "async-done", "async-update",
})  # fmt: skip
#: Begins the names of computations in which TPUs scatter a sum: an all-reduce, and the slice of it that a chip keeps.
_SCATTERED = "all-reduce-scatter"
_HEAD = re.compile(r"^(?:ENTRY )?%?(?P<name>[\w.-]+) \(.*\) -> .* \{$")
_LINE = re.compile(r"^\s+(?:ROOT )?%(?P<name>[\w.-]+) = (?P<shape>\(.*?\)|\S+) (?P<kind>[\w-]+)\((?P<operands>.*)$")
_ARRAY = re.compile(r"\b([a-z][a-z0-9]*)\[([0-9,]*)\](\{[^}]*\})?")
_CALLED = re.compile(r"(?:calls|body|condition|to_apply|true_computation|false_computation)=%([\w.-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_CONDITION = re.compile(r"condition=%([\w.-]+)")
_CONSTANT = re.compile(r"^(\d+)\)")
_LISTS = re.compile(r"replica_groups=\{(\{[0-9,{} ]*\})\}")
_RANGE = re.compile(r"replica_groups=\[([0-9,]+)\]<=\[([0-9,]+)\](?:T\(([0-9,]+)\))?")


@dataclass(frozen=True)
class Collective:
    """One instruction that sends arrays between chips.

    kind: one of ``KINDS``, or ``BETWEEN_SLICES``; bytes: of its arrays, as large as they are in a whole group for
    gathering and scattering; groups: numbers of the devices that exchange among themselves; times: how often it runs in
    a step.
    """

    kind: str
    bytes: int
    groups: tuple[tuple[int, ...], ...]
    times: int

    @property
    def sent(self) -> float:
        """Bytes that each chip sends in a step, around a ring."""
        if not self.groups:  # from one to one
            return float(self.times * self.bytes)
        size = len(self.groups[0])
        return self.times * self.bytes * (2.0 if self.kind == "all-reduce" else 1.0) * (size - 1) / size


@dataclass(frozen=True)
class Program:
    """What a compiled step does. moved: bytes that a chip reads and writes in its memory, by the sizes of arrays."""

    collectives: tuple[Collective, ...]
    moved: float


@dataclass(frozen=True)
class _Instruction:
    name: str
    shape: str
    kind: str
    rest: str


def read_program(text: str, devices: int) -> Program:
    """Read the text of a compiled program of so many devices (``Compiled.as_text()``)."""
    computations, entry = _computations(text)
    collectives: list[Collective] = []
    moved = 0.0
    for name, times, fused in _runs(computations, entry):
        sizes = {} if fused else {one.name: _memory_bytes(one.shape) for one in computations[name]}
        for one in computations[name]:
            kind = one.kind.removesuffix("-start")
            if kind in KINDS:
                collectives.append(_collective(kind, one, times, devices, name.startswith(_SCATTERED)))
            if kind == "send" and "megascale" in one.rest:
                collectives.append(Collective(BETWEEN_SLICES, _bytes(one.shape.partition("u32")[0]), (), times))
            if not fused and one.kind not in _FREE:
                moved += times * _moved(one, sizes, computations)
    return Program(tuple(collectives), moved)


def _moved(one: _Instruction, sizes: dict[str, int], computations: dict[str, list[_Instruction]]) -> int:
    """Bytes that an instruction reads and writes; of arrays of which it takes or changes a slice, that slice alone."""
    called = _CALLED.search(one.rest) if one.kind == "fusion" else None
    inside = computations.get(called[1], []) if called is not None else [one]
    numbers = {within.name: int(within.rest.partition(")")[0]) for within in inside if within.kind == "parameter"}
    read = [sizes.get(operand, 0) for operand in _operands(one)]
    written = sizes[one.name]
    shapes = {within.name: _bytes(within.shape) for within in inside} | (sizes if called is None else {})
    for name, number in (numbers or {operand: index for index, operand in enumerate(_operands(one))}).items():
        users = [within for within in inside if name in _operands(within)]
        if users and all(_is_sliced(within, name) for within in users) and number < len(read):
            taken = [_slice(within, shapes) for within in users if within.kind == "dynamic-slice"]
            read[number] = min(read[number], sum(taken))
    changes = [within for within in inside if within.kind == "dynamic-update-slice"]
    for within in changes:
        written -= max(min(_bytes(within.shape), written) - _slice(within, shapes), 0)
    return written + sum(read)


def _is_sliced(one: _Instruction, name: str) -> bool:
    return one.kind in ("dynamic-slice", "dynamic-update-slice") and _operands(one)[0] == name


def _slice(one: _Instruction, shapes: dict[str, int]) -> int:
    """Bytes of the slice that an instruction takes, or puts."""
    return shapes.get(_operands(one)[1], 0) if one.kind == "dynamic-update-slice" else _bytes(one.shape)


def _operands(one: _Instruction) -> list[str]:
    return re.findall(r"%([\w.-]+)", one.rest.partition("), ")[0])


def _computations(text: str) -> tuple[dict[str, list[_Instruction]], str]:
    found: dict[str, list[_Instruction]] = {}
    entry, current = "", []
    for line in text.splitlines():
        head = _HEAD.match(line)
        if head is not None:
            current = found[head["name"]] = []
            entry = head["name"] if line.startswith("ENTRY") else entry
            continue
        one = _LINE.match(line)
        if one is not None:
            current.append(_Instruction(one["name"], one["shape"], one["kind"], one["operands"]))
    return found, entry


def _runs(computations: dict[str, list[_Instruction]], entry: str) -> Iterator[tuple[str, int, bool]]:
    """Every computation with how often it runs in a step, and whether it is part of one instruction."""
    times: dict[tuple[str, bool], int] = defaultdict(int)
    waiting = [(entry, 1, False)]
    while waiting:
        name, count, fused = waiting.pop()
        times[name, fused] += count
        for one in computations[name]:
            inner = count * _trips(computations, one) if one.kind == "while" else count
            called = _CALLED.findall(one.rest)
            for branches in _BRANCHES.findall(one.rest):
                called += re.findall(r"%([\w.-]+)", branches)
            is_part = fused or one.kind not in ("while", "call", "conditional")
            waiting += [(each, inner, is_part) for each in called if each in computations]
    for (name, fused), count in times.items():
        yield name, count, fused


def _trips(computations: dict[str, list[_Instruction]], loop: _Instruction) -> int:
    """How often a loop runs: it counts from 0 up to the constant of its condition, as those over layers do."""
    condition = _CONDITION.search(loop.rest)
    within = computations.get(condition[1], []) if condition is not None else []
    limits = [int(found[1]) for one in within if one.kind == "constant" and (found := _CONSTANT.match(one.rest))]
    return max(limits, default=1)


def _collective(kind: str, one: _Instruction, times: int, devices: int, scattered: bool) -> Collective:
    groups = _groups(one.rest, devices)
    size = _bytes(one.shape)
    if scattered and kind == "all-reduce":
        return Collective("reduce-scatter", size, groups, times)
    if one.kind.endswith("-start"):  # its result holds what goes in beside what comes out
        arrays = [_bytes(array[0]) for array in re.finditer(_ARRAY, one.shape)]
        size = max(arrays, default=0) if kind != "all-reduce" else size
    if kind == "reduce-scatter" and groups:
        size *= len(groups[0])
    return Collective(kind, size, groups, times)


def _groups(rest: str, devices: int) -> tuple[tuple[int, ...], ...]:
    lists = _LISTS.search(rest)
    if lists is not None:
        return tuple(tuple(map(int, group.split(","))) for group in re.findall(r"\{([0-9, ]+)\}", lists[1]))
    ranged = _RANGE.search(rest)
    if ranged is None:
        return () if "source_target_pairs" in rest else (tuple(range(devices)),)
    import numpy as np

    sizes, order = _numbers(ranged[1]), _numbers(ranged[2])
    numbers = np.arange(math.prod(order)).reshape(order)
    if ranged[3]:
        numbers = numbers.transpose(_numbers(ranged[3]))
    return tuple(map(tuple, numbers.reshape(sizes).tolist()))


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


def _bytes(shape: str) -> int:
    """Bytes of all arrays of a shape, which may be a tuple."""
    return sum(_size(kind, axes) for kind, axes, _ in _ARRAY.findall(shape))


def _memory_bytes(shape: str) -> int:
    """Bytes of the arrays that lie in a chip's main memory: space 0, not its caches."""
    return sum(_size(kind, axes) for kind, axes, layout in _ARRAY.findall(shape) if "S(" not in layout)


def _size(kind: str, axes: str) -> int:
    bits = _BITS.get(kind) or next((_BITS[name] for name in ("f8",) if kind.startswith(name)), None)
    bits = bits or int(re.sub(r"\D", "", kind) or 0)
    return math.prod(_numbers(axes)) * bits // 8 if axes else bits // 8
