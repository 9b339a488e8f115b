"""Where spoken digits come from: the Free Spoken Digit Dataset, speechocean762, speech synthesisers."""

from __future__ import annotations

import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
from sounds import RATE, trimmed

from wav2vec2_core.audio import Recording
from wav2vec2_core.data.opening import open_rows

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
UNSEEN = ("theo", "lucas")  # speakers of the test only
_FSDD = re.compile(r"(?:.*/)?([0-9])_([a-z]+)_([0-9]+)\.wav")
_ACCENTS = ("en-us", "en-gb", "en-gb-scotland", "en-gb-x-rp", "en-gb-x-gbclan", "en-gb-x-gbcwmd", "en-029")
_EFFECTS = ("half", "robo", "demonic", "whisper", "croak", "fast", "announc", "klatt5", "robosoft", "kaukov")
_FLITE = {"kal16": 105, "awb": 120, "rms": 95, "slt": 170}  # voice -> its pitch in Hz


@dataclass(frozen=True)
class Clip:
    """One digit. take: of the same digit by the same speaker; samples: (samples,) float32 at 16 kHz."""

    word: str
    speaker: str
    take: int
    samples: np.ndarray


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


def read_speechocean(shards: str) -> list[tuple[str, str, np.ndarray]]:
    """Text, speaker and samples of the utterances in tar shards that are nothing but digits."""
    rows = [row for row in open_rows(shards) if set((row.text or "-").lower().split()) <= set(WORDS)]
    return [
        ((row.text or "").lower(), str(row.columns.get("speaker")), row.recording(sampling_rate=RATE).read())
        for row in rows
    ]


@dataclass(frozen=True)
class Voice:
    """A voice of a speech synthesiser. command: the program and its settings."""

    name: str
    command: tuple[str, ...]

    def say(self, text: str, path: Path) -> np.ndarray:
        """The speech, (samples,) float32 at 16 kHz without silence around it; ``path``: a file that is written over."""
        path.unlink(missing_ok=True)
        rest = ("-w", str(path), text) if self.command[0] == "espeak-ng" else ("-t", text, str(path))
        subprocess.run([*self.command, *rest], capture_output=True, check=True)
        return trimmed(Recording.open(path, sampling_rate=RATE).read())


def espeak_voices(count: int, generator: np.random.Generator) -> Iterator[Voice]:
    """So many voices of espeak-ng: accents and variants, at random paces and pitches; none if it is not installed."""
    if not shutil.which("espeak-ng"):
        return
    listed = subprocess.run(["espeak-ng", "--voices=variant"], capture_output=True, text=True, check=True).stdout
    variants = [name for name in re.findall(r"!v/(\S+)", listed) if not any(e in name.lower() for e in _EFFECTS)]
    for number in range(count):
        voice = f"{generator.choice(_ACCENTS)}+{variants[number % len(variants)]}"
        pace, pitch = str(generator.integers(110, 200)), str(generator.integers(15, 85))
        yield Voice(f"espeak-{number}", ("espeak-ng", "-v", voice, "-s", pace, "-p", pitch))


def flite_voices(variations: int, generator: np.random.Generator) -> Iterator[Voice]:
    """So many variations of each voice of flite, in pace and pitch; none if it is not installed."""
    for voice, pitch in _FLITE.items() if shutil.which("flite") else ():
        for number in range(variations):
            slower, higher = generator.uniform(0.8, 1.25), generator.uniform(0.75, 1.4)
            settings = [f"duration_stretch={slower:.3f}", f"int_f0_target_mean={pitch * higher:.1f}"]
            parts = (part for one in settings for part in ("--setf", one))
            yield Voice(f"flite-{voice}-{number}", ("flite", "-voice", voice, *parts))


def synthesise(voices: int, generator: np.random.Generator) -> Iterator[Clip]:
    """Digits of so many voices of espeak-ng, and of half a dozen variations of each of flite's, where installed."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "digit.wav"
        for voice in chain(espeak_voices(voices, generator), flite_voices(6, generator)):
            for word in WORDS:
                samples = voice.say(word, path)
                if 0.12 * RATE < len(samples) < 1.5 * RATE:  # as long as a digit
                    yield Clip(word, voice.name, 0, samples)
