"""The openai package of npm, as it is, with this server as its address."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("openai_client.cjs")


@pytest.fixture
def node():
    program = shutil.which("node")
    if program is None:
        pytest.skip("the client runs in Node.js, which is not installed")
    look = subprocess.run([program, "-e", "require.resolve('openai')"], capture_output=True, check=False)
    if look.returncode:
        pytest.skip("the client needs `npm install openai`, with its folder in NODE_PATH")
    return program


def test_transcriptions_of_every_kind(server, node, path):
    command = [node, str(SCRIPT), f"{server.url}/v1", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["json"]["text"] == "three one four"
    assert [word["word"] for word in found["words"]["words"]] == ["three", "one", "four"]
    assert found["words"]["segments"][0]["text"] == "three one four"
    *deltas, last = found["events"]
    assert (last["type"], last["text"]) == ("transcript.text.done", "three one four")
    assert "".join(event["delta"] for event in deltas) == "three one four"
    assert found["models"] == ["demo-digits"]
    assert found["refused"] == {"kind": "NotFoundError", "code": "model_not_found"}
