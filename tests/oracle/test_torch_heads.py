"""Every head and option of wav2vec2_torch against transformers: outputs, losses and gradients."""

import inspect
import random
import sys

import pytest
import torch
import transformers
from model_cases import MEASURES
from torch_head_cases import CASES, GRADIENT, LOGITS, LOSS, fields_of, ids, scalar, training_call
from torch_head_cases import shared_noise as shared_noise
from torch_pairs import make_pair, relative, waveforms
from transformers.activations import ACT2FN

import wav2vec2_torch
from wav2vec2_core.config import ACTIVATIONS
from wav2vec2_core.parameters import HEADS
from wav2vec2_core.weight_files.checkpoint import canonical_name
from wav2vec2_torch import layers

pytestmark = pytest.mark.oracle


@pytest.fixture(autouse=True)
def _one_thread():
    torch.manual_seed(0)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def compare(ours, theirs, limit=LOGITS, skip=()):
    """Check that two outputs have the same fields and numbers; returns the largest relative error."""
    assert list(ours)[: len(theirs)] == list(theirs)
    assert set(list(ours)[len(theirs) :]) <= MEASURES
    worst = 0.0
    for name in theirs:
        if name in skip:
            continue
        mine, reference = ours[name], theirs[name]
        if isinstance(reference, torch.Tensor):
            mine, reference = (mine,), (reference,)
        assert len(mine) == len(reference), name
        for index, (one, other) in enumerate(zip(mine, reference, strict=True)):
            error = relative(one, other)
            assert error <= limit, f"{name}[{index}]: {error:.2e}"
            worst = max(worst, error)
    return worst


@pytest.mark.parametrize("masked", [False, True], ids=["full", "padded"])
@pytest.mark.parametrize("case", CASES, ids=ids)
def test_outputs(case, masked):
    head, *options = case
    theirs, ours = make_pair(head, **fields_of(*options))
    call = waveforms(masked)
    with torch.no_grad():
        reference = theirs(**call, output_attentions=True, output_hidden_states=True)
        compare(ours(**call, output_attentions=True, output_hidden_states=True), reference)
        fused = ours(**call, output_hidden_states=True)  # the fused attention kernel, which returns no weights
        assert fused.attentions is None
        compare(fused, {name: value for name, value in reference.items() if name != "attentions"})


def gradient_error(ours, theirs):
    """Largest difference of each parameter's gradient, relative to its largest value.

    Two biases have gradient zero in exact arithmetic: of the keys (the softmax does not see it) and of a convolution
    before group norm (which removes it). Their differences are compared to the gradient of the weight beside them.
    """
    invisible = ["k_proj.bias"]
    if ours.config.feat_extract_norm == "group":
        invisible.append("conv_layers.0.conv.bias")
    reference = {canonical_name(name): parameter.grad for name, parameter in theirs.named_parameters()}
    errors = {}
    for name, parameter in ours.named_parameters():
        expected = reference[name]
        if expected is None or parameter.grad is None:
            absent = [gradient for gradient in (expected, parameter.grad) if gradient is not None]
            assert all(not gradient.any() for gradient in absent), name
            continue
        scale = expected.abs().max()
        if name.endswith(tuple(invisible)):
            scale = reference[name.removesuffix("bias") + "weight"].abs().max()
        if scale == 0:
            assert not parameter.grad.any(), name
            continue
        errors[name] = ((parameter.grad - expected).abs().max() / scale).item()
    return errors


@pytest.mark.parametrize("masked", [False, True], ids=["full", "padded"])
@pytest.mark.parametrize("case", CASES, ids=ids)
def test_training_step(case, masked, shared_noise):
    head, *options = case
    draws_itself = head not in {"Model", "ForPreTraining"}
    theirs, ours = make_pair(head, **fields_of(*options), apply_spec_augment=not draws_itself)
    theirs.train()
    ours.train()
    call, extra = training_call(head, ours, masked, shared_noise)
    reference, output = theirs(**call), ours(**call, **extra)
    compare(output, reference, LOSS)
    scalar(reference).backward()
    scalar(output).backward()
    errors = gradient_error(ours, theirs)
    assert len(errors) > 20
    name = max(errors, key=errors.__getitem__)
    assert errors[name] <= GRADIENT, f"{name}: {errors[name]:.2e}"


@pytest.mark.parametrize(
    ("head", "feature", "stable", "variant"),
    [
        ("ForCTC", "group", False, "plain"),
        ("ForCTC", "layer", True, "attention-adapters"),
        ("ForCTC", "group", True, "wide-adapter"),
        ("ForXVector", "layer", False, "weighted-sum"),
        ("ForPreTraining", "layer", True, "plain"),
    ],
)
def test_a_wrong_parameter_is_noticed(head, feature, stable, variant, shared_noise):
    """The comparison must fail for every single parameter that is perturbed by 1 % of its size or not loaded."""
    prob = 0.05 if head == "ForPreTraining" else 0.0  # with 0 there is no mask embedding
    theirs, ours = make_pair(head, **fields_of(feature, stable, variant), mask_time_prob=prob)
    invisible = ["k_proj.bias"]  # the softmax over keys removes it
    if feature == "group":
        invisible.append("conv_layers.0.conv.bias")
    call, extra = training_call(head, ours, True, shared_noise)
    theirs.train()
    ours.train()
    quiet = []
    with torch.no_grad():
        reference = theirs(**call, output_hidden_states=True)
        compare(ours(**call, **extra, output_hidden_states=True), reference)
        for name, parameter in ours.named_parameters():
            kept = parameter.clone()
            for wrong in (kept + 0.01 * kept.abs().mean() * torch.randn_like(kept).sign(), torch.zeros_like(kept)):
                parameter.copy_(wrong)
                try:
                    compare(ours(**call, **extra, output_hidden_states=True), reference)
                except AssertionError:
                    continue
                quiet.append(name)
            parameter.copy_(kept)
    assert {name for name in quiet if not name.endswith(tuple(invisible))} == set()


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(name):
    theirs, ours = make_pair("Model", feat_extract_activation=name, hidden_act=name, num_hidden_layers=1)
    call = waveforms(True)
    with torch.no_grad():
        compare(ours(**call, output_hidden_states=True), theirs(**call, output_hidden_states=True))
        extreme = torch.linspace(-20, 20, 4001)
        assert relative(layers.activation(name)(extreme), ACT2FN[name](extreme)) <= 1e-6


def test_masks_that_are_passed_in_are_used_in_eval_mode_too():
    theirs, ours = make_pair("Model")
    call = waveforms(True)
    mask = torch.rand(3, 74) < 0.3
    with torch.no_grad():
        reference = theirs(**call, mask_time_indices=mask)
        compare(ours(**call, mask_time_indices=mask), reference)
        assert relative(ours(**call).last_hidden_state, reference.last_hidden_state) > 0.01


def test_feature_masks_and_layer_drop(monkeypatch):
    """Theirs draws them: give their draws to ours."""
    fields = {"mask_time_prob": 0.0, "mask_feature_prob": 0.5, "layerdrop": 0.5, "num_hidden_layers": 6}
    theirs, ours = make_pair("Model", **fields)
    theirs.train()
    ours.train()
    features = torch.rand(3, 32) < 0.3
    draws = [0.9, 0.1, 0.2, 0.7, 0.8, 0.3]
    modeling = sys.modules[type(theirs).__module__]
    monkeypatch.setattr(modeling, "_compute_mask_indices", lambda *args, **options: features.numpy())
    left = iter(draws)
    real_rand = torch.rand
    monkeypatch.setattr(torch, "rand", lambda *size: torch.tensor(next(left)) if size == ([],) else real_rand(*size))
    call = waveforms(True)
    reference = theirs(**call, output_hidden_states=True)
    assert next(left, None) is None
    keep = torch.tensor([draw >= 0.5 for draw in draws])
    compare(ours(**call, output_hidden_states=True, mask_feature_indices=features, layer_keep=keep), reference)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("with_labels", [False, True])
def test_tuples_hold_the_same_fields(head, with_labels, shared_noise):
    theirs, ours = make_pair(head)
    call, extra = training_call(head, ours, True, shared_noise) if with_labels else (waveforms(True), {})
    with torch.no_grad():
        reference = theirs(**call, output_hidden_states=True, return_dict=False)
        output = ours(**call, **extra, output_hidden_states=True, return_dict=False)
    if head == "ForAudioFrameClassification" and with_labels:
        output = output[1:]  # theirs leaves the loss out of this head's tuple, unlike all others
    assert len(output) == len(reference)
    for one, other in zip(output, reference, strict=True):
        if isinstance(other, torch.Tensor):
            assert relative(one, other) <= LOGITS
        else:
            assert len(one) == len(other)


@pytest.mark.filterwarnings("ignore:(?s).*its loss is infinite:UserWarning")
@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("zero_infinity", [False, True])
def test_ctc_options(reduction, zero_infinity):
    fields = {"ctc_loss_reduction": reduction, "ctc_zero_infinity": zero_infinity, "pad_token_id": 3}
    theirs, ours = make_pair("ForCTC", **fields)
    call = waveforms(True)
    labels = torch.randint(4, 11, (3, 40))  # more letters than the last utterance has frames
    labels[0, 10:] = -100
    labels[1, ::2] = -1  # padding anywhere
    with torch.no_grad():
        one, other = ours(**call, labels=labels).loss, theirs(**call, labels=labels).loss
    assert torch.isfinite(other) == zero_infinity
    assert torch.equal(one, other) or relative(one, other) <= LOSS


def test_signatures_are_theirs():
    """Positional arguments have their names and order; what is ours alone is keyword-only."""
    for head in HEADS:
        theirs, ours = (
            inspect.signature(getattr(module, f"Wav2Vec2{head}").forward).parameters
            for module in (transformers, wav2vec2_torch)
        )
        positional = [name for name, item in ours.items() if item.kind is not item.KEYWORD_ONLY]
        assert positional == list(theirs)


def random_fields(draw):
    """A configuration in which every size and option is drawn, and options meet that no released model combines."""
    layers_, tdnn = draw.randint(1, 4), draw.randint(1, 3)
    groups = draw.choice([1, 2, 4])
    hidden = 8 * draw.randint(1, 5)
    return {
        "vocab_size": draw.randint(2, 20),
        "hidden_size": hidden,
        "num_hidden_layers": draw.randint(1, 3),
        "num_attention_heads": draw.choice([1, 2, 4]),
        "intermediate_size": draw.randint(3, 50),
        "hidden_act": draw.choice(ACTIVATIONS),
        "layer_norm_eps": draw.choice([1e-5, 1e-3]),
        "feat_extract_norm": draw.choice(["group", "layer"]),
        "do_stable_layer_norm": draw.random() < 0.5,
        "feat_extract_activation": draw.choice(["gelu", "relu6", "tanh", "silu"]),
        "conv_bias": draw.random() < 0.5,
        "conv_dim": tuple(draw.randint(4, 20) for _ in range(layers_)),
        "conv_kernel": tuple(draw.randint(2, 6) for _ in range(layers_)),
        "conv_stride": (draw.randint(2, 4), *(draw.randint(1, 2) for _ in range(layers_ - 1))),
        "num_conv_pos_embeddings": draw.randint(1, 20),
        "num_conv_pos_embedding_groups": groups,
        "num_codevector_groups": draw.choice([1, 2, 4]),
        "num_codevectors_per_group": draw.randint(2, 10),
        "codevector_dim": 4 * draw.randint(1, 4),
        "use_weighted_layer_sum": draw.random() < 0.3,
        "adapter_attn_dim": draw.choice([None, 5]),
        "add_adapter": draw.random() < 0.3,
        "num_adapter_layers": draw.randint(1, 3),
        "adapter_kernel_size": draw.randint(1, 5),
        "adapter_stride": draw.randint(1, 2),
        "output_hidden_size": draw.choice([hidden, 12]),
        "tdnn_dim": tuple(draw.randint(4, 12) for _ in range(tdnn)),
        "tdnn_kernel": tuple(draw.randint(1, 4) for _ in range(tdnn)),
        "tdnn_dilation": tuple(draw.randint(1, 3) for _ in range(tdnn)),
        "num_labels": draw.randint(1, 6),
    }


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("seed", range(20))
def test_random_configurations(head, seed):
    draw = random.Random(f"{head} {seed}")
    fields = random_fields(draw)
    if head in {"ForSequenceClassification", "ForAudioFrameClassification"}:
        fields["add_adapter"] = False
    elif head in {"ForPreTraining", "ForXVector"}:
        fields["output_hidden_size"] = fields["hidden_size"]
    if head == "ForXVector" and fields["add_adapter"]:
        fields["use_weighted_layer_sum"] = False  # theirs then pools by the lengths of the adapter that it leaves out
        fields["adapter_kernel_size"] = 3  # theirs counts the frames of other sizes wrongly
    theirs, ours = make_pair(head, seed, **fields)
    # In double precision: some of these models amplify the rounding of single precision, which differs by processor.
    theirs, ours = theirs.double(), ours.double()
    for masked in (False, True):
        call = waveforms(masked, seed)
        call["input_values"] = call["input_values"].double()
        with torch.no_grad():
            reference = theirs(**call, output_attentions=True, output_hidden_states=True)
            compare(ours(**call, output_attentions=True, output_hidden_states=True), reference)
