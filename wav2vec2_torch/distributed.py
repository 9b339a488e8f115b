"""Several processes, as torchrun starts them: sums over them, and models that lie in parts in all of them."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from wav2vec2_core.errors import BackendError, CheckpointError
from wav2vec2_core.files import atomic_folder, write_json
from wav2vec2_core.training.state import CONTENT, MARK, Entry

#: Elements of gradients that are sent together.
_SENT_AT_ONCE = 8_000_000


def join_processes() -> tuple[int, int]:
    """Connect the processes that a launcher such as torchrun started, and choose this one's GPU where there are GPUs.

    Returns:
        Index and number of processes; (0, 1) for one that nobody launched with others.

    Raises:
        BackendError: the others cannot be reached, or there are fewer GPUs than processes.
    """
    if not _is_joined() and os.environ.get("WORLD_SIZE", "1") != "1":
        engine = "gloo"
        if torch.cuda.is_available():
            _choose_gpu(os.environ.get("LOCAL_RANK", "0"))
            engine = "cpu:gloo,cuda:nccl"
        try:
            dist.init_process_group(engine)
        except (RuntimeError, ValueError, AttributeError) as error:  # some builds have no such function
            raise BackendError(
                f"the other processes cannot be reached ({_first_line(error)}): start all of them with torchrun"
            ) from error
    return processes()


def processes() -> tuple[int, int]:
    """Index and number of the processes that are connected."""
    return (dist.get_rank(), dist.get_world_size()) if _is_joined() else (0, 1)


def leave_processes() -> None:
    """Take the connections down."""
    if _is_joined():
        dist.destroy_process_group()


def _is_joined() -> bool:
    return dist.is_available() and dist.is_initialized()


def _choose_gpu(number: str) -> None:
    count = torch.cuda.device_count()
    if number not in map(str, range(count)):
        raise BackendError(
            f"this is process {number:.100} of this machine, which has {count} GPUs: start one for each, or set "
            "CUDA_VISIBLE_DEVICES= to compute on processors"
        )
    torch.cuda.set_device(int(number))


@contextmanager
def with_others() -> Iterator[None]:
    """What fails inside because another process has ended is a ``BackendError`` that says so."""
    try:
        yield
    except RuntimeError as error:
        if not (isinstance(error, dist.DistError) or "gloo" in str(error) or "by peer" in str(error)):
            raise
        raise BackendError(
            f"another process of this run has ended ({_first_line(error)}): see its own message, then start all again"
        ) from error


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0][:100]


# ---- sums -------------------------------------------------------------------------------------------------------


def add_up(numbers: Sequence[float]) -> list[float]:
    """The sum of each number over all processes; waits for all of them. Raises ``BackendError``."""
    total = torch.tensor([float(number) for number in numbers], dtype=torch.float64)
    if processes()[1] > 1:
        with with_others():
            dist.all_reduce(total if len(total) > 0 else torch.zeros(1))
    return total.tolist()


def add_up_gradients(gradients: Sequence[Tensor]) -> None:
    """Replace the gradients of this process by their sums over all, in float32 at least. Raises ``BackendError``."""
    waiting = list(gradients)
    with with_others():
        while waiting:
            chosen = [waiting.pop(0)]
            while waiting and sum(one.numel() for one in (*chosen, waiting[0])) <= _SENT_AT_ONCE:
                chosen.append(waiting.pop(0))
            wide = torch.promote_types(chosen[0].dtype, torch.float32)
            flat = torch.cat([one.to(wide).flatten() for one in chosen])
            dist.all_reduce(flat)
            for one, part in zip(chosen, flat.split([one.numel() for one in chosen]), strict=True):
                one.copy_(part.view_as(one))


def add_up_tensors(values: Sequence[Tensor], device: torch.device) -> list[Tensor]:
    """Sums over all processes of scalars, in float64 on ``device``, which may still be at them."""
    total = torch.stack([value.detach().to(device, torch.float64) for value in values])
    with with_others():
        dist.all_reduce(total)
    return list(total)


class _AddedUp(torch.autograd.Function):
    """A sum over all processes, each of which differentiates its own share of one loss: gradients are added up too."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:  # type: ignore[override]
        """Of one tensor."""
        total = value.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        """Of what each process makes of the sum."""
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total


def add_up_in_graph(*values: Tensor) -> list[Tensor]:
    """Sums of float32 tensors over all processes, through which each gets the gradient of the losses of all."""
    flat = torch.cat([value.float().flatten() for value in values])
    parts = _AddedUp.apply(flat).split([value.numel() for value in values])  # type: ignore[union-attr]
    return [part.view_as(value) for part, value in zip(parts, values, strict=True)]


def norm_of(gradients: Sequence[Tensor]) -> Tensor:
    """The norm of all gradients together, in float32 at least; of whole ones where they lie in parts."""
    parts = [local(one) for one in gradients]
    wide = torch.promote_types(parts[0].dtype, torch.float32)  # half precision would round the norm
    norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(one, dtype=wide) for one in parts]))
    if not is_part(gradients[0]):
        return norm
    square = norm.square()
    with with_others():
        dist.all_reduce(square)
    return square.sqrt()


# ---- models in parts ------------------------------------------------------------------------------------------


def equalise(model: nn.Module) -> None:
    """Give every process the parameters of the first. Raises ``BackendError``."""
    with with_others(), torch.no_grad():
        for parameter in model.parameters():
            dist.broadcast(parameter, 0)


def shard(model: Any) -> None:
    """Split every parameter among the processes (FSDP2): a transformer layer is whole only while it is computed.

    Make the optimizer after this call. With one process nothing happens.

    Raises:
        BackendError: another process has ended.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FSDPModule, fully_shard

    if processes()[1] == 1:
        return
    # Outputs such as extract_features are views; nothing here changes an output in place.
    warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view", UserWarning)
    equalise(model)
    mesh = init_device_mesh(model.device.type, (processes()[1],))
    for part in (*getattr(model, "wav2vec2", model).encoder.layers, model):
        fully_shard(part, mesh=mesh)
    for part in model.modules():
        if isinstance(part, FSDPModule):
            part.set_force_sum_reduction_for_comms(True)  # with the divisor 1: losses are divided by their targets
            part.set_gradient_divide_factor(1.0)


def is_part(tensor: Tensor) -> bool:
    """Whether a tensor is one of a model in parts."""
    from torch.distributed.tensor import DTensor

    return isinstance(tensor, DTensor)


def local(tensor: Tensor) -> Tensor:
    """What this process has of a tensor; shares its memory."""
    value: Any = tensor
    return value.to_local() if is_part(tensor) else tensor


def whole(tensor: Tensor) -> Tensor:
    """A tensor with the parts of all processes, each of which must call this."""
    value: Any = tensor
    return value.full_tensor() if is_part(tensor) else tensor


def plain_class(model: nn.Module) -> Any:
    """The class of a model before ``shard``, which makes one of its own."""
    from torch.distributed.fsdp import FSDPModule

    return next(kind for kind in type(model).__mro__ if not issubclass(kind, FSDPModule))


# ---- states in parts --------------------------------------------------------------------------------------------


def write_parts(folder: str | os.PathLike[str], tensors: Mapping[str, Tensor]) -> None:
    """Write tensors with torch.distributed.checkpoint into safetensors files, each process its parts.

    Args:
        folder: the same in all processes, on a disk that all of them see; an earlier state there is replaced.
        tensors: by name; those that do not lie in parts are written once.

    Raises:
        OutputError: the folder holds something else, or cannot be written.
        BackendError: another process has ended.
    """
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter
    from torch.distributed.checkpoint.state_dict_saver import save

    first = processes()[0] == 0
    with ExitStack() as stack:
        place = [str(stack.enter_context(atomic_folder(folder, mark=MARK))) if first else ""]
        with with_others():
            dist.broadcast_object_list(place, 0)
            save(dict(tensors), storage_writer=HuggingFaceStorageWriter(place[0], save_distributed=True))
        if first:
            write_json(Path(place[0], MARK), CONTENT)
    add_up(())  # until the folder has its name


def entries_of(folder: str | os.PathLike[str]) -> dict[str, Entry]:
    """Shape and type of every tensor in the safetensors files of a folder, whole or in parts.

    Raises:
        CheckpointError: a file is damaged.
    """
    with _reading(folder) as reader:
        found = reader.read_metadata().state_dict_metadata
    return {name: (tuple(one.size), _name(one.properties.dtype)) for name, one in found.items()}


def entry(tensor: Tensor) -> Entry:
    """Shape and type of a tensor, whole."""
    return tuple(tensor.shape), _name(tensor.dtype)


def empty(entry: Entry, like: Tensor) -> Tensor:
    """Memory for a tensor: split as ``like`` is where it has the same shape, otherwise whole and on the CPU."""
    shape, dtype = entry
    kind = getattr(torch, dtype)
    return torch.empty_like(like, dtype=kind) if shape == like.shape else torch.empty(shape, dtype=kind)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def read_parts(folder: str | os.PathLike[str], into: Mapping[str, Tensor]) -> None:
    """Fill tensors, whole or split in any way, from the files of a folder. Raises ``CheckpointError``."""
    from torch.distributed.checkpoint.state_dict_loader import load

    with _reading(folder) as reader, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled", UserWarning)
        load(dict(into), storage_reader=reader, no_dist=True)  # each process reads what it needs


@contextmanager
def _reading(folder: str | os.PathLike[str]) -> Iterator[Any]:
    from safetensors import SafetensorError
    from torch.distributed.checkpoint.api import CheckpointException
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader

    try:
        yield HuggingFaceStorageReader(os.fspath(folder))
    except (
        CheckpointException,
        SafetensorError,
        OSError,
        LookupError,
        ValueError,
        RuntimeError,
        AssertionError,
    ) as error:
        raise CheckpointError(f"{folder} cannot be read ({_first_line(error)}): use an earlier one") from error
