"""The memory of a stream that goes on for hours: made of the samples in this repository, over and over.

    pip install -c constraints.txt -e ".[torch]"
    python benchmarks/streaming_memory.py --hours 2
    python benchmarks/streaming_memory.py --hours 2 --silence    # no word ever becomes final

The process's resident memory is printed as the stream goes on; after the first minutes it has to stay where it is.
"""

from __future__ import annotations

import argparse
import gc
import os
import time
from pathlib import Path

import numpy as np
import torch

from wav2vec2_core.audio import Recording
from wav2vec2_core.decoding.choice import DecoderOptions
from wav2vec2_core.streaming import StreamingTranscriber
from wav2vec2_core.transcription import Transcriber

SAMPLES = Path(__file__).parent.parent / "samples"
BLOCK = 0.5  # seconds that a microphone would give at a time


def main() -> None:
    """Feed and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=2.0, help="of audio")
    parser.add_argument("--every", type=float, default=10.0, help="minutes of audio between two lines")
    parser.add_argument("--silence", action="store_true", help="faint noise instead of speech")
    options = parser.parse_args()
    torch.set_num_threads(1)
    transcriber = Transcriber(device="cpu", decoding=DecoderOptions("none"))
    rate = transcriber.timeline.sampling_rate
    audio = noise(rate) if options.silence else speech(rate)
    stream = StreamingTranscriber(transcriber)
    block, every = round(BLOCK * rate), round(options.every * 60 / BLOCK)
    words, first, started = 0, 0.0, time.process_time()
    print("minutes of audio, words, resident MB, Python objects, processor seconds")
    for count in range(1, round(options.hours * 3600 / BLOCK) + 1):
        start = (count - 1) * block
        heard = stream.feed(audio.take(range(start, start + block), mode="wrap"))
        words += len(heard.words)
        if count % every == 0 or count * BLOCK == 60:
            gc.collect()
            first = first or resident()
            row = f"{count * BLOCK / 60:8.0f} {words:8} {resident():10.1f} {len(gc.get_objects()):10}"
            print(row, f"{time.process_time() - started:8.0f}", flush=True)
    print(f"grown by {resident() - first:.1f} MB since the first minute")


def speech(rate: int) -> np.ndarray:
    """(samples,) of all recordings in ``samples``, one after the other."""
    paths = sorted(SAMPLES.glob("*.flac"))
    return np.concatenate([block for path in paths for block in Recording(path, sampling_rate=rate)])


def noise(rate: int) -> np.ndarray:
    """(samples,) of half a minute in which nobody speaks."""
    return np.random.default_rng(0).normal(0, 1e-4, 30 * rate).astype(np.float32)


def resident() -> float:
    """Megabytes of memory that this process holds now (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


if __name__ == "__main__":
    main()
