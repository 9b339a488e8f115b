"""``Auto`` classes and pipelines over PyTorch models, and programs over them."""

import multiprocessing
import shutil

import pytest
import torch
from emotion_models import LAYOUTS, check_emotion_model, noise, write_emotion_model
from front_door_checks import check_auto_models, check_models_in_pipelines
from torch_models import tiny

import wav2vec2_torch
from wav2vec2_core import AutoProcessor, AutoTokenizer
from wav2vec2_core.attaching import attach
from wav2vec2_core.audio import Recording, read_audio
from wav2vec2_core.classification import Classifier
from wav2vec2_core.exporting import export
from wav2vec2_core.pipelines import pipeline
from wav2vec2_core.serving.engine import Engine
from wav2vec2_core.transcription import EMBEDDED_MODEL
from wav2vec2_torch import AutoModelForCTC


def test_auto_models(tmp_path):
    check_auto_models(wav2vec2_torch, "", tiny, tmp_path)


def test_models_in_pipelines(tmp_path):
    check_models_in_pipelines(wav2vec2_torch, "", "pt", tiny, tmp_path)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_emotion_models_of_the_community(layout, tmp_path):
    check_emotion_model(layout, "torch", wav2vec2_torch, "", "pt", torch.from_numpy, tmp_path)


def test_an_emotion_model_is_served_and_exported(tmp_path):
    write_emotion_model(tmp_path / "model", "audeering")
    recording = (noise(3000, 1), 16_000)
    expected = Classifier(tmp_path / "model").classify(recording)
    with Engine(tmp_path / "model") as engine, engine.place() as place:
        found = place.classify(Recording.wrap(recording)).result()
    assert dict(found.labels) == pytest.approx({one.name: one.probability for one in expected}, abs=1e-5)
    receipt = export(tmp_path / "model", tmp_path / "exported", "torch-export")
    assert receipt.head == "ForSequenceClassification"
    assert receipt.same_text is None, "a regression has values and no best label"


@pytest.fixture
def speech_folder(tmp_path):
    """The embedded model with a language model of its words beside it."""
    shutil.copytree(EMBEDDED_MODEL, tmp_path / "model")
    words = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    grams = "\n".join(f"-1\t{word}" for word in words)
    arpa = tmp_path / "words.arpa"
    arpa.write_text(f"\\data\\\nngram 1=13\n\n\\1-grams:\n-9\t<unk>\n-1\t<s>\n-1\t</s>\n{grams}\n\n\\end\\\n")
    attach(arpa, tmp_path / "model", AutoTokenizer.from_pretrained(EMBEDDED_MODEL))
    return tmp_path / "model"


@pytest.mark.filterwarnings("ignore")  # datasets cannot hash a pool, and says so; forks beside threads of libraries
def test_batches_decoded_in_a_pool_of_the_program(speech_folder):
    """A program over rows of ``datasets`` that decodes each batch in processes which it has forked itself."""
    datasets = pytest.importorskip("datasets", reason="a program over the datasets library")
    names = ["three-one-four", "three-one-four", "two-seven-one-eight"]  # without padding that a group norm sees
    dataset = datasets.Dataset.from_list([
        {"audio": {"array": read_audio(f"samples/{name}.flac"), "sampling_rate": 16_000}, "name": name}
        for name in names
    ])  # fmt: skip
    model = AutoModelForCTC.from_pretrained(speech_folder).to("cpu")
    processor = AutoProcessor.from_pretrained(speech_folder)

    def take_samples(row):
        row["speech"] = row["audio"]["array"]
        return row

    def recognise(rows, pool):
        inputs = processor(rows["speech"], sampling_rate=16_000, padding=True, return_tensors="pt")
        inputs = {name: tensor.to("cpu") for name, tensor in inputs.items()}
        with torch.no_grad():
            logits = model(**inputs).logits
        rows["transcription"] = processor.batch_decode(logits.cpu().numpy(), pool).text
        return rows

    dataset = dataset.map(take_samples, remove_columns=["audio"])
    with multiprocessing.get_context("fork").Pool(processes=2) as pool:
        result = dataset.map(recognise, batched=True, batch_size=2, fn_kwargs={"pool": pool}, remove_columns=["speech"])
    assert result["transcription"][:] == ["three one four", "three one four", "two seven one eight"]


def test_a_pipeline_with_the_language_model_of_a_folder(speech_folder):
    speech = pipeline("automatic-speech-recognition", model=str(speech_folder))
    assert speech.decoder is not None
    result = speech("samples/two-seven-one-eight.flac", return_timestamps="word")
    assert [chunk["text"] for chunk in result["chunks"]] == ["two", "seven", "one", "eight"]
