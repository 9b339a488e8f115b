"""SavedModel and LiteRT files, loaded again, give the numbers of the live model."""

import json

import numpy as np
import pytest
import tensorflow as tf
from tf_models import NORMS, VARIANTS, padded, relative, tiny

from wav2vec2_core.errors import InputError, OutputError
from wav2vec2_core.exporting import export
from wav2vec2_core.feature_extraction import Wav2Vec2FeatureExtractor
from wav2vec2_core.parameters import HEADS
from wav2vec2_tf.export import export_litert, export_saved_model

FAMILIES = {
    "base": {**NORMS["group-post"], "masked_group_norm": True},
    "large": {**NORMS["layer-pre"], **VARIANTS["attention-adapters"]},
    "adapter": {**VARIANTS["wide-adapter"], "masked_group_norm": True},
}
FIELDS = {"Model": "last_hidden_state", "ForPreTraining": "projected_states"}


@pytest.mark.parametrize(
    ("head", "family"), [*((head, "base") for head in HEADS), ("ForCTC", "large"), ("ForCTC", "adapter")]
)
def test_saved_model(head, family, tmp_path):
    model = tiny(head, **FAMILIES[family], num_hidden_layers=1)
    report = export_saved_model(model, tmp_path / "new")
    assert report.path == tmp_path / "new"
    assert report.error <= 1e-5
    serve = tf.saved_model.load(tmp_path / "new").signatures["serving_default"]
    values, mask = padded((1500, 1203, 800), rubbish=5.0)
    lengths = mask.sum(1).astype(np.int32)
    output = serve(waveforms=tf.constant(3 * values + 1), lengths=tf.constant(lengths))
    raw = [3 * row[:length] + 1 for row, length in zip(values, lengths, strict=True)]
    features = Wav2Vec2FeatureExtractor(return_attention_mask=True)(raw, sampling_rate=16_000, padding=True)
    expected = model(np.array(features["input_values"]), np.array(features["attention_mask"]))
    assert relative(output[FIELDS.get(head, "logits")], expected[FIELDS.get(head, "logits")]) <= 1e-5
    if len(output) == 2:
        assert output["frames"].numpy().tolist() == [model.config.num_frames(int(length)) for length in lengths]


@pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated:UserWarning")
@pytest.mark.parametrize("family", FAMILIES)
def test_litert(family, tmp_path):
    model = tiny("ForCTC", **FAMILIES[family], num_hidden_layers=1)
    report = export_litert(model, tmp_path / "new" / "model.tflite", do_normalize=family != "base")
    assert len(set(report.lengths)) == 3
    assert report.error <= 1e-5
    interpreter = tf.lite.Interpreter(model_path=str(tmp_path / "new" / "model.tflite"))
    waveform = np.random.default_rng(0).normal(0.5, 2, (1, 1234)).astype(np.float32)
    interpreter.resize_tensor_input(interpreter.get_input_details()[0]["index"], waveform.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], waveform)
    interpreter.invoke()
    logits = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    if family != "base":
        waveform = (waveform - waveform.mean()) / np.sqrt(waveform.var() + 1e-7)
    assert relative(logits, model(waveform).logits) <= 1e-5


def test_what_cannot_be_exported(tmp_path):
    with pytest.raises(InputError, match="TFWav2Vec2ForXVector in float32 cannot become a LiteRT file"):
        export_litert(tiny("ForXVector"), tmp_path / "model.tflite")
    with pytest.raises(InputError, match="in bfloat16 cannot become a LiteRT file"):
        export_litert(tiny("ForCTC", dtype="bfloat16"), tmp_path / "model.tflite")
    (tmp_path / "file").write_text("")
    for write in (export_litert, export_saved_model):
        with pytest.raises(OutputError, match="cannot create folder"):
            write(tiny("ForCTC"), tmp_path / "file" / "model.tflite")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]


@pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated:UserWarning")
@pytest.mark.parametrize(("to", "file"), [("saved-model", "saved_model/saved_model.pb"), ("litert", "model.tflite")])
def test_exports_with_a_receipt(to, file, tmp_path):
    tiny("ForCTC", **FAMILIES["base"], num_hidden_layers=1).save_pretrained(tmp_path / "model")
    Wav2Vec2FeatureExtractor().save_pretrained(tmp_path / "model")
    receipt = export(tmp_path / "model", tmp_path / "out", to, fold_normalisation=True)
    assert {file, "config.json", "preprocessor_config.json"} < set(receipt.files)
    assert json.loads((tmp_path / "out" / "export.json").read_text())["largest_difference"] <= 1e-5
    assert any("batch" in one.name for one in receipt.compared) == (to == "saved-model")
    assert not Wav2Vec2FeatureExtractor.from_pretrained(tmp_path / "out").do_normalize
