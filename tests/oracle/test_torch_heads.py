"""Every head and option of wav2vec2_torch against transformers: outputs, losses and gradients."""

import numpy as np
import pytest
import torch
from torch_pairs import SAMPLES, VARIANTS, cases, make_pair, relative, waveforms

from wav2vec2_core import masking
from wav2vec2_core.checkpoint.checkpoint import canonical_name
from wav2vec2_torch import layers

pytestmark = pytest.mark.oracle

CASES = list(cases())
LOGITS = LOSS = 1e-5  # relative to the largest value
GRADIENT = 1e-4


def ids(case):
    head, feature, stable, variant = case
    return f"{head}-{feature}-{'pre' if stable else 'post'}-{variant}"


def fields_of(feature, stable, variant):
    return {"feat_extract_norm": feature, "do_stable_layer_norm": stable, **VARIANTS[variant]}


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
    frames = 74
    noise = layers.gumbel_noise_like(torch.zeros(len(SAMPLES), frames, 2, 8))

    def gumbel_softmax(logits, tau=1, hard=False, eps=1e-10, dim=-1):
        assert hard
        return layers.hard_gumbel_softmax(logits, noise.reshape(logits.shape), tau)

    monkeypatch.setattr(torch.nn.functional, "gumbel_softmax", gumbel_softmax)
    return noise


def compare(ours, theirs, limit=LOGITS, skip=()):
    """Check that two outputs have the same fields and numbers; returns the largest relative error."""
    assert list(ours) == list(theirs)
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


def training_call(head, ours, masked, noise):
    """Arguments of a training step for both sides, and those for ours alone."""
    call, extra = waveforms(masked), {}
    generator = np.random.default_rng(5)
    frames = ours.config.num_frames(torch.tensor(SAMPLES) if masked else torch.tensor([max(SAMPLES)] * 3))
    body_frames = ours.config.num_frames(max(SAMPLES), add_adapter=False)
    if head in {"Model", "ForPreTraining"}:
        lengths = ours.config.num_frames(np.array(SAMPLES if masked else [max(SAMPLES)] * 3), add_adapter=False)
        mask = masking.time_mask(lengths, body_frames, prob=0.5, length=4, min_masks=2, generator=generator)
        call["mask_time_indices"] = torch.from_numpy(mask)
        if head == "ForPreTraining":
            extra["gumbel_noise"] = noise
            if not ours.config.add_adapter:
                call["sampled_negative_indices"] = torch.from_numpy(masking.negative_indices(mask, 10, generator))
    elif head == "ForCTC":
        labels = torch.randint(1, 11, (3, 6))
        labels[1, 4:] = labels[2, 5:] = -100
        assert (frames >= 6).all()
        call["labels"] = labels
    elif head == "ForAudioFrameClassification":
        call["labels"] = torch.nn.functional.one_hot(torch.randint(0, 5, (3, body_frames)), 5)
    else:
        call["labels"] = torch.randint(0, 5, (3,))
    return call, extra


def scalar(output):
    """The loss, or where there is none a scalar that depends on every state."""
    if output.get("loss") is not None:
        return output["loss"]
    states = output.get("last_hidden_state")
    if states is not None:
        return (states * torch.linspace(-1, 1, states.numel()).view_as(states)).sum()
    products = output["projected_states"].square().sum() + output["projected_quantized_states"].pow(3).sum()
    return products + output["codevector_perplexity"]


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
