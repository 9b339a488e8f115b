"""Reads damaged copies of recordings: run as ``mutated_recordings.py KIND,KIND... SEED COUNT``.

Prints one JSON object: how many were read, refused and kept in part; the largest memory of this process and of the
decoding one in MB; the longest reading in seconds; what was raised that is none of our errors.
"""

import json
import os
import resource
import subprocess
import sys
import time
import traceback
from collections import Counter
from pathlib import Path

import numpy as np
from mutations import mutated
from written_media import FEW_RATES, RATE, SOUND, tone, write_media, write_sound

from wav2vec2_core.audio import Recording, media
from wav2vec2_core.errors import AudioError

_HEAD = 600  # bytes: every other change is there, in the headers

MEGABYTES, SECONDS = 400, 30


def check(kinds, seed, count):
    """Read damaged copies in a process of its own.

    Its addresses have no limit, which would hide reads out of bounds.
    """
    run = subprocess.run(
        [sys.executable, __file__, ",".join(kinds), str(seed), str(count)],
        capture_output=True,
        text=True,
        check=False,
        timeout=1200,
    )
    assert run.returncode == 0, f"{kinds}: exit code {run.returncode}\n{run.stderr[-1000:]}"
    report = json.loads(run.stdout.splitlines()[-1])
    assert not report["raised"], report["raised"][0]
    assert not report["outcomes"]["bad messages"]
    assert max(report["megabytes"]) < MEGABYTES
    assert report["longest"] < SECONDS
    outcomes = report["outcomes"]
    assert outcomes["refused"], "no change did any damage"
    assert outcomes.get("read", 0) + outcomes.get("kept", 0), "no change was harmless"


def sample(kind):
    """A small whole file, of two channels in containers."""
    if kind in SOUND:
        return write_sound(tone(0.4), kind)
    rate = FEW_RATES.get(kind, RATE)
    return write_media(np.stack([tone(0.4, rate), tone(0.4, rate, 300.0, seed=1)]), kind, rate)


def damaged(content, chance):
    """A damaged copy."""
    if chance.integers(2):
        return mutated(content[:_HEAD], chance) + content[_HEAD:]
    return mutated(content, chance)


def read(data, chance, outcomes):
    """Read a damaged recording in one of the ways there are."""
    way = int(chance.integers(4))
    options = {"on_damage": "keep"} if way % 2 else {}
    stretch = (0.1, 0.2) if way == 2 else (0.0, None)
    seconds, recording = 0.0, None
    try:
        recording = Recording.from_bytes(data, *stretch, **options)
        for block in recording:
            assert block.dtype == np.float32
            assert np.isfinite(block).all()
            seconds += len(block) / recording.sampling_rate
            if seconds > 120:  # a header that moves the sound hours away is silence in front of it
                outcomes["long"] += 1
                break
        outcomes["kept" if recording.damage else "read"] += 1
    except AudioError as error:
        outcomes["refused"] += 1
        outcomes["crashed"] += "the decoder crashed" in str(error)
        outcomes["bad messages"] += "\n" in str(error) or len(str(error)) > 400
    try:
        assert recording is None or recording.duration >= 0
    except AudioError:
        outcomes["no duration"] += 1


def main(kinds, seed, count):
    outcomes, raised, longest = Counter(), [], 0.0
    for kind in kinds:
        content, chance = sample(kind), np.random.default_rng([seed, *kind.encode()])
        for _ in range(count):
            longest = max(longest, one(content, chance, outcomes, raised))
    media._end_all()
    used = [own_peak(), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024]
    print(json.dumps({"outcomes": outcomes, "raised": raised[:3], "megabytes": used, "longest": round(longest, 2)}))


def own_peak():
    """The largest memory of this process in MB. In Linux, ``ru_maxrss`` starts with that of the process before it."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM:")) // 1024


def one(content, chance, outcomes, raised):
    """Seconds that a damaged copy takes."""
    data = damaged(content, chance)
    started = time.monotonic()
    try:
        read(data, chance, outcomes)
    except Exception:  # what a reader must not raise
        raised.append(traceback.format_exc()[-700:])
    return time.monotonic() - started


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main(sys.argv[1].split(","), int(sys.argv[2]), int(sys.argv[3]))
