"""Behaviour of the models: padding, masks, layer drop, randomness, parameters, ways to call, Keras' own back end."""

import itertools
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from tf_models import FRAMES, LENGTHS, NORMS, QUIET, TINY, legal_models, model_class, padded, relative, tiny, waveforms
from training_draws import check_draws, check_layer_drop

from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.errors import ParameterMismatchError
from wav2vec2_core.outputs import ModelOutput
from wav2vec2_core.parameters import HEADS, initial_values, parameter_table
from wav2vec2_tf import layers
from wav2vec2_tf.weights import export_weights, fill_weights

# ---- padding ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("head", "norm", "variant"), list(legal_models()))
def test_a_padded_batch_equals_its_single_utterances(head, norm, variant):
    from tf_models import VARIANTS

    model = tiny(head, masked_group_norm=True, **NORMS[norm], **VARIANTS[variant])
    values, mask = padded(rubbish=3.0)
    batch = model(values, mask)
    for row, length in enumerate(LENGTHS):
        single = model(values[row : row + 1, :length])
        for name, value in single.items():
            if "perplexity" in name or name == "hidden_states":  # of the batch; with padding
                continue
            mine = batch[name][row][: value.shape[1]] if len(value.shape) == 3 else batch[name][row]
            assert relative(mine, value[0]) <= 1e-5, name


def test_group_norm_without_the_option_sees_padding():
    values, mask = padded(rubbish=3.0)
    model = tiny()
    batch, single = model(values, mask)[0][2], model(values[2:, :700])[0][0]
    assert relative(batch[: len(single)], single) > 0.01


@pytest.mark.parametrize("norm", NORMS)
def test_attention_weights(norm):
    values, mask = padded()
    weights = tiny(**NORMS[norm])(values, mask, output_attentions=True).attentions[0].numpy()
    assert weights.shape == (3, 4, FRAMES, FRAMES)
    assert np.allclose(weights.sum(-1), 1, atol=1e-5)
    assert not weights[2, :, :, 40:].any()  # 700 samples are 34 frames


def test_group_norm_statistics_do_not_overflow_in_half_precision():
    norm = layers.ChannelGroupNorm(2)
    values = tf.constant(300 * np.random.default_rng(0).standard_normal((1, 4000, 2)), tf.float16)
    for lengths in (None, tf.constant([3000])):
        assert np.isfinite(norm(values, lengths=lengths)).all()  # squares exceed 65504


# ---- randomness ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("graph", [False, True], ids=["eager", "graph"])
def test_keras_seed_governs_training_mode(graph):
    def run(seed):
        model = tiny(seed=0, mask_feature_prob=0.2, layerdrop=0.5, num_hidden_layers=4)
        call = tf.function(model) if graph else model
        keras.utils.set_random_seed(seed)
        return call(*padded(), training=True).last_hidden_state.numpy()

    first = run(3)
    assert np.array_equal(first, run(3))
    assert not np.array_equal(first, run(4))


def test_each_step_of_a_graph_draws_anew():
    model = tiny(**QUIET, mask_time_prob=0.5)
    step = tf.function(lambda values: model(values, training=True).last_hidden_state)
    values = waveforms()
    assert not np.array_equal(step(values), step(values))
    clean = model(values).last_hidden_state
    assert np.array_equal(model(values).last_hidden_state, clean)


def test_dropped_layers_change_nothing_and_use_every_parameter():
    model = tiny(num_hidden_layers=3, **QUIET, apply_spec_augment=False)
    with tf.GradientTape() as tape:
        output = model(waveforms(), output_hidden_states=True, layer_keep=np.array([True, False, True]), training=True)
        loss = tf.reduce_sum(output.last_hidden_state**2)
    assert len(output.hidden_states) == 4
    assert np.array_equal(output.hidden_states[1], output.hidden_states[2])
    assert not np.array_equal(output.hidden_states[2], output.hidden_states[3])
    dropped = tape.gradient(loss, model.encoder.layers[1].feed_forward.output_dense.kernel.value)
    assert dropped is not None
    assert not dropped.numpy().any()


def test_layers_are_dropped_at_the_configured_rate():
    model = tiny(num_hidden_layers=8, **{**QUIET, "layerdrop": 0.25}, apply_spec_augment=False)
    step = tf.function(lambda values: model(values, output_hidden_states=True, training=True).hidden_states)
    dropped = 0
    for _ in range(40):
        states = [state.numpy() for state in step(waveforms(1, 200))]
        dropped += sum(np.array_equal(before, after) for before, after in itertools.pairwise(states))
    assert 50 <= dropped <= 110  # 80 expected of 320, deviation 7.7


@pytest.mark.parametrize("channels", [2, 8, 12, 16, 48])
def test_groups_of_any_width_in_bfloat16(channels):
    generator = np.random.default_rng(0)
    wide = layers.WeightNormConv1d(4 * channels, 8, 4)
    for variable in wide.weights:
        variable.assign(tf.round(16 * generator.standard_normal(variable.shape)) / 16)
    with layers.dtype_policy("bfloat16"):
        narrow = layers.WeightNormConv1d(4 * channels, 8, 4)
    narrow.set_weights([weight.numpy() for weight in wide.weights])
    x = (generator.integers(-32, 32, (2, 30, 4 * channels)) / 16).astype(np.float32)
    found = narrow(tf.cast(x, tf.bfloat16))
    assert found.dtype == tf.bfloat16
    assert relative(found, wide(x)) <= 2e-2


def test_the_last_norm_follows_a_dropped_layer():
    model = tiny(**{**QUIET, **NORMS["layer-pre"]})
    output = model(waveforms(), layer_keep=np.array([True, False]), output_hidden_states=True)
    first, second, last = output.hidden_states
    assert np.array_equal(last, output.last_hidden_state)
    assert relative(last, model.encoder.layer_norm(second)) <= 1e-6
    assert relative(second, first) > 0.01


@pytest.mark.parametrize("mixed", [True, False])
def test_mixed_states_are_those_before_the_adapter(mixed):
    model = tiny("ForXVector", add_adapter=True, num_adapter_layers=1, use_weighted_layer_sum=mixed)
    values, mask = padded()
    frames = [74, 59, 34] if mixed else [37, 30, 17]
    assert model.frame_lengths(mask).numpy().tolist() == frames
    assert model.encode(values, mask, None)[0].shape[1] == frames[0]


def test_masked_frames_lose_their_content():
    body = tiny("ForPreTraining").wav2vec2
    mask, features = np.zeros((3, FRAMES), bool), np.zeros((3, 32), bool)
    mask[:, 10:30] = features[:, 4] = True
    hidden = tf.constant(np.random.default_rng(0).standard_normal((3, FRAMES, 32)), tf.float32)
    masked = body.mask_hidden_states(hidden, tf.constant(mask), tf.constant(features)).numpy()
    assert np.array_equal(masked[:, 10:30, :4], np.broadcast_to(body.masked_spec_embed.numpy()[:4], (3, 20, 4)))
    assert np.array_equal(masked[:, :10, 5:], hidden.numpy()[:, :10, 5:])
    assert not masked[:, :, 4].any()


def test_drawn_masks_stay_within_utterances():
    frames = tf.constant([FRAMES, 59, 34])
    time, feature, keep = tiny(mask_time_prob=0.9, layerdrop=0.0).draw_missing(3, FRAMES, frames, None, None, None)
    assert time.numpy().any(1).all()
    assert not time.numpy()[2, 34:].any()
    assert feature is keep is None
    time, feature, _ = tiny(mask_feature_prob=0.9, mask_time_prob=0.0).draw_missing(3, 9, None, None, None, None)
    assert time is None
    assert feature.numpy().any(1).all()
    given = tf.zeros((3, FRAMES), tf.bool)
    assert tiny().draw_missing(3, FRAMES, frames, given, None, None)[0] is given
    assert tiny(apply_spec_augment=False).draw_missing(3, FRAMES, frames, None, None, None)[:2] == (None, None)


def test_draws_follow_the_configuration():
    def draw(fields, lengths):
        drawn = tiny(**fields).draw_missing(len(lengths), FRAMES, tf.constant(lengths), None, None, None)
        return [None if mask is None else mask.numpy() for mask in drawn]

    check_draws(draw)
    model = tiny(**{**QUIET, "layerdrop": 0.3}, mask_time_prob=0.0)
    check_layer_drop(lambda fields, lengths: model.draw_missing(1, FRAMES, None, None, None, None), 2)


def test_gumbel_choice_follows_the_noise_in_training_and_the_logits_otherwise():
    quantizer = tiny("ForPreTraining").quantizer
    noise = np.zeros((3, FRAMES, 2, 8), np.float32)
    noise[..., 5] = 1e6
    features = tf.constant(np.random.default_rng(0).standard_normal((3, FRAMES, 24)), tf.float32)
    chosen, *_ = quantizer(features, None, noise, training=True)
    codebook = quantizer.codevectors.numpy().reshape(2, 8, 8)
    assert np.allclose(chosen, np.broadcast_to(codebook[:, 5].reshape(-1), (3, FRAMES, 16)), atol=1e-5)
    first, (_, hard), _ = quantizer(features, None, noise)
    assert np.array_equal(first, quantizer(features, None)[0])
    assert 2 < float(tf.reduce_sum(hard)) <= 16


def test_gumbel_temperature_reaches_graphs_that_exist():
    model = tiny("ForPreTraining", **QUIET)
    noise = np.random.default_rng(0).gumbel(size=(3, FRAMES, 2, 8)).astype(np.float32)
    features = tf.constant(np.random.default_rng(1).standard_normal((3, FRAMES, 24)), tf.float32)

    @tf.function
    def gradient():
        with tf.GradientTape() as tape:
            chosen, *_ = model.quantizer(features, None, noise, training=True)
            total = tf.reduce_sum(chosen**3)
        return tape.gradient(total, model.quantizer.weight_proj.kernel.value)

    before = gradient().numpy()
    model.set_gumbel_temperature(0.5)
    assert model.quantizer.temperature.numpy() == 0.5
    assert relative(gradient(), before) > 0.1


# ---- parameters ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("head", HEADS)
def test_first_values_come_from_the_core_and_keras_seed(head):
    config = Wav2Vec2Config(**TINY)
    keras.utils.set_random_seed(7)
    weights = export_weights(model_class(head)(config))
    keras.utils.set_random_seed(7)
    with layers.without_values():
        model_class(head)(config)
    seed = layers.draw_seed()
    expected = dict(initial_values(parameter_table(config, head), seed))
    assert weights.keys() == expected.keys()
    first = next(iter(expected))
    assert np.array_equal(weights[first], expected[first])
    assert all(np.array_equal(weights[name], expected[name]) for name in expected)
    assert not np.array_equal(export_weights(model_class(head)(config))[first], weights[first])


@pytest.mark.parametrize(("head", "norm", "variant"), list(legal_models()))
def test_weights_go_out_and_in(head, norm, variant):
    """Every variable of the model is in the table, once, and every value survives."""
    from tf_models import VARIANTS, random_values

    model = tiny(head, **NORMS[norm], **VARIANTS[variant])
    expected = dict(random_values(model.config, head))
    weights = export_weights(model)
    assert list(weights) == list(model.parameter_table())
    assert all(np.array_equal(weights[name], expected[name]) for name in weights)
    assert all(array.flags.c_contiguous for array in weights.values())
    stored = [weight for weight in model.weights if weight.path.split("/")[-1] != "temperature"]
    assert sum(np.prod(weight.shape) for weight in stored) == sum(array.size for array in weights.values())


def test_filling_checks_names_and_shapes():
    model = tiny()
    for name in ("encoder.nothing", "encoder.layers.9.layer_norm.bias", "config"):
        with pytest.raises(ParameterMismatchError, match=rf"'{name}' is not one of TFWav2Vec2Model's"):
            fill_weights(model, [(name, np.zeros(3))])
    with pytest.raises(ParameterMismatchError, match=r"'masked_spec_embed' has shape \(32,\), the given array \(3,\)"):
        fill_weights(model, [("masked_spec_embed", np.zeros(3))])


# ---- calls --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("head", HEADS)
def test_configured_outputs(head):
    output = tiny(head, output_hidden_states=True, output_attentions=True)(waveforms())
    assert isinstance(output, ModelOutput)
    assert len(output.hidden_states) == 3
    assert len(output.attentions) == 2
    plain = tiny(head, return_dict=False)(waveforms())
    assert isinstance(plain, tuple)
    assert all(tf.is_tensor(value) for value in plain)


def test_ways_to_call():
    model = tiny("ForCTC")
    values, mask = padded()
    labels = np.array([[1, 2], [3, -100], [4, 5]])
    expected = model(values, attention_mask=mask, labels=labels, output_attentions=True)
    for output in (
        model({"input_values": values, "attention_mask": mask, "labels": labels}, output_attentions=True),
        model(values, mask, True, None, True, labels),
        model(values.astype(np.float64), mask.astype(bool), labels=labels, output_attentions=True),
    ):
        assert list(output) == list(expected)
        assert relative(output.logits, expected.logits) <= 1e-6
        assert relative(output.loss, expected.loss) <= 1e-6
    with pytest.raises(TypeError, match="nonsense"):
        model({"input_values": values, "nonsense": mask})


@pytest.mark.parametrize("environment", [{"KERAS_BACKEND": "jax"}, {"KERAS_BACKEND": "torch"}])
def test_another_keras_backend_is_refused(environment):
    code = "import wav2vec2_tf"
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    name = environment["KERAS_BACKEND"]
    assert done.stderr.strip().splitlines()[-1] == (
        f"wav2vec2_core.errors.BackendError: KERAS_BACKEND='{name}' makes Keras run on {name}, wav2vec2_tf needs "
        "TensorFlow: unset KERAS_BACKEND or set it to tensorflow before Keras is imported"
    )


def test_keras_own_setting_is_refused_too(tmp_path):
    (tmp_path / "keras.json").write_text('{"backend": "numpy"}')
    environment = {name: value for name, value in os.environ.items() if name != "KERAS_BACKEND"}
    done = subprocess.run(
        [sys.executable, "-c", "import wav2vec2_tf"],
        env={**environment, "KERAS_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert "BackendError: Keras " in last  # it does not import where that back end lacks a library
    assert "set KERAS_BACKEND=tensorflow before Keras is imported" in last
