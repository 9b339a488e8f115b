"""The trainer: one update from several micro-batches, divided once, clipped, refused where it is no number."""

import keras
import pytest
import trainer_cases as cases
from tf_models import model_class, tiny

from wav2vec2_core.errors import InputError
from wav2vec2_core.training.steps import StepValues
from wav2vec2_tf.train import Trainer
from wav2vec2_tf.weights import export_weights


def make(head, *, momentum=0.0, seed=0, computing=None, **fields):
    policy = {"dtype": "mixed_bfloat16"} if computing == "bfloat16" else {}
    model = tiny(head, **policy, **fields)
    if computing == "bfloat16":
        model.compute_head_exactly()
    trainer = Trainer(model, keras.optimizers.SGD(momentum=momentum), seed=seed)
    return trainer, lambda: export_weights(model)


@pytest.mark.parametrize("check", cases.STEPS)
def test_steps(check):
    check(make)


@pytest.mark.parametrize("head", cases.HEADS)
def test_losses_of_every_head(head):
    cases.check_losses(make, head, lambda model, given: float(model(given).loss))


def test_computing_in_half_precision():
    cases.check_computing_in_half_precision(make)


def test_resuming(tmp_path):
    cases.check_resume(make, tmp_path, limit=1e-6)


def test_saving(tmp_path):
    load = model_class("ForCTC").from_pretrained
    cases.check_saving(make, tmp_path, lambda folder: export_weights(load(folder)))


def test_an_optimizer_with_a_schedule():
    schedule = keras.optimizers.schedules.CosineDecay(0.1, 10)
    with pytest.raises(InputError, match="a schedule of its own, each step its rate: give learning_rate a number"):
        Trainer(tiny("ForCTC"), keras.optimizers.SGD(schedule))


def test_masks_that_a_batch_lacks_are_those_of_its_step():
    fields = {**cases.STILL, "apply_spec_augment": True, "mask_time_prob": 0.3, "mask_feature_prob": 0.2}

    def losses(numbers, **options):
        trainer, _ = make("ForCTC", **options, **fields)
        found = [trainer.step([cases.batch()] * 2, number, StepValues(0.0, 8)) for number in numbers]
        return [trainer.fetch(handle)["loss"] for handle in found]

    first = losses([3, 4, 3])
    assert first[0] == first[2] != first[1]
    keras.utils.set_random_seed(9)
    assert losses([3]) == first[:1] != losses([3], seed=1)


def test_new_lengths_make_no_new_graphs(caplog):
    trainer, _ = make("ForCTC", **cases.STILL)
    for number, samples in enumerate((700, 800, 900, 1000, 1100, 1200)):
        given = cases.batch()
        given["input_values"] = given["input_values"][:, :samples]
        trainer.step([given, given], number, StepValues(0.001, 8))
    assert len(trainer._gradients._graphs) == 1
    assert "retracing" not in caplog.text
