"""Make the data of this example: recordings without texts to pretrain on, two sizes of labels, and tests.

    python examples/pretrain_small/prepare.py fsdd.tar.gz speechocean762 data

Writes into ``data``: ``pretrain.jsonl``, ``labels-10m.jsonl`` and ``labels-1h.jsonl``, ``dev.jsonl`` (to choose the
best checkpoint by), and the tests ``unseen.jsonl`` (speakers whom neither pretraining nor labels know) and
``other.jsonl`` (other speakers of the other corpus). The same arguments write the same files.
"""

from __future__ import annotations

import argparse
import json
import re
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from wav2vec2_core.audio import Recording
from wav2vec2_core.data.opening import open_rows

RATE = 16_000
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
UNSEEN = ("theo", "lucas")
DEV_TAKES = range(7)  # of the other speakers, who are also trained on
MOST_DIGITS = 6
LABELS = {"10m": 600, "1h": 3600}  # name -> seconds
#: Distinguishes draws from one seed.
_PRETRAIN, _LABELS, _DEV, _UNSEEN = range(4)
_FSDD = re.compile(r"(?:.*/)?([0-9])_([a-z]+)_([0-9]+)\.wav")

Spoken = tuple[str, np.ndarray]  # text, samples


@dataclass(frozen=True)
class Clip:
    """One digit. take: of the same digit by the same speaker; samples: (samples,) float32 at 16 kHz."""

    word: str
    speaker: str
    take: int
    samples: np.ndarray


def main() -> None:
    """Read the arguments and write the data."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fsdd", type=Path, help="archive of the Free Spoken Digit Dataset (.tar.gz, .tar.xz ...)")
    parser.add_argument("speechocean", type=Path, help="folder of speechocean762's shards, train-*.tar and dev-*.tar")
    parser.add_argument("folder", type=Path, help="where to write; must not exist")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.folder.exists():
        raise SystemExit(f"{options.folder} exists: name a new folder")
    prepare(options.fsdd, options.speechocean, options.folder, options.seed)


def prepare(fsdd: Path, speechocean: Path, folder: Path, seed: int) -> None:
    """Write all manifests and their recordings."""
    clips = read_fsdd(fsdd)
    unseen = [clip for clip in clips if clip.speaker in UNSEEN]
    dev = [clip for clip in clips if clip.speaker not in UNSEEN and clip.take in DEV_TAKES]
    known = [clip for clip in clips if clip.speaker not in UNSEEN and clip.take not in DEV_TAKES]
    spoken = [*joined(known, (seed, _PRETRAIN), fewest=MOST_DIGITS), *read_speechocean(f"{speechocean}/train-*.tar")]
    write(folder, "pretrain", (("", samples) for _, samples in spoken))
    for name, seconds in LABELS.items():
        write(folder, f"labels-{name}", until(seconds, known, (seed, _LABELS)))
    write(folder, "dev", joined(dev, (seed, _DEV)))
    write(folder, "unseen", joined(unseen, (seed, _UNSEEN)))
    digits = set(WORDS)
    other = read_speechocean(f"{speechocean}/dev-*.tar")
    write(folder, "other", ((text, samples) for text, samples in other if set(text.split()) <= digits))


def read_fsdd(archive: Path) -> list[Clip]:
    """The recordings ``{digit}_{speaker}_{take}.wav`` of a tar archive, sorted by name.

    Raises:
        SystemExit: there are none.
    """
    clips: list[Clip] = []
    with tarfile.open(archive) as tar:
        for member in tar:
            match = _FSDD.fullmatch(member.name)
            file = tar.extractfile(member) if match else None
            if match and file:
                samples = Recording.from_bytes(file.read(), name=member.name, sampling_rate=RATE).read()
                clips.append(Clip(WORDS[int(match[1])], match[2], int(match[3]), samples))
    if not clips:
        raise SystemExit(f"{archive} has no recordings named like recordings/7_jackson_32.wav: is it the dataset?")
    return sorted(clips, key=lambda clip: (clip.speaker, clip.word, clip.take))


def read_speechocean(shards: str) -> Iterator[Spoken]:
    """The utterances in tar shards, in lower case."""
    for row in open_rows(shards):
        yield (row.text or "").lower(), row.recording(sampling_rate=RATE).read()


def joined(clips: Sequence[Clip], seed: tuple[int, ...], *, fewest: int = 1) -> list[Spoken]:
    """Utterances of up to six digits by one speaker each, with pauses, until each clip has had its turn; shuffled."""
    generator = np.random.default_rng(seed)
    found: list[Spoken] = []
    for speaker in sorted({clip.speaker for clip in clips}):
        left = [clip for clip in clips if clip.speaker == speaker]
        left = [left[index] for index in generator.permutation(len(left))]
        while left:
            count = int(generator.integers(fewest, MOST_DIGITS + 1))
            chosen, left = left[:count], left[count:]
            parts = [_silence(generator, 0.05, 0.4)]
            for clip in chosen:
                parts += [0.1 / (np.std(clip.samples) + 1e-5) * clip.samples, _silence(generator, 0.05, 0.4)]
            samples = np.concatenate(parts)
            noise = 1e-3 * generator.standard_normal(len(samples), np.float32)
            found.append((" ".join(clip.word for clip in chosen), samples + noise))
    return [found[index] for index in generator.permutation(len(found))]


def until(seconds: float, clips: Sequence[Clip], seed: tuple[int, ...]) -> Iterator[Spoken]:
    """Joined clips until there is so much of them; the same clips are joined anew when all have had their turn."""
    turn, left = 0, seconds * RATE
    while True:
        for text, samples in joined(clips, (*seed, turn)):
            yield text, samples
            left -= len(samples)
            if left <= 0:
                return
        turn += 1


def write(folder: Path, name: str, utterances: Iterable[Spoken]) -> None:
    """Write recordings into ``folder/name`` and their manifest beside it."""
    (folder / name).mkdir(parents=True)
    lines: list[str] = []
    seconds = 0.0
    for number, (text, samples) in enumerate(utterances):
        path = Path(name) / f"{number:05d}.flac"
        soundfile.write(folder / path, samples / max(1.0, 1.02 * float(np.max(np.abs(samples)))), RATE, "PCM_16")
        lines.append(json.dumps({"audio_filepath": path.as_posix(), **({"text": text} if text else {})}))
        seconds += len(samples) / RATE
    (folder / f"{name}.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    print(f"{name}: {len(lines)} utterances, {seconds / 60:.1f} minutes", flush=True)


def _silence(generator: np.random.Generator, shortest: float, longest: float) -> np.ndarray:
    return np.zeros(round(generator.uniform(shortest, longest) * RATE), np.float32)


if __name__ == "__main__":
    main()
