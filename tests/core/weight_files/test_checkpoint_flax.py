"""flax_model.msgpack without flax: what the writer writes, the reader reads; damaged files are refused."""

import struct

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wav2vec2_core.checkpoint import open_checkpoint, open_model, write_flax_checkpoint
from wav2vec2_core.errors import CheckpointError
from wav2vec2_core.weight_files.flax_msgpack import FlaxFile

GENERATOR = np.random.default_rng(0)
TREE = {
    "lm_head": {"kernel": GENERATOR.standard_normal((3, 5)).astype(np.float32), "bias": np.arange(5, dtype=np.float16)},
    "wav2vec2": {
        "conv": {"kernel": GENERATOR.standard_normal((4, 2, 3)).astype(np.float32)},
        "norm": {"scale": np.ones(300, np.float32)},
        "masked_spec_embed": np.arange(7).astype(ml_dtypes.bfloat16),
        "scalar": np.array(2.5, np.float32),
        **{f"a rather long name of a parameter, number {number}": np.zeros(1, np.float32) for number in range(20)},
    },
}


def test_names_and_layouts(tmp_path):
    write_flax_checkpoint(tmp_path, TREE)
    checkpoint = open_checkpoint(open_model(tmp_path))
    assert checkpoint.shapes["lm_head.weight"] == (5, 3)
    assert checkpoint.shapes["wav2vec2.conv.weight"] == (3, 2, 4)
    assert checkpoint.dtypes["wav2vec2.masked_spec_embed"] == "bfloat16"
    for name, expected in {
        "lm_head.weight": TREE["lm_head"]["kernel"].T,
        "lm_head.bias": TREE["lm_head"]["bias"],
        "wav2vec2.conv.weight": TREE["wav2vec2"]["conv"]["kernel"].T,
        "wav2vec2.norm.weight": TREE["wav2vec2"]["norm"]["scale"],
        "wav2vec2.masked_spec_embed": TREE["wav2vec2"]["masked_spec_embed"],
        "wav2vec2.scalar": TREE["wav2vec2"]["scalar"],
    }.items():
        found = checkpoint.read(name)
        assert found.dtype == expected.dtype
        assert np.array_equal(found, expected)
        assert found.flags.c_contiguous
        assert found.flags.writeable
    assert len(checkpoint.shapes) == 26


def test_safetensors_of_an_earlier_save_are_removed(tmp_path):
    (tmp_path / "model.safetensors").touch()
    write_flax_checkpoint(tmp_path, TREE)
    assert [path.name for path in tmp_path.iterdir()] == ["flax_model.msgpack"]


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_damaged_files_are_refused_or_read(tmp_path_factory, data):
    """Whatever a byte becomes and wherever the file ends: a CheckpointError or arrays, nothing else and no hang."""
    folder = tmp_path_factory.mktemp("flax")
    path = write_flax_checkpoint(folder, {"a": {"kernel": np.ones((2, 3), np.float32)}, "b": np.ones(2, np.float32)})
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(1, len(content)))])
    try:
        file = FlaxFile(path)
    except CheckpointError:
        return
    assert all(file.read(name).shape == shape for name, shape in file.shapes.items())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x81\xa1a\x01", "starts no map and no array"),
        (b"\x93\x01\x02\x03", "starts no map"),
        (b"\x81\xa1a\xd4\x02\x00", "an extension is not an array"),
        (b"\x81\xa1a" * 40, "nested too deeply"),
        (b"\xdf" + struct.pack(">I", 2**32 - 1), "it ends early"),
        (b"\x81\xa1\xff\x80", "a name is not UTF-8"),
        (b"\x81\xa1a\xc7\x0b\x01\x93\x91\x01\xa6object\xc4\x00", "type 'object' are not known"),
    ],
)
def test_what_is_none(content, message, tmp_path):
    path = tmp_path / "flax_model.msgpack"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        FlaxFile(path)


def test_a_name_twice(tmp_path):
    path = write_flax_checkpoint(tmp_path, {"a": {"kernel": np.ones(2, np.float32), "scale": np.ones(2, np.float32)}})
    with pytest.raises(CheckpointError, match=r"holds 'a.weight' twice"):
        FlaxFile(path)
