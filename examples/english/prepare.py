"""Make training and test data of English sentences: read by many people, and by synthesisers.

    python examples/english/prepare.py speechocean762 data --text book.txt another.txt

Writes into ``data``: ``train.jsonl``; ``short.jsonl``, its short ones, to begin with; ``dev.jsonl``, to choose the best
checkpoint by: other speakers, other voices; and ``other.jsonl``, a test: speakers who are in neither. The same
arguments write the same files.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import soundfile
from texts import ngrams, shares, spelt, utterances

from wav2vec2_core.data.manifest import Utterance
from wav2vec2_core.data.opening import open_rows

sys.path.append(str(Path(__file__).resolve().parents[1] / "digits"))  # its voices and sounds are used here too
from sounds import RATE, in_a_room, level, other_voice, with_noise
from voices import Voice, espeak_voices, flite_voices
from writing import Spoken, write

COPIES = 2  # of each recording: as it is, and disturbed
DEV_SPEAKERS, DEV_SENTENCES = 8, 40
SHORT = 2.5  # seconds
FLITE_VARIATIONS = 12  # of each of its voices
#: Distinguishes draws from one seed.
_TEXTS, _VOICES, _RECORDED, _SYNTHETIC, _DEV = range(5)


def main() -> None:
    """Read the arguments and write the data."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("speechocean", type=Path, help="folder of speechocean762's shards, train-*.tar and dev-*.tar")
    parser.add_argument("folder", type=Path, help="where to write; must not exist")
    parser.add_argument("--text", type=Path, nargs="+", default=[], help="plain text to be spoken by synthesisers")
    parser.add_argument("--sentences", type=int, default=1500, help="of each text, at most")
    parser.add_argument("--without", nargs="+", default=[], help="manifests of tests: no four words of them are used")
    parser.add_argument("--voices", type=int, default=240, help="of espeak-ng, where it is installed")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.folder.exists():
        raise SystemExit(f"{options.folder} exists: name a new folder")
    prepare(options)


def prepare(options: argparse.Namespace) -> None:
    """Write all manifests and their recordings."""
    folder, seed = options.folder, options.seed
    forbidden = ngrams(row.text or "" for manifest in options.without for row in open_rows(manifest))
    recorded = [
        (text, row) for text, row in _spelt(f"{options.speechocean}/train-*.tar") if not shares(text, forbidden)
    ]
    others = list(_spelt(f"{options.speechocean}/dev-*.tar"))
    speakers = sorted({_speaker(row) for _, row in others})[:DEV_SPEAKERS]
    sentences = to_be_spoken(options.text, options.sentences, forbidden, seed)
    generator = np.random.default_rng((seed, _VOICES))
    kinds = [list(espeak_voices(options.voices, generator)), list(flite_voices(FLITE_VARIATIONS, generator))]
    kinds = [voices for voices in kinds if voices]
    if sentences and not kinds:
        raise SystemExit("neither espeak-ng nor flite is installed: install one, or leave --text out")
    print(f"{len(recorded)} recordings, {len(sentences)} sentences, {sum(map(len, kinds))} voices", flush=True)
    held_out = [voices[::12] for voices in kinds]  # to choose the best checkpoint by
    kept = [[voice for number, voice in enumerate(voices) if number % 12] for voices in kinds]
    said = min(DEV_SENTENCES, len(sentences) // 10)
    dev = as_they_are([one for one in others if _speaker(one[1]) in speakers])
    write(folder, "dev", chain(dev, spoken(sentences[:said], held_out, (seed, _DEV), disturb=False)), kind="flac")
    write(folder, "other", as_they_are([one for one in others if _speaker(one[1]) not in speakers]), kind="flac")
    training = chain(disturbed(recorded, seed), spoken(sentences[said:], kept, (seed, _SYNTHETIC), disturb=True))
    write(folder, "train", training, kind="flac")
    (folder / "short.jsonl").write_text("".join(short(folder / "train.jsonl")), encoding="utf-8")


def to_be_spoken(books: Sequence[Path], most: int, forbidden: set[tuple[str, ...]], seed: int) -> list[str]:
    """So many sentences of each book, or all that it has, in a random order."""
    found: list[str] = []
    for number, book in enumerate(books):
        generator = np.random.default_rng((seed, _TEXTS, number))
        text = book.read_text(encoding="utf-8", errors="replace")
        usable = [one for one in dict.fromkeys(utterances(text, generator)) if not shares(one, forbidden)]
        if not usable:
            raise SystemExit(f"{book} has no sentences of three words in English letters: name plain text")
        found += [usable[index] for index in generator.permutation(len(usable))[:most]]
    order = np.random.default_rng((seed, _TEXTS)).permutation(len(found))
    return [found[index] for index in order]


def as_they_are(rows: Sequence[tuple[str, Utterance]]) -> Iterator[Spoken]:
    """Recordings of an even loudness."""
    for text, row in rows:
        yield text, level(row.recording(sampling_rate=RATE).read())


def disturbed(rows: Sequence[tuple[str, Utterance]], seed: int) -> Iterator[Spoken]:
    """Each recording as it is, then by another voice, in another room, with noise."""
    for number, (text, row) in enumerate(rows):
        samples = level(row.recording(sampling_rate=RATE).read())
        yield text, samples
        for copy in range(1, COPIES):
            yield text, _disturbed(samples, np.random.default_rng((seed, _RECORDED, number, copy)))


def spoken(
    sentences: Sequence[str], kinds: Sequence[Sequence[Voice]], seed: tuple[int, ...], *, disturb: bool
) -> Iterator[Spoken]:
    """Sentences by a random voice each; every kind of voices speaks as many."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sentence.wav"
        for number, sentence in enumerate(sentences):
            generator = np.random.default_rng((*seed, number))
            voices = kinds[int(generator.integers(len(kinds)))]
            samples = voices[int(generator.integers(len(voices)))].say(sentence, path)
            around = [round(generator.uniform(0.05, 0.4) * RATE) for _ in range(2)]
            samples = level(np.pad(samples, around))
            yield sentence, _disturbed(samples, generator) if disturb else samples


def short(manifest: Path) -> Iterator[str]:
    """The lines of a manifest whose recordings are short."""
    for line in manifest.read_text(encoding="utf-8").splitlines(keepends=True):
        if soundfile.info(manifest.parent / json.loads(line)["audio_filepath"]).duration <= SHORT:
            yield line


def _disturbed(samples: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    size, pace = np.exp(generator.normal(0, 0.1)), np.exp(generator.normal(0, 0.12))
    samples = level(other_voice(samples, size, pace), generator.normal(0, 2))
    return with_noise(in_a_room(samples, generator), generator)


def _spelt(shards: str) -> Iterator[tuple[str, Utterance]]:
    """Rows whose text can be spelt, and how."""
    for row in open_rows(shards):
        if text := spelt(row.text or ""):
            yield text, row


def _speaker(row: Utterance) -> str:
    return str(row.columns.get("speaker"))


if __name__ == "__main__":
    main()
