"""A process that dies, or a disk that fails, at the n-th step of writing."""

import os
import signal
import traceback
from contextlib import contextmanager

STEPS = ("open", "rename", "replace", "unlink", "fsync", "mkdir", "rmdir")


class _Counter:
    def __init__(self, number, happen):
        self.left, self.happen = number, happen

    def step(self):
        self.left -= 1
        if self.left == 0:
            self.happen()


@contextmanager
def at_step(number, happen):
    """Call ``happen`` before the ``number``-th step of writing; yields a counter whose ``left`` is 0 or less then."""
    counter = _Counter(number, happen)
    real = {name: getattr(os, name) for name in STEPS}

    def watched(name):
        def call(*arguments, **options):
            writes = name != "open" or arguments[1] & (os.O_WRONLY | os.O_RDWR)
            if writes:
                counter.step()
            return real[name](*arguments, **options)

        return call

    for name in STEPS:
        setattr(os, name, watched(name))
    try:
        yield counter
    finally:
        for name, function in real.items():
            setattr(os, name, function)


def full():
    """The disk is full."""
    raise OSError(28, "No space left on device")


def killed():
    """As by ``kill -9``: no ``finally`` runs."""
    os.kill(os.getpid(), signal.SIGKILL)


def dies_at(number, work):
    """Run ``work()`` in a process that is killed before its ``number``-th step; whether it was."""
    child = os.fork()
    if child == 0:
        try:
            with at_step(number, killed):
                work()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    assert status in (0, signal.SIGKILL), "the work failed by itself"
    return status != 0
