"""One exported folder in other people's programs: each reads the files as they are and has our text."""

import json
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import numpy as np
import pytest

from wav2vec2_core.audio import Recording
from wav2vec2_core.exporting import export
from wav2vec2_core.transcription import Transcriber

ROOT = Path(__file__).parents[2]
SAMPLES = sorted((ROOT / "samples").glob("*.flac"))
DIGITS = ROOT / "../shared/data/fsdd.tar.xz"
#: Where npm has installed the packages that ``nox -s runtimes`` names.
NODE_MODULES = os.environ.get("NODE_MODULES")
MODEL = ROOT / "wav2vec2_core/assets/demo-digits"


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """The samples, and 30 recordings of digits where the data is: paths."""
    if not DIGITS.exists():
        return SAMPLES
    folder, found = tmp_path_factory.mktemp("digits"), list(SAMPLES)
    with tarfile.open(DIGITS) as archive:
        for member in archive:
            if member.name.endswith(("_theo_0.wav", "_theo_1.wav", "_lucas_0.wav")):
                archive.extract(member, folder, filter="data")
                found.append(folder / member.name)
    assert len(found) == len(SAMPLES) + 30
    return found


@pytest.fixture(scope="module")
def ours(recordings):
    """Our text of each recording."""
    transcriber = Transcriber(MODEL)
    return [transcriber.transcribe(path).text for path in recordings]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    pytest.importorskip("onnxscript", reason="writes ONNX: extra onnx")
    folder = tmp_path_factory.mktemp("exported") / "onnx"
    export(MODEL, folder, "onnx", fold_normalisation=True)
    return folder


def waveforms(recordings):
    return [Recording.wrap(path).at(16_000).read() for path in recordings]


def test_sherpa_onnx(folder, recordings, ours):
    """Its recogniser for omnilingual models takes waveforms; it scales them itself, which changes nothing here."""
    sherpa_onnx = pytest.importorskip("sherpa_onnx")
    recognizer = sherpa_onnx.OfflineRecognizer.from_omnilingual_asr_ctc(
        model=str(folder / "model.onnx"), tokens=str(folder / "tokens.txt")
    )
    heard = []
    for samples in waveforms(recordings):
        stream = recognizer.create_stream()
        stream.accept_waveform(16_000, samples)
        recognizer.decode_stream(stream)
        heard.append(stream.result.text.strip())
    assert heard == ours


#: Reads waveforms from a folder, and writes a list of texts.
NODE = """
import fs from "node:fs";
const [folder, waveforms] = process.argv.slice(2);
%s
const texts = [];
for (const file of fs.readdirSync(waveforms).sort()) {
  const bytes = fs.readFileSync(`${waveforms}/${file}`);
  const samples = new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));
  texts.push(await text(samples));
}
fs.writeFileSync("texts.json", JSON.stringify(texts));
"""
TRANSFORMERS_JS = """
import { env, pipeline } from "@huggingface/transformers";
env.allowRemoteModels = false;
const asr = await pipeline("automatic-speech-recognition", folder, { subfolder: "", dtype: "fp32" });
const text = async (samples) => (await asr(samples)).text;
"""
SHERPA = """
import sherpa from "%s";
const modelConfig = { omnilingual: { model: `${folder}/model.onnx` }, tokens: `${folder}/tokens.txt`, debug: 0 };
const recognizer = %s;
const text = (samples) => {
  const stream = recognizer.createStream();
  stream.acceptWaveform(%s);
  recognizer.decode(stream);
  return recognizer.getResult(stream).text.trim();
};
"""
SCRIPTS = {
    "transformers.js": TRANSFORMERS_JS,
    "sherpa-onnx, for browsers": SHERPA
    % ("sherpa-onnx", "sherpa.createOfflineRecognizer({ modelConfig })", "16000, samples"),
    "sherpa-onnx-node": SHERPA
    % ("sherpa-onnx-node", "new sherpa.OfflineRecognizer({ modelConfig })", "{ sampleRate: 16000, samples }"),
}


@pytest.mark.skipif(
    not NODE_MODULES or shutil.which("node") is None,
    reason="needs node and NODE_MODULES, a folder in which npm has installed the packages of these names",
)
@pytest.mark.parametrize("program", SCRIPTS)
def test_programs_of_node(program, folder, recordings, ours, tmp_path):
    (tmp_path / "waveforms").mkdir()
    for number, samples in enumerate(waveforms(recordings)):
        samples.astype("<f4").tofile(tmp_path / "waveforms" / f"{number:03}")
    (tmp_path / "node_modules").symlink_to(Path(NODE_MODULES).resolve())
    (tmp_path / "script.mjs").write_text(NODE % SCRIPTS[program])
    subprocess.run(["node", "script.mjs", folder, "waveforms"], cwd=tmp_path, check=True, timeout=600)
    assert json.loads((tmp_path / "texts.json").read_text()) == ours


@pytest.mark.parametrize(
    ("to", "precision", "limit"),
    [
        ("openvino", "float32", 1e-4),
        ("openvino", "float16", 2e-2),
        ("onnx", "float16", 2e-2),
        ("onnx", "int8", None),
        ("torch-export", "float32", 1e-4),
        ("torch-export", "float16", 2e-2),
    ],
)
def test_receipts(to, precision, limit, recordings, tmp_path):
    """Each program is run by its own runtime; what 8 bits change is stated."""
    for name in {"openvino": ("openvino", "onnxscript"), "onnx": ("onnxscript", "onnxruntime")}.get(to, ()):
        pytest.importorskip(name)
    receipt = export(MODEL, tmp_path / "out", to, precision=precision, verify=recordings)
    told = json.loads((tmp_path / "out" / "export.json").read_text())
    assert (told["format"], told["precision"], told["limit"]) == (to, precision, limit)
    assert told["largest_difference"] == receipt.largest_difference
    assert receipt.word_error_rate == told["word_error_rate"] <= 0.02
    lengths = {one["samples"] for one in told["compared"]}
    assert min(lengths) == receipt.shortest
    if precision == "float32":
        assert receipt.same_text
        assert receipt.largest_difference <= 1e-5
    else:
        assert 1e-6 < receipt.largest_difference < 0.5


def test_openvino_alone(recordings, ours, tmp_path):
    """A program reads the folder with OpenVINO and numpy."""
    pytest.importorskip("onnxscript")
    openvino = pytest.importorskip("openvino")
    export(MODEL, tmp_path / "out", "openvino", fold_normalisation=True)
    options = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(str(tmp_path / "out" / "model.xml"), "CPU", options)
    tokens = {row: token for token, row in json.loads((tmp_path / "out" / "vocab.json").read_text()).items()}
    heard = []
    for samples in waveforms(recordings):
        mask = np.ones((1, len(samples)), np.int64)
        best = compiled({"input_values": samples[None], "attention_mask": mask})["logits"][0].argmax(-1)
        kept = [row for row, before in zip(best, [-1, *best[:-1]], strict=True) if row != before]
        heard.append("".join(tokens[row] for row in kept if tokens[row] != "<pad>").replace("|", " ").strip())
    assert heard == ours
