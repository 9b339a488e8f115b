"""Many devices and processes: connecting what a launcher started, a mesh, where arrays lie on it, states in parts.

Axes of a mesh are ``data``, copies of the model, and ``fsdp``, the parts that each copy is split into. The rows of a
batch are split over both.
"""

from __future__ import annotations

import atexit
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from wav2vec2_core.errors import BackendError, CheckpointError, InputError, OutputError
from wav2vec2_core.files import make_folder, write_json
from wav2vec2_core.training.state import CONTENT, MARK, Entry, check_format, check_same

Batch = Mapping[str, Any]

#: Axes of the mesh.
DATA, FSDP = "data", "fsdp"
#: Set for one process of several: the address of the first, their number, the index of this one.
_ADDRESS, _COUNT, _INDEX = "JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"
#: What launchers set that ``jax.distributed`` finds its way in: numbers of processes, and lists of hosts with commas.
_COUNTS, _HOSTS = ("SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE"), ("TPU_WORKER_HOSTNAMES", "TPU_PROCESS_ADDRESSES")
#: What errors say of a connection that is no more, and how long JAX waits for the others when a process ends.
_LOST, _PATIENCE = ("Gloo", "UNAVAILABLE", "DEADLINE_EXCEEDED", "Connection"), 30
#: Seconds that the first process of a failed run gives the others for their own messages.
_LAST_WORDS = 3
#: The folder of a state in parts, beside its mark.
_PARTS = "parts"


# ---- processes --------------------------------------------------------------------------------------------------


def join_processes() -> tuple[int, int]:
    """Connect the processes that a launcher started. Call it before anything else of JAX.

    ``JAX_COORDINATOR_ADDRESS``, ``JAX_NUM_PROCESSES`` and ``JAX_PROCESS_ID`` name them; under SLURM, Open MPI and on
    TPUs of several hosts, ``jax.distributed`` finds what is not set.

    A process that ends without ``leave_processes`` has failed: its exit code is 1, and it waits for none of the
    others, which then fail too. Only where the first process is killed may JAX abort the others (exit code 134,
    "another task died") before they can say more: it holds the service that connects them.

    Returns:
        Index and number of processes; (0, 1) for one that nobody launched with others.

    Raises:
        BackendError: the others cannot be reached, or a variable is wrong.
    """
    if not jax.distributed.is_initialized() and _is_launched():
        given: dict[str, Any] = {"num_processes": _number(_COUNT), "process_id": _number(_INDEX)}
        given = {name: value for name, value in given.items() if value is not None}
        if len(given) == 2 and os.environ.get(_ADDRESS):
            given["cluster_detection_method"] = "deactivate"
        try:
            jax.distributed.initialize(**given, shutdown_timeout_seconds=_PATIENCE)
        except (RuntimeError, ValueError, TypeError, OSError) as error:
            raise BackendError(
                f"the other processes cannot be reached ({_first_line(error)}): set {_ADDRESS}=host:port of the first, "
                f"{_COUNT} and {_INDEX} for each, and start all of them"
            ) from error
        atexit.register(_end_without_others)
    return processes()


def processes() -> tuple[int, int]:
    """Index and number of the processes that are connected."""
    return (jax.process_index(), jax.process_count()) if jax.distributed.is_initialized() else (0, 1)


def leave_processes() -> None:
    """Take the connections down, when all have come here."""
    if jax.distributed.is_initialized():
        jax.distributed.shutdown()


def _end_without_others() -> None:
    """End a process that has not left the others, before JAX does: it would wait for those that are gone, and abort."""
    if jax.distributed.is_initialized():
        sys.stdout.flush()
        sys.stderr.flush()
        if processes()[0] == 0:  # without its service JAX aborts the others
            time.sleep(_LAST_WORDS)
        os._exit(1)


def _is_launched() -> bool:
    several = any(int(os.environ.get(name) or 1) > 1 for name in _COUNTS if os.environ.get(name, "1").isdigit())
    return bool(os.environ.get(_ADDRESS)) or several or any("," in os.environ.get(name, "") for name in _HOSTS)


def _number(name: str) -> int | None:
    text = os.environ.get(name)
    if text is not None and not text.isdigit():
        raise BackendError(f"{name} is {text!r:.100}, it must be a whole number of at least 0: set it to one")
    return None if text is None else int(text)


@contextmanager
def with_others() -> Iterator[None]:
    """What fails inside because another process has ended is a ``BackendError`` that says so."""
    try:
        yield
    except (jax.errors.JaxRuntimeError, ValueError) as error:  # JAX raises the second for gloo
        if processes()[1] == 1 or not any(word in str(error) for word in _LOST):
            raise
        raise BackendError(
            f"another process of this run has ended ({_first_line(error)}): see its own message, then start all again"
        ) from error


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0][:100]


def add_up(numbers: Sequence[float]) -> list[float]:
    """The sum of each number over all processes, in float64; waits for all of them. Raises ``BackendError``."""
    from jax.experimental import multihost_utils

    own = np.array([float(number) for number in (*numbers, 0.0)])  # never empty: it is a barrier too
    if processes()[1] > 1:
        with with_others():  # as integers: JAX would make float32 of them
            bits = np.asarray(multihost_utils.process_allgather(own.view(np.uint32)))
        own = np.ascontiguousarray(bits).view(np.float64).sum(0)
    return own[:-1].tolist()


def asked_to_stop(made: int) -> bool:
    """Whether SIGTERM has come to any process: true in all of them after the same number of updates, ``made``.

    The service of ``jax.distributed`` listens for it, and lets no process wait for another.
    """
    from jax.experimental import multihost_utils

    return multihost_utils.reached_preemption_sync_point(made)


# ---- the mesh ---------------------------------------------------------------------------------------------------


def make_mesh(*, data: int | None = None, fsdp: int = 1, devices: Sequence[Any] | None = None) -> Mesh:
    """A mesh of ``data`` copies of the model, each split over ``fsdp`` devices; every process's devices together.

    Where the devices are TPUs in several slices, a copy lies within one of them: only gradients pass between slices.
    The compiler chooses layouts inside a step (axis type Auto).

    Args:
        data: as many copies as there are devices for, where None.
        fsdp: devices for each copy.
        devices: all there are where None.

    Raises:
        InputError: the numbers do not multiply to the number of devices, or copies do not divide by slices.
    """
    devices = jax.devices() if devices is None else devices
    count = len(devices)
    if data is None and count % fsdp:
        raise InputError(f"fsdp={fsdp} does not divide the number of devices, {count}: choose one that does")
    data = count // fsdp if data is None else data
    if data * fsdp != count:
        raise InputError(f"data={data} times fsdp={fsdp} is not the number of devices, {count}: choose other sizes")
    return Mesh(arranged(devices, data, fsdp), (DATA, FSDP), axis_types=(AxisType.Auto, AxisType.Auto))


def arranged(devices: Sequence[Any], data: int, fsdp: int) -> np.ndarray:
    """Devices as (data, fsdp), neighbours of a network beside each other. Raises ``InputError``."""
    from jax.experimental import mesh_utils

    slices = len({getattr(device, "slice_index", 0) for device in devices})
    if slices == 1:
        return mesh_utils.create_device_mesh((data, fsdp), devices=devices, allow_split_physical_axes=True)
    if data % slices:
        raise InputError(
            f"data={data} copies cannot lie in {slices} slices of TPUs evenly: choose fsdp so that {slices} divides "
            "their number"
        )
    return mesh_utils.create_hybrid_device_mesh(
        (data // slices, fsdp), (slices, 1), devices=devices, allow_split_physical_axes=True
    )


def state_shardings(state: Any, mesh: Mesh) -> Any:
    """Where each array of a state lies: split over ``fsdp`` along its longest axis that divides evenly, else copied."""
    return jax.tree.map(lambda array: NamedSharding(mesh, _spec(jnp.shape(array), mesh.shape[FSDP])), state)


def place_state(state: Any, mesh: Mesh) -> Any:
    """Distribute a state (or params alone) over the mesh; every process passes the whole."""
    return jax.tree.map(_put, state, state_shardings(state, mesh))


def kept_in_place(state: Any, mesh: Mesh) -> Any:
    """Inside a compiled step: its arrays, held to where ``state_shardings`` says."""
    return jax.tree.map(jax.lax.with_sharding_constraint, state, state_shardings(state, mesh))


def gathered(params: Any, mesh: Mesh) -> Any:
    """Inside a compiled step: parameters, whole on every device where they are used; their gradients are in parts.

    Without it the compiler would split the computation as the parameters are split, and send activations around.
    """
    if mesh.shape[FSDP] == 1:
        return params
    whole = NamedSharding(mesh, PartitionSpec())

    def gather(array: Any, part: NamedSharding) -> Any:
        @jax.custom_vjp
        def gathering(one: Any) -> Any:
            return jax.lax.with_sharding_constraint(one, whole)

        def backward(_: None, change: Any) -> tuple[Any]:
            return (jax.lax.with_sharding_constraint(change, part),)

        gathering.defvjp(lambda one: (gathering(one), None), backward)
        return gathering(array)

    return jax.tree.map(gather, params, state_shardings(params, mesh))


def copied_everywhere(arrays: Any, mesh: Mesh) -> Any:
    """Inside a compiled step: its arrays, whole on every device."""
    return jax.tree.map(lambda one: jax.lax.with_sharding_constraint(one, NamedSharding(mesh, PartitionSpec())), arrays)


def own_devices(mesh: Mesh) -> int:
    """How many of a mesh's devices are this process's: rows of its batches must divide by them."""
    return len(mesh.local_devices)


def local_mesh(mesh: Mesh) -> Mesh:
    """The devices of this process alone, with a copy of the model on each."""
    return make_mesh(devices=mesh.local_devices)


def whole_copies(arrays: Any, mesh: Mesh) -> Any:
    """Arrays of a mesh of several processes, whole on ``local_mesh``. Every process must call this."""
    copies = jax.jit(lambda given: copied_everywhere(given, mesh))(arrays)
    place = NamedSharding(local_mesh(mesh), PartitionSpec())

    def own(array: Array) -> Array:
        parts = [shard.data for shard in array.addressable_shards]
        return jax.make_array_from_single_device_arrays(array.shape, place, parts)

    return jax.tree.map(own, copies)


def place_batch(batch: Batch, mesh: Mesh) -> dict[str, Array]:
    """Distribute a batch over all devices by its rows; every process passes its own rows, in the order of processes.

    Raises:
        InputError: the rows of this process do not divide by its devices.
    """
    placed = {}
    for name, array in batch.items():
        array, sharding = np.asarray(array), NamedSharding(mesh, batch_spec(name, array))
        parts = len(sharding.addressable_devices)
        if sharding.spec and array.shape[0] % parts:
            raise InputError(
                f"{name} has {array.shape[0]} rows here, they must divide by this process's {parts} devices: "
                "use another batch size"
            )
        placed[name] = jax.make_array_from_process_local_data(sharding, array)
    return placed


def on_mesh(step: Callable[..., Any], state: Any, mesh: Mesh) -> Callable[..., Any]:
    """Compile ``train_step`` so that the state keeps its place on the mesh; the old state's memory is reused."""
    return jax.jit(
        step,
        donate_argnums=0,
        out_shardings=(state_shardings(state, mesh), NamedSharding(mesh, PartitionSpec())),
    )


def batch_spec(name: str, array: Any) -> PartitionSpec:
    """How an array of a batch is split: by rows, but for the numbers and ``layer_keep``, which all rows share."""
    by_rows = name != "layer_keep" and len(array.shape if hasattr(array, "shape") else np.shape(array)) > 0
    return PartitionSpec((DATA, FSDP)) if by_rows else PartitionSpec()


def _put(array: Any, sharding: NamedSharding) -> Array:
    if not sharding.is_fully_addressable:  # devices of other processes
        whole = np.asarray(array)
        return jax.make_array_from_callback(whole.shape, sharding, lambda index: whole[index])
    return jax.device_put(array, sharding, may_alias=False)


def _spec(shape: tuple[int, ...], parts: int) -> PartitionSpec:
    axes = [axis for axis, size in enumerate(shape) if size % parts == 0 and size > 0]
    if parts == 1 or not axes:
        return PartitionSpec()
    longest = max(axes, key=lambda axis: shape[axis])
    return PartitionSpec(*(FSDP if axis == longest else None for axis in range(len(shape))))


# ---- states in parts --------------------------------------------------------------------------------------------


def write_parts(folder: str | os.PathLike[str], arrays: Mapping[str, Array]) -> Callable[[], None]:
    """Write arrays with Orbax, each process its parts, beside the work that goes on: they are copied before this
    returns.

    Args:
        folder: the same in all processes, on a disk that all of them see; an earlier state there is replaced.
        arrays: by name.

    Returns:
        A function that waits until the parts of all processes are there. It raises ``OutputError`` where they cannot be
        written.

    Raises:
        OutputError: the folder cannot be made.
    """
    folder = Path(folder).resolve()
    first = processes()[0] == 0
    if first:
        make_folder(folder)
        (folder / MARK).unlink(missing_ok=True)
    add_up(())
    orbax = _orbax()
    with _writing(folder):
        writer = orbax.StandardCheckpointer()
        writer.save(folder / _PARTS, dict(arrays), force=True)

    def wait() -> None:
        with _writing(folder):
            writer.wait_until_finished()
            writer.close()
        if first:
            write_json(folder / MARK, CONTENT)
        add_up(())

    return wait


def in_parts(folder: str | os.PathLike[str]) -> bool:
    """Whether ``write_parts`` wrote a folder."""
    return Path(folder, _PARTS).is_dir()


def read_parts(folder: str | os.PathLike[str], like: Mapping[str, Any]) -> dict[str, Array]:
    """Arrays that ``write_parts`` wrote, whatever the devices were then.

    Args:
        folder: as there.
        like: arrays or shapes with shardings, of the names and types that must be there. The result lies likewise.

    Raises:
        CheckpointError: there is no state, or it is damaged.
        ParameterMismatchError: names, shapes or types differ.
    """
    folder = Path(folder).resolve()
    check_format(folder)
    orbax = _orbax()
    with _reading(folder), orbax.StandardCheckpointer() as reader:
        kinds = reader.metadata(folder / _PARTS).item_metadata.tree
        there: dict[str, Entry] = {name: (tuple(one.shape), np.dtype(one.dtype).name) for name, one in kinds.items()}
    check_same(folder / _PARTS, there, {name: (tuple(one.shape), one.dtype.name) for name, one in like.items()})
    target = {name: jax.ShapeDtypeStruct(one.shape, one.dtype, sharding=one.sharding) for name, one in like.items()}
    with _reading(folder), orbax.StandardCheckpointer() as reader:
        return reader.restore(folder / _PARTS, target)


def _orbax() -> Any:
    """Orbax, which takes a second to import. Raises ``BackendError``."""
    try:
        import orbax.checkpoint
    except ImportError as error:
        raise BackendError(
            "a state on several devices needs orbax-checkpoint: pip install 'wav2vec2-frameworks[flax]'"
        ) from error
    return orbax.checkpoint


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, RuntimeError) as error:
        raise OutputError(
            f"cannot write {folder} ({_first_line(error)}): check the folder, its permissions and the free space"
        ) from error


@contextmanager
def _reading(folder: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise CheckpointError(f"{folder} cannot be read ({_first_line(error)}): use an earlier one") from error
