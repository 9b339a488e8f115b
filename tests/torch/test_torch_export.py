"""ONNX programs, run by onnxruntime: the numbers and the text of the plain model at any length, padding or not."""

import json
import sys

import numpy as np
import pytest
import torch
from mms_folder import LANGUAGES, write_mms
from random_models import FAMILIES, LETTERS
from torch_models import tiny

from wav2vec2_core import exporting
from wav2vec2_core.backend import ExportedProgram
from wav2vec2_core.errors import AudioError, BackendError, CheckpointError, InputError, OutputError
from wav2vec2_core.exporting import export
from wav2vec2_core.feature_extraction import Wav2Vec2FeatureExtractor
from wav2vec2_core.tokenization import Wav2Vec2CTCTokenizer
from wav2vec2_torch import Wav2Vec2ForCTC, Wav2Vec2ForSequenceClassification, export_onnx, inference
from wav2vec2_torch import export as torch_export

for _name in ("onnx", "onnxscript", "onnxruntime"):
    pytest.importorskip(_name, reason="writes ONNX and runs it: extra onnx")

#: The exporter takes seconds for each layer.
SHALLOW = {"num_hidden_layers": 1, "conv_dim": (16, 24), "conv_kernel": (10, 8), "conv_stride": (5, 4)}
LENGTHS = (2000, 1203, 131)


def make_folder(folder, head="ForCTC", **fields):
    """A small model whose numbers are well conditioned, as those of a trained one, with the files beside it."""
    tiny(head, **SHALLOW, **fields).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({"do_normalize": True, "sampling_rate": 16000}))
    if head == "ForCTC":
        (folder / "vocab.json").write_text(json.dumps({token: row for row, token in enumerate(LETTERS)}))


def run(folder, waveforms, fields, masked=True):
    """The program as another program would call it: rows of any lengths, rubbish after their ends, or one without."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    values = np.full((len(waveforms), max(map(len, waveforms))), 3.0, np.float32)
    mask = np.zeros(values.shape, np.int64)
    for row, waveform in enumerate(waveforms):
        values[row, : len(waveform)], mask[row, : len(waveform)] = waveform, 1
    assert [given.name for given in session.get_inputs()] == ["input_values"], "the mask may be left out"
    return session.run(fields, {"input_values": values, **({"attention_mask": mask} if masked else {})})


def waves(*lengths):
    generator = np.random.default_rng(5)
    return [generator.normal(0.5, 2, length).astype(np.float32) for length in lengths]


def normalised(waveform):
    return torch.from_numpy((waveform - waveform.mean()) / np.sqrt(waveform.var() + 1e-7))[None]


def close(ours, theirs):
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() <= 1e-5 * np.abs(theirs).max()


def test_ctc_with_group_norm_through_the_command(command, tmp_path):
    """Each row of a padded batch has the numbers of its waveform alone, the program normalises, and a decoder finds
    all files that it needs.
    """
    make_folder(tmp_path / "model", **FAMILIES["base"])
    recording = "samples/three-one-four.flac"
    code, out, err = command(
        "export", tmp_path / "model", tmp_path / "out", "--fold-normalisation", "--verify", recording
    )
    assert code == 0, err
    assert "in the program" in out
    assert "the same in every run" in out
    told = json.loads((tmp_path / "out" / "export.json").read_text())
    assert sorted(told["files"]) == sorted(path.name for path in (tmp_path / "out").iterdir())
    named = {"model.onnx", "config.json", "preprocessor_config.json", "vocab.json", "tokens.txt", "tokenizer.json"}
    assert named < set(told["files"])
    assert told["largest_difference"] <= 1e-5
    assert told["about"]["opset"] == 20
    compared = [one["samples"] for one in told["compared"] if one["name"] == recording]
    assert (min(compared), len(set(compared)), len(compared)) == (told["shortest"], 3, 3)
    assert sum(one["name"] == f"{recording}, in a batch" for one in told["compared"]) == 3
    assert not Wav2Vec2FeatureExtractor.from_pretrained(tmp_path / "out").do_normalize

    model = Wav2Vec2ForCTC.from_pretrained(tmp_path / "model", masked_group_norm=True)
    rows = waves(*LENGTHS)
    logits, frames = run(tmp_path / "out", rows, ["logits", "frames"])
    for row, waveform, count in zip(logits, rows, frames, strict=True):
        with torch.no_grad():
            expected = model(normalised(waveform)).logits[0].numpy()
        close(row[:count], expected)
        close(run(tmp_path / "out", [waveform], ["logits"], masked=False)[0][0], expected)


def test_group_norm_of_waveforms_that_are_not_centred(tmp_path):
    """The program's variance is a difference of two sums, which a large mean would leave nothing of."""
    make_folder(tmp_path / "model", **FAMILIES["base"])
    export(tmp_path / "model", tmp_path / "out")
    model = Wav2Vec2ForCTC.from_pretrained(tmp_path / "model", masked_group_norm=True).double()
    rows = [waveform + 1000 for waveform in waves(*LENGTHS)]
    logits, frames = run(tmp_path / "out", rows, ["logits", "frames"])
    for row, waveform, count in zip(logits, rows, frames, strict=True):
        with torch.no_grad():
            expected = model(torch.from_numpy(waveform - waveform.mean(dtype=np.float64))[None]).logits[0].numpy()
        assert np.abs(row[:count] - expected).max() <= 1e-3 * np.abs(expected).max()


def test_classifier_with_layer_norm(tmp_path, monkeypatch):
    """The caller normalises, as the files say; weights that are too large for one file lie beside it."""
    monkeypatch.setattr(export_onnx, "LARGEST_FILE", 1000)
    make_folder(
        tmp_path / "model", "ForSequenceClassification", **FAMILIES["large"],
        use_weighted_layer_sum=True,
    )  # fmt: skip
    receipt = export(tmp_path / "model", tmp_path / "out")
    assert receipt.normalisation == "by the caller"
    assert "model.onnx.data" in receipt.files
    assert receipt.same_text
    assert set(receipt.outputs) == {"logits"}
    assert Wav2Vec2FeatureExtractor.from_pretrained(tmp_path / "out").do_normalize
    model = Wav2Vec2ForSequenceClassification.from_pretrained(tmp_path / "model")
    rows = [normalised(waveform) for waveform in waves(*LENGTHS)]
    (logits,) = run(tmp_path / "out", [row[0].numpy() for row in rows], ["logits"])
    with torch.no_grad():
        close(logits, torch.cat([model(row).logits for row in rows]).numpy())


def test_nothing_is_kept_of_a_program_with_other_numbers(tmp_path, monkeypatch):
    make_folder(tmp_path / "model", **FAMILIES["base"])
    model = inference.load_model(tmp_path / "model")

    def write_program(source, folder, to, **options):
        (folder / "model.onnx").write_bytes(b"a program")
        return ExportedProgram(model.config, {}, {}, {}, lambda given: [row + 0.1 for row in model.logits(given)], True)

    monkeypatch.setattr(torch_export, "write_program", write_program)
    with pytest.raises(
        OutputError, match=r"the onnx program differs from the model by .*, more than 1e-04: nothing is"
    ):
        export(tmp_path / "model", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_one_language_of_an_mms_model(tmp_path, monkeypatch):
    """The letters beside the program are those of its adapter, and the receipt says whose they are."""
    (tmp_path / "mms").mkdir()
    model = inference.load_model(write_mms(tmp_path / "mms"), language="fra")

    def write_program(source, folder, to, **options):
        assert options["language"] == "fra"
        return ExportedProgram(model.config, {}, {}, {}, model.logits, True)

    monkeypatch.setattr(torch_export, "write_program", write_program)
    with pytest.raises(InputError, match=r"nested by language: name one with .*--language.*, of eng, fra"):
        export(tmp_path / "mms", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    receipt = export(tmp_path / "mms", tmp_path / "out", language="fra")
    assert receipt.language == "fra"
    assert json.loads((tmp_path / "out" / "vocab.json").read_text(encoding="utf-8")) == {
        token: number for number, token in enumerate(LANGUAGES["fra"])
    }
    tokenizer = Wav2Vec2CTCTokenizer.from_pretrained(tmp_path / "out")
    assert (tokenizer.languages, tokenizer.decode([2, 3, 1, 4])) == ((), "éà ç")


def test_other_text_is_refused():
    receipt = exporting.ExportReceipt(
        source="a", target="b", format="onnx", head="ForCTC", normalisation="none", sampling_rate=16000, shortest=400
    )
    receipt.compared = [
        exporting.Comparison("x", 400, 1e-6, "ab", "ab"),
        exporting.Comparison("y", 800, 2e-6, "a", "b"),
    ]
    assert (receipt.same_text, receipt.largest_difference, receipt.word_error_rate) == (False, 2e-6, 0.5)
    with pytest.raises(OutputError, match=r"says 'a' where the model says 'b' \(y\): nothing is kept"):
        exporting._check(receipt)


def test_what_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    make_folder(tmp_path / "model", **FAMILIES["base"])
    make_folder(tmp_path / "emotion", "ForSequenceClassification", **FAMILIES["base"])
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "export.json").write_text("{}")
    before = sorted(tmp_path.rglob("*"))
    model, out = tmp_path / "model", tmp_path / "out"
    short = (np.ones(20, np.float32), 16_000)
    for kind, message, arguments, options in (
        (OutputError, "full exists already: name a new or an empty folder", (model, tmp_path / "full"), {}),
        (InputError, "format 'tnn' is unknown: use one of onnx, openvino", (model, out, "tnn"), {}),
        (InputError, "head 'ForCTCC' is unknown", (model, out), {"head": "ForCTCC"}),
        (InputError, "precision 'int4' is unknown: use one of float32", (model, out), {"precision": "int4"}),
        (
            InputError,
            "openvino programs are not written in int8: leave the precision out, or use onnx",
            (model, out, "openvino"),
            {"precision": "int8"},
        ),
        (InputError, "bfloat16: leave the precision out, or use torch-export", (model, out), {"precision": "bfloat16"}),
        (CheckpointError, "its ForXVector part is not trained", (model, out), {"head": "ForXVector"}),
        (CheckpointError, "model folder .*none' does not exist", (tmp_path / "none", out), {}),
        (AudioError, "none.wav does not exist", (model, out), {"verify": ["none.wav"]}),
        (AudioError, "20 samples", (model, out), {"verify": [exporting.Recording.of(*short)]}),
        (InputError, "language", (model, out), {"language": "fra"}),
    ):
        with pytest.raises(kind, match=message):
            export(*arguments, **options)
    for name in ("onnxruntime", "onnxscript"):
        with monkeypatch.context() as without:
            without.setitem(sys.modules, name, None)
            with pytest.raises(BackendError, match=rf"ONNX needs {name}, which is not installed: pip install "):
                export(model, out)
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "openvino", None)
        with pytest.raises(BackendError, match=r"OpenVINO needs openvino, which is not .*\[torch,openvino\]"):
            export(model, out, "openvino")
    assert sorted(tmp_path.rglob("*")) == before
