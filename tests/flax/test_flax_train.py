"""Training steps: they learn, keep frozen parameters, and give one device's gradients on any mesh."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import optax
import pytest
from flax_models import padded, relative, tiny, waveforms

from conformance.tolerances import tolerance
from wav2vec2_core.errors import InputError
from wav2vec2_flax import train

SCRIPT = Path(__file__).parents[1] / "support" / "mesh_gradients.py"
LABELS = np.array([[1, 2, 3], [4, 5, -100], [6, 7, 8]])


def batch():
    values, mask = padded()
    return {"input_values": values, "attention_mask": mask, "labels": LABELS}


def test_training_lowers_the_loss_and_keeps_frozen_parameters():
    model = tiny("ForCTC", dtype="bfloat16", scan_layers=True, remat="dots")
    model.freeze_feature_encoder()
    optimizer = train.freeze(optax.adamw(3e-3), model.trainable)
    state = train.init_state(model, optimizer)
    before = jax.device_get(model.params)
    step = jax.jit(train.train_step(model, optimizer), donate_argnums=0)
    evaluate = jax.jit(train.eval_step(model))
    first = evaluate(state.params, batch())["loss"]
    for _ in range(25):
        state, metrics = step(state, batch(), jax.random.key(0))
    assert int(state.step) == 25
    assert float(evaluate(state.params, batch())["loss"]) < 0.8 * float(first)
    assert np.isfinite(metrics["gradient_norm"])
    frozen, after = before["wav2vec2"]["feature_extractor"], jax.device_get(state.params)
    jax.tree.map(np.testing.assert_array_equal, frozen, after["wav2vec2"]["feature_extractor"])
    assert relative(before["lm_head"]["kernel"], after["lm_head"]["kernel"]) > 0
    jax.tree.map(np.testing.assert_array_equal, before, jax.device_get(model.params))  # the model is as it was
    adam = [leaf.size for leaf in jax.tree.leaves(state.opt_state)]
    trained = sum(leaf.size for leaf in jax.tree.leaves(before)) - sum(leaf.size for leaf in jax.tree.leaves(frozen))
    assert sum(adam) <= 2 * trained + 10, "no optimizer state for frozen parameters"


def test_each_step_draws_anew():
    model = tiny("ForCTC")
    step = jax.jit(train.train_step(model, optax.sgd(0.0)))
    state = train.init_state(model, optax.sgd(0.0))
    later, first = step(state, batch(), jax.random.key(0))
    _, second = step(later, batch(), jax.random.key(0))
    assert float(first["loss"]) != float(second["loss"])


def test_the_gradient_norm_is_that_of_trained_parameters():
    model = tiny("ForCTC", apply_spec_augment=False)
    data, key = batch(), jax.random.key(0)
    gradient = jax.grad(train.loss_function(model), has_aux=True)(model.params, data, jax.random.fold_in(key, 0))[0]
    model.freeze_base_model()
    optimizer = train.freeze(optax.sgd(0.0), model.trainable)
    _, metrics = jax.jit(train.train_step(model, optimizer))(train.init_state(model, optimizer), data, key)
    head = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(gradient["lm_head"])])
    assert float(metrics["gradient_norm"]) == pytest.approx(float(np.linalg.norm(head)), rel=1e-5)
    assert train.masked is train.freeze


def test_a_batch_without_labels():
    with pytest.raises(InputError, match="computed no loss from input_values: add labels"):
        train.loss_function(tiny("ForCTC"), train=False)(tiny("ForCTC").params, {"input_values": waveforms()}, None)


def test_meshes_that_cannot_be():
    with pytest.raises(InputError, match="fsdp=3 does not divide the number of devices, 1: choose one that does"):
        train.make_mesh(fsdp=3, devices=jax.devices()[:1])
    with pytest.raises(InputError, match="data=3 times fsdp=1 is not the number of devices, 1"):
        train.make_mesh(data=3)


def run(*arguments, devices):
    root = SCRIPT.parents[2]
    environment = {
        **os.environ,
        "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}",
        "PYTHONPATH": os.pathsep.join(str(root / part) for part in ("", "tests/support")),
    }
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), *map(str, arguments)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return dict(line.split("=") for line in out.split() if "=" in line)


def test_eight_devices_give_the_gradients_of_one():
    errors = finish(run(devices=8))
    assert set(errors) == {"ForCTC-8x1", "ForCTC-1x8", "ForPreTraining-2x4"}
    assert all(float(error) <= tolerance("gradients").limit for error in errors.values()), errors


def test_two_processes_give_the_gradients_of_one():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    both = [run(rank, port, devices=2) for rank in (0, 1)]
    for process in both:
        errors = finish(process)
        assert set(errors) == {"ForCTC-2x2"}
        assert float(errors["ForCTC-2x2"]) <= tolerance("gradients").limit
