"""The one place that knows whether decoding is compiled: by numba, of the ``lm`` extra, or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

try:
    import numba
except ImportError:
    numba = None

#: Whether functions marked with ``compiled`` run as machine code.
COMPILED = numba is not None and os.environ.get("NUMBA_DISABLE_JIT", "0") == "0"

#: Options of functions that need no reference counts.
_IN_PLACE: dict[str, Any] = {"cache": True, "nogil": True, "_nrt": False}


def compiled(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Compile an array-coded function, GIL released, kept on disk; without numba it stays plain Python.

    Modules that use it are imported by the function that needs them, since numba takes a moment to import.
    """
    return function if numba is None else numba.njit(function, cache=True, nogil=True)


def compiled_in_place(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """As ``compiled``, for functions that make no arrays and call only such.

    They need no reference counts, which would cost a beam search three times what it does between them.
    """
    return function if numba is None else numba.njit(**_IN_PLACE)(function)


def inlined(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """As ``compiled_in_place``, for functions with many arguments that one caller calls often: passing them costs."""
    return function if numba is None else numba.njit(**_IN_PLACE, forceinline=True)(function)
