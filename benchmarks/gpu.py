"""What ``gpu.sh`` runs: parts in processes of their own, each with a limit of time; one JSON file and a table.

A part that fails or takes too long is noted, and the others run. Progress goes to stderr, the table to stdout. The exit
code is 0 if every part was carried out; without a GPU it is 1 before anything else.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
#: Characters of a part's last output that are kept where it did not end well.
TAIL = 2000


@dataclass(frozen=True)
class Part:
    """arguments: of Python; limit: seconds; report: the JSON file that it writes, standard output where None."""

    name: str
    arguments: Sequence[str]
    limit: float
    report: Path | None = None


def parts(work: Path) -> list[Part]:
    """All parts; their limits add up to less than eight minutes. ``work``: a folder for their files."""
    tests = [f"tests/torch/test_{name}.py" for name in ("cuda_graphs", "torch_engine", "torch_inference")]
    measure, report = str(ROOT / "benchmarks" / "gpu_parts.py"), work / "conformance.json"
    conformance = ["-m", "wav2vec2_core", "conformance", "--backend", "torch", "--device", "gpu", "--json", str(report)]
    training = ["training", "--preset", "base", "--backend"]
    return [
        Part("inference base", [measure, "inference", "--preset", "base", "--device", "cuda"], 70),
        Part("inference large", [measure, "inference", "--preset", "large-lv60", "--device", "cuda"], 90),
        Part("training torch", [measure, *training, "torch"], 50),
        Part("training flax", [measure, *training, "flax"], 90),
        Part("tests", ["-m", "pytest", "-q", "-p", "no:cacheprovider", *tests], 70),
        Part("conformance", conformance, 90, report),
    ]


def carry_out(part: Part) -> dict[str, Any]:
    """Run a part: status (``done``, ``failed`` or ``too long``), seconds, and result or the last lines of output.

    Its whole group of processes is ended with it.
    """
    started = time.monotonic()
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        command = [sys.executable, *part.arguments]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.getenv("PYTHONPATH")]))}
        process = subprocess.Popen(
            command, stdout=out, stderr=err, stdin=subprocess.DEVNULL, env=environment, cwd=ROOT, start_new_session=True
        )
        try:
            status = "done" if process.wait(part.limit) == 0 else "failed"
        except subprocess.TimeoutExpired:
            status = "too long"
        finally:
            end_group(process)
        made = {"status": status, "seconds": round(time.monotonic() - started, 1)}
        written = [read(file) for file in (out, err)]
    result = result_of(part, written[0])
    if result is not None:
        made["result"] = result
    if status != "done" or result is None:
        made["output"] = "".join(written)[-TAIL:]
    return made


def end_group(process: subprocess.Popen[bytes]) -> None:
    """End a process with those that it has started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def read(file: Any) -> str:
    """All that was written to a file."""
    file.seek(0)
    return file.read()


def result_of(part: Part, output: str) -> Any:
    """What a part reports, as JSON with its ``lines`` for people; None where it reports nothing."""
    try:
        if part.report is None:
            found = json.loads(output.splitlines()[-1])
            return found if isinstance(found, dict) else None
        found = json.loads(part.report.read_text("utf-8"))  # of the conformance suite: without a thousand results
        return {"lines": [found["headline"]], "environment": found["environment"]}
    except (OSError, ValueError, IndexError, KeyError):
        return None


def table(results: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Lines for people."""
    lines = []
    for name, found in results.items():
        lines.append(f"{name}: {found['status']}, {found['seconds']:g} s")
        lines += [f"  {line}" for line in found.get("result", {}).get("lines", ())]
        if "output" in found and (said := found["output"].strip()):
            lines.append(f"  {said.splitlines()[-1][:200]}")
    return lines


def run(chosen: Sequence[Part], report: Path, about: Mapping[str, Any]) -> bool:
    """Carry out parts one after the other and write the report after each; whether all were done."""
    results: dict[str, dict[str, Any]] = {}
    for number, part in enumerate(chosen, 1):
        print(f"[{number}/{len(chosen)}] {part.name}, at most {part.limit:g} s", file=sys.stderr, flush=True)
        results[part.name] = carry_out(part)
        report.write_text(json.dumps({**about, "parts": results}, indent=1) + "\n", "utf-8")
    print(*table(results), sep="\n")
    return all(found["status"] == "done" for found in results.values())


def main() -> int:
    """Run everything; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report", nargs="?", type=Path, default=Path("gpu.json"), help="the JSON file to write")
    options = parser.parse_args()
    import torch

    if not torch.cuda.is_available():
        print("no GPU: torch sees no CUDA device here, so there is nothing to measure", file=sys.stderr)
        return 1
    about = {"device": torch.cuda.get_device_name(), "torch": torch.__version__, "python": sys.version.split()[0]}
    with tempfile.TemporaryDirectory() as work:
        done = run(parts(Path(work)), options.report, about)
    return 0 if done else 1


if __name__ == "__main__":
    sys.exit(main())
