"""What the parts of inference must give in every back end: the plain model's numbers."""

import numpy as np
import pytest
from model_cases import NORMS, VARIANTS, legal_cases

from wav2vec2_core.errors import InputError
from wav2vec2_core.window_statistics import WindowStatistics

FIELD = 30  # receptive field of the tiny models; a frame every 20 samples
LENGTHS = (FIELD, FIELD + 20, 640, 1501)
SCORES = {"Model": "last_hidden_state", "ForPreTraining": "projected_states"}
#: Every head; and every variant once, as each model is a compilation.
CASES = [
    (head, norm, variant)
    for head, norm, variant in legal_cases()
    if (variant == "plain" and norm == ("layer-pre" if head in ("ForCTC", "ForXVector") else "group-post"))
    or (head == "ForCTC" and variant != "plain" and norm == "layer-pre")
    or (head == "ForXVector" and variant in ("weighted-sum", "adapter") and norm == "layer-pre")
]


def fields_of(norm, variant="plain"):
    return {**NORMS[norm], **VARIANTS[variant], "masked_group_norm": True}


def recordings(lengths=LENGTHS, seed=0):
    generator = np.random.default_rng(seed)
    return [(1.0 + 2.0 * generator.standard_normal(length)).astype(np.float32) for length in lengths]


def assert_close(ours, theirs, tolerance=1e-5):
    theirs = np.asarray(theirs)
    assert ours.dtype == np.float32
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * np.abs(theirs).max())


def check_encode(engine, encode):
    """``encode``: (1, samples) -> (1, frames, conv_dim[-1]) of the plain model."""
    for waveform, ours in zip(recordings(), engine.encode(recordings()), strict=True):
        assert_close(ours, encode(waveform[None])[0])
    (whole,) = recordings((1501,))
    expected = engine.encode([whole])[0]
    stretch = whole[20 * 11 : 20 * 39 + FIELD]
    statistics = WindowStatistics.of(engine.config, whole)
    assert_close(engine.encode([stretch], [statistics])[0], expected[11:40], 2e-5)
    if engine.config.feat_extract_norm == "group":  # and without them they are others
        assert np.abs(engine.encode([stretch])[0] - expected[11:40]).max() > 1e-3


def check_context(engine, head, variant, run):
    """``run``: (1, samples) -> outputs of the plain model with all hidden states."""
    needed = 200 if head == "ForXVector" else FIELD + 20 if variant == "wide-adapter" else FIELD
    samples = [waveform for waveform in recordings() if len(waveform) >= needed]
    features = engine.encode(samples)
    scores, states = engine.contextualize(features), engine.hidden_states(features, [0, -1, 1])
    vectors = engine.embed(features) if head == "ForXVector" else [None] * len(features)
    for waveform, score, chosen, vector in zip(samples, scores, states, vectors, strict=True):
        output = run(waveform[None])
        assert_close(score, output[SCORES.get(head, "logits")][0])
        assert_close(chosen, np.stack([np.asarray(output.hidden_states[layer][0]) for layer in (0, -1, 1)]))
        if vector is not None:
            assert_close(vector, output.embeddings[0])


def check_wrong_calls(engine):
    """``engine``: of a tiny model without head."""
    good = np.zeros((5, 24), np.float32)
    with pytest.raises(InputError, match="has 29 samples, one frame sees 30"):
        engine.encode([np.zeros(29, np.float32)])
    with pytest.raises(InputError, match="2 waveforms come with 1 statistics: give one for each"):
        engine.encode(recordings((90, 90)), [WindowStatistics.of(engine.config)])
    for wrong in (np.zeros((5, 23), np.float32), np.zeros((0, 24), np.float32), np.zeros(24, np.float32)):
        with pytest.raises(InputError, match=r"features has shape .*, it must be \(\d+, 24\), \(frames, conv_dim"):
            engine.contextualize([good, wrong])
    for layer in (3, -4):
        with pytest.raises(InputError, match=rf"layer {layer} does not exist: use 0 to 2, or -1 to -3 from the last"):
            engine.hidden_states([good], [layer])
    with pytest.raises(InputError, match="has no speaker vectors: load a model with head='ForXVector'"):
        engine.embed([good])
    assert engine.encode([]) == engine.contextualize([]) == engine.hidden_states([], [0]) == []
    assert engine.hidden_states([good], [])[0].shape == (0, 5, 32)
