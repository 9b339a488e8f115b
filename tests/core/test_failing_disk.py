"""A disk that is full at the n-th step or byte, under all that writes: one error, and the old result or the new."""

import resource
from contextlib import contextmanager

import numpy as np
import pytest
from random_models import make_folder
from write_faults import at_step, full

from wav2vec2_core.attaching import attach_to_model
from wav2vec2_core.checkpoint import open_checkpoint, open_model, write_checkpoint
from wav2vec2_core.conversion import convert
from wav2vec2_core.embedding import write_embeddings
from wav2vec2_core.errors import OutputError
from wav2vec2_core.files import write_text
from wav2vec2_core.language_model.estimation import estimate


def text(folder):
    write_text(folder / "out" / "a.srt", "1\n00:00:00,000 --> 00:00:01,000\nwords\n" * 50)


def embeddings(kind):
    def work(folder):
        blocks = [np.ones((2, 30, 8), np.float32) for _ in range(3)]
        write_embeddings(folder / "out" / f"a.{kind}", ["layer_0", "layer_1"], (90, 8), blocks, {"rate": 50})

    return work


def conversion(kind):
    return lambda folder: convert(folder / "model", folder / "out" / "result", kind, verify=False)


def build(folder, output):
    estimate([folder / "text"], output, order=2, discount_fallback=[0.5, 1.0, 1.5])


def language_model(kind):
    def work(folder):
        build(folder, folder / "out" / f"lm.{kind}")

    return work


def attached(folder):
    attach_to_model(str(folder / "model"), folder / "lm.arpa", output=folder / "out" / "with-lm")


WORKS = {
    "text": text, "npz": embeddings("npz"), "safetensors": embeddings("safetensors"),
    "convert to safetensors": conversion("safetensors"), "convert to torch": conversion("torch"),
    "convert to flax": conversion("flax"), "arpa": language_model("arpa"), "binary": language_model("bin"),
    "attach": attached,
}  # fmt: skip


@contextmanager
def files_of_at_most(size):
    """A file that grows beyond so many bytes is an error of the disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def contents(folder):
    """The files of the results, without temporaries that a failing disk could not remove."""
    names = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    return {*(str(name) for name in names if not any(part.endswith(".tmp") for part in name.parts))}


@pytest.mark.parametrize("name", WORKS)
def test_every_step_and_size(tmp_path, monkeypatch, name):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    make_folder(tmp_path / "model")
    out, work = tmp_path / "out", WORKS[name]
    out.mkdir()
    (tmp_path / "text").write_text("a b c\na b d\nb c d a\n" * 3)
    build(tmp_path, tmp_path / "lm.arpa")
    work(tmp_path)
    whole = contents(out)
    with at_step(10**6, full) as counter:
        work(tmp_path)
    steps, failures = 10**6 - counter.left, 0
    assert steps > 3
    faults = [lambda number=number: at_step(number, full) for number in range(1, steps + 1, max(1, steps // 40))]
    faults += [lambda size=size: files_of_at_most(size) for size in (0, 1, 60, 700, 3000)]
    for fault in faults:
        with fault():
            try:
                work(tmp_path)
            except OutputError:
                failures += 1
        if name == "attach":  # a save may be pending: it is the model, and the next one completes it
            assert open_checkpoint(open_model(out / "with-lm")).shapes
        else:
            assert contents(out) == whole
    assert failures > 3
    work(tmp_path)
    assert contents(out) == whole
    assert not [path for path in out.rglob("*") if path.name.endswith(".tmp")]


def test_a_model_in_shards_is_copied_whole(tmp_path):
    _, tensors = make_folder(tmp_path / "model")
    write_checkpoint(tmp_path / "model", tensors, max_shard_size=4000)
    make_folder(tmp_path / "copy")  # an earlier result, whose weights would be read first
    (tmp_path / "text").write_text("a b c\na b d\nb c d a\n" * 3)
    build(tmp_path, tmp_path / "lm.arpa")
    attach_to_model(str(tmp_path / "model"), tmp_path / "lm.arpa", output=tmp_path / "copy")
    found = open_checkpoint(open_model(tmp_path / "copy"))
    assert len(found.files) > 1
    assert all(np.array_equal(found.read(name), array) for name, array in tensors.items())
