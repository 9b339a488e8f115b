"""Encoder in tiles, transformer by itself: the numbers of the plain model."""

import numpy as np
import pytest
from engine_cases import CASES, check_context, check_encode, check_wrong_calls, fields_of
from tf_models import NORMS, tiny

from wav2vec2_tf import tiled_encoder
from wav2vec2_tf.inference import InferenceModel


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch):
    """Tiles of seven frames, so that short recordings have many."""
    monkeypatch.setattr(tiled_encoder, "TILE_SAMPLES", 140)


@pytest.mark.parametrize("norm", NORMS)
def test_encode_in_tiles_equals_the_whole(norm):
    model = tiny(**fields_of(norm))
    check_encode(InferenceModel(model), lambda values: model.feature_extractor(values, None).numpy())


@pytest.mark.parametrize(("head", "norm", "variant"), CASES)
def test_contextualize_and_hidden_states_equal_the_plain_model(head, norm, variant):
    model = tiny(head, **fields_of(norm, variant))
    check_context(InferenceModel(model), head, variant, lambda values: model(values, output_hidden_states=True))


def test_wrong_calls():
    check_wrong_calls(InferenceModel(tiny()))


def test_half_precision():
    wide, narrow = (
        InferenceModel(tiny("ForCTC", dtype=dtype, **fields_of("group-post"))) for dtype in (None, "bfloat16")
    )
    waveform = np.random.default_rng(0).standard_normal(1501).astype(np.float32)
    one, other = (engine.contextualize(engine.encode([waveform]))[0] for engine in (narrow, wide))
    assert one.dtype == np.float32
    assert np.abs(one - other).max() <= 4e-2 * np.abs(other).max()
