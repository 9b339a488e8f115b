"""Two devices and two processes make the updates of one; every state fits any number of them."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_devices as devices
import trainer_cases as cases
from tf_models import tiny

from wav2vec2_core.errors import InputError
from wav2vec2_core.training.steps import filled_batch
from wav2vec2_tf import distributed
from wav2vec2_tf.distributed import Copies, join_processes, open_strategy
from wav2vec2_tf.train import Trainer

ROOT = Path(__file__).parent.parent.parent


def start(*arguments, workers=None):
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests" / "support")]),
        **({} if workers is None else {"TF_CONFIG": json.dumps(workers)}),
    }
    command = [sys.executable, devices.__file__, *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def finish(process):
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors


def free_ports():
    with socket.socket() as one, socket.socket() as two:
        for each in (one, two):
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in (one, two)]


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """The folder of the run on one device."""
    folder = tmp_path_factory.mktemp("one")
    devices.run(devices.make_trainer(tf.distribute.get_strategy()), folder)
    devices.pretrain(tf.distribute.get_strategy(), folder)
    return folder


@pytest.fixture(scope="module")
def mirrored(one, tmp_path_factory):
    """The folder of the run on two devices, which also went on from the other one's state."""
    folder = tmp_path_factory.mktemp("two")
    finish(start("mirrored", folder, one / "state"))
    return folder


def check_same(folder, other, name="results.npz", limit=1e-5):
    expected, found = np.load(folder / name.replace("resumed", "results")), np.load(other / name)
    for key in found.files:
        if key != "added":
            scale = max(np.abs(expected[key]).max(), 1)
            assert np.abs(found[key] - expected[key]).max() <= limit * scale, key


def test_two_devices_equal_one(one, mirrored):
    check_same(one, mirrored)
    found = np.load(mirrored / "results.npz")
    assert found["added"].tolist() == [1.5, 0]
    assert found["results"][:, 2].tolist() == [5, 5, 5]


def test_two_devices_pretrain_as_one(one, mirrored):
    check_same(one, mirrored, "pretrained.npz")


def test_a_state_fits_any_number_of_devices(one, mirrored, tmp_path):
    check_same(one, mirrored, "resumed.npz")
    devices.go_on(devices.make_trainer(tf.distribute.get_strategy()), mirrored / "state", tmp_path)
    check_same(one, tmp_path, "resumed.npz")


def test_two_processes_equal_one(one, tmp_path):
    cluster = {"worker": [f"127.0.0.1:{port}" for port in free_ports()]}
    folders = [tmp_path / name for name in "ab"]
    processes = []
    for index, folder in enumerate(folders):
        folder.mkdir()
        workers = {"cluster": cluster, "task": {"type": "worker", "index": index}}
        processes.append(start("multi-worker", folder, one / "state", workers=workers))
    for process in processes:
        finish(process)
    for folder in folders:
        for name in ("results.npz", "resumed.npz", "pretrained.npz"):
            check_same(one, folder, name)
        assert np.load(folder / "results.npz")["added"].tolist() == [3, 1]
    assert [(folder / "state").exists() for folder in folders] == [True, False]  # the first process writes


# ---- what is dealt ------------------------------------------------------------------------------------------------


def two_copies():
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"], tf.distribute.ReductionToOneDevice())


def test_rows_are_dealt_in_order_and_filled_up():
    batch = {**cases.batch(rows=3), "layer_keep": np.array([True, False])}
    shares = Copies(two_copies()).deal(batch)
    filled = filled_batch(batch, 4)
    assert [share["labels"].tolist() for share in shares] == [
        filled["labels"][:2].tolist(),
        filled["labels"][2:].tolist(),
    ]
    assert (shares[1]["labels"][1] == -100).all()
    assert all(share["layer_keep"].tolist() == [True, False] for share in shares)


def test_what_cannot_be_dealt():
    copies = Copies(two_copies())
    with pytest.raises(InputError, match="labels of a regression count in every row, so 3 rows cannot become 4"):
        copies.deal({"input_values": np.zeros((3, 9)), "labels": np.zeros(3, np.float32)})


def test_model_and_optimizer_of_different_strategies():
    with two_copies().scope():
        model = tiny("ForCTC")
    with pytest.raises(InputError, match="model and optimizer were made for different devices: make both in the scope"):
        Trainer(model, keras.optimizers.SGD())


# ---- strategies ---------------------------------------------------------------------------------------------------


@pytest.fixture
def config(monkeypatch):
    """Sets TF_CONFIG."""
    distributed._joined_workers.cache_clear()
    yield lambda value: monkeypatch.setenv("TF_CONFIG", value if isinstance(value, str) else json.dumps(value))
    distributed._joined_workers.cache_clear()


TWO = {"worker": ["a:1", "b:1"]}


def test_one_worker_is_alone(config):
    assert join_processes() == (0, 1)
    config({"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 0}})
    assert join_processes() == (0, 1)
    assert open_strategy("none") is tf.distribute.get_strategy()


@pytest.mark.parametrize(
    "value",
    [
        "{",
        "[]",
        {"cluster": TWO},
        {"cluster": TWO, "task": {"type": "worker", "index": 2}},
        {"cluster": TWO, "task": {"type": "ps", "index": 0}},
        {"cluster": TWO, "task": {"type": "chief", "index": 0}},
    ],
)
def test_a_config_that_names_no_worker(config, value):
    config(value)
    with pytest.raises(InputError, match=r"the variable TF_CONFIG is .*, which names no worker that this process is"):
        join_processes()


def test_workers_are_joined_first(config):
    assert float(tf.constant(1.0)) == 1
    config({"cluster": TWO, "task": {"type": "worker", "index": 0}})
    with pytest.raises(InputError, match=r"TensorFlow cannot join the workers of TF_CONFIG .*: call join_processes be"):
        join_processes()


def test_strategies_that_do_not_fit(config):
    with pytest.raises(InputError, match=r"tf\.strategy is 'tpu', it must be none, mirrored or multi-worker"):
        open_strategy("tpu")
    with pytest.raises(InputError, match=r"tf\.strategy is multi-worker and the variable TF_CONFIG names no workers"):
        open_strategy("multi-worker")
