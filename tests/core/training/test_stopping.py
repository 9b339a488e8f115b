"""SIGTERM ends a run after the update that it is at, in every process after the same one; a resume goes on."""

import os
import signal
import threading

import pytest
from loop_cases import NumberTrainer, kinds, loop

from wav2vec2_core.training.loop import Note
from wav2vec2_core.training.stopping import stop_requests


class Told(NumberTrainer):
    """Sends SIGTERM to its own process in the step of this number."""

    def __init__(self, number):
        super().__init__()
        self.number = number

    def step(self, micro, number, values):
        if number == self.number:
            os.kill(os.getpid(), signal.SIGTERM)
        return super().step(micro, number, values)


@pytest.mark.parametrize("made", [1, 3, 4, 10])
def test_a_run_ends_after_the_update_that_it_is_at_and_goes_on_as_if_nothing_had_been(tmp_path, made):
    whole = NumberTrainer()
    uninterrupted = loop(tmp_path / "whole", whole)
    list(uninterrupted.events())
    assert not uninterrupted.stopped
    before = signal.getsignal(signal.SIGTERM)
    stopped = loop(tmp_path / "told", Told(made - 1))
    events = list(stopped.events())
    assert signal.getsignal(signal.SIGTERM) is before
    assert stopped.stopped
    assert kinds(events)[-1][1] == made
    assert isinstance(events[-1], Note)
    assert events[-1].text == f"stopped by SIGTERM after {made} updates: the same command with --resume goes on"
    assert stopped.folder.checkpoints()[0].step == made
    second = NumberTrainer()
    resumed = loop(tmp_path / "told", second)
    list(resumed.events())
    assert second.value == whole.value
    assert resumed.folder.records() == uninterrupted.folder.records()


class Several(NumberTrainer):
    """One of two processes, whose sums with the other's are told."""

    process = (1, 2)

    def __init__(self, sums):
        super().__init__()
        self.sums, self.given = sums, []

    def add_up(self, numbers):
        self.given += numbers
        return [self.sums.pop(0)]


def test_processes_stop_together():
    trainer = Several([0.0, 0.0, 1.0])
    with stop_requests(trainer) as asked:
        first = asked(1)
        os.kill(os.getpid(), signal.SIGTERM)
        assert [first, asked(2), asked(3)] == [False, False, True]
    assert trainer.given == [0.0, 1.0, 1.0]


def test_a_back_end_that_listens_by_itself_is_asked():
    trainer = Several([])
    trainer.asked_to_stop = lambda made: made == 2
    before = signal.getsignal(signal.SIGTERM)
    with stop_requests(trainer) as asked:
        assert signal.getsignal(signal.SIGTERM) is before
        assert [asked(1), asked(2)] == [False, True]


def test_a_thread_of_another_program_does_not_listen():
    found = []

    def look():
        with stop_requests(NumberTrainer()) as asked:
            found.append((signal.getsignal(signal.SIGTERM), asked(1)))

    thread = threading.Thread(target=look)
    before = signal.getsignal(signal.SIGTERM)
    thread.start()
    thread.join()
    assert found == [(before, False)]
