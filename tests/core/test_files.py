"""Atomic writes and names that stay in their folder."""

import stat

import pytest

from wav2vec2_core.errors import CheckpointError, OutputError
from wav2vec2_core.files import (
    atomic_folder,
    atomic_path,
    check_file_name,
    make_folder,
    read_json,
    write_json,
    write_text,
)


def test_write_replaces_whole_files(tmp_path):
    write_text(tmp_path / "a.txt", "old")
    write_text(tmp_path / "a.txt", "neu ü\n")
    assert (tmp_path / "a.txt").read_bytes() == "neu ü\n".encode()
    write_json(tmp_path / "b.json", {"z": 1, "a": "ü"})
    assert (tmp_path / "b.json").read_text(encoding="utf-8") == '{\n  "a": "ü",\n  "z": 1\n}\n'
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "b.json"]


def test_usual_permissions(tmp_path):
    (tmp_path / "plain").touch()
    write_text(tmp_path / "ours", "")
    assert stat.S_IMODE((tmp_path / "ours").stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


def fail_half_way(path):
    with atomic_path(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError("interrupted")


def test_a_failed_write_leaves_the_old_file(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(RuntimeError):
        fail_half_way(target)
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def fill_folder(folder, text, error=None):
    with atomic_folder(folder, mark="model.pb") as temporary:
        (temporary / "model.pb").write_text(text)
        if error is not None:
            raise error


def test_folders_appear_complete_or_not_at_all(tmp_path):
    target = tmp_path / "new" / "result"
    fill_folder(target, "first")
    with pytest.raises(RuntimeError):
        fill_folder(target, "second", RuntimeError("interrupted"))
    with pytest.raises(OutputError, match="cannot write"):
        fill_folder(target, "second", OSError(28, "No space left on device"))
    assert (target / "model.pb").read_text() == "first"
    (target / "old").touch()
    fill_folder(target, "third")
    assert [path.name for path in target.iterdir()] == ["model.pb"]
    assert (target / "model.pb").read_text() == "third"
    assert list(target.parent.iterdir()) == [target]


def test_folders_of_others_are_left_alone(tmp_path):
    (tmp_path / "photos").mkdir()
    fill_folder(tmp_path / "photos", "an empty folder is free")
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "a.txt").write_text("mine")
    (tmp_path / "file").touch()
    for name in ("letters", "file"):
        with pytest.raises(OutputError, match=rf"{name} exists and is no earlier result with a model\.pb"):
            fill_folder(tmp_path / name, "lost")
    assert (tmp_path / "letters" / "a.txt").read_text() == "mine"


def test_folders_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"cannot create folder .*file/sub"):
        make_folder(tmp_path / "file" / "sub")
    with pytest.raises(OutputError, match=r"cannot write .*missing/a\.txt .*check the folder"):
        write_text(tmp_path / "missing" / "a.txt", "")
    with pytest.raises(OutputError, match="cannot create folder"):
        make_folder("/proc/nothing")


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "a\\b", "/etc/passwd", "C:x", "a\0b"])
def test_names_that_would_leave_their_folder(name):
    with pytest.raises(CheckpointError, match="is not a plain file name"):
        check_file_name(name, "shard")


def test_plain_names_pass():
    assert check_file_name("model-00001-of-00002.safetensors", "shard") == "model-00001-of-00002.safetensors"


def test_half_a_character_becomes_its_escape(tmp_path):
    write_text(tmp_path / "text.srt", "a\ud800b\n")
    assert (tmp_path / "text.srt").read_bytes() == b"a\\ud800b\n"
    write_json(tmp_path / "vocab.json", {"\ud800": 1, "é": 2})
    assert read_json(tmp_path / "vocab.json") == {"\ud800": 1, "é": 2}
