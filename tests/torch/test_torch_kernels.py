"""The engine's ways to compute on a processor agree, and the fastest that agrees is chosen and remembered."""

import time

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torch_models import relative, tiny

from wav2vec2_core.files import user_cache_folder
from wav2vec2_torch import inference, kernels
from wav2vec2_torch.inference import InferenceModel
from wav2vec2_torch.kernels import Int8Linear, Kernels


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path))
    return user_cache_folder("kernels")


def numbers(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("rows", [1, 33, 600])
@pytest.mark.parametrize("activation", [None, "gelu", "relu"])
@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_products_agree(dtype, biased, activation, rows):
    x, weight, bias = numbers(rows, 48, seed=1), numbers(40, 48, seed=2) / 7, numbers(40, seed=3) if biased else None
    exact = F.linear(x, weight, bias)
    exact = exact if activation is None else getattr(F, activation)(exact)
    given = None if bias is None else bias.to(dtype)
    for way in kernels.PRODUCTS:
        made = Kernels(product=way).linear(weight.to(dtype), given, activation)(x.to(dtype))
        assert made.dtype == dtype
        assert relative(made.float(), exact) <= (1e-5 if dtype == torch.float32 else 2e-2)


@pytest.mark.parametrize("way", list(kernels.ATTENTIONS))
@pytest.mark.parametrize("frames", [1, 7, 20])
def test_attentions_agree(way, frames, monkeypatch):
    monkeypatch.setattr(kernels, "QUERY_ROWS", 7)
    split = numbers(frames, 3, 4, 16)
    query, key, value = (part.transpose(0, 1) for part in split.unbind(1))
    exact = torch.softmax(query @ key.transpose(1, 2) / 4, -1) @ value
    assert relative(kernels.ATTENTIONS[way](split), exact.transpose(0, 1).flatten(1)) <= 1e-5


@pytest.mark.parametrize("way", kernels.PRODUCTS8)
def test_8_bit_layers_do_not_overflow(way):
    """Largest inputs beside largest weights, where sums of products in 16 bits would be cut off."""
    weight, x = torch.ones(4, 64), torch.ones(3, 64)
    x[0, 0] = -0.01
    made = Int8Linear(weight, torch.arange(4.0), way)(x)
    assert relative(made, x @ weight.T + torch.arange(4.0)) <= 1e-2
    assert torch.backends.quantized.engine in ("fbgemm", "x86", "qnnpack"), "the process's own choice is left alone"


def test_the_plain_way_of_8_bits_is_the_one_that_torch_chooses(monkeypatch):
    """Processors without fbgemm have another."""
    chosen = []

    class Quantized:
        engine = property(lambda self: "its own", lambda self, name: chosen.append(name))

    monkeypatch.setattr(torch.backends, "quantized", Quantized())
    Int8Linear(torch.ones(4, 64), None)
    assert chosen == []
    Int8Linear(torch.ones(4, 64), None, "onednn")
    assert chosen == ["onednn", "its own"]


def timed(results, seconds):
    """Makers of calls, by way, which return these results after these seconds."""

    def make(way):
        def call():
            if isinstance(results[way], Exception):
                raise results[way]
            until = time.process_time() + seconds[way]
            while time.process_time() < until:
                pass
            return torch.tensor(results[way])

        return call

    return make


@pytest.mark.parametrize(
    ("other", "seconds", "expected"),
    [
        ([1.0, 2.0], 0.001, "fast"),
        ([1.0, 2.1], 0.001, "plain"),  # other numbers
        ([1.0, float("nan")], 0.001, "plain"),
        (RuntimeError("could not create a primitive"), 0.001, "plain"),
        (AttributeError("no such operator"), 0.001, "plain"),
        ([1.0, 2.0], 0.02, "plain"),  # slower
        ([1.0, 2.0], 0.0099, "plain"),  # too little to tell
    ],
)
def test_the_fastest_that_agrees_is_chosen(other, seconds, expected):
    make = timed({"plain": [1.0, 2.0], "fast": other}, {"plain": 0.01, "fast": seconds})
    monkeyed = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert kernels._fastest(("plain", "fast"), make, 1e-5) == expected
    finally:
        torch.set_num_threads(monkeyed)


def test_a_choice_is_kept_for_this_machine(cache, monkeypatch):
    asked = []

    def choose(ways, make, tolerance):
        asked.append(ways)
        assert torch.isfinite(make(ways[-1])()).all()
        return ways[-1]

    monkeypatch.setattr(kernels, "_fastest", choose)
    expected = Kernels("prepacked", "onednn", "by head")
    assert kernels.fastest(torch.float32, 768, int8=True) == expected
    assert len(asked) == 3
    (kept,) = cache.iterdir()
    assert kernels.fastest(torch.float32, 1024, int8=True) == expected
    assert len(asked) == 3, "read from the cache folder"
    for damaged in (
        "",
        "{",
        "[]",
        '{"product": "other", "product8": "onednn", "attention": "plain"}',
        '{"product": 1}',
    ):
        kept.write_text(damaged)
        del asked[:]
        assert kernels.fastest(torch.float32, 768, int8=True) == expected
        assert len(asked) == 3, damaged
    assert kernels.fastest(torch.bfloat16, 768) == Kernels("prepacked", "plain", "by head")
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    kernels.fastest(torch.bfloat16, 768)
    assert len(list(cache.iterdir())) == 3, "a file for each type and each set of instructions"
    monkeypatch.setattr(kernels, "processor", lambda: "another one")
    kernels.fastest(torch.bfloat16, 768)
    monkeypatch.setattr(torch, "__version__", "another one")
    kernels.fastest(torch.bfloat16, 768)
    assert len(list(cache.iterdir())) == 5, "and for each processor and release"


def test_without_a_cache_folder(cache, monkeypatch):
    cache.parent.mkdir(parents=True)
    cache.write_text("a file in its place")
    monkeypatch.setattr(kernels, "_fastest", lambda ways, make, tolerance: ways[0])
    assert kernels.fastest(torch.float32, 768) == Kernels()


def test_small_models_and_other_types_are_plain(cache):
    assert kernels.fastest(torch.float32, 128) == kernels.fastest(torch.float64, 768) == Kernels()
    assert not cache.exists()


@pytest.mark.parametrize("dtype", ["float32", "int8"])
@pytest.mark.parametrize("norm", ["group", "layer"])
def test_an_engine_with_other_kernels_has_the_same_numbers_and_no_second_weights(norm, dtype, tmp_path, monkeypatch):
    tiny("ForCTC", feat_extract_norm=norm).save_pretrained(tmp_path)
    plain = inference.load_model(tmp_path, device="cpu", dtype=dtype)
    chosen = Kernels("prepacked", "onednn", "by head")
    monkeypatch.setattr(inference, "fastest", lambda *_, **__: chosen)
    engine = inference.load_model(tmp_path, device="cpu", dtype=dtype)
    assert "products prepacked by oneDNN, 8-bit products by oneDNN, attention head by head" in engine.summary()
    waveforms = [numbers(length).numpy() for length in (700, 1501, 90)]
    for ours, theirs, waveform in zip(engine.logits(waveforms), plain.logits(waveforms), waveforms, strict=True):
        tolerance = 1e-5 if dtype == "float32" else 5e-2
        np.testing.assert_allclose(ours, theirs, atol=tolerance * np.abs(theirs).max())
        if dtype == "int8":
            np.testing.assert_array_equal(ours, engine.logits([waveform])[0])
    parameters = dict(engine.model.named_parameters())
    released = parameters["wav2vec2.encoder.layers.0.feed_forward.output_dense.weight"]
    assert released.is_meta
    assert released.shape == (32, 40)
    assert not parameters["wav2vec2.encoder.layers.0.layer_norm.weight"].is_meta


def test_a_model_of_the_callers_keeps_its_weights():
    model = tiny("ForCTC")
    InferenceModel(model, "int8")
    assert not any(parameter.is_meta for parameter in model.parameters())


def test_doctor_is_told_what_was_chosen(monkeypatch):
    monkeypatch.setattr(inference, "_has_instructions", lambda name: name != "bfloat16")
    monkeypatch.setattr(
        inference, "fastest", lambda dtype, width, int8=False: Kernels(product8="onednn" if int8 else "plain")
    )
    monkeypatch.setattr(inference, "_has_matrix_unit", lambda: True)
    assert inference.chosen_kernels() == ["float32: plain", "int8: 8-bit products by oneDNN"]
    monkeypatch.setattr(inference, "_has_instructions", lambda name: True)
    assert inference.chosen_kernels()[1:] == [
        "bfloat16: plain",
        "int8: 8-bit products by oneDNN",
        "bfloat16 is faster and more exact than int8 here",
    ]
    monkeypatch.setattr(inference, "_has_matrix_unit", lambda: False)
    assert len(inference.chosen_kernels()) == 3
