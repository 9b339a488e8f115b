"""Every head and option of wav2vec2_flax against transformers: outputs, losses and gradients, jitted and not."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers
from flax_pairs import arrays, compare, make_flax_pair, relative, run
from torch_head_cases import fields_of, ids, scalar, training_call
from torch_pairs import SAMPLES, VARIANTS, cases, waveforms
from transformers.activations import ACT2FN

from wav2vec2_core.config import ACTIVATIONS, Wav2Vec2Config
from wav2vec2_core.parameters import HEADS
from wav2vec2_core.weight_files.checkpoint import canonical_name
from wav2vec2_flax import FlaxWav2Vec2ForCTC, layers
from wav2vec2_flax.weights import flatten, places
from wav2vec2_torch import layers as torch_layers

pytestmark = pytest.mark.oracle

CASES = list(cases())
#: The families of released checkpoints with every variant, the other combinations of norms without.
TRAINED = [case for case in CASES if (case[1] == "layer") == case[2] or case[3] == "plain"]
LOSS = 1e-5  # relative to the largest value
GRADIENT = 1e-4


@pytest.fixture(autouse=True)
def _one_thread():
    torch.manual_seed(0)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def shared_noise(monkeypatch):
    """Gumbel noise for our models, put into torch's own gumbel_softmax for theirs."""
    noise = torch_layers.gumbel_noise_like(torch.zeros(len(SAMPLES), 74, 2, 8))

    def gumbel_softmax(logits, tau=1, hard=False, eps=1e-10, dim=-1):
        assert hard
        return torch_layers.hard_gumbel_softmax(logits, noise.reshape(logits.shape), tau)

    monkeypatch.setattr(torch.nn.functional, "gumbel_softmax", gumbel_softmax)
    return noise


@pytest.mark.parametrize(("masked", "scan"), [(True, False), (False, True)], ids=["padded", "full-scanned"])
@pytest.mark.parametrize("case", CASES, ids=ids)
def test_outputs(case, masked, scan):
    head, *options = case
    theirs, ours = make_flax_pair(head, **fields_of(*options), scan_layers=scan)
    call = waveforms(masked)
    with torch.no_grad():
        reference = theirs(**call, output_attentions=True, output_hidden_states=True)
    compare(run(ours, arrays(call), output_attentions=True, output_hidden_states=True), reference)


@pytest.mark.parametrize("feature", ["group", "layer"])
@pytest.mark.parametrize("head", HEADS)
def test_outputs_without_jit(head, feature):
    theirs, ours = make_flax_pair(head, **fields_of(feature, feature == "layer", "plain"))
    call = waveforms(True)
    with torch.no_grad():
        compare(ours(**arrays(call)), theirs(**call))


def gradient_errors(ours, gradient, theirs):
    """Largest difference of each parameter's gradient, relative to its largest value.

    Two biases have gradient zero in exact arithmetic: of the keys (the softmax does not see it) and of a convolution
    before group norm (which removes it). Their differences are compared to the gradient of the weight beside them.
    """
    invisible = (
        ("k_proj.bias", "conv_layers.0.conv.bias") if ours.config.feat_extract_norm == "group" else "k_proj.bias"
    )
    reference = {canonical_name(name): parameter.grad for name, parameter in theirs.named_parameters()}
    flat = flatten(gradient)
    errors = {}
    for name, place in places(ours).items():
        mine = np.asarray(flat[place.path])
        mine = mine.T if place.reverse else mine
        expected = reference[name]
        if expected is None or not expected.any():
            assert not mine.any(), name
            continue
        beside = name.removesuffix("bias") + "weight"
        scale = (reference[beside] if name.endswith(invisible) else expected).abs().max().item()
        errors[name] = np.abs(mine - expected.numpy()).max() / scale
    return errors


@pytest.mark.parametrize("case", TRAINED, ids=ids)
def test_training_step(case, shared_noise):
    """Padded and with a layout of its own: every other case scans its layers, with and without rematerialisation."""
    head, *options = case
    number = TRAINED.index(case)
    draws_itself = head not in {"Model", "ForPreTraining"}
    theirs, ours = make_flax_pair(
        head,
        **fields_of(*options),
        apply_spec_augment=not draws_itself,
        scan_layers=number % 2 == 0,
        remat=(None, "full", "dots", "dots_no_batch")[number // 2 % 4],
    )
    theirs.train()
    call, extra = training_call(head, theirs_config(ours), True, shared_noise)
    reference = theirs(**call)
    scalar(reference).backward()
    call = {**arrays(call), **arrays(extra)}

    @functools.partial(jax.value_and_grad, has_aux=True)
    def step(params):
        output = ours(**call, params=params, train=True, dropout_rng=jax.random.key(0))
        return flax_scalar(output), output

    (_, output), gradient = jax.jit(step)(ours.params)
    compare(output, reference, LOSS)
    errors = gradient_errors(ours, gradient, theirs)
    assert len(errors) > 20
    name = max(errors, key=errors.__getitem__)
    assert errors[name] <= GRADIENT, f"{name}: {errors[name]:.2e}"


class theirs_config:  # noqa: N801
    """What ``training_call`` reads of a model: its configuration."""

    def __init__(self, model):
        self.config = model.config


def flax_scalar(output):
    """``scalar`` of the PyTorch comparison, in JAX."""
    if output.get("loss") is not None:
        return output["loss"]
    states = output.get("last_hidden_state")
    if states is not None:
        return (states * jnp.linspace(-1, 1, states.size).reshape(states.shape)).sum()
    products = jnp.square(output["projected_states"]).sum() + (output["projected_quantized_states"] ** 3).sum()
    return products + output["codevector_perplexity"]


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(name):
    theirs, ours = make_flax_pair("Model", feat_extract_activation=name, hidden_act=name, num_hidden_layers=1)
    call = waveforms(True)
    with torch.no_grad():
        compare(run(ours, arrays(call), output_hidden_states=True), theirs(**call, output_hidden_states=True))
        extreme = torch.linspace(-20, 20, 4001)
        assert relative(layers.activation(name)(extreme.numpy()), ACT2FN[name](extreme)) <= 1e-6


@pytest.mark.filterwarnings("ignore:(?s).*its loss is infinite:UserWarning")
@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("zero_infinity", [False, True])
def test_ctc_options(reduction, zero_infinity):
    """Other blanks, padding anywhere in the labels, and more letters than frames."""
    fields = {"ctc_loss_reduction": reduction, "ctc_zero_infinity": zero_infinity, "pad_token_id": 3}
    theirs, ours = make_flax_pair("ForCTC", **fields)
    call = waveforms(True)
    labels = torch.randint(4, 11, (3, 40))  # more letters than the last utterance has frames
    labels[0, 10:] = -100
    labels[1, ::2] = -1
    with torch.no_grad():
        reference = theirs(**call, labels=labels).loss
    loss = run(ours, {**arrays(call), "labels": labels.numpy()}).loss
    assert bool(torch.isfinite(reference)) == zero_infinity
    assert np.isposinf(loss) if not zero_infinity else relative(loss, reference) <= LOSS


@pytest.mark.parametrize(
    ("head", "feature", "stable", "variant"),
    [
        ("ForCTC", "layer", True, "attention-adapters"),
        ("ForCTC", "group", True, "wide-adapter"),
        ("ForXVector", "layer", False, "weighted-sum"),
        ("ForPreTraining", "layer", True, "plain"),
    ],
)
def test_a_wrong_parameter_is_noticed(head, feature, stable, variant, shared_noise):
    """The comparison must fail for every single parameter that is perturbed by 1 % of its size or not loaded."""
    prob = 0.05 if head == "ForPreTraining" else 0.0  # with 0 there is no mask embedding
    fields = {**VARIANTS[variant], "feat_extract_norm": feature, "do_stable_layer_norm": stable}
    theirs, ours = make_flax_pair(head, **fields, mask_time_prob=prob)
    invisible = ("k_proj.bias", "conv_layers.0.conv.bias") if feature == "group" else ("k_proj.bias",)
    call, extra = training_call(head, theirs_config(ours), True, shared_noise)
    theirs.train()
    with torch.no_grad():
        reference = theirs(**call, output_hidden_states=True)
    call = {**arrays(call), **arrays(extra)}
    step = jax.jit(
        lambda model, call: model(**call, output_hidden_states=True, train=True, dropout_rng=jax.random.key(0))
    )
    compare(step(ours, call), reference)
    generator = np.random.default_rng(0)
    quiet = []
    for name, place in places(ours).items():
        kept = np.asarray(place.variable.get_value())
        signs = generator.choice([-1.0, 1.0], kept.shape)
        for wrong in (kept + 0.01 * np.abs(kept).mean() * signs, np.zeros_like(kept)):
            place.variable.set_value(jnp.asarray(wrong, jnp.float32))
            try:
                compare(step(ours, call), reference)
            except AssertionError:
                continue
            quiet.append(name)
        place.variable.set_value(jnp.asarray(kept))
    assert {name for name in quiet if not name.endswith(invisible)} == set()


@pytest.mark.slow
@pytest.mark.parametrize("family", ["base", "large-lv60"])
def test_full_size(family, tmp_path):
    """Checkpoints of the released sizes, with random biases and norms, jitted: 1e-4 of the largest logit."""
    fields = {name: value for name, value in Wav2Vec2Config.preset(family).to_dict().items() if name != "architectures"}
    theirs = transformers.Wav2Vec2ForCTC(transformers.Wav2Vec2Config(**fields)).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
    theirs.save_pretrained(tmp_path)
    ours = FlaxWav2Vec2ForCTC.from_pretrained(tmp_path, scan_layers=family != "base")
    values, mask = torch.randn(2, 24_000), torch.ones(2, 24_000, dtype=torch.long)
    mask[1, 15_000:] = 0
    with torch.no_grad():
        reference = theirs(values * mask, attention_mask=mask).logits
    logits = run(ours, {"input_values": (values * mask).numpy(), "attention_mask": mask.numpy()}).logits
    assert relative(logits, reference) <= 1e-4
