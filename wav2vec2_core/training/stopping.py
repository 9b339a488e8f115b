"""SIGTERM: what schedulers send before they take a machine away. A run then ends after the update that it is at."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from wav2vec2_core.training.steps import Trainer


@contextmanager
def stop_requests(trainer: Trainer) -> Iterator[Callable[[int], bool]]:
    """Listen for SIGTERM in the block, in the main thread of a program; elsewhere it ends the program as ever.

    Yields a function of the number of updates made: whether all processes end the run now, because one of them was
    asked to. Each process asks it after every update, and all hear the same. A trainer whose back end listens for
    several processes by itself says so by a method of that meaning, ``asked_to_stop``.
    """
    count = trainer.process[1]
    own: Callable[[int], bool] | None = getattr(trainer, "asked_to_stop", None)
    if own is not None and count > 1:
        yield own
        return
    asked = threading.Event()

    def anyone(made: int) -> bool:
        return asked.is_set() if count == 1 else trainer.add_up([float(asked.is_set())])[0] > 0

    if threading.current_thread() is not threading.main_thread():
        yield anyone
        return
    before: Any = signal.signal(signal.SIGTERM, lambda number, frame: asked.set())
    try:
        yield anyone
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)
