"""Compiling a training step for TPUs that are not here: what it needs of their memory, and how fast it can be at best.

The step is the ``Trainer``'s own. TPUs are described by the compiler in ``libtpu`` (extra ``tpu``), which asks for no
device.
"""

from __future__ import annotations

import contextlib
import functools
import math
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.errors import BackendError, InputError
from wav2vec2_core.flops import forward_flops, training_flops

GIB = 1 << 30
#: For a compiler without a machine: ask no metadata server for one, and let processes share the library.
ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",
    "TPU_SKIP_MDS_QUERY": "1",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_WORKER_ID": "0",
}
#: Share of frames that the paper's masks cover (section 4.2), and distractors of each, for counting operations.
_MASKED, _NEGATIVES = 0.49, 100
_MOST_ROWS = 4096


@dataclass(frozen=True)
class Chip:
    """A kind of TPU, by chip.

    memory: bytes that a program may use, as the compiler of libtpu 0.0.42 says when one needs more; peak: bfloat16
    operations per second; bandwidth: bytes per second of its memory; links: bytes per second that it sends to its
    neighbours; network: bytes per second to other slices, None where the manufacturer does not say; shapes: of slices.
    The rates are those of Google's pages on each kind ("System architecture"), read in November 2026.
    """

    memory: float
    peak: float
    bandwidth: float
    links: float
    network: float | None
    shapes: tuple[str, ...]


_FLAT = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
_CUBES = ("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8", "8x8x8", "8x8x16")
CHIPS = {
    "v4": Chip(30.75 * GIB, 275e12, 1228e9, 300e9, None, _CUBES),
    "v5e": Chip(15.75 * GIB, 197e12, 819e9, 200e9, 3.1e9, _FLAT),
    "v5p": Chip(95.74 * GIB, 459e12, 2765e9, 600e9, 6.25e9, _CUBES),
    "v6e": Chip(31.25 * GIB, 918e12, 1638e9, 400e9, 12.5e9, _FLAT),
}


@dataclass(frozen=True)
class Plan:
    """A training step on many chips.

    config: of the model; head: its class; topology: such as ``v5e:16x16``; slices: of it; rows: for each chip;
    samples: of each row; fsdp: chips that share a copy of the model; dtype: of the computation; remat, scan_layers: as
    in a recipe; quick: compile with as little optimisation as can be.
    """

    config: Wav2Vec2Config
    head: str
    topology: str
    rows: int
    samples: int
    slices: int = 1
    fsdp: int = 1
    dtype: str = "bfloat16"
    remat: str = "dots_no_batch"
    scan_layers: bool = True
    quick: bool = False


@dataclass(frozen=True)
class Verdict:
    """What a step needs, for each chip.

    chips, data: of the plan; memory: bytes by part; limit: bytes that there are; peak: bytes in use at once, as the
    compiler says, None where it refused; refusal: its words then; operations: of the model, by its configuration;
    recomputed: of what it computes again; moved: bytes in its memory; sent: kind of traffic -> (times, bytes) in a
    step; seconds: at best, by what takes them; compiling: seconds of processor time.
    """

    chips: int
    data: int
    memory: dict[str, float]
    limit: float
    peak: float | None
    refusal: str
    operations: float
    recomputed: float
    moved: float
    sent: dict[str, tuple[int, float]]
    seconds: dict[str, float]
    compiling: float

    @property
    def total(self) -> float:
        """Bytes of all parts together."""
        return sum(self.memory.values())

    @property
    def fits(self) -> bool:
        """Whether all parts have room together, and the compiler agrees."""
        return not self.refusal and self.total <= self.limit

    @property
    def step_seconds(self) -> float:
        """The shortest that a step can take: all units busy at once, each at its best."""
        return max(self.seconds.values(), default=0.0)

    @property
    def limited_by(self) -> str:
        """What takes the longest."""
        return max(self.seconds, key=lambda name: self.seconds[name]) if self.seconds else "memory"

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, in bytes, operations and seconds for each chip."""
        return {
            "chips": self.chips, "data": self.data, "fits": self.fits, "limit": self.limit, "total": self.total,
            "memory": self.memory, "peak": self.peak, "refusal": self.refusal, "operations": self.operations,
            "recomputed": self.recomputed, "moved": self.moved,
            "sent": {kind: {"times": times, "bytes": size} for kind, (times, size) in self.sent.items()},
            "seconds": self.seconds, "step_seconds": self.step_seconds, "limited_by": self.limited_by,
            "compiling": self.compiling,
        }  # fmt: skip


def check_step(plan: Plan) -> Verdict:
    """Compile a plan's step.

    Raises:
        InputError: the topology is unknown, or a size of the plan does not fit it.
        BackendError: jax or libtpu is not installed.
    """
    chip, devices = _chip(plan.topology), topology(plan.topology, plan.slices)
    import jax

    from wav2vec2_flax.distributed import make_mesh
    from wav2vec2_flax.hlo import read_program
    from wav2vec2_flax.steps import abstract_state, lower_step
    from wav2vec2_flax.train import adam

    if len(devices) % plan.fsdp:
        raise InputError(f"fsdp={plan.fsdp} does not divide the {len(devices)} chips: choose another size")
    start = time.process_time()
    mesh = make_mesh(fsdp=plan.fsdp, devices=devices)
    model, optimizer = _model(plan), adam(0.9, 0.98, 1e-6)
    shapes = _batch(plan, plan.rows * len(devices))
    lowered = lower_step(model, optimizer, mesh, shapes)
    state = abstract_state(model, optimizer)
    parts = {
        "parameters": _bytes_on_a_chip(state.params, mesh),
        "optimizer": _bytes_on_a_chip(state.opt_state, mesh),
        "batch": sum(one.size * one.dtype.itemsize for one in jax.tree.leaves(shapes)) / len(devices),
    }
    passes = operations(plan)
    try:
        with _optimised(plan.quick):
            compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        refusal = str(error).splitlines()[0].removeprefix("RESOURCE_EXHAUSTED: ")
        seconds = {"operations": sum(passes) / chip.peak}
        taken = time.process_time() - start
        data = len(devices) // plan.fsdp
        return Verdict(len(devices), data, parts, chip.memory, None, refusal, *passes, 0.0, {}, seconds, taken)
    sizes: Any = compiled.memory_analysis()
    parts |= {
        "results": float(sizes.output_size_in_bytes - sizes.alias_size_in_bytes),
        "intermediate": float(sizes.temp_size_in_bytes),
        "program": float(sizes.generated_code_size_in_bytes),
    }
    program = read_program(compiled.as_text() or "", len(devices))
    sent: dict[str, tuple[int, float]] = {}
    for one in program.collectives:
        times, size = sent.get(one.kind, (0, 0.0))
        sent[one.kind] = times + one.times, size + one.sent
    return Verdict(
        len(devices), len(devices) // plan.fsdp, parts, chip.memory, getattr(sizes, "peak_memory_in_bytes", None), "",
        *passes, program.moved, sent, _seconds(chip, passes, program.moved, sent), time.process_time() - start,
    )  # fmt: skip


def checked_apart(plan: Plan, *, largest: bool) -> tuple[Plan, Verdict]:
    """Compile a plan's step, or the one with the most rows that fit, in a process of its own: the compiler may crash.

    Returns:
        The plan, with its rows, and what it needs.

    Raises:
        InputError, BackendError: as ``check_step`` and ``largest_that_fits``; BackendError also after a crash.
    """
    return apart(_checked, plan, largest)


def _checked(plan: Plan, largest: bool) -> tuple[Plan, Verdict]:
    verdict = check_step(plan)
    return largest_that_fits(plan, verdict) if largest else (plan, verdict)


def apart(function: Callable[..., Any], *arguments: Any) -> Any:
    """A function's value, computed in a process of its own.

    Raises:
        BackendError: the process died.
        Exception: what the function raises.
    """
    context = get_context("spawn")  # a fork would have half of JAX
    receiving, sending = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(sending, function, arguments), daemon=True)
    process.start()
    sending.close()
    try:
        raised, value = receiving.recv()
    except EOFError:
        raise BackendError(
            "the compiler for TPUs (libtpu) crashed on this step: try another kind of chip, --quick, or another "
            "release of libtpu"
        ) from None
    finally:
        process.kill()
        process.join()
    if raised:
        raise value
    return value


def _send(sending: Connection, function: Callable[..., Any], arguments: Sequence[Any]) -> None:
    """Send whether a function raised, and what it raised or returned."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the other process's, which ends this one
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # where a crash would write pages
    try:
        sending.send((False, function(*arguments)))
    except Exception as error:  # it is raised in the other process
        sending.send((True, error))


def largest_that_fits(plan: Plan, first: Verdict) -> tuple[Plan, Verdict]:
    """The plan with the most rows for each chip that fit, and what it needs.

    Intermediate results grow with the rows, so their number follows from ``first``; it is compiled, and corrected.

    Raises:
        InputError: not even one row fits.
    """
    fitting: dict[int, Verdict] = {}
    too_many, rows, verdict = _MOST_ROWS, plan.rows, first
    while True:
        if verdict.fits:
            fitting[rows] = verdict
        else:
            too_many = min(too_many, rows)
        best = max(fitting, default=0)
        if too_many == 1:
            raise InputError(
                f"not even one row of {plan.samples} samples fits: shorten rows, compute more again (flax.remat=full) "
                "or share the model (flax.fsdp)"
            )
        if too_many <= best + 1:
            return replace(plan, rows=best), fitting[best]
        guess = rows // 2 if verdict.refusal else _rows_for(verdict, rows)
        rows = min(max(guess, best + 1), too_many - 1)
        verdict = check_step(replace(plan, rows=rows))


def _rows_for(verdict: Verdict, rows: int) -> int:
    """Rows that would fill the memory."""
    fixed = sum(verdict.memory[part] for part in ("parameters", "optimizer", "program"))
    return int((verdict.limit - fixed) / ((verdict.total - fixed) / rows))


def topology(name: str, slices: int = 1) -> Sequence[Any]:
    """The devices of so many slices of a topology, such as ``v5e:16x16``.

    Raises:
        InputError: there is no such topology; those that there are are named.
        BackendError: jax or libtpu is not installed.
    """
    kind, _, shape = name.partition(":")
    _chip(name)
    topologies = _compiler()
    options: dict[str, Any] = {"chip_config_name": "megacore"} if kind == "v4" else {}
    if set(shape) <= {"1", "x"}:
        options["chips_per_host_bounds"] = (1, 1, 1)
    if slices > 1:
        options["num_slices"] = slices
    return topologies.get_topology_desc(platform="tpu", topology_name=name, **options).devices


def _chip(name: str) -> Chip:
    kind, _, shape = name.partition(":")
    if kind not in CHIPS or shape not in CHIPS[kind].shapes:
        known = "; ".join(f"{each}:{', '.join(chip.shapes)}" for each, chip in CHIPS.items())
        raise InputError(f"topology {name!r:.100} is unknown: use one of {known}")
    return CHIPS[kind]


@functools.cache
def _compiler() -> Any:
    """``jax.experimental.topologies``. Raises ``BackendError`` where the compiler is not installed."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        import libtpu  # noqa: F401  # pyright: ignore[reportMissingImports]
        from jax.experimental import topologies
    except ImportError as error:
        raise BackendError(
            f"{error.name} is not installed: pip install 'wav2vec2-frameworks[flax,tpu]' (700 MB) to compile for TPUs"
        ) from error
    return topologies


@contextlib.contextmanager
def _optimised(quick: bool) -> Iterator[None]:
    import jax

    before = jax.config.jax_optimization_level  # pyright: ignore[reportAttributeAccessIssue]
    jax.config.update("jax_optimization_level", "O0" if quick else before)
    try:
        yield
    finally:
        jax.config.update("jax_optimization_level", before)


def _model(plan: Plan) -> Any:
    """The model's structure without values."""
    from wav2vec2_flax import heads

    kind: Any = getattr(heads, f"FlaxWav2Vec2{plan.head}")
    remat = None if plan.remat == "none" else plan.remat
    return kind(
        plan.config, dtype=plan.dtype, param_dtype="float32", scan_layers=plan.scan_layers, remat=remat, _do_init=False
    )


def _batch(plan: Plan, rows: int) -> dict[str, Any]:
    """Shapes of the batch that the loader makes for this head."""
    import jax
    import jax.numpy as jnp

    config, shape = plan.config, jax.ShapeDtypeStruct
    frames = config.num_frames(plan.samples, add_adapter=False)
    batch = {
        "input_values": shape((rows, plan.samples), jnp.float32),
        "mask_time_indices": shape((rows, frames), jnp.bool_),
    }
    if config.layerdrop > 0:
        batch["layer_keep"] = shape((config.num_hidden_layers,), jnp.bool_)
    if plan.head == "ForPreTraining":
        batch["sampled_negative_counts"] = shape((rows, frames, frames), jnp.int32)
    elif plan.head == "ForCTC":
        batch["attention_mask"] = shape((rows, plan.samples), jnp.int32)
        batch["labels"] = shape((rows, max(config.num_frames(plan.samples) // 2, 1)), jnp.int32)
    else:
        raise InputError(f"head {plan.head!r:.100} is not checked for TPUs: use ForPreTraining or ForCTC")
    return batch


def _bytes_on_a_chip(tree: Any, mesh: Any) -> float:
    import jax

    from wav2vec2_flax.distributed import state_shardings

    places = jax.tree.leaves(state_shardings(tree, mesh))
    parts = ((place.shard_shape(one.shape), one) for one, place in zip(jax.tree.leaves(tree), places, strict=True))
    return float(sum(math.prod(shape) * one.dtype.itemsize for shape, one in parts))


def operations(plan: Plan) -> tuple[float, float]:
    """Operations of a step on a chip, and of what is computed again in its backward pass."""
    frames = plan.config.num_frames(plan.samples, add_adapter=False)
    counted: Any = {"masked": int(_MASKED * frames), "negatives": _NEGATIVES} if plan.head == "ForPreTraining" else {}
    once = training_flops(plan.config, plan.head, plan.samples, **counted)
    parts = forward_flops(plan.config, plan.head, plan.samples, **counted)
    # "dots" keeps all products, "dots_no_batch" those with parameters.
    again = {"full": parts["linear_layers"] + parts["attention"], "dots_no_batch": parts["attention"]}
    return plan.rows * once, plan.rows * again.get(plan.remat, 0.0)


def _seconds(
    chip: Chip, passes: tuple[float, float], moved: float, sent: dict[str, tuple[int, float]]
) -> dict[str, float]:
    from wav2vec2_flax.hlo import BETWEEN_SLICES

    seconds = {"operations": sum(passes) / chip.peak, "memory": moved / chip.bandwidth}
    within = sum(size for kind, (_, size) in sent.items() if kind != BETWEEN_SLICES)
    if within:
        seconds["links between chips"] = within / chip.links
    if BETWEEN_SLICES in sent and chip.network:
        seconds["network between slices"] = sent[BETWEEN_SLICES][1] / chip.network
    return seconds
