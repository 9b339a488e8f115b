"""Objects in the pickles of training programs, read as plain data: which classes are allowed and what they contain.

A fairseq checkpoint stores its configuration as an ``argparse.Namespace``, omegaconf containers or plain dicts, along
with counters, random states and enumerations. None of these classes is imported: an object becomes a ``Record`` with
its class's name and its attributes, from which ``plain`` extracts the configuration.
"""

from __future__ import annotations

from typing import Any

from wav2vec2_core.errors import CheckpointError
from wav2vec2_core.weight_files.inert_pickle import Global, Record, TensorView

#: Allowed classes, by full name. They are never instantiated, so the list is not needed for safety: a file with any
#: other class is refused because it is not a checkpoint of a known program.
_CLASSES = frozenset((
    "argparse.Namespace", "collections.Counter", "copyreg._reconstructor", "copy_reg._reconstructor",
    "_codecs.encode", "_operator.getitem", "operator.getitem", "datetime.datetime", "datetime.timedelta",
    "numpy.dtype", "numpy.ndarray", "numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar",
    "numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct", "torch.device", "torch.float16",
    "torch.float32", "torch.float64", "torch.bfloat16", "torch.int64", "pathlib.PosixPath", "pathlib.WindowsPath",
    "pathlib.PurePosixPath",
    *(f"{module}.{name}" for module in ("builtins", "__builtin__") for name in (
        "bool", "bytearray", "bytes", "complex", "dict", "float", "frozenset", "int", "list", "object", "set", "str",
        "tuple", "unicode", "long", "NoneType",
    )),
))  # fmt: skip
#: Packages whose classes are all allowed: settings and enumerations of the training program.
_PACKAGES = ("fairseq", "omegaconf", "typing", "examples")

_DEEPEST = 32  # dicts within dicts
_LARGEST = 100_000  # values of a configuration; a shared list that holds itself many times has no end


def may_occur(kind: Global) -> bool:
    """Whether a checkpoint may contain objects of this class."""
    return str(kind) in _CLASSES or kind.module.split(".")[0] in _PACKAGES


def plain(value: Any, what: str) -> Any:
    """Convert an object to dicts, lists, text and numbers; ``what`` names the file in errors.

    A Namespace becomes a dict, omegaconf containers become dicts and lists, enumerations their values, and anything
    else None.

    Raises:
        CheckpointError: the value is nested too deeply or too large.
    """
    return _Plain(what).of(value, 0)


class _Plain:
    def __init__(self, what: str) -> None:
        self._what = what
        self._left = _LARGEST

    def of(self, value: Any, depth: int) -> Any:
        self._left -= 1
        if depth > _DEEPEST or self._left < 0:
            raise CheckpointError(
                f"{self._what} has a configuration that is nested without end: it is damaged, download or copy it again"
            )
        match value:
            case str() | int() | float() | None:
                return value
            case dict():
                return {key: self.of(item, depth + 1) for key, item in value.items() if not _is_large(item)}
            case list() | tuple():
                return [self.of(item, depth + 1) for item in value]
            case Record():
                return self._of_record(value, depth)
        return None

    def _of_record(self, record: Record, depth: int) -> Any:
        state = record.state if isinstance(record.state, dict) else {}
        match record.kind.module.split(".")[0], record.arguments:
            case "argparse", _:
                return self.of(state, depth + 1)
            case "omegaconf", _:  # containers keep _content, single values _val
                return self.of(state.get("_content", state.get("_val")), depth + 1)
            case "fairseq", (value,) if record.state is None:  # a member of an enumeration
                return self.of(value, depth + 1)
            case "fairseq", _:
                return self.of(state, depth + 1)
        return None


def _is_large(value: Any) -> bool:
    return isinstance(value, TensorView)
