"""Shared by all tests: no network, one thread per test process, the command as a shell runs it."""

import io
import os
import sys

import pytest

# Before any framework is imported: tests run in parallel processes, and never ask the hub.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"


@pytest.fixture
def command(monkeypatch, capfd):
    """Run `wav2vec2 ...`; gives exit code, stdout, stderr."""
    from wav2vec2_core.cli import main

    def run(*arguments, stdin=None):
        monkeypatch.setattr(sys, "argv", ["wav2vec2", *map(str, arguments)])
        if stdin is not None:
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode()), encoding="utf-8"))
        try:
            main()
            code = 0
        except SystemExit as stopped:
            code = stopped.code or 0
        out, err = capfd.readouterr()
        return code, out, err

    return run
