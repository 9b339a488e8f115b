"""The README's commands and examples, as written, in a copy of the sources and a fresh virtual environment.

A block ```sh or ```python runs; a ```text block after it is its exact output. Blocks such as ```sh network do not
run here: ``docs/test_commands_of_pages.py`` parses their commands.
"""

import json
import os
import re
import subprocess
import sys
import urllib.request
import venv
from pathlib import Path

import documents
import pytest

ROOT = Path(__file__).parent.parent


def blocks():
    return documents.blocks((ROOT / "README.md").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """What git would give a newcomer: the tracked files, in their present state."""
    folder = tmp_path_factory.mktemp("clone")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes((ROOT / name).read_bytes())
    return folder


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, with_pip=True, symlinks=True)
    clean = {
        name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME")
    }
    return {**clean, "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}", "HF_HUB_OFFLINE": "1"}


def run(command, clone, environment):
    done = subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_everything_in_order(clone, environment):
    """The first block installs, the later ones use what it installed, as a reader would."""
    ran = 0
    for language, reason, code, expected in blocks():
        if reason:
            continue
        if language == "python":
            output = run(["python", "-c", code], clone, environment)
        else:
            # `nox` is what runs this test: here it lists its sessions, which shows that it was installed and starts.
            output = run(["bash", "-ec", re.sub(r"\bnox$", "nox --list", code.strip())], clone, environment)
        if expected is not None:
            # pip talks on stdout too; the result is what comes last.
            assert output.endswith(expected), f"{code}\n{output}"
        ran += 1
    assert ran >= 5
    assert sorted(path.name for path in (clone / "transcripts").iterdir()) == [
        "three-one-four.json",
        "two-seven-one-eight.json",
    ]


def test_the_steps_of_the_container_start_a_server(clone, environment):
    """The Dockerfile's installation, which the README has too, and its command, on a port that is free."""
    lines = (clone / "Dockerfile").read_text(encoding="utf-8").splitlines()
    (install,) = (line.removeprefix("RUN ") for line in lines if line.startswith("RUN pip "))
    assert any(install in code.splitlines() for _, _, code, _ in blocks())
    run(["bash", "-ec", install], clone, environment)
    (entry,) = (json.loads(line.removeprefix("ENTRYPOINT ")) for line in lines if line.startswith("ENTRYPOINT "))
    command = [*entry, "--port", "0"]
    with subprocess.Popen(command, cwd=clone, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            told = next((line for line in process.stderr if "answers at" in line), "")
            port = told.strip().rpartition(":")[2]
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health") as answer:
                assert json.load(answer)["status"] == "ok"
        finally:
            process.terminate()
        assert process.wait(60) == 0


def test_two_commands_are_a_single_line_each():
    """One line transcribes, one line runs all tests."""
    commands = [code.strip() for language, reason, code, _ in blocks() if language == "sh" and not reason]
    assert commands[0].endswith("samples/three-one-four.flac")
    assert commands[1].endswith("nox")
    assert all("\n" not in command for command in commands[:2])
    assert sys.version_info >= (3, 11)
