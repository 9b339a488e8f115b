"""Damaged and hostile ``tf_model.h5`` files; these tests need h5py, which comes with TensorFlow."""

import h5py
import numpy as np
import pytest
from tf_models import tiny

from wav2vec2_core.checkpoint import open_checkpoint, open_model
from wav2vec2_core.errors import CheckpointError
from wav2vec2_tf.weights import export_weights


@pytest.fixture
def folder(tmp_path):
    tiny("ForXVector", use_weighted_layer_sum=True).save_pretrained(tmp_path, safe_serialization=False)
    return tmp_path


def opened(folder):
    return open_checkpoint(open_model(folder))


def test_names_shapes_and_values(folder):
    expected = export_weights(tiny("ForXVector", use_weighted_layer_sum=True))
    checkpoint = opened(folder)
    assert checkpoint.shapes == {name: array.shape for name, array in expected.items()} or set(
        checkpoint.shapes.items()
    ) == {(name, array.shape) for name, array in expected.items()}
    for name, array in expected.items():
        read = checkpoint.read(name)
        assert np.array_equal(read, array), name
        assert read.flags.c_contiguous
        assert read.flags.writeable


@pytest.mark.parametrize("kept", [1, 100, 2000, -1])
def test_truncated_files(folder, kept):
    path = folder / "tf_model.h5"
    path.write_bytes(path.read_bytes()[: kept if kept > 0 else path.stat().st_size // 2])
    with pytest.raises(
        CheckpointError, match=r"tf_model.h5 is not readable as HDF5 \(.*\): download or copy"
    ) as caught:
        opened(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("link", ["external", "soft", "storage", "virtual", "endless"])
def test_files_that_point_elsewhere(folder, link, tmp_path_factory):
    secret = tmp_path_factory.mktemp("secret") / "secret.h5"
    with h5py.File(secret, "w") as file:
        file["values"] = np.arange(8.0)
    with h5py.File(folder / "tf_model.h5", "a") as file:
        if link == "external":
            file["more"] = h5py.ExternalLink(str(secret), "values")
        elif link == "soft":
            file["more"] = h5py.SoftLink("/lm_head")
        elif link == "storage":
            file.create_dataset("more", (8,), "f4", external=[(str(secret), 0, 32)])
        elif link == "virtual":
            layout = h5py.VirtualLayout((8,), "f8")
            layout[:] = h5py.VirtualSource(str(secret), "values", (8,))
            file.create_virtual_dataset("more", layout)
        else:
            file["wav2vec2/again"] = file["wav2vec2"]
    with pytest.raises(CheckpointError, match=r"refused, use a plain file|groups 21 deep") as caught:
        opened(folder)
    assert "\n" not in str(caught.value)


def test_unusual_types(folder):
    with h5py.File(folder / "tf_model.h5", "a") as file:
        file["lm_head/note"] = "text"
    with pytest.raises(CheckpointError, match=r"stores 'lm_head.note' as object, which this library does not read"):
        opened(folder)
