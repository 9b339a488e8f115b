"""Processor time of the command from start to end, this checkout beside another one.

    python benchmarks/start_up.py --against ../older-checkout [--files samples/three-one-four.flac] [--turns 7]

Both run the same ``wav2vec2 transcribe`` with the embedded model, in turn, each in a process of its own, with the
packages of the Python that runs this script. The other checkout needs a ``wav2vec2_core`` of its own.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
COMMAND = "import sys; from wav2vec2_core.cli import main; sys.argv[0] = 'wav2vec2'; main()"


def processor_seconds(checkout: Path, files: list[str]) -> float:
    """One run of the command with the sources of ``checkout``."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", COMMAND, "transcribe", *(str(Path(file).resolve()) for file in files)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run(command, env=environment, check=True, cwd="/", **quiet)  # here '' would come before PYTHONPATH
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, required=True, help="another checkout")
    parser.add_argument("--files", nargs="+", default=[str(HERE / "samples" / "three-one-four.flac")])
    parser.add_argument("--turns", type=int, default=7)
    options = parser.parse_args()
    ours, theirs = [], []
    for _ in range(options.turns):
        theirs.append(processor_seconds(options.against.resolve(), options.files))
        ours.append(processor_seconds(HERE, options.files))
    ratios = [one / other for one, other in zip(ours, theirs, strict=True)]
    print(f"here {statistics.median(ours):.2f} s, there {statistics.median(theirs):.2f} s of processor time (medians)")
    print(f"ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
