"""tf.function, XLA, Keras' own loops, mixed precision and distribution give the numbers of eager mode."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from tf_models import (
    FRAMES,
    NORMS,
    QUIET,
    VARIANTS,
    assert_same,
    model_class,
    padded,
    relative,
    tiny,
    waveforms,
)  # fmt: skip

from wav2vec2_core import masking
from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.errors import InputError
from wav2vec2_core.outputs import ModelOutput
from wav2vec2_core.parameters import HEADS

FAMILIES = {
    "base": NORMS["group-post"],
    "base-exact": {**NORMS["group-post"], "masked_group_norm": True},
    "large": {**NORMS["layer-pre"], **VARIANTS["attention-adapters"]},
}
CASES = [*((head, "base-exact") for head in HEADS), ("ForCTC", "base"), ("ForCTC", "large")]
LABELS = np.array([[1, 2, 3], [4, 5, -100], [6, 7, 8]])
STILL = {**QUIET, "mask_time_prob": 0.0}  # training mode without randomness


def labels_of(head):
    if head == "ForCTC":
        return LABELS
    if head == "ForAudioFrameClassification":
        return np.eye(5, dtype=np.int32)[np.random.default_rng(0).integers(0, 5, (3, FRAMES))]
    return np.array([1, 0, 4])


# ---- graphs -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("head", "family"), CASES)
def test_a_function_for_any_batch_and_length(head, family):
    model = tiny(head, **FAMILIES[family])
    traced = []

    @tf.function(input_signature=[tf.TensorSpec((None, None)), tf.TensorSpec((None, None), tf.int32)])
    def graph(values, mask):
        traced.append(1)
        return model(values, mask, output_hidden_states=True, output_attentions=True)

    for lengths in ((800, 500), (1500, 1203, 700), (444,)):
        values, mask = padded(lengths)
        output = graph(values, mask)
        assert isinstance(output, ModelOutput)
        assert_same(output, model(values, mask, output_hidden_states=True, output_attentions=True))
    assert len(traced) == 1


@pytest.mark.parametrize(("head", "family"), CASES)
def test_xla(head, family):
    model = tiny(head, **FAMILIES[family], num_hidden_layers=1)
    compiled = tf.function(model, jit_compile=True)
    values, mask = padded((1500, 1203, 700))
    assert_same(compiled(values, mask, output_hidden_states=True), model(values, mask, output_hidden_states=True))


@pytest.mark.parametrize("jit_compile", [False, True], ids=["graph", "xla"])
@pytest.mark.parametrize("head", ["ForPreTraining", "ForCTC", "ForXVector"])
def test_losses_and_gradients(head, jit_compile):
    model = tiny(head, **QUIET, mask_time_prob=0.1, apply_spec_augment=head == "ForPreTraining", num_hidden_layers=1)
    values, mask = padded()
    call = {"input_values": values, "attention_mask": mask}
    if head == "ForPreTraining":
        generator = np.random.default_rng(0)
        time = masking.time_mask([74, 59, 34], FRAMES, prob=0.5, length=4, min_masks=2, generator=generator)
        call["mask_time_indices"] = time
        call["sampled_negative_indices"] = masking.negative_indices(time, 5, generator)
        call["gumbel_noise"] = generator.gumbel(size=(3, FRAMES, 2, 8)).astype(np.float32)
    else:
        call["labels"] = labels_of(head)

    def step():
        with tf.GradientTape() as tape:
            loss = model(**call, training=True).loss
        return loss, tape.gradient(loss, model.trainable_weights)

    eager, gradients = step()
    loss, compiled = tf.function(step, jit_compile=jit_compile)()
    assert relative(loss, eager) <= 1e-5
    for weight, one, other in zip(model.trainable_weights, compiled, gradients, strict=True):
        if other is None:
            assert one is None
        elif not weight.path.endswith(("k_proj/bias", "conv/bias")):  # zero in exact arithmetic
            one, other = tf.convert_to_tensor(one), tf.convert_to_tensor(other)
            assert relative(one, other) <= 1e-4 or np.abs(one - other).max() <= 1e-6, weight.path


# ---- fit, evaluate, predict ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("jit_compile", [False, True], ids=["graph", "xla"])
@pytest.mark.parametrize("head", ["ForCTC", "ForSequenceClassification", "ForAudioFrameClassification", "ForXVector"])
def test_fit_minimises_the_models_own_loss(head, jit_compile):
    """One step of gradient descent moves every parameter as by hand, whether labels are inside x or beside it."""
    values, mask = padded()
    labels, inputs = labels_of(head), {"input_values": values, "attention_mask": mask}
    by_hand = tiny(head, **STILL, num_hidden_layers=1)
    with tf.GradientTape() as tape:
        loss = by_hand(inputs, labels=labels, training=True).loss
    gradients = tape.gradient(loss, by_hand.trainable_weights)
    model = tiny(head, **STILL, num_hidden_layers=1)
    model.compile(keras.optimizers.SGD(1e-4), jit_compile=jit_compile)
    assert model.jit_compile == jit_compile
    data = {**inputs, "labels": labels} if jit_compile else (inputs, labels)
    history = model.fit(tf.data.Dataset.from_tensors(data), shuffle=False, verbose=0)
    assert history.history["loss"][0] == pytest.approx(float(loss), rel=1e-5)
    for weight, before, gradient in zip(model.trainable_weights, by_hand.trainable_weights, gradients, strict=True):
        expected = before if gradient is None else before - 1e-4 * tf.convert_to_tensor(gradient)
        assert relative(weight.value, expected) <= 1e-5, weight.path


def test_fit_evaluate_and_predict_with_arrays():
    model = tiny("ForCTC", **QUIET, mask_feature_prob=0.1, num_hidden_layers=1)
    values = waveforms(4)
    labels = np.array([[1, 2], [3, 4], [5, -100], [6, 7]])
    model.compile("adam", metrics=[first_frames])
    history = model.fit(values, labels, batch_size=2, epochs=4, verbose=0)
    assert history.history["loss"][-1] < history.history["loss"][0]
    assert set(history.history) == {"loss", "first_frames"}
    evaluated = model.evaluate(values, labels, batch_size=4, verbose=0, return_dict=True)
    assert evaluated["loss"] == pytest.approx(float(model(values, labels=labels).loss), rel=1e-5)
    predicted = model.predict(values, batch_size=2, verbose=0)
    assert relative(predicted["logits"], model(values).logits) <= 1e-5


def first_frames(labels, logits):
    assert labels.shape[-1] == 2
    return tf.reduce_mean(logits[:, 0], axis=-1)


@pytest.mark.parametrize("head", HEADS)
def test_predict_joins_batches(head):
    model = tiny(head, output_hidden_states=True)
    values = waveforms(4)
    predicted = model.predict({"input_values": values}, batch_size=2, verbose=0)
    expected = model(values)
    assert list(predicted) == list(expected)
    for name, value in expected.items():
        if "perplexity" in name:  # of each batch
            assert predicted[name].shape == (2 * max(1, len(value.shape) and value.shape[0]),)
        else:
            pairs = zip(predicted[name], value, strict=True) if name == "hidden_states" else [(predicted[name], value)]
            assert all(relative(one, other) <= 1e-5 for one, other in pairs)


def test_a_loss_given_to_compile():
    model = tiny("ForSequenceClassification", **STILL)
    values, labels = waveforms(), np.array([1, 0, 4])
    model.compile("sgd", loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    result = model.evaluate(values, labels, verbose=0, return_dict=True)
    assert result["loss"] == pytest.approx(float(model(values, labels=labels).loss), rel=1e-5)
    assert result["accuracy"] == pytest.approx(np.mean(np.argmax(model(values).logits, -1) == labels))
    model.fit(values, labels, sample_weight=np.ones(3), verbose=0)


def test_what_fit_cannot_do_is_said():
    values = waveforms()
    model = tiny("ForCTC")
    model.compile("sgd")
    with pytest.raises(InputError, match="returned no single loss: give labels with the data"):
        model.fit({"input_values": values}, verbose=0)
    with pytest.raises(InputError, match="knows no sample weights"):
        model.fit(values, LABELS, sample_weight=np.ones(3), verbose=0)
    model.compile("sgd", jit_compile=True)
    with pytest.raises(InputError, match="XLA cannot draw mask_time_indices, layer_keep"):
        model.fit(values, LABELS, verbose=0)


def test_pretraining_with_fit():
    model = tiny("ForPreTraining", **QUIET, num_hidden_layers=1)
    model.compile(keras.optimizers.Adam(1e-3))
    generator = np.random.default_rng(0)
    mask = masking.time_mask([FRAMES] * 4, FRAMES, prob=0.5, length=4, min_masks=2, generator=generator)
    negatives = masking.negative_indices(mask[:2], 5, generator), masking.negative_indices(mask[2:], 5, generator)
    data = {
        "input_values": waveforms(4),
        "mask_time_indices": mask,
        "sampled_negative_indices": np.concatenate(negatives),
    }
    losses = model.fit(data, batch_size=2, shuffle=False, epochs=3, verbose=0).history["loss"]
    assert np.isfinite(losses).all()


def test_frozen_parameters_stay():
    model = tiny("ForCTC", num_hidden_layers=1)
    model.freeze_feature_encoder()
    frozen = {weight.path for weight in model.weights} - {weight.path for weight in model.trainable_weights}
    assert len(model.wav2vec2.feature_extractor.weights) == 5 == len(model.weights) - len(model.trainable_weights)
    assert frozen
    before = [weight.numpy().copy() for weight in model.weights]
    model.compile(keras.optimizers.SGD(1e-3))
    model.fit(waveforms(), LABELS, verbose=0)
    for weight, old in zip(model.weights, before, strict=True):
        if not weight.path.endswith("k_proj/bias"):  # its gradient is zero
            assert np.array_equal(weight.numpy(), old) != weight.trainable, weight.path
    model.freeze_base_model()
    assert [weight.path for weight in model.trainable_weights] == ["lm_head/kernel", "lm_head/bias"]


def test_what_is_trained_is_said_by_name():
    model = tiny("ForCTC", num_hidden_layers=1)
    table = set(model.parameter_table())
    model.wav2vec2.trainable = False  # Keras' own way
    assert model.trainable_names() == {"lm_head.weight", "lm_head.bias"}
    model.set_trainable({"lm_head.bias", "wav2vec2.masked_spec_embed"})
    assert model.trainable_names() == {"lm_head.bias", "wav2vec2.masked_spec_embed"}
    assert {weight.path.split("/")[-1] for weight in model.trainable_weights} == {"bias", "masked_spec_embed"}
    model.set_trainable(table)
    assert model.trainable_names() == table
    with pytest.raises(InputError, match=r"lm_head\.gain is no parameter of a Wav2Vec2ForCTC"):
        model.set_trainable({"lm_head.gain"})
    unused = tiny("ForCTC", num_hidden_layers=1, apply_spec_augment=False)
    unused.set_trainable(table)
    assert unused.trainable_names() == table - {"wav2vec2.masked_spec_embed"}


# ---- precision and distribution -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["bfloat16", "mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("norm", NORMS)
def test_low_precision(norm, dtype):
    values, mask = padded()
    wide = tiny("ForCTC", **NORMS[norm])(values, mask, labels=LABELS, output_attentions=True)
    model = tiny("ForCTC", dtype=dtype, **NORMS[norm])
    assert model.lm_head.kernel.dtype == ("bfloat16" if dtype == "bfloat16" else "float32")
    narrow = model(values, mask, labels=LABELS, output_attentions=True)
    assert narrow.logits.dtype == dtype.removeprefix("mixed_")
    assert narrow.loss.dtype == "float32"
    assert relative(narrow.logits, wide.logits) <= 4e-2
    assert relative(narrow.loss, wide.loss) <= 2e-2


def test_fit_in_mixed_precision():
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = tiny("ForCTC", num_hidden_layers=1)
    model.compile(keras.optimizers.Adam(1e-3))
    losses = model.fit(waveforms(), LABELS, epochs=3, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    assert all(weight.dtype == "float32" for weight in model.trainable_weights)


def two_replicas():
    # One device adds up: TensorFlow's collectives get confused by several strategies in one process of tests.
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"], tf.distribute.ReductionToOneDevice())


@pytest.mark.parametrize("head", ["ForCTC", "ForSequenceClassification"])
def test_two_replicas_step_like_one(head):
    """The same step from the same four utterances, on one device and on two."""
    values = waveforms(4)
    labels = np.array([[1, 2], [3, 4], [5, -100], [6, 7]]) if head == "ForCTC" else np.array([1, 2, 0, 4])
    steps = []
    for strategy in (tf.distribute.get_strategy(), two_replicas()):
        with strategy.scope():
            model = tiny(head, **STILL, num_hidden_layers=1)
            model.compile(keras.optimizers.SGD(1e-4))
        model.fit(values, labels, batch_size=4, verbose=0)
        steps.append([weight.numpy() for weight in model.trainable_weights])
    start = [weight.numpy() for weight in tiny(head, **STILL, num_hidden_layers=1).trainable_weights]
    assert not np.allclose(steps[0][-1], start[-1], atol=1e-6)
    for one, two in zip(*steps, strict=True):
        assert np.abs(one - two).max() <= 1e-5 * max(np.abs(one).max(), 1)


def test_two_replicas_with_masks_and_dropout():
    with two_replicas().scope():
        model = tiny("ForCTC", num_hidden_layers=1)
        model.compile(keras.optimizers.SGD(1e-4))
    losses = model.fit(waveforms(4), np.ones((4, 2), np.int32), batch_size=4, verbose=0).history["loss"]
    assert np.isfinite(losses).all()


# ---- Keras --------------------------------------------------------------------------------------------------------


def test_models_are_keras_models_made_of_keras_layers():
    model = model_class("ForCTC")(Wav2Vec2Config.preset("base", num_hidden_layers=1))
    assert isinstance(model, keras.Model)
    assert isinstance(model.lm_head, keras.layers.Dense)
    assert isinstance(model.wav2vec2.feature_extractor.conv_layers[1].conv, keras.layers.Conv1D)
    assert model.count_params() == sum(row.size for row in model.parameter_table().values())


def test_a_functional_model_on_top():
    body = tiny(num_hidden_layers=1)
    waveform = keras.Input((None,))
    pooled = keras.layers.GlobalAveragePooling1D()(body(waveform).last_hidden_state)
    model = keras.Model(waveform, keras.layers.Dense(3)(pooled))
    values = waveforms(2)
    assert model(values).shape == (2, 3)
    expected = model.layers[-1](tf.reduce_mean(body(values).last_hidden_state, 1))
    assert relative(model(values), expected) <= 1e-5


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")  # Keras' own
def test_keras_saves_and_loads_models(tmp_path):
    model = tiny("ForCTC", num_hidden_layers=1)
    model.save_weights(tmp_path / "model.weights.h5")
    other = tiny("ForCTC", seed=5, num_hidden_layers=1)
    other.load_weights(tmp_path / "model.weights.h5")
    assert relative(other(waveforms()).logits, model(waveforms()).logits) == 0
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert type(loaded) is type(model)
    assert loaded.config == model.config
    assert relative(loaded(waveforms()).logits, model(waveforms()).logits) == 0
