"""Servers for the tests: one for all that need no other, and others."""

from pathlib import Path

import pytest

pytest.importorskip("starlette", reason='the server needs pip install "wav2vec2-frameworks[serve]"')
pytest.importorskip("torch", reason="the server is tested with PyTorch")

from served import running

SAMPLES = Path(__file__).parents[2] / "samples"


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    with running(tmp_path_factory.mktemp("uploads")) as one:
        yield one


@pytest.fixture
def start(tmp_path):
    """``running`` with other limits."""
    return lambda **options: running(tmp_path / "uploads", **options)


@pytest.fixture(scope="session")
def path():
    """A recording that says "three one four"."""
    return SAMPLES / "three-one-four.flac"


@pytest.fixture(scope="session")
def speech(path):
    """Its bytes."""
    return path.read_bytes()
