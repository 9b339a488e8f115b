"""Several processes: together they make the updates that one makes, whether each has all parameters or a part."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch_processes as script
from safetensors.numpy import load_file
from torch_models import model_class

from wav2vec2_core.errors import BackendError
from wav2vec2_torch import distributed
from wav2vec2_torch.weights import export_weights

pytestmark = pytest.mark.slow
LIMIT = 1e-5  # relative to the largest value of each array


def launch(count, arguments):
    """Run the script in so many processes; the text that each wrote."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    common = {**os.environ, "WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    common |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(Path(script.__file__).parent), *sys.path])}
    started = [
        subprocess.Popen(
            [sys.executable, script.__file__, *arguments],
            env={**common, "RANK": str(index), "LOCAL_RANK": str(index)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(count)
    ]
    texts = [process.communicate(timeout=240)[1] for process in started]
    assert [process.returncode for process in started] == [0] * count, "\n".join(texts)


def close(found, expected):
    scale = np.abs(expected).max()
    return np.abs(found - expected).max() <= LIMIT * scale


@pytest.mark.parametrize("sharding", ["none", "fsdp"])
def test_two_processes_equal_one(sharding, tmp_path):
    alone = script.make("none")
    found = script.steps(alone, range(3))
    alone.save_state(tmp_path / "from-one")()
    at_save = script.weights(alone)
    evaluation = alone.evaluate(script.cases.batch())["loss"]
    logits = alone.logits({"input_values": script.cases.batch()["input_values"]})
    found += script.steps(alone, [3])
    expected = script.weights(alone)
    launch(2, [sharding, str(tmp_path)])

    results = [load_file(tmp_path / f"result-{index}.safetensors") for index in range(2)]
    for index, result in enumerate(results):
        assert close(result["losses"], np.array([one["loss"] for one in found]))
        assert close(result["norms"], np.array([one["gradient_norm"] for one in found]))
        assert result["counts"].tolist() == [one["count"] for one in found]
        assert close(result["evaluation"], np.array(evaluation))
        assert close(result["logits"], np.stack(logits[index::2]))
        for name, array in expected.items():
            assert close(result[name], array), name
            assert np.array_equal(result[name], results[0][name]), f"{name} differs between processes"

    loaded = export_weights(model_class("ForCTC").from_pretrained(tmp_path / "model"))
    assert all(np.array_equal(loaded[name], results[0][name]) for name in expected)

    resumed = load_file(tmp_path / "resumed-1.safetensors")  # two processes go on with the state of one
    assert all(np.array_equal(resumed[name], at_save[name]) for name in expected)
    assert close(resumed["losses"], np.array([found[3]["loss"]]))
    assert all(close(resumed[f"after/{name}"], array) for name, array in expected.items())

    expected_of_pretraining = script.pretrain("none")
    for index in range(2):
        pretrained = load_file(tmp_path / f"pretrained-{index}.safetensors")
        assert pretrained.keys() == expected_of_pretraining.keys()
        for name, array in expected_of_pretraining.items():
            assert close(pretrained[name], array), name

    other = script.make("none", seed=3)  # and one with the state of two
    other.load_state(tmp_path / "state")
    assert close(np.array(script.steps(other, [3])[0]["loss"]), np.array(found[3]["loss"]))
    assert all(close(array, expected[name]) for name, array in script.weights(other).items())


def test_processes_that_cannot_be_joined(monkeypatch):
    for name in ("MASTER_ADDR", "MASTER_PORT", "RANK"):
        monkeypatch.delenv(name, raising=False)
    assert distributed.join_processes() == (0, 1)
    for count in ("2", "many"):
        monkeypatch.setenv("WORLD_SIZE", count)
        with pytest.raises(
            BackendError, match=r"the other processes cannot be reached \(.*start all of them with torchrun"
        ):
            distributed.join_processes()
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(BackendError, match="this is process 2 of this machine, which has 2 GPUs"):
        distributed.join_processes()


@pytest.mark.parametrize("sharding", ["none", pytest.param("fsdp", marks=pytest.mark.rare)])
def test_a_process_that_is_left_alone_says_so(sharding, tmp_path):
    launch(2, [sharding, str(tmp_path), "dies"])
    assert "another process of this run has ended" in (tmp_path / f"{sharding}.txt").read_text()
