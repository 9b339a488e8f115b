"""``wav2vec2 serve`` as a process: its address, its warnings, its end."""

import http.client
import io
import json
import re
import signal
import socket
import subprocess
import sys
import threading

import numpy as np
import pytest
import soundfile
from served import form


def test_sigterm_answers_what_was_accepted_and_ends_with_0(path):
    process = subprocess.Popen(
        [sys.executable, "-m", "wav2vec2_core", "serve", "--host", "0.0.0.0", "--port", "0"],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        lines = []
        while not lines or "answers at" not in lines[-1]:
            lines.append(process.stderr.readline())
            assert lines[-1], lines
        assert lines[0].startswith("warning: 0.0.0.0 can be reached from other machines")
        port = int(re.search(r":(\d+)$", lines[-1].strip())[1])
        target = io.BytesIO()
        soundfile.write(target, np.random.default_rng(0).normal(0, 0.1, 16_000 * 400), 16_000, format="FLAC")
        answers = []

        def ask():
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
            connection.request("POST", "/v1/audio/transcriptions", *form(target.getvalue()))
            answer = connection.getresponse()
            answers.append((answer.status, json.loads(answer.read())))
            connection.close()

        asking = threading.Thread(target=ask)
        asking.start()
        while _health(port)["waiting"] == 0:
            assert asking.is_alive()
        process.send_signal(signal.SIGTERM)
        asking.join(300)
        assert answers[0][0] == 200
        assert answers[0][1]["usage"]["seconds"] == 400
        assert process.wait(60) == 0
        assert process.stderr.read() == ""
    finally:
        process.kill()
        process.stderr.close()
        process.wait()


def _health(port):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/health")
    found = json.loads(connection.getresponse().read())
    connection.close()
    return found


def test_a_port_that_is_taken_is_one_line(command):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert command("serve", "--port", port) == (
            1,
            "",
            f"error: port {port} of 127.0.0.1 is taken by another program: use another --port\n",
        )


@pytest.mark.parametrize(
    ("option", "value"),
    [("--max-queue", 0), ("--max-seconds", -1), ("--max-upload-mb", "nan"), ("--batch-seconds", 0), ("--api-key", "")],
)
def test_impossible_options_are_one_line(command, option, value):
    code, out, err = command("serve", "--port", 0, option, value)
    assert (code, out) == (1, "")
    assert "error: " in err
    assert "is not possible" in err or "is empty" in err


def test_without_the_libraries_it_says_what_to_install(command, monkeypatch):
    monkeypatch.delitem(sys.modules, "wav2vec2_core.serving.server", raising=False)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    code, _, err = command("serve", "--port", 0)
    assert code == 1
    assert 'pip install "wav2vec2-frameworks[serve]"' in err
