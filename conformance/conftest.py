"""Which back ends the tests of this folder are for: ``--backends torch,tf,flax``, all three by default.

A back end that was asked for and is missing is a failure, never a skip.
"""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["HF_HUB_OFFLINE"] = "1"

import pytest

from conformance.backends import ABILITIES, prepare_for_tiny_models
from conformance.harness import Laboratory


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--backends``; the environment variable WAV2VEC2_BACKENDS does the same."""
    default = os.environ.get("WAV2VEC2_BACKENDS", ",".join(ABILITIES))
    parser.addoption("--backends", default=default, help="back ends to check, joined by commas; a missing one fails")
    parser.addoption("--full-size", action="store_true", help="check models of released sizes instead of tiny ones")


def pytest_configure(config: pytest.Config) -> None:
    """Before any test imports a framework."""
    if not config.getoption("--full-size"):
        prepare_for_tiny_models()


def backend_names(config: pytest.Config) -> list[str]:
    """The requested back ends."""
    return [name.strip() for name in str(config.getoption("--backends")).split(",") if name.strip()]


@pytest.fixture(scope="session")
def laboratory(request: pytest.FixtureRequest) -> Laboratory:
    """The requested back ends with their latest results. Raises ``BackendError`` for one that is missing."""
    return Laboratory.of(backend_names(request.config))
