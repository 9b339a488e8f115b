"""The trainer: one update from several micro-batches, divided once, clipped, refused where it is no number."""

import keras
import pytest
import trainer_cases as cases
from tf_models import model_class, tiny

from wav2vec2_core.errors import InputError
from wav2vec2_tf.train import Trainer
from wav2vec2_tf.weights import export_weights


def make(head, *, momentum=0.0, seed=0, **fields):
    model = tiny(head, **fields)
    trainer = Trainer(model, keras.optimizers.SGD(momentum=momentum), seed=seed)
    return trainer, lambda: export_weights(model)


@pytest.mark.parametrize("check", cases.STEPS)
def test_steps(check):
    check(make)


@pytest.mark.parametrize("head", cases.HEADS)
def test_losses_of_every_head(head):
    cases.check_losses(make, head, lambda model, given: float(model(given).loss))


def test_resuming(tmp_path):
    cases.check_resume(make, tmp_path, limit=1e-6)


def test_saving(tmp_path):
    load = model_class("ForCTC").from_pretrained
    cases.check_saving(make, tmp_path, lambda folder: export_weights(load(folder)))


def test_an_optimizer_with_a_schedule():
    schedule = keras.optimizers.schedules.CosineDecay(0.1, 10)
    with pytest.raises(InputError, match="a schedule of its own, each step its rate: give learning_rate a number"):
        Trainer(tiny("ForCTC"), keras.optimizers.SGD(schedule))
