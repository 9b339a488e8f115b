"""Small models for the tests of the PyTorch back end, every parameter random."""

import itertools

import torch
from model_cases import FRAMES, NORMS, QUIET, SAMPLES, TINY, VARIANTS

import wav2vec2_torch
from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.errors import ConfigError
from wav2vec2_core.parameters import HEADS

__all__ = ["FRAMES", "NORMS", "QUIET", "SAMPLES", "TINY", "VARIANTS", "legal_models", "relative", "tiny", "waveforms"]


def model_class(head):
    return getattr(wav2vec2_torch, f"Wav2Vec2{head}")


def tiny(head="Model", seed=0, **fields):
    """A model in eval mode with random biases, norms and gains."""
    torch.manual_seed(seed)
    model = model_class(head)(Wav2Vec2Config(**{**TINY, **fields})).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def legal_models():
    """(head, fields) of every head, norm and variant that go together."""
    for head, norm, variant in itertools.product(HEADS, NORMS, VARIANTS):
        fields = {**NORMS[norm], **VARIANTS[variant]}
        try:
            with torch.device("meta"):
                model_class(head)(Wav2Vec2Config(**{**TINY, **fields}))
        except ConfigError:
            continue
        yield head, norm, variant


def waveforms(batch=3, samples=SAMPLES, seed=1):
    return torch.randn(batch, samples, generator=torch.Generator().manual_seed(seed))


def relative(ours, theirs):
    """Largest difference, relative to the largest value."""
    assert ours.shape == theirs.shape
    return ((ours - theirs).abs().max() / theirs.abs().max().clamp(min=1e-30)).item()
