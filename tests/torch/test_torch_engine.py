"""The fast path beside the paper: tiles, packs and folded weights give the numbers of the plain model."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch_models import NORMS, VARIANTS, legal_models, relative, tiny

from wav2vec2_core.backend import check_head_and_dtype
from wav2vec2_core.errors import BackendError, InputError
from wav2vec2_core.transcription import EMBEDDED_MODEL
from wav2vec2_core.window_statistics import WindowStatistics
from wav2vec2_torch import fast_layers, inference, tiled_encoder
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


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("norm", NORMS)
def test_a_pack_has_the_numbers_of_single_utterances(norm, dtype, monkeypatch):
    monkeypatch.setattr(fast_layers, "BLOCK_ROWS", 33)  # utterances lie across blocks
    model = tiny("ForCTC", **NORMS[norm]).to(getattr(torch, dtype))
    engine, samples = InferenceModel(model), recordings()
    together = engine.logits(samples)
    assert len(together) == len(samples)
    for waveform, packed, small in zip(samples, together, engine.logits(samples, batch_samples=1000), strict=True):
        with torch.no_grad():
            plain = model(torch.from_numpy(waveform)[None]).logits[0].float()
        (alone,) = engine.logits([waveform])
        for ours in (packed, small, alone):
            close(ours, plain, 1e-5 if dtype == "float32" else 2e-7)


@pytest.mark.parametrize("kernel", [15, 16, 33, 128])
@pytest.mark.parametrize("threshold", [1, 10_000], ids=["fourier", "direct"])
def test_positional_convolution(kernel, threshold, monkeypatch):
    monkeypatch.setattr(fast_layers, "FFT_KERNEL", threshold)
    model = tiny(num_conv_pos_embeddings=kernel)
    embedding = model.encoder.pos_conv_embed
    lengths = [1, 2, kernel, 300, 517]
    hidden = torch.randn(sum(lengths), 32, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        ours = fast_layers.PositionalConvolution(embedding.conv)(hidden, lengths)
        for mine, one in zip(ours.split(lengths), hidden.split(lengths), strict=True):
            theirs = embedding.conv(one.T[None])[0, :, : len(one)].T
            assert relative(mine, theirs) <= 1e-5


@pytest.mark.parametrize("name", ["gelu", "gelu_new", "relu", "quick_gelu", "mish"])
def test_activations(name):
    model = tiny("ForCTC", hidden_act=name, feat_extract_activation=name)
    (waveform,) = recordings((900,))
    with torch.no_grad():
        close(InferenceModel(model).logits([waveform])[0], model(torch.from_numpy(waveform)[None]).logits[0])


@pytest.mark.parametrize("norm", ["group-post", "layer-pre"])
def test_8_bits(norm, tmp_path):
    tiny("ForCTC", **NORMS[norm]).save_pretrained(tmp_path)
    samples = recordings((700, 1501, 900))
    exact = inference.load_model(tmp_path, device="cpu").logits(samples)
    engine = inference.load_model(tmp_path, device="cpu", dtype="int8")
    quantised = engine.logits(samples)
    assert "int8 (other layers in float32)" in engine.summary()
    for waveform, ours, theirs in zip(samples, quantised, exact, strict=True):
        assert 0 < np.abs(ours - theirs).max() < 0.5 * np.abs(theirs).max()
        np.testing.assert_array_equal(ours, engine.logits([waveform])[0])  # scales are of one utterance


def test_8_bits_in_a_model_as_wide_as_released_ones():
    """There the last bits of a product depend on the number of rows, and 8 bits make them visible."""
    wide = {"hidden_size": 768, "num_attention_heads": 12, "num_conv_pos_embeddings": 128, "conv_dim": (16, 20, 512)}
    engine = InferenceModel(tiny("ForCTC", **NORMS["group-post"], **wide), "int8")
    samples = recordings((12_000, 700, 5_000))
    for waveform, packed in zip(samples, engine.logits(samples), strict=True):
        np.testing.assert_array_equal(packed, engine.logits([waveform])[0])


def test_8_bits_in_a_trained_model():
    (waveform,) = recordings((48_000,))
    exact, quantised = (
        inference.load_model(EMBEDDED_MODEL, device="cpu", dtype=dtype).logits([waveform])[0]
        for dtype in ("float32", "int8")
    )
    assert 0 < np.sqrt(np.mean((quantised - exact) ** 2)) <= 0.02 * exact.std()


def test_8_bits_on_the_cpu_only(tmp_path, monkeypatch):
    tiny("ForCTC").save_pretrained(tmp_path)
    monkeypatch.setattr(inference, "device_named", lambda name: torch.device("meta"))
    with pytest.raises(BackendError, match="dtype 'int8' works on the CPU, not on meta: use device cpu"):
        inference.load_model(tmp_path, dtype="int8")
    with pytest.raises(InputError, match="'int8' works with the back end torch only: use that or one of float32"):
        check_head_and_dtype("ForCTC", "int8")


@pytest.mark.parametrize(("dtype", "limit"), [("bfloat16", 3e-2), ("float16", 5e-3)])
@pytest.mark.parametrize("native", [True, False])
def test_half_precision_with_and_without_instructions(dtype, limit, native, tmp_path, monkeypatch):
    monkeypatch.setattr(inference, "_has_instructions", lambda name: native)
    tiny("ForCTC").save_pretrained(tmp_path)
    samples = recordings()
    exact = inference.load_model(tmp_path, device="cpu").logits(samples)
    engine = inference.load_model(tmp_path, device="cpu", dtype=dtype)
    assert engine.model.dtype == (getattr(torch, dtype) if native else torch.float32)
    assert f"{dtype} computed in float32" in engine.summary() or native
    for ours, theirs in zip(engine.logits(samples), exact, strict=True):
        assert ours.dtype == np.float32
        assert 0 < np.abs(ours - theirs).max() <= limit * np.abs(theirs).max()


@pytest.mark.parametrize("norm", ["group-post", "layer-pre"])
def test_layers_add_up_in_float32_in_half_precision(norm, monkeypatch):
    """So that the sum of many layers is not rounded by each, whatever else is in a pack."""
    monkeypatch.setattr(fast_layers, "BLOCK_ROWS", 33)  # utterances lie across blocks
    model, samples = tiny("ForCTC", **NORMS[norm], num_hidden_layers=12).bfloat16(), recordings()
    engine = InferenceModel(model)
    ours = engine.logits(samples)
    for waveform, packed in zip(samples, ours, strict=True):
        np.testing.assert_allclose(packed, engine.logits([waveform])[0], atol=1e-2 * np.abs(packed).max())
    with torch.no_grad():
        theirs = [model(torch.from_numpy(one)[None].bfloat16()).logits[0].float().numpy() for one in samples]
    exact = np.concatenate(InferenceModel(model.float()).logits(samples))
    errors = [np.square(np.concatenate(made) - exact).mean() ** 0.5 for made in (ours, theirs)]
    assert errors[0] <= 0.9 * errors[1]


@pytest.mark.parametrize(
    ("head", "fields"),
    [("ForSequenceClassification", {"use_weighted_layer_sum": True}), ("ForCTC", VARIANTS["wide-adapter"])],
)
def test_half_precision_of_mixtures_and_adapters(head, fields):
    model, samples = tiny(head, **fields), recordings((640, 1501))
    exact = InferenceModel(model).logits(samples)
    for ours, theirs in zip(InferenceModel(model.bfloat16()).logits(samples), exact, strict=True):
        assert ours.dtype == np.float32
        assert 0 < np.abs(ours - theirs).max() <= 5e-2 * np.abs(theirs).max()


def test_attention_over_all_utterances_at_once(monkeypatch):
    """What the GPU's kernel is given; its own numbers need a GPU."""
    varlen = pytest.importorskip("torch.nn.attention.varlen", reason="this torch has no variable-length attention")

    def dense(query, key, value, ends, other_ends, longest, other_longest):
        assert ends.dtype == torch.int32
        assert longest == other_longest == 20
        which = torch.searchsorted(ends, torch.arange(len(query)), right=True)
        mask = which[:, None] == which[None]
        parts = (part.transpose(0, 1) for part in (query, key, value))
        return torch.nn.functional.scaled_dot_product_attention(*parts, attn_mask=mask).transpose(0, 1)

    monkeypatch.setattr(varlen, "varlen_attn", dense)
    lengths, qkv = [5, 20, 6], torch.randn(31, 96, generator=torch.Generator().manual_seed(0))
    at_once = fast_layers.attend(qkv, 4, lengths, fast_layers.ends_of(lengths, qkv.device))
    assert relative(at_once, fast_layers.attend(qkv, 4, lengths)) <= 1e-5


@pytest.mark.parametrize(
    ("dtype", "head_dim", "capability", "expected"),
    [
        (torch.bfloat16, 64, (8, 0), True),
        (torch.float16, 80, (9, 0), True),
        (torch.float32, 64, (9, 0), False),
        (torch.bfloat16, 12, (9, 0), False),
        (torch.bfloat16, 264, (9, 0), False),
        (torch.float16, 64, (7, 5), False),
    ],
)
def test_where_attention_over_all_utterances_works(dtype, head_dim, capability, expected, monkeypatch):
    weight = torch.zeros(1, dtype=dtype)
    monkeypatch.setattr(fast_layers, "VARLEN", True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert not fast_layers.has_varlen(weight, head_dim)  # not on this device
    on_gpu = SimpleNamespace(dtype=dtype, device=torch.device("cuda:0"))
    assert fast_layers.has_varlen(on_gpu, head_dim) == expected


def test_merged_weights_are_held_once():
    model = tiny()
    InferenceModel(model)
    attention = model.encoder.layers[0].attention
    storage = attention.q_proj.weight.untyped_storage().data_ptr()
    assert attention.v_proj.weight.untyped_storage().data_ptr() == storage


def test_the_model_can_still_be_trained():
    model = tiny("ForCTC", layerdrop=0.0)
    InferenceModel(model).logits(recordings((900,)))
    model(torch.from_numpy(recordings((900,))[0])[None]).logits.sum().backward()
    assert model.wav2vec2.encoder.layers[0].attention.k_proj.weight.grad is not None


def test_read_only_waveforms():
    (waveform,) = recordings((900,))
    waveform.flags.writeable = False
    assert len(InferenceModel(tiny()).encode([waveform])[0]) == 44


@pytest.mark.usefixtures("small_tiles")
def test_encode_needs_the_memory_of_a_tile(monkeypatch):
    """No tensor grows with the recording."""
    engine = InferenceModel(tiny())
    widest = []
    kept = fast_layers.F.linear
    monkeypatch.setattr(fast_layers.F, "linear", lambda x, *rest: widest.append(x.numel()) or kept(x, *rest))
    engine.encode(recordings((900,)))
    short = max(widest)
    engine.encode(recordings((90_000,)))
    assert max(widest) == short


def test_too_short_for_the_adapter():
    engine = InferenceModel(tiny("ForCTC", **VARIANTS["wide-adapter"]))
    with pytest.raises(InputError, match="an utterance has 1 frames, of which the convolutional adapter makes none"):
        engine.logits(recordings((900, FIELD)))


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


def test_packs_are_as_full_as_they_may_be():
    def lengths(*frames, limit=10):
        return [list(map(len, pack)) for pack in inference._packs([np.zeros((count, 2)) for count in frames], limit)]

    assert lengths() == []
    assert lengths(4, 6) == [[4, 6]]
    assert lengths(4, 7) == [[4], [7]]
    assert lengths(3, 3, 4, 1) == [[3, 3, 4], [1]]
    assert lengths(25, 1, 25) == [[25], [1], [25]]
    assert lengths(5, 5, limit=inference.PACK_FRAMES) == [[5, 5]]


def test_features_are_packed_by_the_minute(monkeypatch):
    engine, minute = InferenceModel(tiny("ForCTC")), inference.PACK_FRAMES
    features = [np.zeros((count, 24), np.float32) for count in (30, 40, 30)]
    assert len(list(engine._feature_packs(features))) == 1
    monkeypatch.setattr(inference, "PACK_FRAMES", 70)
    assert [list(map(len, pack)) for pack in engine._feature_packs(features)] == [[30, 40], [30]]
    assert minute == 60 * 50, "frames of 20 ms"
