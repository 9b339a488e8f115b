"""Writes weight files as torch.save does, without PyTorch; the pickle inside may be anything."""

import collections
import io
import pickle
import struct
import zipfile

LEGACY = (0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": True, "type_sizes": {}})
STORAGES = {"float32": "Float", "float64": "Double", "float16": "Half", "int64": "Long", "uint8": "Byte"}


class Named:
    """Pickles as a reference to ``module.name``, called with ``arguments`` when they are given."""

    def __init__(self, name, *arguments):
        self.name, self.arguments = name, arguments


class Instance:
    """Pickles as an object of a class that need not be importable: made from ``arguments``, given ``state``."""

    def __init__(self, kind, state=None, arguments=()):
        self.kind, self.state, self.arguments = kind, state, arguments


class StateDictPickler(pickle._Pickler):
    """Writes what torch.save writes, from instructions: names that need not be importable, storages by key."""

    def persistent_id(self, value):
        return value.arguments if isinstance(value, Named) and value.name == "persistent" else None

    def save(self, value, save_persistent_id=True):
        if isinstance(value, Instance):
            self.save(Named(value.kind))
            super().save(value.arguments)
            self.write(b"R" if value.arguments else b"\x81")
            if value.state is not None:
                self.save(value.state)
                self.write(b"b")
            return None
        if isinstance(value, Named) and value.name != "persistent":
            self.write(
                b"c" + value.name.rsplit(".", 1)[0].encode() + b"\n" + value.name.rsplit(".", 1)[1].encode() + b"\n"
            )
            if value.arguments:
                super().save(value.arguments[0])
                self.write(b"R")
            return None
        return super().save(value, save_persistent_id)


def pickled(value, protocol=2):
    stream = io.BytesIO()
    StateDictPickler(stream, protocol).dump(value)
    return stream.getvalue()


def storage(key, count, kind="Float"):
    return Named("persistent", "storage", Named(f"torch.{kind}Storage"), key, "cpu", count)


def tensor(store, offset, shape, strides):
    return Named("torch._utils._rebuild_tensor_v2", (store, offset, shape, strides, False, collections.OrderedDict()))


def described(arrays):
    """A state dict of instructions, and the numbers of its storages."""
    values, numbers = {}, {}
    for key, (name, array) in enumerate(arrays.items()):
        strides = tuple(stride // array.itemsize for stride in array.strides)
        values[name] = tensor(storage(str(key), array.size, STORAGES[array.dtype.name]), 0, array.shape, strides)
        numbers[str(key)] = array.tobytes()
    return values, numbers


def write_zip(path, value, numbers=None, protocol=2, extra=None, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", value if isinstance(value, bytes) else pickled(value, protocol))
        for key, content in (numbers or {}).items():
            archive.writestr(f"archive/data/{key}", content)
        for name, content in (extra or {}).items():
            archive.writestr(name, content)


def write_legacy(path, value, numbers=None, sizes=None):
    numbers = numbers or {}
    with path.open("wb") as file:
        for part in LEGACY:
            file.write(pickle.dumps(part, 2))
        file.write(value if isinstance(value, bytes) else pickled(value))
        file.write(pickle.dumps(list(numbers), 2))
        for key, content in numbers.items():
            count = (sizes or {}).get(key)
            file.write(struct.pack("<q", len(content) // 4 if count is None else count) + content)
