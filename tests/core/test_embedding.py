"""Hidden states of any length, in memory and in files."""

from types import SimpleNamespace

import numpy as np
import pytest
import safetensors.numpy
from numpy_model import NumpyModel
from numpy_transcriber import RATE, recording, save_processor, write

from wav2vec2_core.embedding import Embedder, write_embeddings
from wav2vec2_core.errors import AudioError, InputError, OutputError
from wav2vec2_core.long_form.windows import Window


@pytest.fixture
def embedder(tmp_path, monkeypatch):
    """An ``Embedder`` of a model in numpy with the width of its hidden states."""

    def make(**options):
        model = NumpyModel(dim=16)
        backend = SimpleNamespace(inference=SimpleNamespace(load_model=lambda source, **given: model))
        monkeypatch.setattr("wav2vec2_core.pipeline.load_backend", lambda name: backend)
        return Embedder(save_processor(tmp_path / "model"), **options)

    return make


@pytest.mark.parametrize("seconds", [0.05, 4, 50])
@pytest.mark.parametrize("kind", ["npz", "safetensors"])
def test_files_hold_the_numbers_of_one_pass(embedder, tmp_path, seconds, kind):
    path = write(tmp_path / "a.wav", recording(seconds))
    expected = embedder(layers=[0, -1], window=Window(100, 0)).embed(path)
    made = embedder(layers=[-1, 0, 2], window=Window(8, 1))
    target = tmp_path / f"a.{kind}"
    done = []
    made.write(path, target, done.append)
    if kind == "npz":
        with np.load(target) as archive:
            arrays = dict(archive)
        assert (arrays.pop("hop"), arrays.pop("sampling_rate")) == (20, RATE)
    else:
        arrays = safetensors.numpy.load_file(target)
        with safetensors.safe_open(target, "numpy") as file:
            assert file.metadata() == {"hop": "20", "sampling_rate": "1000"}
    assert sorted(arrays) == ["layer_0", "layer_2"]
    frames = made.model.config.num_frames(round(seconds * RATE))
    for array, other in zip((arrays["layer_0"], arrays["layer_2"]), expected, strict=True):
        assert array.shape == (frames, 16)
        np.testing.assert_allclose(array, other, atol=1e-5)
    assert sum(done) == pytest.approx(frames * 20 / RATE)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == sorted(["a.wav", target.name, "model"])


def test_what_cannot_be(embedder, tmp_path):
    path = write(tmp_path / "a.wav", recording(1))
    for layers in ([3], [-4], [0, 7]):
        with pytest.raises(InputError, match="does not exist: use 0 to 2, or -1 to -3"):
            embedder(layers=layers)
    with pytest.raises(InputError, match="no layer is named"):
        embedder(layers=[])
    with pytest.raises(InputError, match="legacy windows are for transcripts"):
        embedder(window=Window(legacy=True))
    with pytest.raises(InputError, match=r"ends in neither .npz nor .safetensors"):
        embedder().write(path, tmp_path / "a.txt")
    with pytest.raises(AudioError, match="the model needs at least 25"):
        embedder().embed(write(tmp_path / "b.wav", recording(0.02)))
    with pytest.raises(OutputError, match="cannot write"):
        embedder().write(path, tmp_path / "missing" / "a.npz")


def test_a_result_that_fails_leaves_nothing(tmp_path):
    def blocks():
        yield np.zeros((1, 3, 4), np.float32)
        raise AudioError("damaged")

    for kind in ("npz", "safetensors"):
        with pytest.raises(AudioError):
            write_embeddings(tmp_path / f"a.{kind}", ["x"], (5, 4), blocks(), {})
    assert list(tmp_path.iterdir()) == []
