"""``pipeline`` with transformers' arguments, over a model in numpy: inputs, options, results."""

import functools
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from numpy_model import NumpyModel
from numpy_transcriber import RATE, recording, save_processor, write

from wav2vec2_core import Wav2Vec2Processor
from wav2vec2_core.attaching import attach
from wav2vec2_core.audio import Recording
from wav2vec2_core.checkpoint import write_checkpoint
from wav2vec2_core.errors import AudioError, BackendError, CheckpointError, ConfigError, InputError
from wav2vec2_core.pipelines import KeyDataset, pipeline
from wav2vec2_core.pipelines.making import _device

SPEECH, CLASSES = "automatic-speech-recognition", "audio-classification"
SAMPLES = recording(3)
ARPA = "\\data\\\nngram 1=5\n\n\\1-grams:\n-9\t<unk>\n-1\t<s>\n-1\t</s>\n-0.1\tface\n-0.2\tcab\n\n\\end\\\n"
SCALE = np.float32(1 << 15)


class PooledModel(NumpyModel):
    """Labels of whole recordings: the mean over frames."""

    def contextualize(self, features):
        return self.classify(self.pool(features))

    def pool(self, features):
        return [scores.mean(0) for scores in super().contextualize(features)]

    def classify(self, pooled):
        return [np.tanh(one) for one in pooled]


@pytest.fixture
def make(tmp_path, monkeypatch):
    """Makes a pipeline of a folder over a model in numpy."""

    def made(task, head="ForCTC", model=None, written=None, **options):
        model = model or (NumpyModel() if head == "ForCTC" else PooledModel())
        model.config = model.config.replace(id2label={i: f"label {i}" for i in range(8)})
        loaded = []
        backend = SimpleNamespace(
            inference=SimpleNamespace(load_model=lambda source, **given: loaded.append(given) or model)
        )
        monkeypatch.setattr("wav2vec2_core.pipeline.load_backend", lambda name: backend)
        folder = save_processor(tmp_path / "model")
        values = {"model_type": "wav2vec2", "architectures": [f"Wav2Vec2{head}"], **(written or {})}
        (folder / "config.json").write_text(json.dumps(values))
        write_checkpoint(folder, {"classifier.weight": np.zeros((2, 2), np.float32)})
        pipe = pipeline(task, model=options.pop("name", str(folder)), framework="pt", **options)
        pipe.loaded_with = loaded[-1]
        return pipe

    return made


class FakeTensor:
    """What is read of a tensor of PyTorch."""

    def __init__(self, values):
        self.values, self.shape = values, values.shape

    def detach(self):
        return self

    def cpu(self):
        return self.values


def decoder_of(samples, rate):
    """What is read of a decoder of torchcodec."""
    return SimpleNamespace(
        get_all_samples=lambda: SimpleNamespace(data=FakeTensor(samples[None]), sample_rate=rate), shape=None
    )


def test_one_recording_however_it_is_given(make, tmp_path):
    path = write(tmp_path / "a.wav", SAMPLES)
    pipe = make(SPEECH)
    expected = pipe(SAMPLES)
    assert set(expected) == {"text"}
    assert len(expected["text"]) > 10
    for given in (
        str(path), path, path.read_bytes(), bytearray(path.read_bytes()), FakeTensor(SAMPLES), SAMPLES[None],
        SAMPLES.astype(np.float64), (SAMPLES, RATE), Recording(path), decoder_of(SAMPLES, RATE),
        {"raw": SAMPLES, "sampling_rate": RATE}, {"array": SAMPLES, "sampling_rate": RATE, "path": "nowhere.wav"},
        {"path": str(path)}, {"bytes": path.read_bytes(), "path": None},
    ):  # fmt: skip
        assert pipe(given) == expected, given
    whole = (SAMPLES * SCALE).round().clip(-32768, 32767)
    assert pipe(whole.astype(np.int16)) == pipe((whole / SCALE).astype(np.float32))
    stereo = np.stack([SAMPLES, SAMPLES[::-1]])
    assert pipe(stereo) == pipe(stereo.mean(0))


def test_samples_at_another_rate_are_resampled(make):
    twice = {"raw": np.repeat(SAMPLES, 2), "sampling_rate": 2 * RATE}
    pipe = make(SPEECH)
    assert pipe(twice) == pipe(Recording.of(twice["raw"], 2 * RATE))
    assert pipe(dict(twice)) != pipe(twice["raw"])


def test_other_entries_come_back_and_the_dictionary_stays(make):
    given = {"array": SAMPLES, "sampling_rate": RATE, "id": 7}
    assert make(SPEECH)(given)["id"] == [7]
    assert set(given) == {"array", "sampling_rate", "id"}


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (3, InputError, "a int is no recording: give a path, bytes, samples"),
        (None, InputError, "a NoneType is no recording"),
        ({"audio": {"array": SAMPLES}}, InputError, r"has \['audio'\]: it must hold .* KeyDataset\(data, column\)"),
        ({"raw": SAMPLES}, InputError, r"has \['raw'\]: it must hold a recording as 'raw' or 'array' with its"),
        ({"path": "none.wav"}, AudioError, "does not exist"),
        (np.zeros((2, 2, 9)), InputError, r"shape \(2, 2, 9\): \(samples,\) or \(channels, samples\) is needed"),
        (np.zeros((9, 2)), InputError, r"shape \(9, 2\): \(samples,\) or \(channels, samples\) is needed"),
        (np.zeros(3, np.float32), AudioError, "has 3 samples at 1000 Hz, the model needs at least"),
        (b"", AudioError, "is empty"),
        ("http://127.0.0.1:9/none.wav", AudioError, "127.0.0.1:9/none.wav cannot be downloaded .*: check the address"),
        ({"array": SAMPLES, "sampling_rate": RATE, "stride": 3}, InputError, "stride=3 must be samples"),
        ({"array": SAMPLES, "sampling_rate": RATE, "stride": (-1, 0)}, InputError, "must not be negative"),
        ({"array": SAMPLES, "sampling_rate": RATE, "stride": (2000, 1000)}, InputError, "leaves nothing of 3000"),
    ],
)
def test_what_is_no_recording(make, given, error, message):
    with pytest.raises(error, match=message) as caught:
        make(SPEECH)(given)
    assert "\n" not in str(caught.value)


def test_addresses_are_downloaded(make, tmp_path):
    content = write(tmp_path / "a.wav", SAMPLES).read_bytes()

    class Server(BaseHTTPRequestHandler):
        def do_GET(self):
            found = self.path == "/a.wav"
            self.send_response(200 if found else 404)
            self.end_headers()
            self.wfile.write(content if found else b"")

        def log_message(self, *arguments):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address, pipe = f"http://127.0.0.1:{server.server_port}", make(SPEECH)
        assert pipe(f"{address}/a.wav") == pipe(SAMPLES)
        with pytest.raises(AudioError, match=r"b\.wav cannot be downloaded \(Not Found\)"):
            pipe(f"{address}/b.wav")
        server.shutdown()


def test_lists_generators_and_data_sets(make):
    pipe = make(SPEECH)
    parts = [SAMPLES[start : start + 700] for start in (0, 300, 1100, 1900)]
    expected = [pipe(part) for part in parts]
    assert len({one["text"] for one in expected}) == 4
    rows = [{"audio": {"array": part, "sampling_rate": RATE}, "text": "?"} for part in parts]
    for size in (1, 3, 9):
        assert pipe(parts, batch_size=size) == expected
        assert list(pipe(iter(parts), batch_size=size)) == expected
        assert list(pipe(KeyDataset(rows, "audio"), batch_size=size, num_workers=2)) == expected
    assert pipe([]) == []
    assert len(KeyDataset(rows, "text")) == 4


def test_a_generator_is_read_as_results_are_asked_for(make):
    read = []

    def recordings():
        for number in range(5):
            read.append(number)
            yield SAMPLES

    results = make(SPEECH, batch_size=2)(recordings())
    next(results)
    assert read == [0, 1]


def test_times(make):
    pipe = make(SPEECH)
    timed = {unit: pipe(SAMPLES, return_timestamps=unit) for unit in ("word", "char")}
    assert {one["text"] for one in timed.values()} == {pipe(SAMPLES)["text"]}
    assert [chunk["text"] for chunk in timed["word"]["chunks"]] == timed["word"]["text"].split()
    assert "".join(chunk["text"] for chunk in timed["char"]["chunks"]) == timed["char"]["text"]
    for unit, result in timed.items():
        tokens = pipe.model.logits([pipe.feature_extractor(SAMPLES, sampling_rate=RATE)["input_values"][0]])[0].argmax(
            -1
        )
        offsets = pipe.tokenizer.decode(tokens, output_char_offsets=True, output_word_offsets=True)[f"{unit}_offsets"]
        hop = pipe.model.config.inputs_to_logits_ratio / RATE
        np.testing.assert_allclose(
            [chunk["timestamp"] for chunk in result["chunks"]],
            [(one["start_offset"] * hop, one["end_offset"] * hop) for one in offsets],
        )
    stretch = pipe(Recording.of(SAMPLES, RATE, start=1.0), return_timestamps="char")
    assert stretch["chunks"][0]["timestamp"][0] >= 1.0


def test_a_stride_counts_for_nothing(make):
    pipe = make(SPEECH)
    times = pipe(SAMPLES, return_timestamps="char")["chunks"]
    cut = pipe({"raw": SAMPLES, "sampling_rate": RATE, "stride": (1000, 500)}, return_timestamps="char")["chunks"]
    within = [one["text"] for one in times if one["timestamp"][0] > 1.05 and one["timestamp"][1] < 2.45]
    assert "".join(within) in "".join(one["text"] for one in cut)
    assert len(cut) <= len(within) + 4


def test_chunks_do_not_depend_on_how_many_go_together(make):
    pipe = make(SPEECH)
    chunked = functools.partial(pipe, SAMPLES, chunk_length_s=0.8, stride_length_s=(0.3, 0.1), return_timestamps="char")
    assert chunked() == chunked(batch_size=4)
    assert chunked()["chunks"] != pipe(SAMPLES, return_timestamps="char")["chunks"]
    assert pipe(SAMPLES, chunk_length_s=4) == pipe(SAMPLES)
    made = make(SPEECH, chunk_length_s=0.8, stride_length_s=(0.3, 0.1))
    assert made(SAMPLES, return_timestamps="char") == chunked()
    assert made(SAMPLES, chunk_length_s=0) == pipe(SAMPLES)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"return_timestamps": True}, "return_timestamps=True is nothing a CTC model has: use 'word' or 'char'"),
        ({"chunk_length_s": 2, "stride_length_s": 1}, "leaves nothing of chunks of 2 s"),
        ({"chunk_length_s": 2, "stride_length_s": (-1, 1)}, "leaves nothing of chunks of 2 s"),
        ({"chunk_length_s": "long"}, "chunk_length_s='long' and stride_length_s=None must be seconds"),
        ({"chunk_length_s": 0.09, "stride_length_s": 0.0449}, "keep nothing beside their strides"),
        ({"generate_kwargs": {"language": "fr"}}, "is for models that generate text, CTC does not"),
        ({"decoder_kwargs": {"beam_width": 5}}, "decoder_kwargs are options of a beam search and the model has none"),
        ({"batch_size": 0}, "batch_size=0 must be an integer of at least 1"),
        ({"colour": "red"}, "automatic-speech-recognition has no option 'colour'"),
    ],
)
def test_options_that_are_refused(make, options, message):
    pipe = make(SPEECH)
    with pytest.raises(InputError, match=message) as caught:
        pipe(SAMPLES, **options)
    assert "\n" not in str(caught.value)
    if "keep nothing" not in message:
        with pytest.raises(InputError, match=message):
            make(SPEECH, **options)


def test_a_language_model_in_the_folder(make, tmp_path):
    arpa = tmp_path / "lm.arpa"
    arpa.write_text(
        "\\data\\\nngram 1=5\n\n\\1-grams:\n-9\t<unk>\n-1\t<s>\n-1\t</s>\n-0.1\tface\n-0.2\tcab\n\n\\end\\\n"
    )
    plain = make(SPEECH)
    folder = tmp_path / "model"
    assert plain.decoder is None
    attach(arpa, folder, plain.tokenizer)
    pipe = make(SPEECH)
    assert pipe.decoder is not None
    timed = pipe(SAMPLES, return_timestamps="word")
    assert timed["text"] == pipe(SAMPLES)["text"] != plain(SAMPLES)["text"]
    assert [chunk["text"] for chunk in timed["chunks"]] == timed["text"].split()
    narrow = pipe(SAMPLES, decoder_kwargs={"beam_width": 1, "alpha": 5.0, "beta": -5.0})
    assert narrow["text"] != timed["text"]
    assert pipe(SAMPLES)["text"] == timed["text"]
    with pytest.raises(InputError, match="'char' does not go with a language model"):
        pipe(SAMPLES, return_timestamps="char")
    assert make(SPEECH, decoder=None)(SAMPLES) == plain(SAMPLES)
    assert make(SPEECH, decoder=str(folder))(SAMPLES) == pipe(SAMPLES)
    processor = Wav2Vec2Processor.from_pretrained(folder)
    assert make(SPEECH, processor=processor)(SAMPLES) == plain(SAMPLES)
    strange = save_processor(tmp_path / "other")
    (strange / "vocab.json").write_text('{"<pad>": 0, "|": 1, "x": 2, "y": 3}')
    with pytest.raises(InputError, match="alphabet"):
        make(SPEECH, tokenizer=str(strange), decoder=str(folder))


def test_labels(make):
    pipe = make(CLASSES, "ForSequenceClassification")
    everything = pipe(SAMPLES)
    assert [set(one) for one in everything] == [{"score", "label"}] * 8
    assert pipe(SAMPLES, top_k=None) == everything
    assert sum(one["score"] for one in everything) == pytest.approx(1)
    assert [one["score"] for one in everything] == sorted((one["score"] for one in everything), reverse=True)
    assert pipe(SAMPLES, top_k=2) == everything[:2] == make(CLASSES, "ForSequenceClassification", top_k=2)(SAMPLES)
    plain, sigmoids = (
        {one["label"]: one["score"] for one in pipe(SAMPLES, top_k=99, function_to_apply=name)}
        for name in ("none", "sigmoid")
    )
    assert {name: 1 / (1 + np.exp(-score)) for name, score in plain.items()} == pytest.approx(sigmoids)
    total = sum(np.exp(score) for score in plain.values())
    assert {one["label"]: one["score"] for one in everything} == pytest.approx(
        {name: np.exp(score) / total for name, score in plain.items()}
    )
    assert pipe([SAMPLES, SAMPLES[:900]], batch_size=2) == [pipe(SAMPLES), pipe(SAMPLES[:900])]
    several = make(CLASSES, "ForSequenceClassification", written={"problem_type": "multi_label_classification"})
    assert several(SAMPLES, top_k=None) == everything  # transformers' pipeline takes the softmax all the same
    values = make(CLASSES, "ForSequenceClassification")
    values.model.config.problem_type = "regression"
    assert {one["label"]: one["score"] for one in values(SAMPLES)} == pytest.approx(plain)


def test_labels_of_long_recordings(make):
    """Windows side by side: the mean over all frames, here without context between them."""
    samples = recording(80)
    pipe = make(CLASSES, "ForSequenceClassification", PooledModel(reach=0))
    scores = {one["label"]: one["score"] for one in pipe(samples, top_k=None, function_to_apply="none")}
    values = pipe.feature_extractor(samples, sampling_rate=RATE)["input_values"][0]
    expected = pipe.model.logits([values])[0]
    assert [scores[f"label {index}"] for index in range(8)] == pytest.approx(expected.tolist(), rel=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"top_k": 0}, "top_k=0 must be an integer of at least 1, or None"),
        ({"function_to_apply": "tanh"}, "function_to_apply='tanh' is unknown: use softmax, sigmoid, none"),
        ({"return_timestamps": "word"}, "audio-classification has no option 'return_timestamps'"),
    ],
)
def test_options_of_labels_that_are_refused(make, options, message):
    with pytest.raises(InputError, match=message):
        make(CLASSES, "ForSequenceClassification")(SAMPLES, **options)


def test_the_task_follows_from_the_model(make):
    assert make(None).task == SPEECH
    assert make(None, "ForSequenceClassification").task == CLASSES
    with pytest.raises(CheckpointError, match="is a Wav2Vec2ForXVector, which no pipeline is for: name one of"):
        make(None, "ForXVector")
    with pytest.raises(InputError, match="neither task nor model is given"):
        pipeline()
    with pytest.raises(InputError, match="task 'translation' is unknown: use 'automatic-speech-recognition' or"):
        pipeline("translation", model="anything")


def test_options_of_loading(make, tmp_path):
    assert make(SPEECH).loaded_with["dtype"] == "float32"
    assert make(SPEECH, written={"dtype": "float16"}).loaded_with["dtype"] == "float16"
    assert make(SPEECH, written={"dtype": "float16"}, torch_dtype="float32").loaded_with["dtype"] == "float32"
    assert make(SPEECH, device_map="auto").loaded_with["device"] == "auto"
    assert [_device(device) for device in (-1, 0, "cuda:1", None)] == ["cpu", "cuda:0", "cuda:1", None]
    assert make(SPEECH, device=-1, use_fast=False, trust_remote_code=True).loaded_with["device"] == "cpu"
    kept = make(SPEECH, model_kwargs={"attn_implementation": "sdpa", "torch_dtype": "bfloat16"})
    assert kept.loaded_with["dtype"] == "bfloat16"
    for options, error, message in (
        ({"config": 1}, InputError, "config=1 is not supported here"),
        ({"pipeline_class": int}, InputError, "pipeline_class=<class 'int'> is not supported"),
        ({"device_map": {"": 0, "lm_head": 1}}, InputError, "a model is on one device"),
        ({"model_kwargs": {"colour": 1}}, InputError, "model_kwargs has 'colour', which is no option"),
        ({"model_kwargs": {"quantization_config": 1}}, InputError, "quantization_config=1 is not supported here"),
        ({"config_": 1}, InputError, "has no option 'config_'"),
        ({"name": 7}, InputError, "model is a int, of no back end of ours"),
        ({"name": Path("nowhere")}, CheckpointError, "'nowhere' does not exist"),
    ):
        with pytest.raises(error, match=message):
            make(SPEECH, **options)
    with pytest.raises(ConfigError, match="has model_type 'whisper', this library reads 'wav2vec2' models"):
        make(SPEECH, written={"model_type": "whisper"})
    with pytest.raises(InputError, match="framework 'np' is unknown: use one of pt, tf, flax"):
        pipeline(SPEECH, model=str(tmp_path / "model"), framework="np")


def test_the_first_framework_that_is_installed(make, monkeypatch, tmp_path):
    make(SPEECH)
    asked = []

    def load_backend(name):
        asked.append(name)
        if name != "flax":
            raise BackendError(f"no {name}")

    monkeypatch.setattr("wav2vec2_core.pipelines.making.load_backend", load_backend)
    monkeypatch.setattr("wav2vec2_core.pipelines.making.backend_names", lambda: ["torch", "tf", "flax"])
    assert pipeline(SPEECH, model=tmp_path / "model").framework == "flax"
    assert asked == ["torch", "tf", "flax"]
