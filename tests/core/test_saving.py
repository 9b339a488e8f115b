"""Models saved over each other by processes that are killed and on disks that fail; folders and files likewise."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from write_faults import at_step, dies_at, full

from wav2vec2_core.checkpoint import (
    open_checkpoint,
    open_model,
    write_checkpoint,
    write_flax_checkpoint,
)
from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.errors import CheckpointError, OutputError
from wav2vec2_core.files import atomic_folder, write_text
from wav2vec2_core.saving import PendingSave

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that can be forked and killed")


def save(folder, value, limit="5GB", **options):
    """A model all of whose numbers are ``value``, in the weights and in the configuration."""
    tensors = {f"w{number}": np.full(100, value, np.float32) for number in range(4)}
    write_checkpoint(folder, tensors, config=Wav2Vec2Config(vocab_size=value), max_shard_size=limit, **options)


def found(folder):
    """The numbers of the model in a folder."""
    source = open_model(folder)
    config = Wav2Vec2Config.from_source(source)
    checkpoint = open_checkpoint(source)
    assert len(checkpoint.shapes) == 4
    return {config.vocab_size, *(float(checkpoint.read(name)[0]) for name in checkpoint.shapes)}


def seen_by_others(folder):
    """The same without knowledge of pending saves; None where a program refuses the folder."""
    if not (folder / "config.json").is_file():
        return None
    pending = folder / ".saving"
    hidden = folder / "elsewhere"
    if pending.exists():
        pending.rename(hidden)
    try:
        return found(folder)
    finally:
        if hidden.exists():
            hidden.rename(pending)


KINDS = [
    ({"limit": 400}, {"limit": 400}),
    ({"limit": 400}, {}),
    ({}, {"limit": 800}),
    ({"safe_serialization": False, "limit": 800}, {"safe_serialization": False, "limit": 400}),
    ({"safe_serialization": False}, {"limit": 400}),
]


@pytest.mark.parametrize(("old", "new"), KINDS)
def test_killed_at_any_step_all_is_old_or_all_is_new(tmp_path, old, new):
    results = []
    for step in count(1):
        folder = tmp_path / str(step)
        save(folder, 1, **old)
        (folder / "vocab.json").write_text("{}")
        if not dies_at(step, lambda folder=folder: save(folder, 2, **new)):
            break
        results.append(found(folder))
        assert seen_by_others(folder) in (results[-1], None)
        save(folder, 3, **new)  # finds what the killed one left
        assert found(folder) == {3}
        left = {path.name for path in folder.iterdir() if path.name.startswith(".")}
        assert not left
        assert (folder / "vocab.json").read_text() == "{}"
    assert results == sorted(results, key=min)
    assert results[0] == {1}
    assert results[-1] == {2}
    assert step > 12


@pytest.mark.parametrize(("old", "new"), KINDS[:2])
def test_a_disk_that_fails_at_any_step(tmp_path, old, new):
    results = []
    for step in count(1):
        folder = tmp_path / str(step)
        save(folder, 1, **old)
        with at_step(step, full) as counter, suppress(OutputError):
            save(folder, 2, **new)
        if counter.left > 0:
            break
        results.append(found(folder))
        save(folder, 3, **new)
        assert found(folder) == {3}
        assert not [path for path in folder.iterdir() if path.name.startswith(".")]
    assert {1} in results
    assert {2} in results
    assert not [result for result in results if len(result) != 1]


def test_killed_at_any_moment(tmp_path):
    """A process saves on and on, and is killed whenever it happens to be."""
    folder = tmp_path / "model"
    save(folder, 1, 400)
    code = f"""
import itertools, sys
sys.path[:0] = {sys.path!r}
from pathlib import Path
from test_saving import save
print("ready", flush=True)
for value in itertools.count(2):
    save(Path({str(folder)!r}), value, 400 if value % 3 else "5GB")
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    generator = np.random.default_rng(0)
    for _ in range(4):
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=environment) as child:
            assert child.stdout.readline() == b"ready\n"
            time.sleep(generator.uniform(0.02, 0.2))
            child.send_signal(signal.SIGKILL)
        assert len(found(folder)) == 1
    save(folder, 1)
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]


def test_two_processes_save_at_once(tmp_path):
    """As ranks do that all write the same folder: the last one has it, whole."""
    folder = tmp_path / "model"
    children = []
    for value in (5, 6, 7):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                for _ in range(10):
                    save(folder, value, 400 if value % 2 else "5GB")
                status = 0
            finally:
                os._exit(status)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
    assert len(found(folder)) == 1
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]


def test_weights_alone_keep_the_configuration(tmp_path):
    save(tmp_path, 1)
    write_checkpoint(tmp_path, {"w": np.ones(3, np.float32)})
    assert Wav2Vec2Config.from_pretrained(tmp_path).vocab_size == 1
    assert [*open_checkpoint(open_model(tmp_path)).shapes] == ["w"]


def test_what_is_saved_is_what_is_read(tmp_path):
    """Weights of other kinds that would be read first do not stay."""
    save(tmp_path, 1, 400, safe_serialization=False)
    save(tmp_path, 2)
    assert found(tmp_path) == {2}
    write_flax_checkpoint(tmp_path, {"lm_head": {"bias": np.ones(3, np.float32)}}, config=Wav2Vec2Config(vocab_size=3))
    assert [*open_checkpoint(open_model(tmp_path)).shapes] == ["lm_head.bias"]


def pending_save(folder):
    """A folder whose save was killed after it happened and before its files were in their places."""
    save(folder, 1)
    for step in count(1):
        assert dies_at(step, lambda: save(folder, 2))
        if PendingSave.of(folder) is not None:
            return


def test_a_model_written_by_others_since(tmp_path):
    pending_save(tmp_path)
    assert found(tmp_path) == {2}
    other = tmp_path / "other"
    save(other, 9)
    for path in other.iterdir():
        path.rename(tmp_path / path.name)
    assert found(tmp_path) == {9}


def test_a_damaged_plan_is_refused(tmp_path):
    pending_save(tmp_path)
    plan = tmp_path / ".saving" / "plan.json"
    for content in ("{", "[]", '{"files": 1}', '{"files": ["../../x"], "stale": []}'):
        plan.write_text(content)
        with pytest.raises(CheckpointError, match=r"plan\.json"):
            found(tmp_path)


# ---- folders and files --------------------------------------------------------------------------------------------


def fill(folder, text, error=None):
    with atomic_folder(folder, mark="mark") as temporary:
        (temporary / "mark").write_text(text)
        (temporary / text).touch()
        if error:
            raise error


@pytest.mark.parametrize("exchange", [True, False])
def test_folders_are_old_or_new_whenever_the_process_is_killed(tmp_path, monkeypatch, exchange):
    if not exchange:
        monkeypatch.setattr("wav2vec2_core.files._exchange", lambda one, other: False)
    contents, missing = [], 0
    for step in count(1):
        folder = tmp_path / str(step) / "result"
        fill(folder, "old")
        if not dies_at(step, lambda folder=folder: fill(folder, "new")):
            break
        if folder.exists():
            contents.append((folder / "mark").read_text())
            assert sorted(path.name for path in folder.iterdir()) == sorted(["mark", contents[-1]])
        else:
            missing += 1
            with pytest.raises(RuntimeError):
                fill(folder, "new", RuntimeError())
            assert (folder / "mark").read_text() == "old"  # brought back
        fill(folder, "third")
        assert [path.name for path in folder.parent.iterdir()] == ["result"]
    assert {*contents} == {"old", "new"}
    assert (missing == 0) == exchange


@pytest.mark.parametrize("exchange", [True, False])
def test_folders_on_a_disk_that_fails(tmp_path, monkeypatch, exchange):
    if not exchange:
        monkeypatch.setattr("wav2vec2_core.files._exchange", lambda one, other: False)
    for step in count(1):
        folder = tmp_path / str(step) / "result"
        fill(folder, "old")
        with at_step(step, full) as counter, suppress(OutputError):
            fill(folder, "new")
        if counter.left > 0:
            break
        assert (folder / "mark").read_text() in ("old", "new")
        fill(folder, "third")
        assert [path.name for path in folder.parent.iterdir()] == ["result"]


def test_files_are_old_or_new_and_nothing_is_left(tmp_path):
    target = tmp_path / "text.srt"
    for step in count(1):
        target.write_text("old")
        if not dies_at(step, lambda: write_text(target, "new")):
            break
        assert target.read_text() in ("old", "new")
        write_text(target, "third")
        assert list(tmp_path.iterdir()) == [target]


def test_temporaries_of_the_living_stay(tmp_path):
    """Another process writes the same file and folder for longer than we do."""
    target, folder = tmp_path / "text.srt", tmp_path / "result"
    fill(folder, "old")
    code = f"""
from wav2vec2_core.files import atomic_folder, atomic_path
with atomic_path({str(target)!r}) as path, atomic_folder({str(folder)!r}, mark="mark") as inner:
    path.write_text("theirs")
    (inner / "mark").write_text("theirs")
    print("ready", flush=True)
    input()
"""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([sys.executable, "-c", code], env=environment, **pipes) as child:
        assert child.stdout.readline() == b"ready\n"
        write_text(target, "ours")
        fill(folder, "ours")
        assert len(list(tmp_path.iterdir())) == 4
        child.communicate(b"\n")
    assert child.returncode == 0
    assert target.read_text() == "theirs"
    assert (folder / "mark").read_text() == "theirs"
    assert len(list(tmp_path.iterdir())) == 2


def test_the_rights_of_new_files_follow_the_mask(tmp_path):
    code = f"""
import os, threading
from wav2vec2_core.files import _umask, atomic_folder, write_text
os.umask(0o027)
threads = [threading.Thread(target=lambda: [_umask() for _ in range(200)]) for _ in range(4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
write_text({str(tmp_path / "file")!r}, "")
with atomic_folder({str(tmp_path / "folder")!r}, mark="mark") as folder:
    (folder / "mark").touch()
assert os.umask(0) == 0o027
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "folder").stat().st_mode & 0o777 == 0o750
