"""Loading a large checkpoint: peak memory and time, this library beside transformers, each in a process of its own.

    pip install -c constraints.txt -e ".[torch]" transformers==4.57.6 accelerate
    python benchmarks/loading.py --preset large-lv60

Peak memory is the growth of the process's largest anonymous and resident memory over what the imports took.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from wav2vec2_core.config import PRESETS, Wav2Vec2Config

# The peak is sampled by a thread: VmHWM would count the pages of a mapped file, which the system may drop at will.
CHILD = """
import json, sys, threading, time
from pathlib import Path
from {module} import Wav2Vec2ForCTC

def resident(field):
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024

peaks = {{"RssAnon": 0, "VmRSS": 0}}
base = {{field: resident(field) for field in peaks}}
done = threading.Event()

def watch():
    while not done.wait(0.005):
        for field in peaks:
            peaks[field] = max(peaks[field], resident(field) - base[field])

watcher = threading.Thread(target=watch)
watcher.start()
start = time.perf_counter()
model = Wav2Vec2ForCTC.from_pretrained(sys.argv[1])
seconds = time.perf_counter() - start
done.set()
watcher.join()
print(json.dumps({{"seconds": seconds, **peaks}}))
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=PRESETS, default="large-lv60")
    options = parser.parse_args()
    from wav2vec2_torch import Wav2Vec2ForCTC

    with tempfile.TemporaryDirectory() as folder:
        Wav2Vec2ForCTC(Wav2Vec2Config.preset(options.preset)).save_pretrained(folder)
        size = (Path(folder) / "model.safetensors").stat().st_size
        print(f"{options.preset}: a file of {size / 1e6:.0f} MB")
        for module in ("wav2vec2_torch", "transformers", "wav2vec2_torch", "transformers"):
            code = CHILD.format(module=module)
            done = subprocess.run([sys.executable, "-c", code, folder], capture_output=True, text=True, check=True)
            figures = json.loads(done.stdout.splitlines()[-1])
            print(
                f"{module:15} anonymous {figures['RssAnon'] / size:.2f} x the file, resident "
                f"{figures['VmRSS'] / size:.2f} x, {figures['seconds']:.2f} s"
            )


if __name__ == "__main__":
    main()
