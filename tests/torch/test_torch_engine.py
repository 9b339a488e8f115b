"""The fast path beside the paper: tiles, packs and folded weights give the numbers of the plain model."""

import numpy as np
import pytest
import torch
from torch_models import NORMS, VARIANTS, legal_models, relative, tiny

from wav2vec2_core.errors import InputError
from wav2vec2_core.window_statistics import WindowStatistics
from wav2vec2_torch import tiled_encoder
from wav2vec2_torch.inference import InferenceModel

FIELD = 30  # receptive field of the tiny models; a frame every 20 samples
LENGTHS = (FIELD, FIELD + 1, FIELD + 20, 155, 640, 1501, 900)
SCORES = {"Model": "last_hidden_state", "ForPreTraining": "projected_states"}


def recordings(lengths=LENGTHS, seed=0):
    generator = np.random.default_rng(seed)
    return [(1.0 + 2.0 * generator.standard_normal(length)).astype(np.float32) for length in lengths]


def close(ours, theirs, tolerance=1e-5):
    assert ours.dtype == np.float32
    assert relative(torch.from_numpy(ours), theirs) <= tolerance


@pytest.fixture
def small_tiles(monkeypatch):
    """Tiles of seven frames, so that short recordings have many."""
    monkeypatch.setattr(tiled_encoder, "TILE_SAMPLES", 140)


@pytest.mark.parametrize("fields", [{}, {"conv_bias": True}, {"conv_stride": (12, 2, 3)}], ids=str)
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.usefixtures("small_tiles")
def test_encode_in_tiles_equals_the_whole(norm, fields):
    model = tiny(**NORMS[norm], **fields)
    field = model.config.receptive_field
    samples = recordings((field, field + 1, 2 * field, 700, 1501))
    for waveform, ours in zip(samples, InferenceModel(model).encode(samples), strict=True):
        with torch.no_grad():
            theirs = model.feature_extractor(torch.from_numpy(waveform)[None], None)[0]
        close(ours, theirs)


@pytest.mark.parametrize("norm", ["group-post", "layer-pre"])
@pytest.mark.usefixtures("small_tiles")
def test_a_stretch_with_statistics_has_the_frames_of_its_recording(norm):
    engine = InferenceModel(tiny(**NORMS[norm]))
    (whole,) = recordings((1501,))
    (expected,) = engine.encode([whole])
    statistics = WindowStatistics.of(engine.config, whole)
    stretch = whole[20 * 11 : 20 * 39 + FIELD]
    (ours,) = engine.encode([stretch], [statistics])
    np.testing.assert_allclose(ours, expected[11:40], atol=1e-5 * np.abs(expected).max())
    if norm == "group-post":  # and without them they are others
        assert np.abs(engine.encode([stretch])[0] - expected[11:40]).max() > 1e-3


@pytest.mark.parametrize(("head", "norm", "variant"), list(legal_models()))
@pytest.mark.usefixtures("small_tiles")
def test_contextualize_and_hidden_states_equal_the_plain_model(head, norm, variant):
    fields = {**NORMS[norm], **VARIANTS[variant]}
    model = tiny(head, **fields)
    engine = InferenceModel(model)
    needed = 200 if head == "ForXVector" else FIELD + 20 if variant == "wide-adapter" else FIELD
    samples = [waveform for waveform in recordings() if len(waveform) >= needed]
    features = engine.encode(samples)
    scores, states = engine.contextualize(features), engine.hidden_states(features, [0, -1, 1])
    for waveform, score, chosen in zip(samples, scores, states, strict=True):
        with torch.no_grad():
            output = model(torch.from_numpy(waveform)[None], output_hidden_states=True)
        close(score, output[SCORES.get(head, "logits")][0])
        close(chosen, torch.stack([output.hidden_states[layer][0] for layer in (0, -1, 1)]))


def test_wrong_calls():
    engine = InferenceModel(tiny())
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
    assert engine.encode([]) == engine.contextualize([]) == engine.hidden_states([], [0]) == []
    assert engine.hidden_states([good], [])[0].shape == (0, 5, 32)
