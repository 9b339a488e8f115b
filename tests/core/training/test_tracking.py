"""TensorBoard's files and the picture of a run: complete, right after a resume, and never the end of a run."""

import math
import struct
import sys

import pytest

from wav2vec2_core.training.loop import Evaluated, Note, Update
from wav2vec2_core.training.run_folder import RunFolder
from wav2vec2_core.training.tasks import Scores
from wav2vec2_core.training.tracking import tracked


def needs(*packages):
    for package in packages:
        pytest.importorskip(package, reason=f"{package}, of the extra train, is not installed here")


def events_of(folder, first, end, every=4):
    """What a loop yields and records for steps ``first`` up to ``end``; the third has no finite loss."""
    with folder.recording() as write:
        for step in range(first + 1, end + 1):
            loss = None if step == 3 else 10 * math.exp(-step / 5)
            happened = [Update(step, step // 5, loss, 1e-4 * step, loss, 6.0)]
            if step % every == 0:
                happened.append(Evaluated(step, Scores({"wer": 1 / step, "cer": 0.5 / step}, (1 / step,)), True))
            for event in happened:
                write(event.to_dict())
                yield event


def scalars(folder):
    """tag -> [(step, value), ...] of the only event file, whose checksums are checked."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c

    (path,) = (folder.path / "logs").iterdir()
    content, found = path.read_bytes(), {}
    while content:
        length, checked = struct.unpack("<QI", content[:12])
        record = content[12 : 12 + length]
        assert checked == masked_crc32c(content[:8])
        assert struct.unpack("<I", content[12 + length : 16 + length]) == (masked_crc32c(record),)
        content = content[16 + length :]
        event = Event.FromString(record)
        for value in event.summary.value:
            found.setdefault(value.tag, []).append((event.step, value.simple_value))
    return found


def is_picture(path):
    return path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


@pytest.fixture
def folder(tmp_path):
    return RunFolder.start(tmp_path / "run", {})


def test_every_step_is_in_the_event_file_and_drawn(folder):
    needs("tensorboard", "matplotlib")
    events = list(tracked(events_of(folder, 0, 10), folder))
    assert events == list(events_of(RunFolder.start(folder.path.parent / "other", {}), 0, 10))
    found = scalars(folder)
    assert [step for step, _ in found["train/learning_rate"]] == list(range(1, 11))
    assert [step for step, _ in found["train/loss"]] == [1, 2, *range(4, 11)]
    assert dict(found["train/loss"])[10] == pytest.approx(10 * math.exp(-2))
    assert found["eval/wer"] == [(4, 0.25), (8, 0.125)]
    assert found["eval/cer"] == [(4, 0.125), (8, 0.0625)]
    assert is_picture(folder.path / "curves.png")


def test_a_resumed_run_has_every_step_once(folder):
    needs("tensorboard", "matplotlib")
    first = tracked(events_of(folder, 0, 10), folder)
    for _ in range(9):
        next(first)
    first.close()
    assert is_picture(folder.path / "curves.png")  # a run that is stopped is drawn too
    folder.forget_after(5)
    list(tracked(events_of(folder, 5, 10), folder))
    found = scalars(folder)
    assert [step for step, _ in found["train/learning_rate"]] == list(range(1, 11))
    assert [step for step, _ in found["eval/wer"]] == [4, 8]


def test_the_picture_shows_the_numbers(folder, monkeypatch):
    """Its lines are the records: those of a resumed run too."""
    needs("matplotlib")
    from matplotlib.figure import Figure

    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: drawn.append(figure))
    list(events_of(folder, 0, 4))
    list(tracked(events_of(folder, 4, 200, every=50), folder))
    above, middle, below = drawn[-1].axes
    raw, mean = above.get_lines()
    assert raw.get_xdata().tolist() == list(range(1, 201))
    assert raw.get_ydata()[9] == pytest.approx(10 * math.exp(-2))
    assert mean.get_xdata()[0] == 5  # of four finite losses, the third update having none
    losses = [10 * math.exp(-step / 5) for step in (1, 2, 4, 5)]
    assert mean.get_ydata()[0] == pytest.approx(sum(losses) / 4)
    assert middle.get_lines()[0].get_ydata()[9] == pytest.approx(1e-3)
    assert [line.get_label() for line in below.get_lines()] == ["WER", "CER"]
    assert below.get_lines()[0].get_xdata().tolist() == [4, 50, 100, 150, 200]
    assert [axes.get_ylabel() for axes in drawn[-1].axes] == ["training loss", "learning rate", "scores"]
    assert below.get_xlabel() == "updates"


def test_a_run_without_scores_is_drawn_with_what_it_measures(folder, monkeypatch):
    needs("tensorboard", "matplotlib")
    from matplotlib.figure import Figure

    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: drawn.append(figure))

    def events():
        with folder.recording() as write:
            for step in range(1, 6):
                update = Update(step, 0, 3.0, 1e-4, 1.0, 6.0, (), {"accuracy": step / 10})
                write(update.to_dict())
                yield update

    list(tracked(events(), folder))
    assert [axes.get_ylabel() for axes in drawn[-1].axes] == ["training loss", "learning rate", "accuracy"]
    assert drawn[-1].axes[2].get_lines()[0].get_ydata().tolist() == [0.1, 0.2, 0.3, 0.4, 0.5]
    assert [value for _, value in scalars(folder)["train/accuracy"]] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])


def test_missing_packages_are_one_note_at_the_start(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard.compat.proto", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    first, *rest = tracked(events_of(folder, 0, 8), folder)
    assert first == Note(
        "no logs for TensorBoard and no curves.png: tensorboard and matplotlib are not installed: "
        'pip install "wav2vec2-frameworks[train]"; train.jsonl has the same numbers'
    )
    assert len(rest) == 10
    assert {path.name for path in folder.path.iterdir()} == {"run.json", "train.jsonl"}


def test_a_disk_that_fails_is_one_note_each_and_the_run_goes_on(folder, monkeypatch):
    needs("tensorboard", "matplotlib")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tensorboard.summary.writer.record_writer.RecordWriter.flush", full)
    monkeypatch.setattr("wav2vec2_core.training.tracking.atomic_path", full)
    events = list(tracked(events_of(folder, 0, 12), folder))
    notes = [event.text for event in events if isinstance(event, Note)]
    assert len(events) == 12 + 3 + 2
    assert notes[0].startswith("logs for TensorBoard ends here (cannot write ")
    assert "No space left on device" in notes[0]
    assert notes[1].startswith("curves.png ends here (")


def test_an_error_of_the_run_comes_through_and_the_curves_are_drawn(folder):
    needs("matplotlib")

    def failing():
        yield from events_of(folder, 0, 3)
        raise ValueError("of the run")

    with pytest.raises(ValueError, match="of the run"):
        list(tracked(failing(), folder))
    assert is_picture(folder.path / "curves.png")
