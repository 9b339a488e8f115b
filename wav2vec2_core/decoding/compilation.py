"""The one place that knows whether decoding is compiled: by numba, of the ``lm`` extra, or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import ParamSpec, TypeVar

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

try:
    import numba
except ImportError:
    numba = None

#: Whether functions marked with ``compiled`` run as machine code.
COMPILED = numba is not None and os.environ.get("NUMBA_DISABLE_JIT", "0") == "0"


def compiled(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Compile an array-coded function, GIL released, kept on disk; without numba it stays plain Python.

    Modules that use it are imported by the function that needs them, since numba takes a moment to import.
    """
    return function if numba is None else numba.njit(function, cache=True, nogil=True)
