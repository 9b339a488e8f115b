"""Safetensors files, shards, names, writing and adapters."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from ml_dtypes import bfloat16
from torch_writers import described, write_zip

from wav2vec2_core.checkpoint import (
    open_checkpoint,
    open_model,
    read_adapter,
    write_adapter,
    write_checkpoint,
)
from wav2vec2_core.checkpoint.writing import parse_size
from wav2vec2_core.errors import CheckpointError, InputError, OutputError
from wav2vec2_core.weight_files.arrays import DTYPE_NAMES, numpy_dtype

TENSORS = {
    "wav2vec2.a": np.arange(12, dtype=np.float32).reshape(3, 4),
    "wav2vec2.b": np.arange(5, dtype=np.float16),
    "lm_head.weight": np.array([1.5, -2], bfloat16),
    "scalar": np.array(2.5),
    "empty": np.zeros((0, 3), np.float32),
}


def opened(folder):
    return open_checkpoint(open_model(folder))


def safetensors_bytes(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def entry(dtype="F32", shape=(2,), offsets=(0, 8)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def one_line_error(folder, kind=CheckpointError):
    with pytest.raises(kind) as caught:
        opened(folder)
    message = str(caught.value)
    assert "\n" not in message
    assert str(folder) in message
    assert len(message) < 600
    return message


# ---- writing and reading --------------------------------------------------------------------------------------------


def test_written_and_read_again(tmp_path):
    assert write_checkpoint(tmp_path / "new" / "folder", TENSORS) == [tmp_path / "new" / "folder" / "model.safetensors"]
    checkpoint = opened(tmp_path / "new" / "folder")
    assert checkpoint.shapes == {name: array.shape for name, array in TENSORS.items()}
    assert checkpoint.dtypes == {name: array.dtype.name for name, array in TENSORS.items()}
    assert checkpoint.files == [tmp_path / "new" / "folder" / "model.safetensors"]
    for name, array in TENSORS.items():
        found = checkpoint.read(name)
        assert found.dtype == array.dtype
        assert np.array_equal(found, array)
        assert found.flags.c_contiguous
        assert found.flags.writeable
        assert checkpoint.read(name, np.float32).dtype == np.float32
    with pytest.raises(KeyError):
        checkpoint.read("unknown")


def test_every_type(tmp_path):
    tensors = {name: np.array([0, 1, 1]).astype(numpy_dtype(name)) for name in DTYPE_NAMES}
    write_checkpoint(tmp_path, tensors)
    checkpoint = opened(tmp_path)
    assert checkpoint.dtypes == {name: name for name in DTYPE_NAMES}
    assert all(np.array_equal(checkpoint.read(name), array) for name, array in tensors.items())


def test_the_safetensors_library_reads_what_is_written(tmp_path):
    from safetensors import safe_open

    write_checkpoint(tmp_path, {name: array for name, array in TENSORS.items() if array.dtype != bfloat16})
    with safe_open(tmp_path / "model.safetensors", framework="numpy") as file:
        assert file.metadata() == {"format": "pt"}
        for name in file.keys():  # noqa: SIM118
            assert np.array_equal(file.get_tensor(name), TENSORS[name])
    content = (tmp_path / "model.safetensors").read_bytes()
    assert int.from_bytes(content[:8], "little") % 8 == 0  # arrays start aligned


def test_what_the_safetensors_library_writes_is_read(tmp_path):
    from safetensors.numpy import save_file

    tensors = {name: array for name, array in TENSORS.items() if array.dtype != bfloat16}
    save_file(tensors, tmp_path / "model.safetensors")  # no metadata
    checkpoint = opened(tmp_path)
    assert all(np.array_equal(checkpoint.read(name), array) for name, array in tensors.items())


def test_arrays_in_other_orders_are_written_in_c_order(tmp_path):
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    write_checkpoint(
        tmp_path, {"t": array.T, "s": array[:, ::2], "big": array.astype(">f4"), "f": np.asfortranarray(array)}
    )
    checkpoint = opened(tmp_path)
    assert np.array_equal(checkpoint.read("t"), array.T)
    assert np.array_equal(checkpoint.read("s"), array[:, ::2])
    assert np.array_equal(checkpoint.read("big"), array)
    assert np.array_equal(checkpoint.read("f"), array)


@pytest.mark.parametrize("array", [np.zeros(2, np.complex64), np.array(["a"]), np.array([None])])
def test_types_that_cannot_be_written(tmp_path, array):
    with pytest.raises(InputError, match="'x' has type"):
        write_checkpoint(tmp_path / "new", {"ok": np.zeros(2), "x": array})
    assert not (tmp_path / "new").exists()


# ---- shards ---------------------------------------------------------------------------------------------------------


def test_shards_and_their_index(tmp_path):
    tensors = {f"w{number}": np.full(100, number, np.float32) for number in range(5)}
    tensors["large"] = np.zeros(1000, np.float32)  # larger than the limit: alone in a shard
    files = write_checkpoint(tmp_path, tensors, max_shard_size=800)
    names = [f"model-0000{number}-of-00004.safetensors" for number in range(1, 5)]
    assert [file.name for file in files] == [*names, "model.safetensors.index.json"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(file.name for file in files)
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert index["metadata"] == {"total_size": 5 * 400 + 4000}
    assert index["weight_map"] == {
        "w0": names[0], "w1": names[0], "w2": names[1], "w3": names[1], "w4": names[2], "large": names[3],
    }  # fmt: skip
    checkpoint = opened(tmp_path)
    assert len(checkpoint.files) == 4
    assert all(np.array_equal(checkpoint.read(name), array) for name, array in tensors.items())


def test_stale_files_go_and_others_stay(tmp_path):
    tensors = {f"w{number}": np.zeros(100, np.float32) for number in range(5)}
    for name in ("pytorch_model.bin", "config.json", "model-notes.txt", "adapter.eng.safetensors"):
        (tmp_path / name).write_text("mine")
    for limit in (400, 800, "5GB", 400, 1200):
        files = write_checkpoint(tmp_path, tensors, max_shard_size=limit)
        ours = {path.name for path in tmp_path.iterdir() if path.read_bytes() != b"mine"}
        assert ours == {file.name for file in files}
        assert opened(tmp_path).shapes == dict.fromkeys(tensors, (100,))
    assert len(list(tmp_path.iterdir())) == 4 + len(files)


def test_a_failed_save_leaves_the_old_one(tmp_path, monkeypatch):
    from wav2vec2_core.checkpoint import writing

    old = {"w0": np.zeros(100, np.float32), "w1": np.zeros(100, np.float32)}
    write_checkpoint(tmp_path, old, max_shard_size=400)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    real, calls = writing.write_safetensors, []

    def disk_full(path, tensors):
        calls.append(path)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        real(path, tensors)

    monkeypatch.setattr(writing, "write_safetensors", disk_full)
    with pytest.raises(OutputError, match="No space left"):
        write_checkpoint(tmp_path, {name: array + 1 for name, array in old.items()}, max_shard_size=400)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_the_index_appears_last(tmp_path, monkeypatch):
    placed, real = [], os.replace
    monkeypatch.setattr("os.replace", lambda source, target: (placed.append(target.name), real(source, target)))
    write_checkpoint(tmp_path, {"w0": np.zeros(100), "w1": np.zeros(100)}, max_shard_size=800)
    assert placed[-1] == "model.safetensors.index.json"
    assert sorted(placed[:-1]) == ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "plan.json"]


@pytest.mark.parametrize(
    ("size", "expected"),
    [(1, 1), ("200MB", 200_000_000), ("5GB", 5_000_000_000), ("1KiB", 1024), ("2gib", 2 << 30), (" 10 kb ", 10_000)],
)
def test_sizes(size, expected):
    assert parse_size(size) == expected


@pytest.mark.parametrize("size", [0, -1, True, 1.5, "0GB", "-5GB", "5", "GB", "5 apples", "", None])
def test_sizes_that_are_none(tmp_path, size):
    with pytest.raises(InputError, match="max_shard_size="):
        write_checkpoint(tmp_path / "new", TENSORS, max_shard_size=size)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("shards", [False, True])
def test_written_as_pytorch_does(tmp_path, shards):
    write_checkpoint(tmp_path, {"old": np.zeros(3)})
    files = write_checkpoint(tmp_path, TENSORS, safe_serialization=False, max_shard_size=40 if shards else "5GB")
    assert files[-1].name == ("pytorch_model.bin.index.json" if shards else "pytorch_model.bin")
    assert sorted(tmp_path.iterdir()) == sorted(files)  # the safetensors file, which would be read first, is gone
    checkpoint = opened(tmp_path)
    assert checkpoint.shapes == {name: array.shape for name, array in TENSORS.items()}
    for name, array in TENSORS.items():
        assert checkpoint.read(name).dtype == array.dtype
        assert np.array_equal(checkpoint.read(name), array)
    with pytest.raises(InputError, match="'x' has type uint16"):
        write_checkpoint(tmp_path / "new", {"x": np.zeros(1, np.uint16)}, safe_serialization=False)
    assert not (tmp_path / "new").exists()


def test_unwritable_target(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot create folder"):
        write_checkpoint(tmp_path / "file" / "folder", TENSORS)


@pytest.mark.parametrize(
    ("index", "part"),
    [
        ("not json", "not readable JSON"),
        ("[]", "JSON list"),
        ("{}", "weight_map"),
        ('{"weight_map": {"a": 3}}', "weight_map"),
        ('{"weight_map": {"a": "../model.safetensors"}}', "not a plain file name"),
        ('{"weight_map": {"a": "/etc/passwd"}}', "not a plain file name"),
        ('{"weight_map": {"a": "absent.safetensors"}}', "has no absent.safetensors"),
        ('{"weight_map": {"a": "weights.bin"}}', "no .safetensors file"),
        ('{"weight_map": {"a": "one.safetensors", "z": "one.safetensors"}}', "lacks 'z'"),
        ('{"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}', "'a' occurs twice"),
    ],
)
def test_broken_indices(tmp_path, index, part):
    folder = tmp_path / "model"
    folder.mkdir()
    for name in (tmp_path / "model.safetensors", folder / "one.safetensors"):
        name.write_bytes(safetensors_bytes({"a": entry()}, bytes(8)))
    (folder / "two.safetensors").write_bytes(safetensors_bytes({"a": entry(), "b": entry(offsets=(8, 16))}, bytes(16)))
    (folder / "weights.bin").write_bytes(b"x")
    (folder / "model.safetensors.index.json").write_text(index)
    assert part in one_line_error(folder)


# ---- damaged and hostile files --------------------------------------------------------------------------------------

HOSTILE = {
    "empty file": b"",
    "half a length": b"\x10\0\0",
    "length beyond the file": (1000).to_bytes(8, "little") + b"{}",
    "huge length": b"\xff" * 8 + b"{}",
    "no JSON": safetensors_bytes(b"this is not JSON"),
    "no object": safetensors_bytes([1, 2]),
    "no UTF-8": safetensors_bytes(b'{"\xff": 1}'),
    "deep nesting": safetensors_bytes(b"[" * 100_000),
    "missing fields": safetensors_bytes({"a": {"dtype": "F32"}}),
    "unknown type": safetensors_bytes({"a": entry("X99")}, bytes(8)),
    "type for eight bits": safetensors_bytes({"a": entry("F8_E4M3", (8,))}, bytes(8)),
    "complex type": safetensors_bytes({"a": entry("C64", (1,))}, bytes(8)),
    "beyond the end": safetensors_bytes({"a": entry(offsets=(0, 8))}, bytes(4)),
    "far beyond the end": safetensors_bytes({"a": entry(shape=(1 << 40,), offsets=(0, 1 << 42))}, bytes(8)),
    "overflowing shape": safetensors_bytes({"a": entry(shape=(1 << 62, 1 << 62))}, bytes(8)),
    "negative shape": safetensors_bytes({"a": entry(shape=(-2,))}, bytes(8)),
    "backwards": safetensors_bytes({"a": entry(offsets=(8, 0))}, bytes(8)),
    "negative offsets": safetensors_bytes({"a": entry(offsets=(-8, 0))}, bytes(8)),
    "wrong size": safetensors_bytes({"a": entry(shape=(3,))}, bytes(8)),
    "overlap": safetensors_bytes({"a": entry(), "b": entry(offsets=(4, 12))}, bytes(12)),
    "gap": safetensors_bytes({"a": entry(), "b": entry(offsets=(16, 24))}, bytes(24)),
    "bytes left over": safetensors_bytes({"a": entry()}, bytes(16)),
    "a name twice": safetensors_bytes(
        b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}',
        bytes(8),
    ),
    "a pointer of git lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n",
    "a pickle": b"\x80\x02cos\nsystem\nX\x04\0\0\0true\x85R.",
    "a web page": b"<!DOCTYPE html><html><body>Not found</body></html>",
}


@pytest.mark.parametrize("name", list(HOSTILE))
def test_hostile_safetensors(tmp_path, name):
    (tmp_path / "model.safetensors").write_bytes(HOSTILE[name])
    message = one_line_error(tmp_path)
    if name == "a pointer of git lfs":
        assert "git lfs pull" in message
    if name == "type for eight bits":
        assert "float16" in message or "F8_E4M3" in message


def test_truncated_anywhere(tmp_path):
    write_checkpoint(tmp_path, TENSORS)
    content = (tmp_path / "model.safetensors").read_bytes()
    for length in range(0, len(content), 13):
        (tmp_path / "model.safetensors").write_bytes(content[:length])
        one_line_error(tmp_path)


def test_random_damage_gives_no_other_error(tmp_path):
    write_checkpoint(tmp_path, TENSORS)
    content = (tmp_path / "model.safetensors").read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    generator = np.random.default_rng(0)
    refusals = 0
    for _ in range(1000):
        damaged = bytearray(content)
        damaged[generator.integers(header)] = generator.integers(256)
        (tmp_path / "model.safetensors").write_bytes(damaged)
        try:
            checkpoint = opened(tmp_path)
            for name in checkpoint.shapes:
                checkpoint.read(name)
        except CheckpointError:
            refusals += 1
    assert refusals > 300


def test_truncated_after_opening(tmp_path):
    write_checkpoint(tmp_path, {"a": np.zeros(1000)})
    checkpoint = opened(tmp_path)
    with (tmp_path / "model.safetensors").open("r+b") as file:
        file.truncate(500)
    with pytest.raises(CheckpointError, match="truncated"):
        checkpoint.read("a")
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="cannot be read"):
        checkpoint.read("a")


# ---- names ----------------------------------------------------------------------------------------------------------


def test_both_spellings_of_names(tmp_path):
    conv = "wav2vec2.encoder.pos_conv_embed.conv"
    write_checkpoint(
        tmp_path,
        {
            f"{conv}.parametrizations.weight.original0": np.zeros((1, 1, 4)),
            f"{conv}.parametrizations.weight.original1": np.ones((2, 2, 4)),
            "wav2vec2.mask_time_emb_vector": np.zeros(3),
        },
    )
    checkpoint = opened(tmp_path)
    assert checkpoint.shapes == {
        f"{conv}.weight_v": (2, 2, 4),
        f"{conv}.weight_g": (1, 1, 4),
        "wav2vec2.masked_spec_embed": (3,),
    }
    assert np.array_equal(checkpoint.read(f"{conv}.weight_v"), np.ones((2, 2, 4)))


def test_both_spellings_in_one_file_contradict(tmp_path):
    write_checkpoint(tmp_path, {"conv.parametrizations.weight.original0": np.zeros(1), "conv.weight_g": np.zeros(1)})
    message = one_line_error(tmp_path)
    assert "'conv.weight_g' occurs twice" in message
    assert "original0" in message


# ---- adapters -------------------------------------------------------------------------------------------------------


def test_adapters(tmp_path):
    tensors = {"lm_head.weight": np.ones((3, 2), np.float32)}
    path = write_adapter(tmp_path / "mms", "uig-script_arabic", tensors)
    assert path == tmp_path / "mms" / "adapter.uig-script_arabic.safetensors"
    source = open_model(tmp_path / "mms")
    assert np.array_equal(read_adapter(source, "uig-script_arabic").read("lm_head.weight"), np.ones((3, 2)))
    write_adapter(tmp_path / "mms", "eng", tensors)
    assert source.adapter_languages() == ["eng", "uig-script_arabic"]
    with pytest.raises(InputError, match=r"no adapter for language 'enh': did you mean 'eng'\? use one of eng, uig-sc"):
        read_adapter(source, "enh")


def test_many_languages_are_cut(tmp_path):
    for number in range(50):
        (tmp_path / f"adapter.l{number:02}.bin").touch()
    with pytest.raises(InputError) as caught:
        read_adapter(open_model(tmp_path), "eng")
    assert "50 in all" in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_model_without_adapters(tmp_path):
    with pytest.raises(InputError, match="none at all"):
        read_adapter(open_model(tmp_path), "eng")


@pytest.mark.parametrize(
    "language", ["../x", "..", ".", "", "a/b", "a\\b", "/etc", "c:", "a\0b", "eng\n", "x" * 300, None, 3]
)
def test_languages_that_are_no_names(tmp_path, language):
    class Untouchable:
        def __getattr__(self, name):
            raise AssertionError("the source was asked")

    with pytest.raises(InputError) as caught:
        read_adapter(Untouchable(), language)
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError):
        write_adapter(tmp_path / "new", language, {})
    assert not (tmp_path / "new").exists()


def test_a_damaged_adapter(tmp_path):
    (tmp_path / "adapter.eng.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match="is empty"):
        read_adapter(open_model(tmp_path), "eng")


# ---- memory ---------------------------------------------------------------------------------------------------------

MEASURE = """
import json, sys
import numpy as np
from wav2vec2_core.checkpoint import open_checkpoint, open_model

def kibibytes(field):
    for line in open("/proc/self/status"):
        if line.startswith(field + ":"):
            return int(line.split()[1])

checkpoint = open_checkpoint(open_model(sys.argv[1]))
np.ones(10).sum()
open("/proc/self/clear_refs", "w").write("5")  # start the high-water mark anew
before = kibibytes("VmHWM")
arrays = {name: checkpoint.read(name) for name in checkpoint.shapes}
print(json.dumps([before, kibibytes("VmHWM"), kibibytes("RssAnon"), sum(a.nbytes for a in arrays.values()) // 1024]))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="measures through /proc")
@pytest.mark.parametrize("layout", ["safetensors", "zip"])
def test_reading_needs_no_second_copy(tmp_path, layout):
    tensors = {f"w{number}": np.full((1024, 4096), number, np.float32) for number in range(6)}  # 16 MiB each
    if layout == "safetensors":
        write_checkpoint(tmp_path, tensors)
    else:
        write_zip(tmp_path / "pytorch_model.bin", *described(tensors))
    done = subprocess.run([sys.executable, "-c", MEASURE, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    before, peak, anonymous, arrays = json.loads(done.stdout)
    assert arrays == 6 * 16 * 1024
    assert anonymous > arrays  # the measure sees the arrays ...
    assert peak - before < arrays + 8 * 1024  # ... and half a tensor more would be too much


@pytest.mark.parametrize(
    "wrapped", ["module.{}", "_orig_mod.{}", "module._orig_mod.{}", "_orig_mod.module.{}", "_fsdp_wrapped_module.{}"]
)
def test_names_of_wrapped_modules(tmp_path, wrapped):
    names = ["conv._orig_mod.weight", "lm_head.bias", "module_of_mine.weight"]
    write_checkpoint(tmp_path, {wrapped.format(name): np.full(2, i, np.float32) for i, name in enumerate(names)})
    checkpoint = opened(tmp_path)
    assert {*checkpoint.shapes} == {"conv.weight", "lm_head.bias", "module_of_mine.weight"}
    assert checkpoint.read("lm_head.bias").tolist() == [1, 1]


def test_more_axes_than_arrays_have(tmp_path):
    header = json.dumps({"w": {"dtype": "F32", "shape": [1] * 70, "data_offsets": [0, 4]}}).encode()
    header += b" " * (-len(header) % 8)
    (tmp_path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    with pytest.raises(CheckpointError, match="'w' with 70 axes, 32 are possible"):
        opened(tmp_path)
