"""The trainer: one update from several micro-batches, divided once, clipped, refused where it is no number."""

import jax
import numpy as np
import optax
import pytest
import trainer_cases as cases
from flax_models import model_class, tiny

from wav2vec2_core.training.steps import StepValues
from wav2vec2_flax.train import Trainer
from wav2vec2_flax.weights import export_weights, places


def make(head, *, momentum=0.0, seed=0, dtype="float32", **fields):
    model = tiny(head, dtype=dtype, param_dtype=dtype, **fields)
    trainer = Trainer(model, optax.sgd(1.0, momentum=momentum), seed=seed)
    reverse = {name: place.reverse for name, place in places(model).items()}

    def weights():
        arrays = {name: np.array(array) for name, array in trainer.params.items()}
        return {name: array.T if reverse[name] else array for name, array in arrays.items()}

    return trainer, weights


@pytest.mark.parametrize("check", cases.STEPS)
def test_steps(check):
    check(make)


@pytest.mark.parametrize(
    "head", [*cases.HEADS[:2], *(pytest.param(head, marks=pytest.mark.rare) for head in cases.HEADS[2:])]
)
def test_losses_of_every_head(head):
    cases.check_losses(make, head, lambda model, given: float(model(**given).loss))


def test_resuming(tmp_path):
    cases.check_resume(make, tmp_path)


def test_saving(tmp_path):
    load = model_class("ForCTC").from_pretrained
    cases.check_saving(make, tmp_path, lambda folder: export_weights(load(folder)))


def test_the_model_keeps_its_values_and_frozen_parameters_have_no_state():
    model = tiny("ForCTC", **cases.STILL)
    model.freeze_base_model()
    before = export_weights(model)
    trainer = Trainer(model, optax.adamw(1.0))
    state = jax.tree.leaves(trainer.state.opt_state)
    assert sum(leaf.size for leaf in state) == 2 * (32 * 11 + 11) + 1
    trainer.step([cases.batch()], 0, StepValues(0.01, cases.ROWS))
    assert all(np.array_equal(before[name], array) for name, array in export_weights(model).items())


def test_a_shape_is_announced_once(caplog):
    """And once more where more micro-batches or other parameters make another program of it."""
    trainer, _ = make("ForCTC", **cases.STILL)
    said = []
    with caplog.at_level("INFO", logger="wav2vec2.compiling"):
        for micro in ([cases.batch()], [cases.batch()], [cases.batch()] * 2):
            trainer.step(micro, 0, StepValues(0.01, cases.ROWS))
            said.append(len(caplog.records))
    assert said == [1, 1, 2]
    assert caplog.messages[0].startswith("JAX compiles for ")


def test_momenta_are_kept_when_others_are_trained_too():
    trainer, _ = make("ForCTC", momentum=0.9, **cases.STILL)
    trainer.set_trainable(frozenset({"lm_head.bias"}))
    trainer.step([cases.batch()], 0, StepValues(0.01, cases.ROWS))
    momentum = {"lm_head.bias": np.array(trainer.state.opt_state[0].trace["lm_head.bias"])}
    trainer.set_trainable(frozenset({"lm_head.bias", "lm_head.weight"}))
    trace = trainer.state.opt_state[0].trace
    assert np.array_equal(trace["lm_head.bias"], momentum["lm_head.bias"])
    assert momentum["lm_head.bias"].any()
    assert not np.any(trace["lm_head.weight"])
