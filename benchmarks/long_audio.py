"""Memory and time of long recordings, relative to half a minute, with a model of the base architecture.

    python benchmarks/long_audio.py --minutes 0.5 10 120
    python benchmarks/long_audio.py --minutes 5 720 --model wav2vec2_core/assets/demo-digits

Each recording (speech-like noise that fades in and out) is transcribed in a process of its own. Reported: peak resident
memory, processor time for each second of audio without loading the model, and its ratio to the first recording's.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RATE = 16_000


def write_model(folder: Path, backend: str) -> None:
    """A base model with random weights and a small vocabulary."""
    import json

    from wav2vec2_core import Wav2Vec2Config, Wav2Vec2CTCTokenizer, Wav2Vec2FeatureExtractor, Wav2Vec2Processor
    from wav2vec2_core.checkpoint import write_checkpoint
    from wav2vec2_core.parameters import initial_values, parameter_table

    tokens = ["<pad>", "<s>", "</s>", "<unk>", "|", *"ETAONIHSRDLUMWCFGYPBVK'XJQZ"]
    vocabulary = folder / "vocab.json"
    vocabulary.write_text(json.dumps({token: index for index, token in enumerate(tokens)}))
    config = Wav2Vec2Config(vocab_size=len(tokens), architectures=("Wav2Vec2ForCTC",))
    config.save_pretrained(folder)
    write_checkpoint(folder, dict(initial_values(parameter_table(config, "ForCTC"), 0)))
    Wav2Vec2Processor(Wav2Vec2FeatureExtractor(), Wav2Vec2CTCTokenizer(vocabulary)).save_pretrained(folder)


def write_recording(path: Path, minutes: float) -> None:
    """Noise below 4 kHz whose level rises and falls like syllables; silent every other ten seconds."""
    import numpy as np
    import soundfile

    generator = np.random.default_rng(0)
    seconds = 10
    time_axis = np.arange(seconds * RATE) / RATE
    with soundfile.SoundFile(path, "w", RATE, 1, "PCM_16") as file:
        left, index = round(minutes * 60 * RATE), 0
        while left > 0:
            noise = generator.normal(0, 0.1, len(time_axis) + 3)
            block = sum(noise[shift : shift + len(time_axis)] for shift in range(4)) / 2
            block = block * (index % 2 == 0) * np.square(np.sin(2 * np.pi * 2 * time_axis))
            file.write(block[:left])
            left, index = left - len(block), index + 1


def measure(model: str, recording: str, backend: str, device: str) -> None:
    """In a process of its own: print processor seconds, wall seconds and peak memory in MB."""
    from wav2vec2_core.transcription import Transcriber

    transcriber = Transcriber(model, backend=backend, device=device, local_files_only=True)
    processor, wall = time.process_time(), time.perf_counter()
    transcript = transcriber.transcribe(recording)
    spent = time.process_time() - processor, time.perf_counter() - wall
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # kilobytes on Linux
    print(transcript.duration, *spent, peak, len(transcript.words))


def main() -> None:
    """Measure every length in turn, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, nargs="+", default=[0.5, 10])
    parser.add_argument("--model", help="folder; by default a base model with random weights")
    parser.add_argument("--backend", default="torch")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--measure", nargs=2, metavar=("MODEL", "RECORDING"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(*options.measure, options.backend, options.device)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = options.model or str(folder)
        if options.model is None:
            write_model(folder, options.backend)
        print(f"{options.backend} on {options.device}, {os.environ.get('OMP_NUM_THREADS', 'all')} threads")
        print("| audio | peak memory | processor time / audio | ratio | times faster than it plays |")
        print("|---|---|---|---|---|")
        first = None
        for minutes in options.minutes:
            recording = folder / "recording.wav"
            write_recording(recording, minutes)
            command = [sys.executable, __file__, "--backend", options.backend, "--device", options.device]
            done = subprocess.run(
                [*command, "--measure", model, str(recording)], capture_output=True, text=True, check=True
            )
            duration, processor, wall, peak, _ = map(float, done.stdout.split())
            cost = processor / duration
            first = first or cost
            print(
                f"| {minutes:g} min | {peak:,.0f} MB | {cost:.4f} | {cost / first:.2f} | {duration / wall:.1f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
