"""Behaviour of the models: padding, functional use, scanned layers, precision, randomness, options of the call."""

import copy
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from flax_models import doubled, gradient_error, model_class, padded, relative, same_params, tiny, waveforms
from model_cases import FRAMES, LENGTHS, NORMS, QUIET, TINY, VARIANTS, legal_cases
from training_draws import check_draws, check_layer_drop

from conformance.tolerances import tolerance
from wav2vec2_core import masking
from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.errors import ConfigError, InputError, ParameterMismatchError
from wav2vec2_core.outputs import ModelOutput
from wav2vec2_core.parameters import HEADS
from wav2vec2_flax import layers
from wav2vec2_flax.weights import flatten

KEY = jax.random.key(7)
#: One case for each head, with every norm and variant among them.
SOME = [
    ("Model", "group-post", "wide-adapter"), ("ForPreTraining", "layer-pre", "plain"),
    ("ForCTC", "layer-pre", "attention-adapters"), ("ForSequenceClassification", "group-pre", "weighted-sum"),
    ("ForAudioFrameClassification", "layer-post", "plain"), ("ForXVector", "group-post", "adapter"),
]  # fmt: skip


def jitted(model, *args, **options):
    return jax.jit(lambda model, args: model(*args, **options))(model, args)


def test_the_cases_are_legal():
    assert set(SOME) <= set(legal_cases())


# ---- padding ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("head", "norm", "variant"), SOME)
def test_a_padded_batch_equals_its_single_utterances(head, norm, variant):
    model = tiny(head, masked_group_norm=True, **NORMS[norm], **VARIANTS[variant])
    values, mask = padded(rubbish=3.0)
    batch = jitted(model, values, mask)
    for row, length in enumerate(LENGTHS):
        for name, value in jitted(model, values[row : row + 1, :length]).items():
            if "perplexity" not in name and name != "hidden_states":  # of the batch; with padding
                mine = batch[name][row][: value.shape[1]] if value.ndim == 3 else batch[name][row]
                assert relative(mine, value[0]) <= 1e-5, name


def test_group_norm_without_the_option_sees_padding():
    values, mask = padded(rubbish=3.0)
    model = tiny()
    batch, single = model(values, mask)[0][2], model(values[2:, :700])[0][0]
    assert relative(batch[: len(single)], single) > 0.01


# ---- functional use -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("head", HEADS)
def test_params_are_used_instead_of_the_models_own(head):
    one, other = tiny(head), tiny(head, seed=1)
    before = jax.tree.map(np.asarray, one.params)
    main = next(iter(other(waveforms())))
    assert np.array_equal(one(waveforms(), params=other.params)[main], other(waveforms())[main])
    assert relative(one(waveforms())[main], other(waveforms())[main]) > 0.01
    jax.tree.map(np.testing.assert_array_equal, before, one.params)


def test_params_have_the_names_of_transformers_flax_models():
    paths = {"/".join(path) for path in flatten(tiny("ForCTC", **NORMS["layer-pre"]).params)}
    for path in (
        "lm_head/kernel",
        "wav2vec2/masked_spec_embed",
        "wav2vec2/feature_extractor/conv_layers/0/conv/kernel",
        "wav2vec2/feature_extractor/conv_layers/2/layer_norm/scale",
        "wav2vec2/encoder/pos_conv_embed/conv/weight_v",
        "wav2vec2/encoder/layers/1/feed_forward/intermediate_dense/bias",
    ):
        assert path in paths


def test_params_can_be_assigned():
    one, other = tiny("ForCTC"), tiny("ForCTC", seed=1)
    one.params = other.params
    assert same_params(one, other)


def test_wrong_params():
    model = tiny("ForCTC")
    params = model.params
    del params["lm_head"]["bias"]
    with pytest.raises(ParameterMismatchError, match=r"params lacks lm_head/bias \(1 such parameters\)"):
        model(waveforms(), params=params)
    params["lm_head"]["bias"] = jnp.zeros(12)
    with pytest.raises(ParameterMismatchError, match=r"lm_head/bias with shape \(12,\), the model's is \(11,\)"):
        model(waveforms(), params=params)
    params["lm_head"].update(bias=jnp.zeros(11), more=jnp.zeros(3))
    with pytest.raises(ParameterMismatchError, match="params has the unknown lm_head/more"):
        model.params = params


def test_a_model_without_values_computes_with_params():
    model = model_class("ForCTC")(Wav2Vec2Config(**TINY), _do_init=False)
    full = tiny("ForCTC")
    assert all(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(model.params))
    assert np.array_equal(model(waveforms(), params=full.params).logits, full(waveforms()).logits)


def test_models_are_pytrees_and_modules():
    model = tiny("ForCTC")
    expected = model(waveforms()).logits
    structure, state = nnx.split(model)
    assert np.array_equal(nnx.merge(structure, state)(waveforms()).logits, expected)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert same_params(other, model)
        assert other.config == model.config
    traces = []

    @jax.jit
    def run(model, values):
        traces.append(1)
        return model(values).logits

    run(model, waveforms())
    assert relative(run(tiny("ForCTC", seed=1), waveforms()), expected) > 0.01
    assert len(traces) == 1, "equal configurations compile once"
    run(tiny("ForCTC", layer_norm_eps=1e-3), waveforms())
    assert len(traces) == 2


def test_gumbel_temperature_is_an_argument_that_does_not_compile_again():
    model = tiny("ForPreTraining")
    traces = []

    @jax.jit
    def perplexity_slope(params, temperature):
        traces.append(1)
        return model(waveforms(), params=params, train=True, dropout_rng=KEY, gumbel_temperature=temperature)

    def slope(temperature):
        def states(codevectors):
            params = model.params
            params["quantizer"]["weight_proj"]["bias"] = codevectors
            return perplexity_slope(params, temperature).projected_quantized_states.sum()

        return jax.grad(states)(model.params["quantizer"]["weight_proj"]["bias"])

    first, second = slope(2.0), slope(0.5)
    assert len(traces) == 1
    assert relative(first, second) > 0.01
    model.set_gumbel_temperature(0.5)
    assert relative(
        jax.grad(
            lambda bias: model(
                waveforms(),
                params={**model.params, "quantizer": {**model.params["quantizer"], "weight_proj": {
                    **model.params["quantizer"]["weight_proj"], "bias": bias}}},
                train=True,
                dropout_rng=KEY,
            ).projected_quantized_states.sum()
        )(model.params["quantizer"]["weight_proj"]["bias"]),
        second,
    ) <= 1e-4  # fmt: skip


# ---- scanned layers and rematerialisation -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scan", "remat"), [(True, None), (False, "full"), (True, "full"), (True, "dots"), (False, "dots_no_batch")]
)
def test_scanning_and_rematerialisation_change_no_number(scan, remat):
    """With dropout and layer drop, whose keys are the same too: all are as near to float64 as a back end must be."""
    values, mask = padded()
    labels = np.array([[1, 2, 3], [4, 5, -100], [6, 7, 8]])

    def loss_and_gradient(model):
        def loss(params):
            return model(values, mask, params=params, labels=labels, train=True, dropout_rng=KEY).loss

        return jax.jit(jax.value_and_grad(loss))(model.params)

    plain, other = tiny("ForCTC", layerdrop=0.4), tiny("ForCTC", layerdrop=0.4, scan_layers=scan, remat=remat)
    assert same_params(plain, other)
    with doubled(plain) as exact_model:
        exact_loss, exact = jax.device_get(loss_and_gradient(exact_model))
    found, gradient = loss_and_gradient(other)
    assert relative(found, exact_loss) <= tolerance("loss").limit
    assert gradient_error(gradient, exact) <= tolerance("gradients").limit


def test_scanned_layers_are_compiled_once():
    sizes = {}
    for scan in (False, True):
        model = tiny(num_hidden_layers=12, scan_layers=scan)
        sizes[scan] = len(jax.jit(lambda model, values: model(values)).lower(model, waveforms()).as_text())
    assert sizes[True] < 0.5 * sizes[False]


def test_policies():
    model = tiny()
    assert not model.is_gradient_checkpointing
    model.gradient_checkpointing_enable()
    assert model.is_gradient_checkpointing
    model.gradient_checkpointing_disable()
    assert not model.is_gradient_checkpointing
    with pytest.raises(ConfigError, match=r"remat='some' is unknown: use one of full, dots, dots_no_batch"):
        tiny(remat="some")


def test_a_model_of_no_layers():
    for scan in (False, True):
        output = tiny(num_hidden_layers=0, scan_layers=scan)(waveforms(), output_hidden_states=True)
        assert len(output.hidden_states) == 1


# ---- precision ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("kept", ["float32", "bfloat16"])
def test_half_precision(head, kept):
    values, mask = padded()
    narrow = tiny(head, dtype="bfloat16", param_dtype=kept, masked_group_norm=True)
    wide = tiny(head, masked_group_norm=True)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(narrow.params)} == {kept}
    name = {"Model": "last_hidden_state", "ForPreTraining": "projected_states"}.get(head, "logits")
    output = jitted(narrow, values, mask)[name]
    assert output.dtype == jnp.bfloat16
    assert relative(output, jitted(wide, values, mask)[name]) <= 0.1


def test_dtypes_that_cannot_be():
    with pytest.raises(ConfigError, match="dtype='int8' is no type for parameters"):
        tiny(dtype="int8")
    with pytest.raises(ConfigError, match=r"float64' is switched off in JAX: call jax.config.update"):
        tiny(param_dtype=np.float64)


@pytest.mark.parametrize("kernel", [4, 5])
def test_the_gradient_of_the_grouped_convolution_is_that_of_a_convolution(kernel):
    generator = np.random.default_rng(0)
    x, weight = generator.standard_normal((2, 9, 6)), generator.standard_normal((6, 2, kernel))
    with jax.enable_x64(True):
        change = generator.standard_normal(layers._convolved(x, weight, 3).shape)
        own = jax.vjp(lambda *given: layers._grouped_conv(*given, 3), x, weight)[1](change)
        expected = jax.vjp(lambda *given: layers._convolved(*given, 3), x, weight)[1](change)
        for one, other in zip(own, expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-12)


def test_group_norm_statistics_do_not_overflow_in_half_precision():
    norm = layers.ChannelGroupNorm(2, layers.Precision(jnp.float16, jnp.float16))
    norm.scale.set_value(jnp.ones(2, jnp.float16))
    norm.bias.set_value(jnp.zeros(2, jnp.float16))
    values = (300 * waveforms(1, 8000)).reshape(1, 4000, 2).astype(np.float16)  # squares exceed 65504
    expected = values.astype(np.float64)
    expected = (expected - expected.mean(1)) / expected.std(1)
    assert relative(norm(jnp.asarray(values), jnp.array([4000])), expected) <= 1e-2
    assert relative(norm(jnp.asarray(values)), expected) <= 1e-2


# ---- randomness ---------------------------------------------------------------------------------------------------


def test_the_key_governs_training():
    model = tiny("ForCTC", layerdrop=0.3)
    run = jax.jit(lambda key: model(waveforms(), train=True, dropout_rng=key).logits)
    assert np.array_equal(run(KEY), run(KEY))
    assert relative(run(KEY), run(jax.random.key(8))) > 0.01
    assert np.array_equal(model(waveforms(), dropout_rng=KEY).logits, model(waveforms()).logits), (
        "inference draws nothing"
    )
    with pytest.raises(InputError, match="train=True draws dropout and masks: pass dropout_rng"):
        model(waveforms(), train=True)


def test_drawn_spans_follow_the_distribution_of_the_core():
    lengths, options = np.array([FRAMES, 59, 34, 3]), {"prob": 0.3, "length": 4, "min_masks": 2}
    generator = np.random.default_rng(0)
    theirs = np.mean([masking.time_mask(lengths, FRAMES, **options, generator=generator) for _ in range(2000)], axis=0)
    draw = jax.jit(jax.vmap(lambda key: layers.draw_spans(key, jnp.asarray(lengths), FRAMES, **options)))
    ours = np.asarray(draw(jax.random.split(KEY, 2000)))
    assert np.abs(ours.mean(0) - theirs).max() <= 0.06  # 5 standard deviations of a mean over 2000 draws
    assert not ours[:, 1, 59:].any()
    assert not ours[:, 3].any(), "too short for a span"
    runs = np.diff(np.flatnonzero(np.diff(np.pad(ours[0, 0], 1).astype(int))))[::2]
    assert runs.min() >= 4


def test_drawn_masks_stay_within_utterances():
    frames = jnp.array([FRAMES, 59, 34])
    time, feature, keep = tiny(mask_time_prob=0.9, layerdrop=0.0).draw_missing(KEY, FRAMES, frames, None, None, None)
    assert time.any(1).all()
    assert not time[2, 34:].any()
    assert feature is keep is None
    model = tiny(mask_feature_prob=0.9, mask_time_prob=0.0)
    assert model.draw_missing(KEY, FRAMES, frames, None, None, None)[1].any(1).all()
    given = np.zeros((3, FRAMES), bool)
    assert tiny().draw_missing(KEY, FRAMES, frames, given, None, None)[0] is given


def test_draws_follow_the_configuration():
    keys = iter(jax.random.split(KEY, 1000))

    def draw(fields, lengths):
        drawn = tiny(**fields).draw_missing(next(keys), FRAMES, jnp.asarray(lengths), None, None, None)
        return [None if mask is None else np.asarray(mask) for mask in drawn]

    check_draws(draw)
    model = tiny(**{**QUIET, "layerdrop": 0.3}, mask_time_prob=0.0)
    keep = jax.jit(lambda key: model.draw_missing(key, FRAMES, jnp.array([FRAMES]), None, None, None)[2])
    check_layer_drop(lambda fields, lengths: (None, None, np.asarray(keep(next(keys)))), 2)


def test_dropped_layers_change_nothing():
    model = tiny(**QUIET)
    output = model(waveforms(), layer_keep=np.array([False, True]), output_hidden_states=True)
    assert np.array_equal(output.hidden_states[0], output.hidden_states[1])
    assert relative(output.hidden_states[2], output.hidden_states[1]) > 0.01


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
    assert model.frame_lengths(mask).tolist() == frames
    assert model.encode(values, mask, None)[0].shape[1] == frames[0]


def test_masks_that_are_passed_in_are_used_in_inference_too():
    model = tiny()
    mask = np.zeros((3, FRAMES), bool)
    mask[:, 5:20] = True
    hidden = jnp.asarray(waveforms(3, FRAMES * 32).reshape(3, FRAMES, 32))
    masked = model.mask_hidden_states(hidden, mask, np.arange(32) == 4 * np.ones((3, 1)))
    embedding = model.params["masked_spec_embed"]
    others = np.arange(32) != 4
    np.testing.assert_array_equal(masked[:, 5:20][..., others], np.broadcast_to(embedding[others], (3, 15, 31)))
    np.testing.assert_array_equal(masked[:, :5][..., others], hidden[:, :5][..., others])
    assert not masked[..., 4].any()
    assert relative(model(waveforms(), None, mask)[0], model(waveforms())[0]) > 0.01


def test_dropout_keeps_the_mean():
    dropped = layers.dropout(jnp.ones(100_000), 0.3, KEY)
    assert float((dropped == 0).mean()) == pytest.approx(0.3, abs=0.01)
    assert float(dropped.mean()) == pytest.approx(1.0, abs=0.01)
    assert not layers.dropout(jnp.ones(9), 1.0, KEY).any()


def test_gumbel_noise_is_used_in_training_only():
    model = tiny("ForPreTraining")
    noise = np.zeros((3, FRAMES, 2, 8), np.float32)
    noise[..., 5] = 1e6
    train = {"train": True, "dropout_rng": KEY}
    chosen = model(waveforms(), gumbel_noise=noise, **train).projected_quantized_states
    assert relative(chosen, np.broadcast_to(np.asarray(chosen)[0, 0], chosen.shape)) <= 1e-5
    plain = model(waveforms())
    assert np.array_equal(
        model(waveforms(), gumbel_noise=noise).projected_quantized_states, plain.projected_quantized_states
    )
    one, other = (model(waveforms(), gumbel_rng=jax.random.key(seed), **train) for seed in (0, 1))
    assert np.array_equal(one.projected_states, other.projected_states)
    assert relative(one.projected_quantized_states, other.projected_quantized_states) > 0.01


# ---- options of the call ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("head", HEADS)
def test_configured_outputs(head):
    output = tiny(head, output_hidden_states=True, output_attentions=True)(waveforms())
    assert isinstance(output, ModelOutput)
    assert len(output.hidden_states) == 3
    assert len(output.attentions) == 2
    plain = tiny(head, return_dict=False)(waveforms())
    assert isinstance(plain, tuple)
    assert all(isinstance(value, jax.Array) for value in plain)


def test_no_gradient_into_a_frozen_feature_encoder():
    model = tiny("ForCTC")

    def gradient(frozen):
        def loss(params):
            return model(waveforms(), params=params, freeze_feature_encoder=frozen).logits.var()

        return jax.grad(loss)(model.params)["wav2vec2"]["feature_extractor"]["conv_layers"]["0"]["conv"]["kernel"]

    assert gradient(False).any()
    assert not gradient(True).any()


def test_freezing():
    model = tiny("ForCTC")
    assert all(jax.tree.leaves(model.trainable))
    model.freeze_feature_encoder()
    assert not any(jax.tree.leaves(model.trainable["wav2vec2"]["feature_extractor"]))
    assert all(jax.tree.leaves(model.trainable["wav2vec2"]["encoder"]))
    model.freeze_base_model()
    assert not any(jax.tree.leaves(model.trainable["wav2vec2"]))
    assert model.trainable["lm_head"] == {"kernel": True, "bias": True}
    assert model.trainable_names() == {"lm_head.weight", "lm_head.bias"}
    assert not tiny(apply_spec_augment=False).trainable["masked_spec_embed"]


def test_what_is_trained_is_said_by_name():
    model = tiny("ForCTC")
    table = set(model.parameter_table())
    model.set_trainable({"lm_head.bias", "wav2vec2.masked_spec_embed"})
    assert model.trainable_names() == {"lm_head.bias", "wav2vec2.masked_spec_embed"}
    assert sum(jax.tree.leaves(model.trainable)) == 2
    assert model.trainable["lm_head"] == {"kernel": False, "bias": True}
    model.set_trainable(table)
    assert model.trainable_names() == table
    with pytest.raises(InputError, match=r"lm_head\.gain is no parameter of a Wav2Vec2ForCTC"):
        model.set_trainable({"lm_head.gain"})
    unused = tiny("ForCTC", apply_spec_augment=False)
    unused.set_trainable(table)
    assert unused.trainable_names() == table - {"wav2vec2.masked_spec_embed"}


def test_labels_inside_jit_are_checked_by_shape():
    with pytest.raises(InputError, match=r"labels has shape \(2, 4\)"):
        jax.jit(lambda labels: tiny("ForCTC")(waveforms(), labels=labels).loss)(np.ones((2, 4), int))
