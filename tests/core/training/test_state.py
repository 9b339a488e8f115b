"""The state of a run: named arrays, whole or not at all."""

import ml_dtypes
import numpy as np
import pytest

from wav2vec2_core.errors import CheckpointError, InputError, OutputError, ParameterMismatchError
from wav2vec2_core.training import state
from wav2vec2_core.training.state import OPTIMIZER, PARAMETERS, read_state, write_state

PARAMS = {
    "a.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "b": np.array([1, 2], ml_dtypes.bfloat16),
    "empty": np.zeros((0, 2), np.float32),
}
KNOWN = {"[0].count": np.array(3, np.int32), "a.weight/step": np.array(2.0, np.float32)}


def test_arrays_come_back_bit_by_bit_and_as_they_were_when_writing_began(tmp_path):
    params = {name: array.copy() for name, array in PARAMS.items()}
    wait = write_state(tmp_path / "state", params, KNOWN)
    params["a.weight"][:] = -1
    wait()
    for expected, found in zip((PARAMS, KNOWN), read_state(tmp_path / "state", PARAMS, KNOWN), strict=True):
        assert expected.keys() == found.keys()
        for name, array in expected.items():
            assert found[name].dtype == array.dtype
            assert found[name].shape == array.shape
            assert found[name].tobytes() == array.tobytes()


def test_a_write_that_fails_leaves_the_earlier_state(tmp_path, monkeypatch):
    folder = tmp_path / "state"
    write_state(folder, PARAMS, KNOWN)()

    def full(path, tensors):
        path.write_bytes(b"half")
        if path.name == OPTIMIZER:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(state, "write_safetensors", full)
    with pytest.raises(OutputError, match="No space left on device"):
        write_state(folder, PARAMS, {})()
    assert read_state(folder, PARAMS, KNOWN)[1]["[0].count"] == 3
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


def test_states_that_do_not_fit(tmp_path):
    folder = tmp_path / "state"
    write_state(folder, PARAMS, KNOWN)()
    with pytest.raises(ParameterMismatchError, match=r"it lacks c and has besides b;"):
        read_state(folder, {"a.weight": PARAMS["a.weight"], "c": PARAMS["b"], "empty": PARAMS["empty"]}, None)
    with pytest.raises(ParameterMismatchError, match=r"has 'b' as \(\(2,\), 'bfloat16'\), this run "):
        read_state(folder, {**PARAMS, "b": np.zeros(2, np.float32)}, None)
    with pytest.raises(ParameterMismatchError, match=r"optimizer\.safetensors is of another run: it lacks d"):
        read_state(folder, PARAMS, {**KNOWN, "d": np.zeros(1)})
    with pytest.raises(InputError, match="type complex64"):
        write_state(folder, {"a": np.zeros(1, np.complex64)}, {})


def test_damaged_states(tmp_path):
    folder = tmp_path / "state"
    write_state(folder, PARAMS, KNOWN)()
    whole = (folder / PARAMETERS).read_bytes()
    (folder / PARAMETERS).write_bytes(whole[:-3])
    with pytest.raises(CheckpointError):
        read_state(folder, PARAMS, KNOWN)
    with pytest.raises(CheckpointError, match="is not readable JSON"):
        read_state(tmp_path, PARAMS, KNOWN)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("")
    with pytest.raises(OutputError, match=r"is no earlier result with a training_state\.json"):
        write_state(tmp_path / "mine", PARAMS, KNOWN)()
