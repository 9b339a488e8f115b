"""Meshes and processes: together they make the updates that one device makes, and take over each other's states."""

import json
import os
import re
import socket
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import flax_processes as script
import jax
import numpy as np
import optax
import pytest
from flax_models import model_class, tiny
from pretraining_cases import run
from safetensors.numpy import load_file
from tone_speech import write_tones

from wav2vec2_core.errors import BackendError, InputError, OutputError, ParameterMismatchError
from wav2vec2_core.training.steps import StepValues
from wav2vec2_flax import distributed, train
from wav2vec2_flax.weights import export_weights

LIMIT = 1e-5  # relative to the largest value of each array
#: Name -> processes, devices of each, and devices that share a copy of the model.
MESHES = {"copies": (1, 8, 1), "parts": (1, 8, 4), "processes": (2, 1, 1), "processes with parts": (2, 2, 4)}


def started_processes(command, processes, devices=1):
    """So many processes of a command, connected where there are several."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
    common = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "TF_CPP_MIN_LOG_LEVEL": "3"}  # as the command
    common["PYTHONPATH"] = os.pathsep.join([str(Path(script.__file__).parent), *sys.path])
    if processes > 1:
        common |= {"JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}", "JAX_NUM_PROCESSES": str(processes)}
    return [
        subprocess.Popen(
            command,
            env={**common, "JAX_PROCESS_ID": str(index)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(processes)
    ]


def launch(folder, fsdp, *, processes=1, devices=1, action=()):
    """Run the script in so many processes."""
    command = [sys.executable, script.__file__, str(folder), str(fsdp), *map(str, action)]
    started = started_processes(command, processes, devices)
    texts = [process.communicate(timeout=540)[1] for process in started]
    assert [process.returncode for process in started] == [0] * processes, "\n".join(texts)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")
    launch(folder, 1)
    return folder


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parts")
    launch(folder, 4, devices=8)
    return folder


def equal(found, expected, name):
    assert np.abs(found[name] - expected[name]).max() <= LIMIT * np.abs(expected[name]).max(), name


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.rare] if name == "processes" else []) for name in MESHES]
)
def test_every_mesh_equals_one_device(name, alone, tmp_path, request):
    processes, devices, fsdp = MESHES[name]
    folder = tmp_path
    if name == "parts":
        folder = request.getfixturevalue("parts")
    else:
        launch(folder, fsdp, processes=processes, devices=devices)
    expected = load_file(alone / "result-0.safetensors")
    for index in range(processes):
        found = load_file(folder / f"result-{index}.safetensors")
        for one in expected.keys() - {"logits"}:
            equal(found, expected, one)
        own = {"logits": expected["logits"][index::processes]}
        equal(found, own, "logits")
    saved = export_weights(model_class("ForCTC").from_pretrained(folder / "model"))
    for one, array in export_weights(model_class("ForCTC").from_pretrained(alone / "model")).items():
        equal(saved, {one: array}, one)
    assert not (folder / "model-of-another").exists(), "one process writes the model"


@pytest.mark.rare
def test_a_run_of_pretraining_moves_between_meshes(tmp_path):
    """From 8 devices to 4, whose disk is full at first: the records and the parameters of one device."""
    data = write_tones(tmp_path, 12)
    whole, _ = run("flax", data, tmp_path / "whole", *script.PRETRAINING)
    launch(tmp_path, 4, devices=8, action=["pretrain", data, 3])
    launch(tmp_path, 2, devices=4, action=["pretrain", data, 0, "full"])
    folder = tmp_path / "run"
    assert re.search(r"cannot write .*step-4.*: .*free space", (tmp_path / "full.txt").read_text())
    launch(tmp_path, 2, devices=4, action=["pretrain", data, 0])
    records = [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == [1, 2, 3, 4, 5, 6]
    for record, update in zip(records, whole, strict=True):
        assert record == pytest.approx(update.to_dict(), rel=LIMIT)
    found, expected = (load_file(one / "model" / "model.safetensors") for one in (folder, tmp_path / "whole"))
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert np.abs(found[name] - array).max() <= LIMIT, name
    assert (folder / "model" / "preprocessor_config.json").exists()


@pytest.mark.slow
def test_states_move_between_meshes(parts, tmp_path):
    """From 8 devices to 4, from there to 8 again, and to one; every array stays as it was, bit for bit."""
    launch(parts, 2, devices=4, action=["restore", "state"])
    launch(parts, 8, devices=8, action=["restore", "state-of-4"])
    launch(parts, 1, devices=1, action=["restore", "state-of-8"])
    fewer, same, one = (load_file(parts / f"restored-{count}.safetensors") for count in (4, 8, 1))
    assert fewer.keys() == same.keys() == one.keys()
    assert any(np.any(array) for name, array in fewer.items() if "trace" in name)
    for name, array in fewer.items():
        assert np.array_equal(array, same[name]), name
        assert np.array_equal(array, one[name]), name


#: Writes a state, empties its data and reads it.
DAMAGED = """
import pathlib, sys
import jax.numpy as jnp
from wav2vec2_core.errors import CheckpointError
from wav2vec2_flax import distributed
folder = pathlib.Path(sys.argv[1])
arrays = {name: jnp.ones((40, 40)) for name in "abc"}
distributed.write_parts(folder, arrays)()
for file in (folder / "parts").rglob("*"):
    if file.is_file() and "d" in file.parent.name:
        file.write_bytes(b"")
try:
    distributed.read_parts(folder, arrays)
except CheckpointError as error:
    print(error)
"""


def test_a_damaged_state_is_one_error(tmp_path):
    # In a process of its own: futures that nobody waits for any more would trouble the tests after this one.
    done = subprocess.run(
        [sys.executable, "-c", DAMAGED, str(tmp_path / "state")], capture_output=True, text=True, check=True
    )
    assert f"{tmp_path / 'state'} cannot be read (" in done.stdout


def test_states_that_are_of_another_run(tmp_path):
    def trainer(**fields):
        model = tiny("ForCTC", **{**script.FIELDS, **fields})
        return train.Trainer(model, optax.sgd(1.0, momentum=0.9))

    one = trainer()
    distributed.write_parts(tmp_path / "state", one._named())()
    before = {name: np.asarray(array) for name, array in one.params.items()}
    one.load_state(tmp_path / "state")
    assert all(np.array_equal(before[name], array) for name, array in one.params.items())
    with pytest.raises(ParameterMismatchError, match=r"parameter/lm_head\.(weight|bias)' as \(\(11|\(\(32, 11"):
        trainer(vocab_size=12).load_state(tmp_path / "state")
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="file"):
        distributed.write_parts(tmp_path / "file", one._named())


def test_numbers_are_added_up():
    assert distributed.add_up([0.1, 2**53 + 0.0]) == [0.1, 2**53]
    assert distributed.add_up(()) == []


def test_a_copy_lies_within_a_slice():
    devices = [
        SimpleNamespace(id=index, slice_index=index % 2, process_index=0, platform="cpu", device_kind="cpu")
        for index in range(8)
    ]
    found = distributed.arranged(devices, 4, 2)
    assert found.shape == (4, 2)
    assert [len({device.slice_index for device in copy}) for copy in found] == [1, 1, 1, 1]
    assert sorted(device.id for device in found.ravel()) == list(range(8))
    with pytest.raises(InputError, match="data=1 copies cannot lie in 2 slices of TPUs evenly"):
        distributed.arranged(devices, 1, 8)


@pytest.mark.parametrize("slices", [1, 2])
def test_a_copy_may_take_a_part_of_an_axis_of_the_network(slices):
    fields = {"platform": "tpu", "device_kind": "TPU v5 lite", "core_on_chip": 0}
    devices = [
        SimpleNamespace(id=64 * part + 8 * y + x, slice_index=part, coords=[x, y, 0], process_index=part, **fields)
        for part in range(slices) for y in range(8) for x in range(8)
    ]  # fmt: skip
    found = distributed.arranged(devices, 16 * slices, 4)
    assert found.shape == (16 * slices, 4)
    assert sorted(device.id for device in found.ravel()) == list(range(64 * slices))
    for copy in found:
        assert len({device.slice_index for device in copy}) == 1
        for one, other in pairwise(copy):
            assert sum(abs(a - b) for a, b in zip(one.coords, other.coords, strict=True)) == 1


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"JAX_NUM_PROCESSES": "two"}, "JAX_NUM_PROCESSES is 'two', it must be a whole number"),
        ({"JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "2"}, "the other processes cannot be reached"),
        ({"JAX_NUM_PROCESSES": "2"}, "the other processes cannot be reached"),
    ],
)
def test_processes_that_cannot_be(monkeypatch, variables, message):
    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", "127.0.0.1:1")
    for name in ("JAX_NUM_PROCESSES", "JAX_PROCESS_ID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(BackendError, match=message):
        distributed.join_processes()


def test_a_lost_process_is_told_from_other_failures(monkeypatch):
    monkeypatch.setattr(distributed, "processes", lambda: (0, 2))
    lost = "UNKNOWN: Gloo AllGather failed: Connection closed by peer [127.0.0.1]:25500"
    with (
        pytest.raises(BackendError, match=r"another process of this run has ended \(UNKNOWN"),
        distributed.with_others(),
    ):
        raise ValueError(lost)
    with pytest.raises(jax.errors.JaxRuntimeError, match="RESOURCE_EXHAUSTED"), distributed.with_others():
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")


#: One process fails after the first sum; the others wait for it.
FAILING = """
import os, signal, sys
from wav2vec2_core.errors import BackendError
from wav2vec2_flax import distributed
index, _ = distributed.join_processes()
distributed.add_up([1])
if str(index) == sys.argv[1]:
    if sys.argv[2] == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    sys.exit("error: the disk is full")
try:
    distributed.add_up([1])
except BackendError as error:
    sys.exit(f"error: {error}")
"""


@pytest.mark.parametrize(("index", "how", "code"), [(2, "killed", -9), (2, "failing", 1), (0, "failing", 1)])
def test_when_one_process_fails_the_others_say_so_and_end(index, how, code):
    processes = started_processes([sys.executable, "-c", FAILING, str(index), how], 3)
    texts = [process.communicate(timeout=300)[1].splitlines() for process in processes]
    codes = [process.returncode for process in processes]
    assert codes.pop(index) == code
    assert texts.pop(index) == ([] if how == "killed" else ["error: the disk is full"])
    for found, lines in zip(codes, texts, strict=True):
        said = [line for line in lines if line.startswith("error: another process of this run has ended (")]
        if index > 0:
            assert (found, lines) == (1, said[:1])
        else:  # JAX may be faster where it has lost the first process
            assert found in (1, -6)
            assert said or "another task died" in " ".join(lines)


def test_alone_without_a_launcher(monkeypatch):
    for name in ("JAX_COORDINATOR_ADDRESS", "SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE", "TPU_WORKER_HOSTNAMES"):
        monkeypatch.delenv(name, raising=False)
    assert distributed.join_processes() == (0, 1)


def test_the_lowered_step_is_the_trainers():
    """The same function of the same shapes: what it computes is what a trainer's step made."""
    model, optimizer = tiny("ForCTC", **script.FIELDS), train.adam(0.9, 0.98, 1e-3)
    model.freeze_feature_encoder()
    empty = model_class("ForCTC")(model.config, _do_init=False)
    empty.freeze_feature_encoder()
    shapes = train.abstract_state(empty, optimizer)
    trainer = train.Trainer(model, optimizer)
    described = jax.tree.map(lambda array: (array.shape, array.dtype), trainer.state)
    assert described == jax.tree.map(lambda shape: (shape.shape, shape.dtype), shapes)
    assert len(shapes.opt_state.mean) < len(shapes.params), "no state of what is frozen"
    batch = script.cases.batch()
    batch["labels"] = batch["labels"].astype(np.int32)
    compiled = train.lower_step(empty, optimizer, trainer.mesh, batch).compile()
    placed = train.place_batch(batch, trainer.mesh)
    state = jax.tree.map(np.asarray, trainer.state)
    after, norm, _ = compiled(
        train.place_state(state, trainer.mesh), placed, np.uint32(0), np.float32(4), np.float32(0.01), np.float32(1)
    )
    found = trainer.fetch(trainer.step([batch], 0, StepValues(0.01, 4, clip=1.0)))
    assert float(norm) == found["gradient_norm"]
    assert all(np.array_equal(after.params[name], array) for name, array in trainer.params.items())
