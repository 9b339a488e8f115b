"""Cases of every head for the comparisons with transformers, and the arguments of a training step."""

import numpy as np
import pytest
import torch
from torch_pairs import SAMPLES, VARIANTS, cases, waveforms

from wav2vec2_core import masking
from wav2vec2_torch import layers

CASES = list(cases())
LOGITS = LOSS = 1e-5  # relative to the largest value
GRADIENT = 1e-4


def ids(case):
    head, feature, stable, variant = case
    return f"{head}-{feature}-{'pre' if stable else 'post'}-{variant}"


def fields_of(feature, stable, variant):
    return {"feat_extract_norm": feature, "do_stable_layer_norm": stable, **VARIANTS[variant]}


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
