"""Encoder in tiles, transformer by itself: the numbers of the plain model."""

import jax
import numpy as np
import pytest
from engine_cases import CASES, check_context, check_encode, check_wrong_calls, fields_of, recordings
from flax_models import tiny
from model_cases import NORMS

from wav2vec2_flax import tiled_encoder
from wav2vec2_flax.inference import InferenceModel

CPU = jax.local_devices(backend="cpu")[0]
RUN = jax.jit(lambda model, values: model(values, output_hidden_states=True))


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch):
    """Tiles of eight frames, so that short recordings have many."""
    monkeypatch.setattr(tiled_encoder, "TILE_SAMPLES", 160)


@pytest.mark.parametrize("norm", NORMS)
def test_encode_in_tiles_equals_the_whole(norm):
    model = tiny(**fields_of(norm))
    encode = jax.jit(lambda model, values: model.feature_extractor(values, None))
    check_encode(InferenceModel(model, CPU), lambda values: np.asarray(encode(model, values)))


@pytest.mark.parametrize(("head", "norm", "variant"), CASES)
def test_contextualize_and_hidden_states_equal_the_plain_model(head, norm, variant):
    model = tiny(head, **fields_of(norm, variant))
    check_context(InferenceModel(model, CPU), head, variant, lambda values: RUN(model, values))


def test_wrong_calls():
    check_wrong_calls(InferenceModel(tiny(), CPU))


def test_half_precision():
    wide, narrow = (
        InferenceModel(tiny("ForCTC", dtype=dtype, **fields_of("group-post")), CPU) for dtype in ("float32", "bfloat16")
    )
    (waveform,) = recordings((1501,))
    one, other = (engine.contextualize(engine.encode([waveform]))[0] for engine in (narrow, wide))
    assert one.dtype == np.float32
    assert np.abs(one - other).max() <= 4e-2 * np.abs(other).max()


def test_few_lengths_are_compiled():
    engine = InferenceModel(tiny("ForCTC", **fields_of("group-post")), CPU)
    # Functions share what they compiled with those of other models in this process.
    encoder, context = engine._encoder._folded.jitted._cache_size, engine._contextualize.jitted._cache_size
    before = encoder(), context()
    engine.encode(recordings(range(30, 1500, 77)))
    assert 1 <= encoder() - before[0] <= tiled_encoder.TILE_PARTS
    generator = np.random.default_rng(0)
    for frames in range(1, 800, 53):  # up to 16000 samples: five lengths
        engine.contextualize([generator.standard_normal((frames, 24)).astype(np.float32)])
    assert 1 <= context() - before[1] <= 5
