"""What OpenAI's client does not ask for: alignments, classes, embeddings, invocations, metrics, plain websockets."""

import base64
import io
import json
import re
import threading

import numpy as np
import pytest
import torch
from served import running, wait_until_empty
from websockets.sync.client import connect

from wav2vec2_core import Wav2Vec2Config, Wav2Vec2FeatureExtractor
from wav2vec2_core.audio import Recording
from wav2vec2_core.serving.server import Server

TRANSCRIPTIONS = "/v1/audio/transcriptions"


def test_a_transcription_is_that_of_the_command_small_and_large(server, speech, command, path, tmp_path):
    import soundfile

    whole = np.tile(Recording.open(path).read(), 40)  # 80 seconds as wav: above a megabyte, and in windows
    soundfile.write(tmp_path / "long.wav", whole, 16_000, subtype="PCM_16")
    for file in (path, tmp_path / "long.wav"):
        code, out, _ = command("transcribe", file)
        status, _, found = server.send(TRANSCRIPTIONS, file.read_bytes())
        assert (code, status) == (0, 200)
        assert found["text"] == out.strip()
    wait_until_empty(server)


def test_alignments(server, speech):
    status, _, found = server.send("/v1/audio/alignments", speech, text="Three, one... four!")
    assert status == 200
    assert [word["word"] for word in found["words"]] == ["Three,", "one...", "four!"]
    assert found["words"][0]["start"] == 0.12
    assert [one["character"] for one in found["words"][1]["characters"]] == list("one")
    assert server.send("/v1/audio/alignments", speech)[0] == 422
    assert server.send("/v1/audio/alignments", speech, text="?")[2]["error"]["message"].endswith("nothing to align")


def test_captions_of_an_answer_are_those_of_the_command(server, speech, command, path, tmp_path):
    fields = {"response_format": "verbose_json", "timestamp_granularities__": ["word", "segment"]}
    answer = server.send(TRANSCRIPTIONS, speech, **fields)[2]
    kind = {"content-type": "application/json"}

    def captions(**changes):
        content = json.dumps({**answer, "name": path.stem, **changes})
        status, _, found = server.ask("POST", "/v1/audio/captions", content, kind)
        return (status, found.decode()) if status == 200 else (status, found["error"]["message"])

    for wanted in ("txt", "srt", "vtt", "tsv", "ctm", "audacity"):
        code, out, err = command("transcribe", path, "--output-format", wanted, "--output-dir", tmp_path)
        assert code == 0, (out, err)
        (file,) = tmp_path.iterdir()
        assert captions(response_format=wanted) == (200, file.read_text("utf-8"))
        file.unlink()
    assert "xmax = 2.01\n" in captions(response_format="textgrid")[1]
    aligned = server.send("/v1/audio/alignments", speech, text="THREE one\nfour")[2]
    grid = captions(**aligned, response_format="textgrid")[1]
    assert [f'text = "{one}"' in grid for one in ("THREE", "T", "X")] == [True, True, False]
    assert json.loads(captions(response_format="json")[1])["segments"][0]["words"][2]["word"] == "four"
    for changes, message in (
        ({"response_format": "docx"}, "response_format is 'docx'"),
        ({"response_format": "srt", "words": 7}, "field words is 7"),
        ({"response_format": "srt", "segments": [7]}, "field segments is [7]"),
        ({"response_format": "srt", "segments": []}, "3 words behind the last segment"),
        ({"response_format": "srt", "segments": [{"start": -1, "end": 2, "text": ""}]}, "field start is -1"),
        ({"response_format": "srt", "words": [{"start": 0, "end": 1, "word": 7}]}, "field word is 7"),
        ({"response_format": "srt", "duration": float("inf")}, "field duration is inf"),
        ({"response_format": "textgrid", "duration": 0.5}, "reach beyond the recording"),
    ):
        status, found = captions(**changes)
        assert (status, message in found) == (422, True), found


def test_a_stream_of_verbose_json_ends_with_words_and_segments(server, speech):
    fields = {"response_format": "verbose_json", "timestamp_granularities__": ["word", "segment"]}
    whole = server.send(TRANSCRIPTIONS, speech, **fields)[2]
    events = server.send(TRANSCRIPTIONS, speech, **fields, stream="true")[2].decode().split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    *deltas, done = [json.loads(event.removeprefix("data: ")) for event in events[:-2]]
    assert done == {"type": "transcript.text.done", **whole}
    assert [(one["delta"], one["start"], one["end"]) for one in deltas] == [
        (f"{' ' * (i > 0)}{word['word']}", word["start"], word["end"]) for i, word in enumerate(whole["words"])
    ]


@pytest.mark.parametrize("address", ["/", "/page/page.js", "/page/page.css", "/page/icon.svg"])
def test_the_page_loads_nothing_from_elsewhere(server, address):
    status, headers, content = server.ask("GET", address)
    assert status == 200
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    elsewhere = re.sub(r"http://www\.w3\.org/2000/svg", "", content.decode())  # a name, which nothing asks for
    assert not re.search(r"https?://", elsewhere)


def test_embeddings_as_json_and_as_a_file(server, speech, path):
    from wav2vec2_core.embedding import Embedder
    from wav2vec2_core.transcription import EMBEDDED_MODEL

    states = Embedder(EMBEDDED_MODEL, layers=(0, -1)).embed(path)
    status, _, found = server.send("/v1/audio/embeddings", speech, layers="0,-1")
    assert status == 200
    assert [one["layer"] for one in found["data"]] == [0, 4]
    np.testing.assert_allclose([one["embedding"] for one in found["data"]], states.mean(axis=1), atol=1e-5)
    status, headers, content = server.send("/v1/audio/embeddings", speech, layers="-1", response_format="npz")
    assert (status, "embeddings.npz" in headers["content-disposition"]) == (200, True)
    np.testing.assert_allclose(np.load(io.BytesIO(content))["layer_4"], states[1], atol=1e-5)
    wait_until_empty(server)
    assert "layer 9 does not exist" in server.send("/v1/audio/embeddings", speech, layers="9")[2]["error"]["message"]


def test_a_model_without_labels_says_what_it_is(server, speech):
    status, _, found = server.send("/v1/audio/classifications", speech)
    assert status == 422
    assert "Wav2Vec2ForCTC" in found["error"]["message"]


@pytest.mark.parametrize(
    ("parameters", "kind", "chunks"),
    [
        (None, "audio/flac", 0),
        ({}, "application/json", 0),
        ({"return_timestamps": True}, "application/json", 1),
        ({"return_timestamps": "word", "language": "en"}, "application/json", 3),
    ],
)
def test_invocations_of_sagemaker(server, speech, parameters, kind, chunks):
    call = {"inputs": base64.b64encode(speech).decode(), "parameters": parameters}
    content = speech if parameters is None else json.dumps(call)
    status, _, found = server.ask("POST", "/invocations", content, {"content-type": kind})
    assert (status, found["text"], len(found.get("chunks", ()))) == (200, "three one four", chunks)
    assert server.ask("GET", "/ping")[0] == 200


def test_invocations_say_what_is_wrong(server, speech):
    kind = {"content-type": "application/json"}
    for content, message in (
        ("{", "no JSON"),
        ("7", "no JSON object"),
        ("{}", "holds no recording"),
        ('{"inputs": "?"}', "no base64"),
        ('{"inputs": "AAAA", "parameters": 7}', '"parameters" is 7'),
        ('{"inputs": "AAAA", "parameters": {"x": 7}}', "parameter 'x' is unknown"),
        ('{"inputs": "AAAA", "parameters": {"language": 7}}', "parameter language is 7"),
        ('{"inputs": "AAAA"}', "cannot"),
    ):
        status, _, found = server.ask("POST", "/invocations", content, kind)
        assert (status, message in found["error"]["message"]) == (422, True), found
    text = server.ask("POST", "/invocations", speech, {"content-type": "audio/flac", "accept": "text/plain"})
    assert text[2] == b"three one four"


def test_health_and_metrics(server, speech):
    assert server.send(TRANSCRIPTIONS, speech)[0] == 200
    wait_until_empty(server)
    assert server.ask("GET", "/health")[2] == {"status": "ok", "model": "demo-digits", "waiting": 0}
    server.send(TRANSCRIPTIONS, b"nothing")
    page = server.ask("GET", "/metrics")[2].decode()
    figures = dict(line.rsplit(" ", 1) for line in page.splitlines() if not line.startswith("#"))
    assert float(figures["wav2vec2_audio_seconds_total"]) >= 2
    assert float(figures["wav2vec2_real_time_factor"]) > 0
    assert float(figures['wav2vec2_request_seconds_count{path="/v1/audio/transcriptions",status="200"}']) >= 1
    assert float(figures['wav2vec2_request_seconds_count{path="/v1/audio/transcriptions",status="422"}']) >= 1
    assert figures["wav2vec2_requests_waiting"] == "0.0"


def test_plain_samples_over_a_websocket_cut_anywhere(server, path):
    sound = (Recording.open(path, sampling_rate=16_000).read() * 32767).astype("<i2").tobytes() + bytes(16_000)
    with connect(f"ws://127.0.0.1:{server.port}/v1/stream?rate=16000") as socket:
        for first in range(0, len(sound), 4001):
            socket.send(sound[first : first + 4001])
        socket.send("end")
        heard = [json.loads(frame) for frame in socket]
    assert heard[-1]["final"] is True
    assert heard[-1]["leftover_bytes"] == 0
    assert " ".join(filter(None, [one["text"] for one in heard])) == "three one four"
    assert any(one["partial"] for one in heard)


def test_a_client_may_send_faster_than_the_model_hears():
    """Its answer to a ping waits behind its samples: none is demanded."""
    assert Server(None, lambda: None).config.ws_ping_timeout is None


def test_a_classifier_is_served_with_its_labels_and_embeddings(tmp_path, speech, monkeypatch):
    from served import Engine

    from wav2vec2_torch import Wav2Vec2ForSequenceClassification

    torch.manual_seed(0)
    config = Wav2Vec2Config(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, conv_dim=(16,) * 3,
        conv_stride=(10, 8, 4), conv_kernel=(10, 8, 4), num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=4,
        classifier_proj_size=16, num_labels=3, id2label={0: "yes", 1: "no", 2: "stop"},
    )  # fmt: skip
    model = Wav2Vec2ForSequenceClassification(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.3)
    folder = tmp_path / "keywords"
    model.save_pretrained(folder)
    Wav2Vec2FeatureExtractor().save_pretrained(folder)
    monkeypatch.setattr("served.Engine", lambda **options: Engine(folder, **options))
    with running(tmp_path / "uploads") as server:
        found = server.send("/v1/audio/classifications", speech, top_k=2)[2]
        assert found["model"] == "keywords"
        assert len(found["labels"]) == 2
        assert found["labels"][0]["score"] >= found["labels"][1]["score"]
        called = server.ask("POST", "/invocations", speech, {"content-type": "audio/flac"})[2]
        assert [one["label"] for one in called[:2]] == [one["label"] for one in found["labels"]]
        assert len(server.send("/v1/audio/embeddings", speech)[2]["data"][0]["embedding"]) == 32
        refused = server.send(TRANSCRIPTIONS, speech)
        assert (refused[0], "Wav2Vec2ForSequenceClassification" in refused[2]["error"]["message"]) == (422, True)


def test_a_client_that_leaves_gives_its_place_back_and_a_long_upload_is_removed(server, tmp_path, monkeypatch):
    import http.client

    from served import form

    hold, begun = threading.Event(), threading.Event()
    original = server.engine._shared._model.contextualize

    def held(features):
        begun.set()
        assert hold.wait(60)
        return original(features)

    monkeypatch.setattr(server.engine._shared._model, "contextualize", held)
    body, headers = form(_wav(200.0))
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.request("POST", TRANSCRIPTIONS, body, headers)
    assert begun.wait(60)
    assert len(list(server.folder.iterdir())) == 1
    connection.sock.close()
    connection.close()
    wait_until_empty(server)
    hold.set()


def _wav(seconds):
    import soundfile

    target = io.BytesIO()
    noise = np.random.default_rng(0).normal(0, 0.1, round(seconds * 16_000))
    soundfile.write(target, noise, 16_000, format="WAV", subtype="PCM_16")
    return target.getvalue()
