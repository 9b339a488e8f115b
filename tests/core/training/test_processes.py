"""The loop in two processes, here two threads: the same events, one that writes, checkpoints with the files of both."""

import threading
from concurrent.futures import ThreadPoolExecutor

from loop_cases import NumberTrainer, kinds, loop

from wav2vec2_core.errors import BackendError
from wav2vec2_core.training.processes import number_of_first, text_of_first
from wav2vec2_core.training.run_folder import verify


class Line:
    """What joins two trainers."""

    def __init__(self):
        self.barrier, self.given = threading.Barrier(2, timeout=20), [[], []]


class One(NumberTrainer):
    """One of two trainers; the second fails before the step ``fails``."""

    def __init__(self, index, line, fails=None):
        super().__init__()
        self.process, self.line, self.fails = (index, 2), line, fails

    def step(self, micro, number, values):
        if number == self.fails and self.process[0] == 1:
            self.line.barrier.abort()
            raise ValueError("broken")
        return super().step(micro, number, values)

    def add_up(self, numbers):
        self.line.given[self.process[0]] = list(numbers)
        try:
            self.line.barrier.wait()
            total = [sum(pair) for pair in zip(*self.line.given, strict=True)]
            self.line.barrier.wait()
        except threading.BrokenBarrierError as error:
            raise BackendError("another process has ended") from error
        return total

    def save_state(self, folder):
        def wait():
            folder.mkdir(exist_ok=True)
            (folder / f"value-{self.process[0]}").write_text(repr(self.value))

        return wait

    def load_state(self, folder):
        self.value = float((folder / f"value-{self.process[0]}").read_text())


def run(folder, **options):
    """Both runs to their end: loops, and events or the error of each."""
    line = Line()
    loops = [loop(folder, One(index, line, **options)) for index in range(2)]

    def events(one):
        try:
            return list(one.events())
        except (BackendError, ValueError) as error:
            return error

    with ThreadPoolExecutor(2) as pool:
        return loops, list(pool.map(events, loops))


def test_both_make_the_same_updates_and_one_writes(tmp_path):
    alone = loop(tmp_path / "alone", NumberTrainer())
    expected = list(alone.events())
    loops, found = run(tmp_path / "run")
    assert found[0] == found[1] == expected
    assert loops[0].folder.records() == alone.folder.records()
    assert loops[0].trainer.value == loops[1].trainer.value == alone.trainer.value
    kept = loops[0].folder.checkpoints()
    assert [one.step for one in kept] == [one.step for one in alone.folder.checkpoints()]
    for checkpoint in kept:
        names = {path.name for path in (checkpoint.folder / "state").iterdir()}
        assert names == {"value-0", "value-1"}
        assert verify(checkpoint) is None  # sealed when both files were there


def test_one_that_fails_ends_both_and_both_go_on(tmp_path):
    whole, _ = run(tmp_path / "whole")
    _, ends = run(tmp_path / "run", fails=7)
    assert isinstance(ends[0], BackendError)
    assert isinstance(ends[1], ValueError)
    loops, found = run(tmp_path / "run")
    assert kinds(found[0]) == kinds(found[1])
    assert kinds(found[0])[0][1] == 7  # from the checkpoint after 6 updates
    assert [one.trainer.value for one in loops] == [one.trainer.value for one in whole]
    assert loops[0].folder.records() == whole[0].folder.records()


def test_numbers_and_texts_of_the_first_are_those_of_all():
    line = Line()
    trainers = [One(index, line) for index in range(2)]
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(number_of_first, trainers, (3, 99))) == [3, 3]
        assert list(pool.map(text_of_first, trainers, ("Größe/.7", "x"))) == ["Größe/.7"] * 2
        assert list(pool.map(text_of_first, trainers, ("", "x"))) == [""] * 2
    assert text_of_first(NumberTrainer(), "alone") == "alone"
