"""Standard streams that are closed, full or no longer read: one line where there is room for it, and exit code 1."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

EMBEDDED = Path(__file__).parents[2] / "wav2vec2_core" / "assets" / "demo-digits"
MAIN = f"{shlex.quote(sys.executable)} -c 'from wav2vec2_core.cli import main; main()'"

pytestmark = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a shell and /dev/full")


def run(arguments):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(["bash", "-c", f"{MAIN} {arguments}"], capture_output=True, text=True, env=environment)


@pytest.mark.parametrize("command", ["--version", "--help", f"info {EMBEDDED}"])
@pytest.mark.parametrize(
    ("stream", "reason"), [(">/dev/full", "No space left on device"), (">&-", "it is closed")], ids=["full", "closed"]
)
def test_results_that_nobody_gets(command, stream, reason):
    done = run(f"{command} {stream}")
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"error: cannot write to standard output ({reason}): send it to a file or program that takes all of it"
    ]


def test_a_reader_that_is_gone():
    done = run(f"info {EMBEDDED} | true; exit ${{PIPESTATUS[0]}}")
    assert done.returncode in (0, 1)  # 0 where the pipe took all of it before its reader ended
    assert len(done.stderr.splitlines()) == done.returncode


@pytest.mark.parametrize("stream", ["2>&-", "2>/dev/full"])
def test_notes_that_nobody_gets_change_nothing(stream):
    good, bad = run(f"info {EMBEDDED} {stream}"), run(f"info /nowhere {stream}")
    assert good.returncode == 0
    assert good.stdout == run(f"info {EMBEDDED}").stdout
    assert bad.returncode == 1
    assert not bad.stdout + bad.stderr


def test_all_closed():
    assert run(f"info {EMBEDDED} <&- >&- 2>&-").returncode == 1


@pytest.mark.parametrize("command", ["transcribe -", f"align {EMBEDDED / 'config.json'} -"])
def test_input_that_is_closed(command):
    done = run(f"{command} <&-")
    assert done.returncode == 1
    assert "cannot read standard input (it is closed)" in done.stderr
    assert "Traceback" not in done.stderr
