"""The back end interface and exported programs: waveforms in, numpy out, each as if it were alone."""

import contextlib
import itertools

import jax
import numpy as np
import pytest
from flax_models import padded, relative, tiny, waveforms
from model_cases import NORMS, VARIANTS

from wav2vec2_core import exporting
from wav2vec2_core.backend import load_backend
from wav2vec2_core.errors import BackendError, CheckpointError, InputError
from wav2vec2_core.feature_extraction import Wav2Vec2FeatureExtractor
from wav2vec2_core.parameters import HEADS
from wav2vec2_core.transcription import EMBEDDED_MODEL, Transcriber
from wav2vec2_flax import export, inference

GENERATOR = np.random.default_rng(0)
WAVEFORMS = [GENERATOR.standard_normal(length).astype(np.float32) for length in (900, 310, 1501, 640, 8001, 155)]
FIELDS = {"Model": "last_hidden_state", "ForPreTraining": "projected_states"}


@pytest.fixture
def backend():
    return load_backend("flax")


@pytest.mark.parametrize("head", HEADS)
def test_numbers_of_single_utterances_in_the_given_order(backend, head, tmp_path):
    norm = NORMS["layer-pre" if head in {"ForPreTraining", "ForXVector"} else "group-post"]
    model = tiny(head, **norm)
    model.save_pretrained(tmp_path)
    loaded = backend.load_model(tmp_path, head=head, device="cpu")
    assert loaded.config.masked_group_norm
    results = loaded.logits(WAVEFORMS, batch_samples=32_000)
    run = jax.jit(lambda model, values: model(values))
    for waveform, result in zip(WAVEFORMS[:3], results, strict=False):
        expected = np.asarray(run(model, waveform[None])[FIELDS.get(head, "logits")][0])
        assert result.dtype == np.float32
        assert relative(result, expected) <= 1e-5
    assert loaded.logits([]) == []


def test_shapes_are_few(backend, tmp_path):
    tiny("ForCTC").save_pretrained(tmp_path)
    loaded = backend.load_model(tmp_path)
    assert loaded.summary().endswith("float32; 0 compiled shapes (waveforms x samples): none")
    loaded.logits(WAVEFORMS, batch_samples=32_000)
    assert loaded.shapes == {(4, 8000), (1, 8000), (1, 10000)}
    assert "3 compiled shapes (waveforms x samples): 1 x 8000, 1 x 10000, 4 x 8000" in loaded.summary()
    compiled = loaded._run.jitted._cache_size()
    loaded.logits(WAVEFORMS[::-1], batch_samples=32_000)
    assert len(loaded.shapes) == 3
    assert loaded._run.jitted._cache_size() == compiled


def test_buckets():
    lengths = sorted({inference.bucketed_length(samples) for samples in range(400, 60 * 16_000, 97)})
    assert len(lengths) == 29
    assert all(inference.bucketed_length(samples) >= samples for samples in range(1, 60 * 16_000, 89))
    assert max(after / before for before, after in itertools.pairwise(lengths)) == 1.25
    seconds = [0.5, 0.625, 0.75, 0.875, 1, 1.25, 5, 10, 20]
    assert [inference.bucketed_length(int(16_000 * one)) / 16_000 for one in seconds] == seconds, "no padding"
    assert [inference.bucketed_length(samples) for samples in (1, 8_000, 8_001, 16_001)] == [
        8_000,
        8_000,
        10_000,
        20_000,
    ]
    assert [inference.bucketed_batch(count) for count in (1, 2, 3, 4, 5, 8, 9)] == [1, 2, 4, 4, 8, 8, 16]


def test_frames_after_a_convolutional_adapter(backend, tmp_path):
    model = tiny("ForCTC", **VARIANTS["wide-adapter"])
    model.save_pretrained(tmp_path)
    results = backend.load_model(tmp_path, device="auto").logits(WAVEFORMS)
    assert [len(result) for result in results] == [model.config.num_frames(len(waveform)) for waveform in WAVEFORMS]


def test_half_precision(backend, tmp_path):
    tiny("ForCTC").save_pretrained(tmp_path)
    wide = backend.load_model(tmp_path).logits(WAVEFORMS[:2])
    loaded = backend.load_model(tmp_path, dtype="bfloat16")
    assert {leaf.dtype.name for leaf in jax.tree.leaves(loaded.model.params)} == {"bfloat16"}
    loaded.model.save_pretrained(tmp_path / "rounded")  # a processor computes with these in float32
    rounded = backend.load_model(tmp_path / "rounded").logits(WAVEFORMS[:2])
    for one, other, exact in zip(loaded.logits(WAVEFORMS[:2]), wide, rounded, strict=True):
        assert one.dtype == np.float32
        assert 0 < relative(one, other) <= 5e-2
        assert relative(one, exact) <= 1e-5
    assert ", bfloat16 computed in float32; " in loaded.summary()


def test_an_untrained_head_is_refused(backend, tmp_path):
    tiny("ForPreTraining").save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="its ForCTC part is not trained, fine-tune it"):
        backend.load_model(tmp_path)


def test_wrong_arguments(backend, tmp_path):
    tiny("ForCTC").save_pretrained(tmp_path)
    assert backend.devices()[-1] == "cpu"
    with pytest.raises(InputError, match="head 'ForSpeech' is unknown"):
        backend.load_model(tmp_path, head="ForSpeech")
    with pytest.raises(InputError, match="dtype 'int8' works with the back end torch only: use that or one of float32"):
        backend.load_model(tmp_path, dtype="int8")
    for device in ("nonsense", "cpu:99", "cuda:99", "cpu:x"):
        with pytest.raises(BackendError, match=rf"device '{device}' is not available here: use one of .*cpu"):
            backend.load_model(tmp_path, device=device)
    model = backend.load_model(tmp_path)
    with pytest.raises(InputError, match="has 29 samples, one frame sees 30"):
        model.logits([np.zeros(100, np.float32), np.zeros(29, np.float32)])


def test_the_embedded_model_transcribes():
    samples = EMBEDDED_MODEL.parents[2] / "samples"
    transcriber = Transcriber(backend="flax")
    assert transcriber.transcribe(samples / "three-one-four.flac").text == "three one four"
    assert transcriber.transcribe(samples / "two-seven-one-eight.flac").text == "two seven one eight"
    assert len(transcriber.model.shapes) == 2


# ---- exported programs ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("head", "fields", "masked"),
    [
        ("Model", {**VARIANTS["wide-adapter"], "masked_group_norm": True}, True),
        ("ForPreTraining", {}, False),
        ("ForCTC", {"masked_group_norm": True}, True),
        ("ForCTC", {**NORMS["layer-pre"], **VARIANTS["attention-adapters"]}, False),
        ("ForSequenceClassification", VARIANTS["weighted-sum"], True),
        ("ForAudioFrameClassification", NORMS["layer-post"], True),
        ("ForXVector", VARIANTS["adapter"], True),
    ],
)
def test_export_with_any_batch_and_length(head, fields, masked, tmp_path):
    model = tiny(head, **fields, scan_layers=masked)
    path = export.export_model(model, tmp_path, masked=masked)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["config.json", "model.safetensors", path.name]
    program = export.load_exported(tmp_path)
    for lengths in ((1500, 1203, 700, 1400), (1111,)):
        call = padded(lengths) if masked else (waveforms(len(lengths), max(lengths)),)
        found, expected = program(*call), jax.jit(lambda call: model(*call))(call)
        assert set(found) == set(expected)
        for name, value in expected.items():
            if name != "hidden_states":
                assert relative(found[name], value) <= 1e-5, name


def test_exports_with_a_receipt(tmp_path):
    tiny("ForCTC", num_hidden_layers=1).save_pretrained(tmp_path / "model")
    Wav2Vec2FeatureExtractor().save_pretrained(tmp_path / "model")
    with pytest.raises(InputError, match="a stablehlo program does not normalise: leave fold_normalisation out"):
        exporting.export(tmp_path / "model", tmp_path / "out", "stablehlo", fold_normalisation=True)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    receipt = exporting.export(tmp_path / "model", tmp_path / "out", "stablehlo")
    assert sorted(receipt.files) == sorted(path.name for path in (tmp_path / "out").iterdir())
    assert {"model.stablehlo", "model.safetensors", "export.json"} < set(receipt.files)
    assert receipt.largest_difference <= 1e-5
    assert receipt.normalisation == "by the caller"


def test_programs_that_are_none(tmp_path):
    tiny("ForCTC").save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"has no model.stablehlo"):
        export.load_exported(tmp_path)
    (tmp_path / "model.stablehlo").write_bytes(b"nothing of the kind")
    with pytest.raises(CheckpointError, match="is no exported program: export the model again"):
        export.load_exported(tmp_path)


def test_outputs_can_be_part_of_a_users_own_export():
    model = tiny("ForCTC")
    exported = jax.export.export(jax.jit(lambda values: model(values)))(jax.ShapeDtypeStruct((2, 400), np.float32))
    again = jax.export.deserialize(exported.serialize())
    output = again.call(waveforms(2, 400))
    assert type(output).__name__ == "CausalLMOutput"
    assert relative(output.logits, model(waveforms(2, 400)).logits) <= 1e-5


def test_the_command_counts_shapes_when_asked(monkeypatch, capfd):
    from wav2vec2_core.cli import main

    samples = sorted(str(path) for path in (EMBEDDED_MODEL.parents[2] / "samples").glob("*.flac"))
    monkeypatch.setattr("sys.argv", ["wav2vec2", "transcribe", *samples, "--backend", "flax", "-v"])
    with contextlib.suppress(SystemExit):
        main()
    out, err = capfd.readouterr()
    assert [line.split("\t")[1] for line in out.splitlines()] == ["three one four", "two seven one eight"]
    assert err.splitlines()[-1].endswith("float32; 2 compiled shapes (waveforms x samples): 1 x 40000, 1 x 48000")
