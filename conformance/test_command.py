"""The command on a real checkpoint and real recordings: its output, its files, and its failures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from conformance.command import run_command
from conformance.conftest import backend_names
from wav2vec2_core.transcription import EMBEDDED_MODEL

SAMPLE = Path(__file__).parent.parent / "samples" / "three-one-four.flac"


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_own_checkpoint(request: pytest.FixtureRequest, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = backend_names(request.config)
    written = tmp_path / "report.json", tmp_path / "report.html"

    def run() -> bool:
        return run_command(
            backends=names, device="cpu", dtype="float32", model=str(EMBEDDED_MODEL), audio=[SAMPLE], full_size=False,
            json_file=written[0], html_file=written[1],
        )  # fmt: skip

    assert run()
    output = capsys.readouterr()
    assert "encoder.layers.3.feed_forward" in output.out
    assert f"pass: {2 * len(names)} checks" in output.out
    found = json.loads(written[0].read_text())
    assert found["passed"]
    assert {result["check"] for result in found["results"]} == {"loading", "stages"}
    assert all(len(result["stages"]) > 15 for result in found["results"])

    # A reference that is wrong in one stage stands for a back end that is: the stage is named.
    from conformance import reference_body

    def wrong(*arguments: Any) -> Any:
        hidden = right(*arguments)
        return hidden * 1.001 if arguments[1].endswith("layers.2.feed_forward") else hidden

    right = reference_body._feed_forward
    with patch.object(reference_body, "_feed_forward", wrong):
        assert not run()
    found = json.loads(written[0].read_text())
    stages = {result["stage"] for result in found["results"] if result["verdict"] == "FAIL"}
    assert stages == {"encoder.layers.2"}
    assert "first wrong stage" in written[1].read_text()
