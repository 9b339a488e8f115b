"""Functions that JAX compiles: a user is told when it does, and what it compiled is kept on disk for later runs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable
from typing import Any

import jax

from wav2vec2_core.backend import COMPILING
from wav2vec2_core.devices import processor
from wav2vec2_core.errors import Wav2Vec2Error
from wav2vec2_core.files import make_folder, user_cache_folder

#: Seconds of compiling from which on its result is kept; JAX's own limit of a second would leave small models out.
WORTH_KEEPING = 0.2


class Shapes:
    """The shapes that a function was compiled for."""

    def __init__(self) -> None:
        self._seen: set[Hashable] = set()

    def announce(self, shape: tuple[int, ...], *others: Hashable) -> None:
        """Tell ``COMPILING`` of a batch of this shape if there was none; ``others``: what else is compiled for."""
        if (shape, others) not in self._seen:
            self._seen.add((shape, others))
            COMPILING.info("JAX compiles for %s", " x ".join(map(str, shape)))


class Compiled:
    """A function of a module and arrays, compiled for every shape of its arrays; ``COMPILING`` is told of new ones.

    Attributes:
        jitted: the function as JAX knows it.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.jitted = jax.jit(function)
        self._shapes = Shapes()

    def __call__(self, module: Any, *arrays: Any) -> Any:
        """The function's value."""
        self._shapes.announce(arrays[0].shape)
        return self.jitted(module, *arrays)


def keep_compiled_code() -> None:
    """Let JAX keep what it compiles in the user's cache folder, unless the program has chosen a folder already.

    JAX names the files by program, releases and flags. It does not know every instruction that a processor lacks, so
    each kind of processor has a folder of its own. A file that cannot be read costs a warning of JAX's and compiling
    again, a folder that cannot be written compiling each time.
    """
    settings: Any = jax.config
    if settings.jax_compilation_cache_dir or not settings.jax_enable_compilation_cache:
        return
    try:
        folder = make_folder(user_cache_folder("jax") / hashlib.sha256(processor().encode()).hexdigest()[:24])
    except Wav2Vec2Error:
        return
    settings.update("jax_compilation_cache_dir", str(folder))
    settings.update("jax_persistent_cache_min_compile_time_secs", WORTH_KEEPING)
