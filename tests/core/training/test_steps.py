"""What a training step is given, and what is checked of it on the host."""

import numpy as np
import pytest
from model_cases import SAMPLES, TINY

from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.errors import InputError
from wav2vec2_core.training.steps import (
    StepValues,
    check_targets,
    checked_batch,
    filled_batch,
    noise_seeds,
    noise_seeds_of_rows,
)

CONFIG = Wav2Vec2Config(**TINY)


def values(rows=2):
    return np.random.default_rng(0).standard_normal((rows, SAMPLES))


def test_types_are_those_of_models():
    given = {
        "input_values": values(),
        "attention_mask": np.ones((2, SAMPLES), np.int64),
        "labels": np.ones((2, 3), np.int64),
        "mask_time_indices": np.ones((2, 74), np.uint8),
        "layer_keep": np.array([1, 0]),
    }
    arrays = checked_batch(CONFIG, "ForCTC", given)
    assert {name: array.dtype.name for name, array in arrays.items()} == {
        "input_values": "float32",
        "attention_mask": "int32",
        "labels": "int32",
        "mask_time_indices": "bool",
        "layer_keep": "bool",
    }
    soft = checked_batch(
        CONFIG, "ForSequenceClassification", {"input_values": values(), "labels": np.array([0.5, 9.5])}
    )
    assert soft["labels"].dtype == np.float32
    assert soft["labels"].tolist() == [0.5, 9.5]


@pytest.mark.parametrize(
    ("head", "given", "message"),
    [
        ("ForCTC", {"labels": np.ones((2, 3))}, "a batch holds labels: training Wav2Vec2ForCTC takes input_values"),
        ("ForCTC", {"input_values": values()[0]}, r"must be \(batch, samples\)"),
        ("ForCTC", {"input_values": values()[:, :29]}, "has 29 samples, one frame sees 30"),
        (
            "ForCTC",
            {"input_values": values(), "layer_keep": np.ones(3)},
            r"layer_keep has shape \(3,\), it must be \(2,",
        ),
        (
            "ForCTC",
            {"input_values": values(), "gumbel_noise": np.ones(3)},
            "holds gumbel_noise, input_values: training",
        ),
        ("ForPreTraining", {"input_values": values(), "labels": np.ones(2)}, "training Wav2Vec2ForPreTraining takes"),
        (
            "ForXVector",
            {"input_values": values(), "labels": np.array([1, 5])},
            "labels hold the value 5, the limit is 4",
        ),
    ],
)
def test_batches_that_break_a_rule(head, given, message):
    with pytest.raises(InputError, match=message):
        checked_batch(CONFIG, head, given)


def labels_of(*rows, width=50):
    return {
        "input_values": values(len(rows)),
        "labels": np.stack([np.pad(row, (0, width - len(row)), constant_values=-100) for row in rows]),
    }


@pytest.mark.parametrize(
    ("rows", "fields", "message"),
    [
        ([[1, 2, 3], [1, 2, 0]], {}, "labels end with 0, the blank, .* pad labels with -100"),
        ([[1, 2, 4, 4], [1, 2]], {"pad_token_id": 4}, "labels end with 4, the blank"),
        ([[1, 2], [5] * 38], {}, "row 1 of labels has 38 letters and 37 blanks between equal ones for 74 frames"),
    ],
)
def test_labels_that_train_a_model_badly_are_warned_of(rows, fields, message):
    with pytest.warns(UserWarning, match=message):
        checked_batch(CONFIG.replace(**fields), "ForCTC", labels_of(*rows))


def test_labels_that_are_right_are_not():
    fitting = labels_of([0, 1, 2], [5] * 37, [])
    checked_batch(CONFIG, "ForCTC", fitting)
    too_long = labels_of([5] * 38)
    checked_batch(CONFIG.replace(ctc_zero_infinity=True), "ForCTC", too_long)
    mask = np.ones((3, SAMPLES), np.int32)
    mask[1, 1000:] = 0
    with pytest.warns(UserWarning, match="37 letters and 36 blanks between equal ones for 49 frames"):
        checked_batch(CONFIG, "ForCTC", {**fitting, "attention_mask": mask})


def test_what_losses_are_computed_from():
    check_targets("ForCTC", {"labels": 1})
    check_targets("ForPreTraining", {"mask_time_indices": 1, "sampled_negative_indices": 1})
    with pytest.raises(
        InputError, match="no mask_time_indices and no sampled_negative_indices: Wav2Vec2ForPreTraining"
    ):
        check_targets("ForPreTraining", {"labels": 1})
    with pytest.raises(InputError, match="a Wav2Vec2Model has no head and so no loss"):
        check_targets("Model", {"labels": 1})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"learning_rate": -1.0, "targets": 1}, "learning_rate is -1.0, it must be a number of at least 0"),
        ({"learning_rate": float("nan"), "targets": 1}, "learning_rate is nan"),
        ({"learning_rate": 1.0, "targets": 0}, "targets is 0, it must be a number above 0"),
        ({"learning_rate": 1.0, "targets": float("inf")}, "targets is inf"),
        ({"learning_rate": 1.0, "targets": 1, "clip": 0.0}, "clip is 0.0, it must be above 0, or None"),
    ],
)
def test_numbers_of_a_step(fields, message):
    with pytest.raises(InputError, match=message):
        StepValues(**fields)


def test_noise_differs_by_seed_step_micro_batch_and_process():
    names = [(0, 0, 0, 0), (1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)]
    drawn = {tuple(noise_seeds(*name, 4).tolist()) for name in names}
    assert len(drawn) == len(names)
    assert noise_seeds(3, 2, 1, 0, 4).dtype == np.uint32
    assert noise_seeds(3, 2, 1, 0, 4).tolist() == noise_seeds(3, 2, 1, 0, 4).tolist()


def test_filling_is_silence_without_labels():
    given = {
        "input_values": values().astype(np.float32),
        "attention_mask": np.ones((2, SAMPLES), np.int32),
        "labels": np.ones((2, 3), np.int32),
        "mask_time_indices": np.ones((2, 74), bool),
        "layer_keep": np.array([True, False]),
    }
    filled = filled_batch(given, 4)
    assert all(np.array_equal(filled[name][:2], array) for name, array in given.items())
    assert not filled["input_values"][2:].any()
    assert filled["attention_mask"][2:].all()
    assert (filled["labels"][2:] == -100).all()
    assert not filled["mask_time_indices"][2:].any()
    assert {name: (len(array), array.dtype) for name, array in filled.items()} == {
        name: (len(array) if name == "layer_keep" else 4, array.dtype) for name, array in given.items()
    }
    with pytest.raises(InputError, match="count in every row, so 2 rows cannot become 3"):
        filled_batch({**given, "labels": np.array([0.5, 1.5])}, 3)


def test_seeds_of_rows_do_not_depend_on_the_number_of_processes():
    whole = noise_seeds_of_rows(3, 2, 1, (0, 1), 6)
    dealt = [noise_seeds_of_rows(3, 2, 1, (index, 3), 2) for index in range(3)]
    assert np.array_equal(np.stack(dealt, 1).reshape(6, 2), whole)
    assert (whole.shape, whole.dtype) == ((6, 2), np.uint32)
    places = [(3, 2, 1), (4, 2, 1), (3, 3, 1), (3, 2, 0)]
    assert len({tuple(row) for place in places for row in noise_seeds_of_rows(*place, (0, 1), 6).tolist()}) == 24
    assert noise_seeds_of_rows(3, 2, 1, (0, 1), 0).shape == (0, 2)
