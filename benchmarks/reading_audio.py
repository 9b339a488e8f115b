"""What reading recordings costs: beside plain decoding in this process, and a stretch beside the whole.

    python benchmarks/reading_audio.py [--seconds 300] [--files 200]

For every format the processor time of ``Recording`` over that of the same library called plainly: soundfile or PyAV in
this process, channels averaged, resampled in one stream. Each pair is measured in turn and the least of five is taken;
the process that decodes containers is counted in. Needs the ``media`` extra.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np
import soundfile
import soxr

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "support"))

from written_media import tone, write_media, write_sound

from wav2vec2_core.audio import Recording, media

RATE, TURNS = 16_000, 5


def processor_time(work: Callable[[], object]) -> float:
    """Seconds of this process and of the decoding one, which is started before and ended behind."""
    before = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    work()
    media._end_all()  # a process is counted when it has ended
    after = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return sum(b.ru_utime + b.ru_stime - a.ru_utime - a.ru_stime for a, b in zip(before, after, strict=True))


def plain_sound(path: Path) -> Iterator[np.ndarray]:
    """soundfile, blocks of 2^18 samples."""
    with soundfile.SoundFile(path) as sound:
        stream = soxr.ResampleStream(sound.samplerate, RATE, 1, dtype="float32", quality="HQ")
        while len(block := sound.read(1 << 18, dtype="float32", always_2d=True)):
            mono = block.mean(axis=1, dtype=np.float64).astype(np.float32)
            yield mono if sound.samplerate == RATE else stream.resample_chunk(mono)


def plain_media(path: Path) -> Iterator[np.ndarray]:
    """PyAV in this process."""
    with path.open("rb") as file, av.open(file, "r") as container:
        stream = container.streams.audio[0]
        resampled = soxr.ResampleStream(stream.rate, RATE, 1, dtype="float32", quality="HQ")
        floats, waiting = av.AudioResampler(format="fltp", rate=stream.rate), []
        for frame in container.decode(stream):
            waiting += [part.to_ndarray().T.mean(axis=1, dtype=np.float64) for part in floats.resample(frame)]
            if sum(map(len, waiting)) > 1 << 18:
                mono, waiting = np.concatenate(waiting).astype(np.float32), []
                yield mono if stream.rate == RATE else resampled.resample_chunk(mono)


def ratio(path: Path, plain: Callable[[Path], Iterator[np.ndarray]]) -> str:
    """Both times and what they are to each other."""
    ours, theirs = [], []
    for _ in range(TURNS):
        theirs.append(processor_time(lambda: list(plain(path))))
        ours.append(processor_time(lambda: list(Recording(path))))
    return f"{min(ours):6.3f} s, plain {min(theirs):6.3f} s, ratio {min(ours) / min(theirs):.2f}"


def formats(folder: Path, seconds: float) -> None:
    """Long recordings, a line for each format."""
    for rate in (16_000, 44_100):
        mono = tone(seconds, rate)
        pair = np.stack([mono, tone(seconds, rate, 300.0, seed=1)])
        for kind in ("wav", "flac", "mp3"):
            for name, samples in (("mono", mono), ("stereo", pair.T)):
                path = folder / f"{kind}-{rate}-{name}"
                path.write_bytes(write_sound(samples, kind, rate))
                print(f"{kind:5} {rate} Hz {name:6}: {ratio(path, plain_sound)}")
        for kind in ("m4a", "mkv"):
            for name, samples in (("mono", mono), ("stereo", pair)):
                path = folder / f"{kind}-{rate}-{name}"
                path.write_bytes(write_media(samples, kind, rate))
                print(f"{kind:5} {rate} Hz {name:6}: {ratio(path, plain_media)} (with the start of a process)")


def short_files(folder: Path, count: int) -> None:
    """Many short containers in one process, as a batch has them."""
    paths = [folder / f"{index}.m4a" for index in range(count)]
    for index, path in enumerate(paths):
        path.write_bytes(write_media(tone(4.0, 44_100, 200.0 + index), "m4a", 44_100))
    ours, theirs = [], []
    for _ in range(TURNS):
        theirs.append(processor_time(lambda: [list(plain_media(path)) for path in paths]))
        ours.append(processor_time(lambda: [list(Recording(path)) for path in paths]))
    here = f"PyAV in this process {min(theirs):.3f} s (its import not counted)"
    print(f"{count} m4a files of 4 s: {min(ours):.3f} s, {here}")


def stretches(folder: Path) -> None:
    """Four seconds anywhere in half an hour."""
    path = folder / "half an hour.flac"
    for rate, channels in ((16_000, 1), (44_100, 1), (48_000, 2)):
        block = tone(60.0, rate)
        with soundfile.SoundFile(path, "w", rate, channels) as file:
            for index in range(30):
                file.write(np.stack([np.roll(block, 97 * index)] * channels, 1))
        times, starts = [], np.random.default_rng(0).uniform(0, 1790, 100)
        for start in starts:
            begun = time.process_time()
            assert len(Recording.open(path, start, start + 4.0).read()) in (63_999, 64_000, 64_001)
            times.append(1000 * (time.process_time() - begun))
        whole = processor_time(lambda: list(Recording(path)))
        middle, high = np.percentile(times, [50, 95])
        print(
            f"4 s of 30 minutes of FLAC, {rate} Hz, {channels} channels: median {middle:.1f} ms, 95 % {high:.1f} ms; "
            f"whole {whole:.2f} s"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--files", type=int, default=200)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        stretches(Path(scratch))
        short_files(Path(scratch), options.files)
        formats(Path(scratch), options.seconds)
