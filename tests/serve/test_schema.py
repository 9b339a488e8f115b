"""schemathesis over the OpenAPI document: requests of its making, right and wrong, never end in a 500."""

import subprocess
import sys

import pytest

pytest.importorskip("schemathesis", reason="made requests need pip install schemathesis")


def test_no_request_made_from_the_document_is_a_mistake_of_the_server(server, tmp_path):
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{server.url}/openapi.json", "--url", server.url]
    options = ["--checks", "not_a_server_error", "--max-examples", "8", "--seed", "1", "--no-color"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-3000:]
    assert "11 passed" in done.stdout
