"""What the processes of a run tell each other, over the sums of their trainers."""

from __future__ import annotations

import importlib.util

from wav2vec2_core.backend import load_backend
from wav2vec2_core.training.steps import Trainer


def join_processes(backend: str) -> tuple[int, int]:
    """Connect the processes that a launcher started: index and number of them, (0, 1) for one alone, and for a back
    end that has no part for several.

    Raises:
        InputError: there is no such back end.
        BackendError: it is not installed, or the others cannot be reached.
    """
    found = load_backend(backend)
    if importlib.util.find_spec(f"{found.package}.distributed") is None:
        return 0, 1
    return found.distributed.join_processes()


def is_first(trainer: Trainer) -> bool:
    """Whether this is the process that writes and speaks."""
    return trainer.process[0] == 0


def wait_for_all(trainer: Trainer) -> None:
    """Return when all processes have come here. Raises ``BackendError``."""
    if trainer.process[1] > 1:
        trainer.add_up(())


def number_of_first(trainer: Trainer, number: int) -> int:
    """The number that the first process has, in all of them. Raises ``BackendError``."""
    if trainer.process[1] == 1:
        return number
    return round(trainer.add_up([number if is_first(trainer) else 0])[0])


def text_of_first(trainer: Trainer, text: str) -> str:
    """The text that the first process has, in all of them. Raises ``BackendError``."""
    if trainer.process[1] == 1:
        return text
    own = text.encode() if is_first(trainer) else b""
    length = number_of_first(trainer, len(own))
    return bytes(round(one) for one in trainer.add_up(list(own) or [0] * length)).decode()
