"""Memory and time of converting a random checkpoint of a released size into every format.

python benchmarks/conversion.py --preset xls-r-1b --formats safetensors torch fairseq

Each conversion runs in a process of its own, which samples its anonymous memory (Linux): what is mapped from files does
not count. ``start`` is the memory before, ``largest`` the largest parameter.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from wav2vec2_core.checkpoint import write_checkpoint
from wav2vec2_core.config import PRESETS, Wav2Vec2Config
from wav2vec2_core.conversion import FORMATS, convert
from wav2vec2_core.parameters import Parameter, parameter_table
from wav2vec2_core.weight_files.arrays import LazyArray


def make_model(folder: Path, preset: str) -> tuple[int, int]:
    """Write a random CTC model; gives the bytes of all its parameters and of the largest."""
    config = Wav2Vec2Config.preset(preset, architectures=("Wav2Vec2ForCTC",))
    table = parameter_table(config, "ForCTC")

    def values(row: Parameter) -> LazyArray:
        scale = np.float32(0.02)
        return LazyArray(
            row.shape,
            np.dtype(np.float32),
            lambda: np.random.default_rng(0).standard_normal(row.shape, np.float32) * scale,
        )

    write_checkpoint(folder, {name: values(row) for name, row in table.items()})
    config.save_pretrained(folder)
    sizes = [4 * row.size for row in table.values()]
    return sum(sizes), max(sizes)


def anonymous() -> int:
    """Bytes of this process's own memory."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(next(line for line in status.splitlines() if line.startswith("RssAnon")).split()[1])


def measure(source: str, target: str, to: str) -> dict[str, float]:
    """Convert here and watch."""
    start, peak, done = anonymous(), 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.005):
            peak = max(peak, anonymous())

    watcher = threading.Thread(target=watch)
    watcher.start()
    wall, processor = time.perf_counter(), time.process_time()
    convert(source, target, to, verify=False)
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    done.set()
    watcher.join()
    return {"start": start / 1e6, "peak": peak / 1e6, "wall": wall, "processor": processor}


def main() -> None:
    """Parse, make the model, measure each format in a process of its own, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=PRESETS, default="base")
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=FORMATS)
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(*options.one)))
        return
    with tempfile.TemporaryDirectory() as folder:
        total, largest = make_model(Path(folder) / "source", options.preset)
        print(f"{options.preset}: {total / 1e6:,.0f} MB, largest parameter {largest / 1e6:.0f} MB")
        for to in options.formats:
            call = [sys.executable, __file__, "--one", f"{folder}/source", f"{folder}/target", to]
            row = json.loads(subprocess.run(call, check=True, capture_output=True, text=True).stdout)
            print(
                f"{to:<12} peak {row['peak']:6.0f} MB (start {row['start']:.0f}), "
                f"{row['wall']:5.1f} s, processor {row['processor']:5.1f} s"
            )


if __name__ == "__main__":
    main()
