"""The folder of a run: what a resume finds, refuses and repairs."""

import errno

import pytest

from wav2vec2_core.errors import CheckpointError, InputError, OutputError
from wav2vec2_core.training.run_folder import RunFolder

CONFIGURATION = {"backend": "torch", "recipe": {"seed": 0, "data": {"batch_seconds": 6.0}}}


def save(run, step, content="state", **rates):
    def write(folder):
        (folder / "state").write_text(f"{content} {step}")
        (folder / "inner").mkdir()
        (folder / "inner" / "more").write_text("more")

    run.save(step, write, **{"scores": None, "ranking": None, "keep": 2} | rates)


def steps(run):
    return [checkpoint.step for checkpoint in run.checkpoints()]


def test_a_run_starts_in_a_new_or_an_empty_folder_only(tmp_path):
    RunFolder.start(tmp_path / "new", CONFIGURATION)
    with pytest.raises(OutputError, match="holds a run: go on with it by --resume"):
        RunFolder.start(tmp_path / "new", CONFIGURATION)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").touch()
    for begin in (RunFolder.start, RunFolder.resume):
        with pytest.raises(OutputError, match="is not empty"):
            begin(tmp_path / "full", CONFIGURATION)
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["thesis.txt"]
    (tmp_path / "empty").mkdir()
    assert RunFolder.resume(tmp_path / "empty", CONFIGURATION).newest(pytest.fail) is None


def test_another_configuration_is_refused_with_the_differences(tmp_path):
    RunFolder.start(tmp_path / "run", CONFIGURATION)
    RunFolder.resume(tmp_path / "run", CONFIGURATION)
    other = {"backend": "flax", "recipe": {"seed": 0, "data": {"batch_seconds": 7.0}}, "train": {"sha256": "b" * 64}}
    with pytest.raises(InputError) as refused:
        RunFolder.resume(tmp_path / "run", other)
    message = str(refused.value)
    assert "backend was 'torch' and is 'flax'" in message
    assert "recipe.data.batch_seconds was 6.0 and is 7.0" in message
    assert "the rows of train are others; repeat its options" in message
    assert "seed" not in message


def test_the_last_checkpoints_and_the_best_one_are_kept(tmp_path):
    run = RunFolder.start(tmp_path / "run", CONFIGURATION)
    save(run, 1, scores={"wer": 0.5}, ranking=(0.5, 0.3))
    save(run, 2, scores={"wer": 0.2}, ranking=(0.2, 0.15))
    save(run, 3, scores={"wer": 0.2}, ranking=(0.2, 0.1))
    save(run, 4)
    assert steps(run) == [4, 3]  # of two with the same WER the one with the lower CER
    save(run, 5, scores={"wer": 0.4}, ranking=(0.4, 0.2))
    save(run, 6)
    assert steps(run) == [6, 5, 3]
    best = run.best()
    assert best is not None
    assert (best.step, best.scores, best.ranking) == (3, {"wer": 0.2}, (0.2, 0.1))


def test_a_damaged_checkpoint_is_told_and_passed_over(tmp_path):
    run = RunFolder.start(tmp_path / "run", CONFIGURATION)
    for step in (1, 2, 3):
        save(run, step, keep=3)
    (run.path / "checkpoints" / "step-3" / "state").write_text("other 3")
    (run.path / "checkpoints" / "step-2" / "inner" / "more").unlink()
    told = []
    found = run.newest(told.append)
    assert found is not None
    assert found.step == 1
    assert ["step-3 is damaged (state has changed)" in told[0], "step-2 is damaged (No such file" in told[1]] == [1, 1]
    save(run, 3, "new", keep=3)  # takes the damaged one's place
    found = run.newest(pytest.fail)
    assert found is not None
    assert (found.folder / "state").read_text() == "new 3"


def test_a_full_disk_leaves_the_checkpoints_that_were_there(tmp_path):
    run = RunFolder.start(tmp_path / "run", CONFIGURATION)
    save(run, 1)

    def write(folder):
        (folder / "state").write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OutputError, match=r"step-2 \(No space left on device\)"):
        run.save(2, write, scores=None, ranking=None, keep=2)
    assert [path.name for path in (run.path / "checkpoints").iterdir()] == ["step-1"]
    found = run.newest(pytest.fail)
    assert found is not None
    assert found.step == 1


def test_records_of_a_killed_run_end_where_its_checkpoint_is(tmp_path):
    run = RunFolder.start(tmp_path / "run", CONFIGURATION)
    assert run.forget_after(0) == []
    with run.recording() as write:
        for step in range(1, 5):
            write({"step": step, "loss": 1 / step})
    path = run.path / "train.jsonl"
    path.write_text(path.read_text() + '{"step": 5, "lo')  # a line that a kill cut short
    assert [record["step"] for record in run.records()] == [1, 2, 3, 4]
    assert [record["step"] for record in run.forget_after(2)] == [1, 2]
    assert path.read_text() == '{"step": 1, "loss": 1.0}\n{"step": 2, "loss": 0.5}\n'
    path.write_text('{"step": 1}\nnonsense\n{"step": 3}\n')
    with pytest.raises(CheckpointError, match="line 2 is not JSON"):
        run.records()
