"""Requests that are wrong, hostile or unlucky: the right status, one line, nothing left behind."""

import asyncio
import contextlib
import errno
import io
import json
import os
import socket
import time

import numpy as np
import pytest
import soundfile
from served import BOUNDARY, form, wait_until_empty
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from wav2vec2_core.errors import InputError
from wav2vec2_core.serving import guard, protocol, uploads
from wav2vec2_core.serving.server import listen

PATH = "/v1/audio/transcriptions"


@pytest.fixture(autouse=True)
def nothing_left(server):
    """After each test no place is held, no upload is there, and the server still answers."""
    yield
    wait_until_empty(server)
    assert server.ask("GET", "/health")[0] == 200


def refused(answer, status, part, code=None):
    found, _, content = answer
    assert found == status, content
    error = content["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert part in error["message"]
    assert "\n" not in error["message"]
    assert len(error["message"]) < 400
    assert code is None or error["code"] == code


def flac(samples, **options):
    target = io.BytesIO()
    soundfile.write(target, samples, 16_000, format="FLAC", **options)
    return target.getvalue()


def test_recordings_that_are_none(server, speech):
    refused(server.send(PATH, b"", "empty.wav"), 422, "empty.wav is empty", "invalid_audio")
    refused(server.send(PATH, b"no sound at all" * 1000, "x.mp3"), 422, "x.mp3", "invalid_audio")
    refused(server.send(PATH, speech[:3000], "cut.flac"), 422, "cut.flac is damaged or truncated", "invalid_audio")
    refused(server.send(PATH, flac(np.zeros(100)), "short.flac"), 422, "needs at least", "invalid_audio")
    refused(server.send(PATH, os.urandom(3_000_000), "large.bin"), 422, "large.bin", "invalid_audio")


def test_a_small_file_that_is_hours_of_sound(start):
    bomb = flac(np.zeros(16_000 * 3600, np.int16))
    assert len(bomb) < 1_500_000
    with start(seconds=60.0) as server:
        started = time.monotonic()
        refused(server.send(PATH, bomb), 413, "longer than 60 s", "audio_too_long")
        assert time.monotonic() - started < 20


def test_more_bytes_than_are_taken(start, speech):
    with start(upload_mb=0.01) as server:
        refused(server.send(PATH, bytes(20_000)), 413, "more than 10000 bytes", "request_too_large")
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as raw:
            raw.sendall(
                f"POST {PATH} HTTP/1.1\r\nhost: x\r\ncontent-type: multipart/form-data; boundary=b\r\n"
                "content-length: 10000000000\r\n\r\n".encode()
            )
            answer = raw.recv(65536)
            assert b" 413 " in answer.partition(b"\r\n")[0]
            assert b"connection: close" in answer.lower()
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as raw:  # without a length
            raw.sendall(
                f"POST {PATH} HTTP/1.1\r\nhost: x\r\ncontent-type: multipart/form-data; boundary=b\r\n"
                "transfer-encoding: chunked\r\n\r\n".encode()
            )
            head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n'
            for chunk in (head, *[bytes(4000)] * 3):  # not more: the server closes when it has answered
                raw.sendall(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n")
            assert b" 413 " in raw.recv(65536).partition(b"\r\n")[0]
        wait_until_empty(server)


def test_an_upload_that_never_ends(server, monkeypatch):
    monkeypatch.setattr(uploads, "_PATIENCE", 0.5)
    body, headers = form(b"RIFF")
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as raw:
        kind = headers["content-type"]
        head = f"POST {PATH} HTTP/1.1\r\nhost: x\r\ncontent-type: {kind}\r\ncontent-length: 5000\r\n\r\n"
        raw.sendall(head.encode() + body[:20])
        assert b" 408 " in raw.recv(65536).partition(b"\r\n")[0]


def until_closed(raw):
    found = b""
    with contextlib.suppress(ConnectionResetError):
        while data := raw.recv(65536):
            found += data
    return found


ASKING = b"GET /health HTTP/1.1\r\nhost: x\r\n"


@pytest.mark.parametrize(("before", "sent"), [(b"", b""), (b"", ASKING * 2), (ASKING + b"\r\n", ASKING * 2)])
def test_a_connection_that_does_not_ask(server, monkeypatch, before, sent):
    monkeypatch.setattr(protocol, "_PATIENCE", 0.5)
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as raw:
        raw.sendall(before)
        if before:
            found = b""
            while not found.endswith(b"}"):
                found += raw.recv(65536)
        with contextlib.suppress(OSError):  # a byte at a time, until the server ends it
            for byte in sent:
                raw.sendall(bytes([byte]))
                time.sleep(0.02)
        found = until_closed(raw)
    assert b" 408 " in found.partition(b"\r\n")[0]
    assert b"came too slowly" in found


def test_a_request_whose_headers_are_there_is_not_hurried(server, speech, monkeypatch):
    monkeypatch.setattr(protocol, "_PATIENCE", 0.3)
    body, headers = form(speech)
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as raw:
        kind = headers["content-type"]
        head = f"POST {PATH} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: {kind}\r\n"
        raw.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode())
        time.sleep(0.7)
        raw.sendall(body)
        assert b"three one four" in until_closed(raw)


@pytest.mark.parametrize(
    ("body", "kind", "part"),
    [
        (b"{}", "application/json", "no form"),
        (b"", "", "no form"),
        (b"x", "multipart/form-data", "no form"),
        (b"nonsense", f"multipart/form-data; boundary={BOUNDARY}", "damaged"),
        (b"", f"multipart/form-data; boundary={BOUNDARY}", "ends before"),
        (form(b"abc")[0][:-30], f"multipart/form-data; boundary={BOUNDARY}", "ends before"),
        (form(b"abc")[0].replace(b'name="file"; ', b""), f"multipart/form-data; boundary={BOUNDARY}", "file"),
        (form(**{f"f{i}": 1 for i in range(101)})[0], f"multipart/form-data; boundary={BOUNDARY}", "100 fields"),
        (form(prompt="x" * 1_100_000)[0], f"multipart/form-data; boundary={BOUNDARY}", "bytes"),
        (form(model="demo-digits")[0], f"multipart/form-data; boundary={BOUNDARY}", "field file is missing"),
        (b"model=demo-digits&stream=true", "application/x-www-form-urlencoded", "field file is missing"),
        (form(language=b"\xff\xfe")[0], f"multipart/form-data; boundary={BOUNDARY}", "not UTF-8"),
    ],
)
def test_forms_that_are_none(server, body, kind, part):
    refused(server.ask("POST", PATH, body, {"content-type": kind}), 422, part)


@pytest.mark.parametrize(
    ("fields", "status", "part"),
    [
        ({"model": "whisper-1"}, 404, "'whisper-1' is not served"),
        ({"language": "../../etc"}, 422, "language"),
        ({"language": "x" * 1000}, 422, "language"),
        ({"response_format": "docx"}, 422, "'docx'"),
        ({"timestamp_granularities__": "word"}, 422, "verbose_json"),
        ({"timestamp_granularities__": "letter", "response_format": "verbose_json"}, 422, "'letter'"),
        ({"temperature": "hot"}, 422, "temperature"),
        ({"temperature": "nan"}, 422, "temperature"),
        ({"stream": "perhaps"}, 422, "'perhaps'"),
        ({"stream": "true", "response_format": "srt"}, 422, "a stream is json, text or verbose_json"),
        ({"speaker": "me"}, 422, "field 'speaker' is unknown"),
        ({"model": ["demo-digits", "demo-digits"]}, 422, "given 2 times"),
        ({"prompt": " ".join(map(str, range(1001)))}, 422, "1001 different words"),
    ],
)
def test_fields_that_are_wrong(server, speech, fields, status, part):
    refused(server.send(PATH, speech, **fields), status, part)


def test_names_of_files_are_no_paths(server, speech, tmp_path):
    for name in (
        "../../../../tmp/evil.flac",
        "C:\\windows\\evil.flac",
        b"\xff\xfe.flac",
        "",
        "x" * 1000,
        "a\tb\x07.flac",
    ):
        status, _, found = server.send(PATH, speech, name)
        assert (status, found.get("text")) == (200, "three one four"), found
    refused(server.send(PATH, b"junk" * 100, "../../secret/evil.flac"), 422, "evil.flac cannot")
    message = server.send(PATH, os.urandom(2_000_000), "../../secret/evil.bin")[2]["error"]["message"]
    assert "secret" not in message
    assert str(server.folder) not in message


def test_addresses_and_methods_that_are_none(server):
    refused(server.ask("GET", "/v1/nothing"), 404, "no such address")
    refused(server.ask("DELETE", PATH), 405, "another method")
    refused(server.ask("GET", "/v1/models/..%2f..%2fetc"), 404, "not served here")


def test_a_wrong_key(start, speech):
    with start(api_key="right") as server:
        for value in ("", "Bearer wrong", "Bearer \xff", "Basic right", "right "):
            answer = server.ask("GET", "/v1/models", None, {"authorization": value})
            refused(answer, 401, "Authorization", "invalid_api_key")
        for path in ("/health", "/ping", "/", "/page/page.js"):
            assert server.ask("GET", path)[0] == 200
        assert server.ask("GET", "/metrics")[0] == 401
        address = f"ws://127.0.0.1:{server.port}/v1/stream"
        with pytest.raises(InvalidStatus) as denied:
            connect(address)
        assert denied.value.response.status_code == 401
        for options in (
            {"additional_headers": {"authorization": "Bearer right"}},
            {"subprotocols": ["realtime", "openai-insecure-api-key.right"]},
        ):
            with connect(address, **options) as connection:
                connection.send("end")
                assert json.loads(connection.recv())["final"]


def test_a_full_queue_for_forms_and_websockets(start, speech):
    with start(queue=1) as server:
        place = server.engine.place()
        answer = server.send(PATH, speech)
        refused(answer, 429, "1 requests wait", "rate_limit_exceeded")
        assert int(answer[1]["retry-after"]) >= 1
        with pytest.raises(InvalidStatus) as denied:
            connect(f"ws://127.0.0.1:{server.port}/v1/stream")
        assert denied.value.response.status_code == 429
        place.cancel()
        assert server.send(PATH, speech)[0] == 200
        assert b'wav2vec2_refusals_total{reason="queue"} 2.0' in server.ask("GET", "/metrics")[2]


def test_a_full_disk(server, monkeypatch):
    def full(**options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(uploads.tempfile, "mkstemp", full)
    refused(server.send(PATH, bytes(2_000_000)), 507, "disk is full", "storage")


def test_a_mistake_of_the_server_is_no_secret_and_no_end(server, speech, monkeypatch):
    def broken(*arguments):
        raise ZeroDivisionError("with details")

    monkeypatch.setattr("wav2vec2_core.serving.http.answers.transcription", broken)
    refused(server.send(PATH, speech), 500, "the server failed", "internal_error")


def test_two_servers_on_one_port(server):
    with pytest.raises(InputError, match=f"port {server.port} of 127.0.0.1 is taken"):
        listen("127.0.0.1", server.port)
    for host, port in (("no.such.host.invalid", 0), ("a" * 300, 0)):
        with pytest.raises(InputError, match="--host"):
            listen(host, port)


def test_websockets_of_the_wrong_kind(server):
    address = f"ws://127.0.0.1:{server.port}/v1"
    for path in ("/stream?format=mp3", "/stream?rate=1", "/stream?x=1", "/realtime?intent=talk", "/realtime?model=x"):
        with pytest.raises(InvalidStatus) as denied:
            connect(address + path)
        assert denied.value.response.status_code in (404, 422), path
    with connect(f"{address}/stream") as plain:
        plain.send("hello")
        with pytest.raises(ConnectionClosed, match="text frames say end"):
            plain.recv()
    with connect(f"{address}/stream?format=f32le") as plain:
        plain.send(np.full(100, np.nan, "<f4").tobytes())
        with pytest.raises(ConnectionClosed, match="NaN"):
            plain.recv()
    with connect(f"{address}/stream") as plain:  # half a sample at the end
        plain.send(b"\0" * 2001)
        plain.send("end")
        assert json.loads(plain.recv())["leftover_bytes"] == 1
    with connect(f"{address}/realtime") as live:
        live.recv()
        for frame, part in ((b"\0\0", "binary frame"), ("[", "no JSON"), ("[]", "send a JSON object")):
            live.send(frame)
            assert part in json.loads(live.recv())["error"]["message"]


@pytest.mark.parametrize(
    ("address", "fields"),
    [
        (PATH, {"stream": "false"}),
        (PATH, {"stream": "true"}),
        ("/v1/audio/embeddings", {"response_format": "npz"}),
    ],
)
def test_a_client_that_never_reads(server, speech, monkeypatch, address, fields):
    monkeypatch.setattr(guard, "_PATIENCE", 0.3)
    body, headers = form(speech, **fields)
    sent = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive():
        return sent.pop() if sent else await asyncio.Event().wait()

    async def send(message):
        await asyncio.Event().wait()

    scope = {
        "type": "http", "method": "POST", "path": address, "raw_path": address.encode(), "query_string": b"",
        "root_path": "", "scheme": "http", "server": ("x", 1), "client": ("x", 1), "http_version": "1.1",
        "asgi": {"version": "3.0"},
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }  # fmt: skip
    asyncio.run(asyncio.wait_for(server.app(scope, receive, send), 60))
    wait_until_empty(server)
