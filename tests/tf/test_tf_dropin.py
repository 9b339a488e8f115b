"""TensorFlow models in programs that were written for transformers, and in those that follow Keras' habits."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from dropin_checks import check_loading, check_questions, check_refusals, check_resized_heads, check_saving
from tf_models import QUIET, tiny, waveforms

QUIET = {**QUIET, "apply_spec_augment": False}
LABELS = np.array([0, 1, 2])


def test_loading(tmp_path):
    check_loading(tiny("ForCTC"), tmp_path)
    check_resized_heads(tiny("ForSequenceClassification"), tmp_path)


def test_saving(tmp_path):
    check_saving(tiny("ForCTC"), tmp_path, "tf_model.h5")


def test_questions():
    check_questions(tiny("ForCTC"))
    assert (tiny().framework, tiny().supports_gradient_checkpointing) == ("tf", False)


def test_the_configuration_refuses_what_the_model_cannot_follow():
    check_refusals(tiny("ForCTC"))


def test_fit_follows_the_configuration():
    model = tiny("ForCTC", **QUIET)
    model.compile(keras.optimizers.SGD(0.0))
    data = {"input_values": waveforms(2), "labels": np.array([[1, 2], [3, 4]])}
    total = model.evaluate(data, verbose=0)
    model.config.ctc_loss_reduction = "mean"
    assert model.evaluate(data, verbose=0) < total / 2
    assert model.fit(data, verbose=0).history["loss"][0] < total / 2
    model.config.ctc_loss_reduction = "sum"
    assert model.fit(data, verbose=0).history["loss"] == pytest.approx([total])


def test_compiling_anew_leaves_nothing_of_the_loss_and_metrics_before():
    model = tiny("ForSequenceClassification", **QUIET)
    values = np.asarray(waveforms(3))
    entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.0), entropy, metrics=["accuracy"])
    given = model.fit({"input_values": values}, LABELS, verbose=0).history
    assert set(given) == {"loss", "accuracy"}
    model.compile(keras.optimizers.SGD(0.0))
    for data in (({"input_values": values, "labels": LABELS},), ({"input_values": values}, LABELS)):
        own = model.fit(*data, verbose=0).history
        assert set(own) == {"loss"}
        assert own["loss"] == pytest.approx(given["loss"], rel=1e-5)


def test_export_needs_no_call_before(tmp_path):
    model = tiny("ForCTC")
    model.export(tmp_path / "model", verbose=False)
    loaded = tf.saved_model.load(str(tmp_path / "model"))
    for values in (waveforms(1), waveforms(2)[:, :900]):
        logits = loaded.serve(tf.convert_to_tensor(values))["logits"]
        np.testing.assert_allclose(logits, model(values).logits, atol=1e-5)
