"""The trainer: one update from several micro-batches, divided once, clipped, refused where it is no number."""

import numpy as np
import pytest
import torch
import trainer_cases as cases
from torch_models import model_class, tiny

from wav2vec2_core.errors import ParameterMismatchError
from wav2vec2_core.training.steps import StepValues
from wav2vec2_torch import train
from wav2vec2_torch.train import Trainer
from wav2vec2_torch.weights import export_weights


def make(head, *, momentum=0.0, seed=0, fused=False, dtype="float32", computing=None, **fields):
    model = tiny(head, **fields).to(getattr(torch, dtype))
    optimizer = torch.optim.SGD(model.parameters(), momentum=momentum, fused=fused)
    trainer = Trainer(model, optimizer, seed=seed, dtype=getattr(torch, computing) if computing else None)
    return trainer, lambda: {name: array.copy() for name, array in export_weights(model).items()}


def make_fused(head, **options):
    return make(head, fused=True, **options)


@pytest.mark.parametrize("check", [cases.check_refusal, cases.check_clipping])
def test_a_fused_optimizer_refuses_by_itself(check):
    check(make_fused)


@pytest.mark.parametrize("check", cases.STEPS)
def test_steps(check):
    check(make)


def test_computing_in_half_precision():
    cases.check_computing_in_half_precision(make)


def model_loss(model, given):
    with torch.no_grad():
        return float(model(**{name: torch.from_numpy(array) for name, array in given.items()}).loss)


@pytest.mark.parametrize("head", cases.HEADS)
def test_losses_of_every_head(head):
    cases.check_losses(make, head, lambda model, given: model_loss(model.eval(), given))


def test_resuming(tmp_path):
    cases.check_resume(make, tmp_path)


def test_dropped_layers_are_not_computed_and_momenta_move_on(monkeypatch):
    ran = []
    given = {**cases.batch(), "layer_keep": np.array([True, True])}
    dropped = given | {"layer_keep": np.array([True, False])}

    def trained(skip):
        trainer, weights = make("ForCTC", momentum=0.9, **cases.STILL)
        trainer.model.wav2vec2.encoder.layers[1].register_forward_hook(lambda *_: ran.append(skip))
        monkeypatch.setattr(train.layers, "to_skip", to_skip if skip else lambda keep: frozenset())
        for number, micro in enumerate(([given], [dropped], [dropped, given], [dropped, dropped])):
            trainer.step(micro, number, StepValues(0.01, cases.ROWS * len(micro)))
        return weights()

    to_skip = train.layers.to_skip
    computed, skipped = trained(False), trained(True)
    assert (ran.count(False), ran.count(True)) == (6, 2)
    assert all(np.array_equal(computed[name], array) for name, array in skipped.items())


@pytest.mark.parametrize("optimizer", [torch.optim.AdamW, torch.optim.Adafactor])
def test_states_of_other_optimizers(tmp_path, optimizer):
    def one():
        model = tiny("ForCTC", num_hidden_layers=1, **cases.STILL)
        return Trainer(model, optimizer(model.parameters()))

    first, second, values = one(), one(), StepValues(0.01, cases.ROWS)
    first.step([cases.batch()], 0, values)
    first.save_state(tmp_path)()
    second.load_state(tmp_path)
    for trainer in (first, second):
        trainer.step([cases.batch(seed=1)], 1, values)
    ends = [export_weights(trainer.model) for trainer in (first, second)]
    assert all((ends[0][name] == ends[1][name]).all() for name in ends[0])
    other, _ = make("ForCTC", **{**cases.STILL, "num_hidden_layers": 1})
    with pytest.raises(ParameterMismatchError, match="no state of this SGD: use the same optimizer"):
        other.load_state(tmp_path)


def test_saving(tmp_path):
    load = model_class("ForCTC").from_pretrained
    cases.check_saving(make, tmp_path, lambda folder: export_weights(load(folder)))


def test_the_generator_of_the_user_is_left_alone():
    trainer, _ = make("ForCTC", ctc_loss_reduction="mean")
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    trainer.step([cases.batch()], 0, StepValues(0.0, cases.ROWS))
    assert torch.equal(torch.rand(3), expected)
