"""The program for GPUs, as far as a processor can run it: parts on tiny models, and what becomes of those that fail."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch_models import TINY

from wav2vec2_core.config import Wav2Vec2Config

FOLDER = Path(__file__).parents[2] / "benchmarks"
pytestmark = pytest.mark.skipif(not FOLDER.exists(), reason="the benchmarks are not in this copy of the sources")


@pytest.fixture(scope="module")
def program():
    names = ("gpu", "gpu_parts", "engine", "peers", "side_by_side", "training_step")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        for name in names:
            patch.delitem(sys.modules, name, raising=False)
        yield importlib.import_module


def test_parts_run_whatever_becomes_of_the_others(program, tmp_path, capsys):
    gpu = program("gpu")
    waits = "import subprocess, sys, time; print('waiting', flush=True); subprocess.run(['sleep', '60'])"
    chosen = [
        gpu.Part("fails", ["-c", "raise SystemExit('this went wrong')"], 60),
        gpu.Part("too long", ["-c", waits], 0.5),
        gpu.Part("measures", ["-c", "print('words'); print('{\"lines\": [\"4 ms\"]}')"], 60),
        gpu.Part("says nothing", ["-c", ""], 60),
    ]
    assert not gpu.run(chosen, tmp_path / "gpu.json", {"device": "a GPU"})
    written = json.loads((tmp_path / "gpu.json").read_text())
    assert written["device"] == "a GPU"
    assert [part["status"] for part in written["parts"].values()] == ["failed", "too long", "done", "done"]
    assert "this went wrong" in written["parts"]["fails"]["output"]
    assert written["parts"]["too long"]["seconds"] < 30
    assert written["parts"]["measures"]["result"] == {"lines": ["4 ms"]}
    out, err = capsys.readouterr()
    assert "  4 ms\n" in out
    assert "  this went wrong\n" in out
    assert "[2/4] too long, at most 0.5 s" in err


def test_all_parts_together_take_less_than_eight_minutes(program, tmp_path):
    chosen = program("gpu").parts(tmp_path)
    assert sum(part.limit for part in chosen) < 480
    files = [argument for part in chosen for argument in part.arguments if argument.endswith(".py")]
    assert len(files) == 7
    assert all((FOLDER.parent / file).is_file() for file in files)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_one_line_says_so(tmp_path):
    done = subprocess.run(
        [str(FOLDER / "gpu.sh"), str(tmp_path / "gpu.json")], capture_output=True, text=True, check=False,
        env={"PYTHON": sys.executable, "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "no GPU: torch sees no CUDA device here, so there is nothing to measure\n"
    assert not list(tmp_path.iterdir())


def test_the_engine_is_measured_beside_a_peer_and_without_one(program, monkeypatch):
    parts = program("gpu_parts")

    def missing(folder, device, dtype):
        raise ModuleNotFoundError("No module named 'other'")

    def theirs(folder, device, dtype):
        model = parts.Wav2Vec2ForCTC.from_pretrained(folder)
        return parts.in_batches(lambda rows: model(rows).logits, device, torch.float32)

    monkeypatch.setattr(parts, "PEERS", {"other": missing, "plain": theirs})
    monkeypatch.setattr(parts.Devices, "peak", lambda self, dtype: 1e12)
    config = Wav2Vec2Config(**{**TINY, "feat_extract_norm": "layer"})
    found = parts.inference(config, "cpu", "float32", parts.workloads(0.05, 9), rounds=2)
    assert found["left out"] == {"other": "ModuleNotFoundError: No module named 'other'"}
    assert list(found["runs"]) == ["1 x 0.05 s", "9 x 0.05 s", "9 x 0.01 to 0.1 s"]
    for rows in found["runs"].values():
        assert list(rows) == ["engine", "plain"]
        assert all(row["seconds"] > 0 and 0 < row["share of peak"] < 1 for row in rows.values())
        assert rows["engine"]["error"] < 1e-5
    assert found["runs"]["9 x 0.05 s"]["plain"]["error"] < 1e-5
    assert len(found["lines"]) == 7
    assert json.loads(json.dumps(found)) == found


def test_updates_are_measured(program):
    parts = program("gpu_parts")
    config = Wav2Vec2Config(**TINY)
    found = parts.training("torch", config, "float32", rows=2, seconds=0.4, rounds=2)
    assert found["seconds"] > 0
    assert found["share of peak"] is None
    assert "torch, 2 x 0.4 s, float32" in found["lines"][0]
    if not torch.cuda.is_available():
        with pytest.raises(SystemExit, match="torch sees no GPU here"):
            parts.check_accelerator("torch")
