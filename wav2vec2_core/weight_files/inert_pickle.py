"""Reading the pickles of PyTorch weight files as data, without executing anything.

A pickle is a program whose instructions may import and call any function. Python's unpickler executes them; this reader
cannot. ``pickletools`` decodes the instructions, and a stack machine of lists, dicts, text and numbers interprets those
that plain data needs. Functions are never looked up: their *names* are compared with the short list that weight files
use, each of which is implemented here in a few lines. Everything else is refused by name.
"""

from __future__ import annotations

import math
import pickletools
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from wav2vec2_core.errors import CheckpointError, brief

#: PyTorch's storage classes and the element type of each.
STORAGES = {
    "DoubleStorage": "float64", "FloatStorage": "float32", "HalfStorage": "float16", "BFloat16Storage": "bfloat16",
    "LongStorage": "int64", "IntStorage": "int32", "ShortStorage": "int16", "CharStorage": "int8",
    "ByteStorage": "uint8", "BoolStorage": "bool",
}  # fmt: skip


_MOST_AXES = 32  # numpy 1 has no more
_MOST = 1 << 48  # elements; a larger number is an attack


class Stream(Protocol):
    """Source of the instructions: a binary file, ``io.BytesIO`` or ``mmap.mmap``."""

    def read(self, size: int, /) -> bytes: ...
    def readline(self) -> bytes: ...
    def tell(self) -> int: ...


@dataclass(frozen=True)
class Global:
    """The name of a function or class, as text."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(frozen=True)
class Storage:
    """A flat run of ``count`` elements in the file, found by ``key``."""

    dtype: str
    key: str
    count: int


@dataclass(frozen=True)
class TensorView:
    """A tensor: sizes and strides over a storage, both counted in elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def contiguous(self) -> bool:
        """Whether the elements lie in the file in the order of a C array."""
        step = 1
        for size, stride in zip(reversed(self.shape), reversed(self.strides), strict=True):
            if size != 1 and stride != step:
                return False
            step *= size
        return True


@dataclass(eq=False)
class Record:
    """An object of a class that is not imported: class name, constructor arguments and attributes."""

    kind: Global
    arguments: tuple[Any, ...]
    state: Any = None


class Pickle(NamedTuple):
    """What a pickle holds, and the storages that it refers to, by key."""

    value: Any
    storages: dict[str, Storage]


class RefusedError(Exception):
    """The pickle is damaged or requests something that plain weights do not need; the text says what."""


def read_pickle(stream: Stream, what: str, records: Callable[[Global], bool] | None = None) -> Pickle:
    """Read one pickle up to its STOP instruction.

    Args:
        stream: source of the instructions.
        what: the file, for messages.
        records: decides which other classes are allowed; their objects become ``Record``. None allows none.

    Returns:
        Numbers, text, bytes, lists, tuples, dicts, ``TensorView`` and ``Record`` objects.

    Raises:
        CheckpointError: the pickle is damaged, or contains an instruction or a name that plain weights do not need.
    """
    machine = _Machine(records)
    try:
        return _follow(stream, machine)
    except RefusedError as error:
        raise CheckpointError(
            f"{what} is refused, nothing in it was run ({error}): convert it to safetensors where you trust it, or get "
            "the weights from a source you trust"
        ) from error
    except (ValueError, IndexError, MemoryError, OverflowError, UnicodeError) as error:
        raise CheckpointError(
            f"{what} is not a readable weight file: it is damaged, download or copy it again"
        ) from error


def _follow(stream: Stream, machine: _Machine) -> Pickle:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Python's own decoder about damaged text
        for instruction, argument, _ in pickletools.genops(stream):  # pyright: ignore[reportArgumentType]
            if instruction.name == "STOP":
                return Pickle(machine.pop(), machine.storages)
            machine.follow(instruction.name, argument)
    raise RefusedError("it has no end")


_MARK = object()
_PLAIN = frozenset((
    "INT", "LONG", "BININT", "BININT1", "BININT2", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING", "BINSTRING",
    "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES",
    "BINBYTES8",
))  # fmt: skip
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class _Machine:
    def __init__(self, records: Callable[[Global], bool] | None) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.storages: dict[str, Storage] = {}
        self._records = records

    def pop(self) -> Any:
        value = self.stack.pop()
        if value is _MARK:
            raise RefusedError("its instructions are out of order")
        return value

    def pop_to_mark(self) -> list[Any]:
        for position in range(len(self.stack) - 1, -1, -1):
            if self.stack[position] is _MARK:
                values = self.stack[position + 1 :]
                del self.stack[position:]
                return values
        raise RefusedError("its instructions are out of order")

    def follow(self, instruction: str, argument: Any) -> None:
        push = self.stack.append
        match instruction:
            case "PROTO" | "FRAME":
                pass
            case _ if instruction in _PLAIN:
                push(argument)
            case _ if instruction in _CONSTANTS:
                push(_CONSTANTS[instruction])
            case "MARK":
                push(_MARK)
            case "EMPTY_DICT":
                push({})
            case "EMPTY_LIST":
                push([])
            case "TUPLE":
                push(tuple(self.pop_to_mark()))
            case _ if instruction in _TUPLES:
                values = [self.pop() for _ in range(_TUPLES[instruction])]
                push(tuple(reversed(values)))
            case "LIST":
                push(self.pop_to_mark())
            case "DICT":
                values = self.pop_to_mark()
                push({})
                self._set_items(values)
            case "APPEND":
                self._extend([self.pop()])
            case "APPENDS":
                self._extend(self.pop_to_mark())
            case "SETITEM":
                value, key = self.pop(), self.pop()
                self._set_items([key, value])
            case "SETITEMS":
                self._set_items(self.pop_to_mark())
            case _:
                self._follow_references(instruction, argument)

    def _follow_references(self, instruction: str, argument: Any) -> None:
        """The memo, and the instructions that are dangerous elsewhere: names, calls and foreign objects."""
        match instruction:
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                self.memo[argument] = self._top(object)
            case "MEMOIZE":
                self.memo[len(self.memo)] = self._top(object)
            case "GET" | "BINGET" | "LONG_BINGET":
                if argument not in self.memo:
                    raise RefusedError(f"it refers to the unknown memo entry {brief(argument)}")
                self.stack.append(self.memo[argument])
            case "GLOBAL":
                module, _, name = argument.partition(" ")
                self.stack.append(self._known(module, name))
            case "STACK_GLOBAL":
                name, module = self.pop(), self.pop()
                self.stack.append(self._known(module, name))
            case "REDUCE" | "NEWOBJ":
                arguments, function = self.pop(), self.pop()
                self.stack.append(self._call(function, arguments))
            case "BUILD":
                state, owner = self.pop(), self._top((dict, Record))
                if isinstance(owner, Record):
                    owner.state = state
                # else attributes of an OrderedDict, such as a state dict's _metadata: not needed
            case "BINPERSID":
                self._add_storage(_storage(self.pop()))
            case "INST":
                raise RefusedError(f"it calls {brief(argument.replace(' ', '.'))}")
            case _:
                raise RefusedError(f"it uses the instruction {instruction}")

    def _top(self, kind: type | tuple[type, ...]) -> Any:
        value = self.stack[-1]
        if value is _MARK or not isinstance(value, kind):
            raise RefusedError("its instructions are out of order")
        return value

    def _known(self, module: Any, name: Any) -> Global:
        if not isinstance(module, str) or not isinstance(name, str):
            raise RefusedError("it looks up a name that is not text")
        found = Global(module, name)
        storage = module in ("torch", "torch.cuda") and name in STORAGES
        if not storage and str(found) not in _MEANINGS and not (self._records and self._records(found)):
            raise RefusedError(f"it looks up {brief(str(found))}")
        return found

    def _call(self, function: Any, arguments: Any) -> Any:
        if isinstance(function, Global) and isinstance(arguments, tuple):
            meaning = _MEANINGS.get(str(function))
            if meaning is not None:
                return meaning(arguments)
            if self._records and self._records(function):
                return Record(function, arguments)
        raise RefusedError("it calls something that is not a function of a weight file")

    def _add_storage(self, storage: Storage) -> None:
        if self.storages.setdefault(storage.key, storage) != storage:
            raise RefusedError("it describes one storage in two ways")
        self.stack.append(storage)

    def _extend(self, values: list[Any]) -> None:
        self._top(list).extend(values)

    def _set_items(self, pairs: list[Any]) -> None:
        if len(pairs) % 2:
            raise RefusedError("its instructions are out of order")
        target = self._top(dict)
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            if isinstance(key, (str, int)):
                target[key] = value
            elif not self._records:  # hashing a maliciously nested tuple takes forever
                raise RefusedError(f"a dict has a {type(key).__name__} as its key")


# ---- the names that weight files use ------------------------------------------------------------------------------


def _storage(reference: Any) -> Storage:
    """A persistent id: ("storage", class, key, device, number of elements[, view])."""
    match reference:
        case ("storage", Global(name=kind), str(key), _, int(count)) | (
            "storage", Global(name=kind), str(key), _, int(count), None
        ) if kind in STORAGES and 0 <= count < _MOST:  # fmt: skip
            return Storage(STORAGES[kind], key, count)
        case ("module", *_):
            raise RefusedError("it holds a whole Python module; save its state_dict instead")
    raise RefusedError("it refers to an object that is not a storage of numbers")


def _ordered_dict(arguments: tuple[Any, ...]) -> dict[Any, Any]:
    if arguments != ():
        raise RefusedError("it builds an OrderedDict in an unknown way")
    return {}


def _tensor(arguments: tuple[Any, ...]) -> TensorView:
    """Storage, offset, sizes, strides, requires_grad, hooks[, metadata]: torch._utils._rebuild_tensor_v2."""
    match arguments:
        case (Storage() as storage, int(offset), sizes, strides, _, _, *metadata) if not any(metadata):
            view = TensorView(storage, offset, _size((sizes,)), _size((strides,)))
        case _:
            raise RefusedError("it builds a tensor in an unknown way")
    if len(view.shape) != len(view.strides) or not 0 <= offset < _MOST:
        raise RefusedError("a tensor has impossible sizes and strides")
    last = offset + sum((size - 1) * stride for size, stride in zip(view.shape, view.strides, strict=True))
    if view.size and (last >= storage.count or view.size > storage.count):
        raise RefusedError("a tensor reaches beyond its storage")
    return view


def _old_tensor(arguments: tuple[Any, ...]) -> TensorView:
    """Storage, offset, sizes, strides: torch._utils._rebuild_tensor of PyTorch before 0.4."""
    return _tensor((*arguments, False, {}))


def _default_dict(arguments: tuple[Any, ...]) -> dict[Any, Any]:
    """The default factory is ignored: keys are only looked up."""
    return {}


def _parameter(arguments: tuple[Any, ...]) -> TensorView:
    match arguments:
        case (TensorView() as view, *_):
            return view
    raise RefusedError("it builds a parameter in an unknown way")


def _size(arguments: tuple[Any, ...]) -> tuple[int, ...]:
    match arguments:
        case (tuple(sizes),) if len(sizes) <= _MOST_AXES and all(type(n) is int and 0 <= n < _MOST for n in sizes):
            return sizes
    raise RefusedError("a tensor has impossible sizes and strides")


_MEANINGS: dict[str, Callable[[tuple[Any, ...]], Any]] = {
    "collections.OrderedDict": _ordered_dict,
    "collections.defaultdict": _default_dict,
    "torch._utils._rebuild_tensor": _old_tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch.Size": _size,
}
