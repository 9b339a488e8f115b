"""pytorch_model.bin: every layout that torch.save wrote, without PyTorch; and pickles that try to run something."""

import collections
import os
import pickle
import struct
import zipfile

import numpy as np
import pytest
from torch_writers import LEGACY, Named, described, pickled, storage, tensor, write_legacy, write_zip

from wav2vec2_core.errors import CheckpointError
from wav2vec2_core.weight_files.torch_pickle import TorchFile

ARRAYS = {
    "float": np.arange(6, dtype=np.float32).reshape(2, 3),
    "double": np.array([1.5, -2.5]),
    "half": np.array([[0.5]], np.float16),
    "long": np.array(7),
    "byte": np.arange(3, dtype=np.uint8),
    "empty": np.zeros((0, 4), np.float32),
}


def refused(path):
    with pytest.raises(CheckpointError) as caught:
        TorchFile(path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(str(path))
    assert len(message) < 500
    return message


@pytest.fixture
def path(tmp_path):
    return tmp_path / "pytorch_model.bin"


@pytest.mark.parametrize("layout", ["zip", "zip protocol 4", "legacy"])
def test_every_layout(path, layout):
    values, numbers = described(ARRAYS)
    if layout == "legacy":
        write_legacy(path, values, numbers, {str(key): array.size for key, array in enumerate(ARRAYS.values())})
    else:
        write_zip(path, values, numbers, protocol=4 if "4" in layout else 2, extra={"archive/byteorder": "little"})
    file = TorchFile(path)
    assert file.shapes == {name: array.shape for name, array in ARRAYS.items()}
    assert file.dtypes == {name: array.dtype.name for name, array in ARRAYS.items()}
    for name, array in ARRAYS.items():
        found = file.read(name)
        assert found.dtype == array.dtype
        assert np.array_equal(found, array)
        assert found.flags.c_contiguous
        assert found.flags.writeable


def test_views_share_a_storage(path):
    flat = np.arange(24, dtype=np.float32)
    shared = storage("0", 24)
    values = {
        "whole": tensor(shared, 0, (24,), (1,)),
        "tied": tensor(shared, 0, (24,), (1,)),
        "turned": tensor(shared, 0, (6, 4), (1, 6)),
        "offset": tensor(shared, 5, (3, 2), (7, 3)),
        "scalar": tensor(shared, 23, (), ()),
        "one": tensor(shared, 4, (1, 2), (99, 1)),
        "parameter": Named("torch._utils._rebuild_parameter", (tensor(shared, 1, (2,), (1,)), True, {})),
    }
    write_zip(path, values, {"0": flat.tobytes()})
    file = TorchFile(path)
    expected = {
        "whole": flat,
        "tied": flat,
        "turned": flat.reshape(4, 6).T,
        "offset": np.array([[5, 8], [12, 15], [19, 22]], np.float32),
        "scalar": np.float32(23),
        "one": flat[None, 4:6],
        "parameter": flat[1:3],
    }
    for name, array in expected.items():
        assert np.array_equal(file.read(name), array), name
        assert file.read(name).flags.c_contiguous
    file.read("tied")[:] = 0
    assert np.array_equal(file.read("whole"), flat)  # every read is a fresh array


def test_ordered_dict_with_metadata(path):
    values, numbers = described({"a": np.ones(2, np.float32)})
    state = collections.OrderedDict(values)
    state._metadata = collections.OrderedDict([("", {"version": 1})])
    write_zip(path, state, numbers)
    assert TorchFile(path).shapes == {"a": (2,)}


# ---- hostile pickles ------------------------------------------------------------------------------------------------


class Call:
    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


def hostile_pickles(canary):
    command = f"touch {canary}"
    text = command.encode()
    short = b"X" + struct.pack("<I", len(text)) + text
    return {
        "os.system": pickle.dumps(Call(os.system, command), 2),
        "os.system protocol 0": pickle.dumps(Call(os.system, command), 0),
        "os.system protocol 4": pickle.dumps(Call(os.system, command), 4),
        "eval": pickle.dumps(Call(eval, f"open({str(canary)!r}, 'w')"), 2),
        "exec": pickle.dumps({"weight": Call(exec, f"open({str(canary)!r}, 'w')")}, 2),
        "open": pickle.dumps(Call(open, str(canary), "w"), 2),
        "nested": pickle.dumps({"a": [({"b": Call(os.system, command)},)]}, 2),
        "getattr": pickle.dumps(Call(getattr, "", "join"), 2),
        "INST": b"(S'" + text + b"'\nios\nsystem\n.",
        "OBJ": b"(cos\nsystem\n" + short + b"o.",
        "STACK_GLOBAL": b"\x80\x04\x8c\x02os\x8c\x06system\x93" + short + b"\x85R.",
        "memoised global": b"\x80\x02cos\nsystem\nq\x00h\x00" + short + b"\x85R.",
        "NEWOBJ": b"\x80\x02csubprocess\nPopen\n" + short + b"\x85\x81.",
        "NEWOBJ_EX": b"\x80\x04\x8c\x0asubprocess\x8c\x05Popen\x93" + short + b"\x85}\x92.",
        "BUILD": b"\x80\x02ccollections\nOrderedDict\n)R}X\x0c\x00\x00\x00__setstate__cos\nsystem\nsb" + b".",
        "EXT1": b"\x80\x02\x82\x01.",
        "EXT4": b"\x80\x02\x84\x01\x00\x00\x00.",
        "PERSID": b"P0\n.",
        "dotted name": b"\x80\x04\x8c\x0bcollections\x8c\x1cOrderedDict.fromkeys.__call__\x93)R.",
        "numpy": pickle.dumps({"a": np.zeros(2)}, 2),
        "load_from_bytes": b"\x80\x02ctorch.storage\n_load_from_bytes\nC\x01.\x85R.",
        "calls a tensor": b"\x80\x02ccollections\nOrderedDict\n)R)R.",
        "name made of parts": b"\x80\x04}\x8c\x06system\x93.",
        "tuple as a key": b"\x80\x02}))\x86K\x01s.",
        "no memo entry": b"\x80\x02h\x07.",
        "bottom of the stack": b"\x80\x020.",
        "mark on top": b"\x80\x02(.",
        "items without dict": b"\x80\x02](K\x01K\x02u.",
        "odd items": b"\x80\x02}(K\x01u.",
        "append to a dict": b"\x80\x02}K\x01a.",
        "no end": b"\x80\x02}",
        "unknown instruction": b"\x80\x02\xff.",
        "text longer than the file": b"\x80\x02X\xff\xff\xff\x7fabc.",
        "bytes longer than memory": b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7fabc.",
        "memo bomb": b"\x80\x02}r\xff\xff\xff\x7f.",
        "huge integer": b"\x80\x02\x8b\xff\xff\xff\x7f\x00.",
        "module": pickled(Named("persistent", "module", 1, 2)),
    }


@pytest.mark.parametrize("layout", ["zip", "legacy", "raw"])
@pytest.mark.parametrize("name", list(hostile_pickles("")))
def test_nothing_in_a_pickle_is_run(path, tmp_path, name, layout):
    canary = tmp_path / "canary"
    content = hostile_pickles(canary)[name]
    if layout == "zip":
        write_zip(path, content)
    elif layout == "legacy":
        write_legacy(path, content)
    else:
        path.write_bytes(content)
    before = set(tmp_path.iterdir())
    refused(path)
    assert set(tmp_path.iterdir()) == before
    assert not canary.exists()


def test_the_canary_would_sing(tmp_path):
    pickle.loads(hostile_pickles(tmp_path / "canary")["os.system"])
    assert (tmp_path / "canary").exists()


def test_the_refused_name_and_the_remedy_are_in_the_message(path):
    write_zip(path, pickle.dumps({"w": Call(os.system, "true")}, 2))
    message = refused(path)
    assert f"{os.system.__module__}.system" in message
    assert "safetensors" in message
    write_zip(path, pickle.dumps({"w": np.zeros(1)}, 2))
    assert "_reconstruct" in refused(path)


def test_sharing_many_times_costs_nothing(path):
    levels = range(1, 60)  # each tuple holds the one before twice: 2**60 entries for whoever walks through them
    bomb = b"\x80\x02)q\x00" + b"".join(b"h%ch%c\x86q%c" % (level - 1, level - 1, level) for level in levels) + b"."
    write_zip(path, bomb)
    refused(path)
    write_zip(path, bomb[:-1] + b"}h%cK\x01s." % 59)  # and as the key of a dict
    assert "as its key" in refused(path)


@pytest.mark.parametrize(
    "value",
    [
        tensor(storage("0", 4), 0, (5,), (1,)),
        tensor(storage("0", 4), 2, (3,), (1,)),
        tensor(storage("0", 4), -1, (2,), (1,)),
        tensor(storage("0", 4), 0, (2,), (-1,)),
        tensor(storage("0", 4), 0, (-2,), (1,)),
        tensor(storage("0", 4), 0, (2, 2), (1,)),
        tensor(storage("0", 4), 0, (1 << 40,), (0,)),
        tensor(storage("0", 4), 0, (10**5000,), (0,)),
        tensor(storage("0", 4), 0, (2.0,), (1,)),
        tensor(storage("0", 4), 0, (1,) * 40, (1,) * 40),
        tensor(storage("0", 4, "QInt8"), 0, (2,), (1,)),
        tensor(storage("0", -4), 0, (0,), (1,)),
        tensor("not a storage", 0, (2,), (1,)),
        Named("torch._utils._rebuild_tensor_v2", ()),
        Named("torch._utils._rebuild_parameter", (1,)),
        Named("torch.Size", ((1, -2),)),
        storage("0", 4),
        "text",
        3,
    ],
)
def test_impossible_tensors(path, value):
    write_zip(path, {"w": value}, {"0": bytes(16)})
    refused(path)


def test_storages_described_in_two_ways(path):
    values = {"a": tensor(storage("0", 100), 0, (100,), (1,)), "b": tensor(storage("0", 4), 0, (4,), (1,))}
    write_zip(path, values, {"0": bytes(16)})
    assert "two ways" in refused(path)


@pytest.mark.parametrize("value", [{}, [1], 3, "text", {3: 4}, {"a": {"b": 1}}])
def test_files_that_hold_no_plain_state_dict(path, value):
    write_zip(path, value)
    assert "tensor" in refused(path)


# ---- damaged files --------------------------------------------------------------------------------------------------


def test_zip_files_that_torch_never_wrote(path):
    values, numbers = described(ARRAYS)
    write_zip(path, values, numbers, compression=zipfile.ZIP_DEFLATED)
    assert "compressed" in refused(path)
    write_zip(path, values, numbers, extra={"archive/byteorder": "big"})
    assert "big-endian" in refused(path)
    write_zip(path, values, {})
    assert "lacks numbers" in refused(path)
    write_zip(path, values, {**numbers, "0": b"1234"})
    assert "lacks numbers" in refused(path)
    write_zip(path, values, numbers, extra={"other/data.pkl": b""})
    assert "not one of torch.save" in refused(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "no weights")
    assert "not one of torch.save" in refused(path)


def test_keys_do_not_leave_the_zip_file(path, tmp_path):
    (tmp_path / "secret").write_bytes(bytes(16))
    write_zip(path, {"w": tensor(storage("../../secret", 4), 0, (4,), (1,))}, {"0": bytes(16)})
    assert "lacks numbers" in refused(path)


def test_legacy_files_with_wrong_storages(path):
    values, numbers = described({"a": np.ones(4, np.float32)})
    write_legacy(path, values, {})
    assert "lacks storages" in refused(path)
    write_legacy(path, values, numbers, {"0": 3})
    assert "truncated" in refused(path)
    write_legacy(path, values, numbers, {"0": 5})
    assert "truncated" in refused(path)
    write_legacy(path, values, {**numbers, "1": bytes(4)})
    assert "no tensor uses" in refused(path)
    path.write_bytes(pickle.dumps({"a": 1}, 2))
    assert "not one of torch.save" in refused(path)
    path.write_bytes(b"".join(pickle.dumps(part, 2) for part in (*LEGACY[:2], {"little_endian": False})))
    assert "big-endian" in refused(path)


@pytest.mark.parametrize("layout", ["zip", "legacy"])
def test_truncated_anywhere(path, layout):
    values, numbers = described({"a": np.ones(4, np.float32), "b": np.ones(3, np.float32)})
    (write_zip if layout == "zip" else write_legacy)(path, values, numbers)
    content = path.read_bytes()
    for length in range(1, len(content), 7):
        path.write_bytes(content[:length])
        refused(path)


@pytest.mark.filterwarnings(
    "ignore:invalid escape sequence:DeprecationWarning"
)  # Python's own decoder, on damaged text
@pytest.mark.parametrize("layout", ["zip", "legacy"])
def test_random_damage_gives_no_other_error(path, layout):
    values, numbers = described({"a": np.ones(4, np.float32), "b": np.ones(3, np.float32)})
    (write_zip if layout == "zip" else write_legacy)(path, values, numbers)
    content = path.read_bytes()
    generator = np.random.default_rng(0)
    messages = []
    for _ in range(1500):
        damaged = bytearray(content)
        for position in generator.integers(0, len(content), generator.integers(1, 4)):
            damaged[position] = generator.integers(256)
        path.write_bytes(damaged)
        try:
            file = TorchFile(path)
            for name in file.shapes:
                file.read(name)
        except CheckpointError as error:
            messages.append(str(error))
    assert len(messages) > 300
    assert not any("\n" in message for message in messages)


def test_shrunk_after_opening(path):
    values, numbers = described({"a": np.ones(400, np.float32)})
    write_legacy(path, values, numbers)
    file = TorchFile(path)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(CheckpointError, match="truncated"):
        file.read("a")


def test_numbers_that_python_does_not_print(tmp_path):
    """A key, a memo entry and a size of 160,000 bits."""
    long = b"\x8b" + struct.pack("<i", 20_000) + b"\x7f" * 20_000
    for number, body in enumerate((b"}" + long + b"Ns.", b"}(" + long + b"K\x01u.", long + b".")):
        path = tmp_path / f"{number}.bin"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", b"\x80\x02" + body)
            archive.writestr("archive/version", "3\n")
        assert len(refused(path)) < 400
