"""Make training and test data of spoken digits.

    python examples/digits/prepare.py fsdd.tar.gz data --speechocean speechocean762

Writes into ``data``: ``train.jsonl``, ``dev.jsonl`` (to choose the best checkpoint by), ``seen.jsonl`` and
``unseen.jsonl`` (the tests: speakers of the training data, and others), with ``--speechocean`` also ``other.jsonl``
(other speakers, microphones and rooms), and ``words-train.jsonl`` and ``words-unseen.jsonl`` (single digits with a
label). The same arguments write the same files.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from sounds import RATE, in_a_room, level, other_voice, with_noise
from voices import UNSEEN, Clip, read_fsdd, read_speechocean, synthesise
from writing import Spoken, write

TEST_TAKES, DEV_TAKES = range(5), range(5, 7)  # of the speakers who are also trained on
MOST_DIGITS = 6
#: Shares of the sources in the training data, where all are there.
REAL, SYNTHETIC, READ = 0.5, 0.4, 0.1
#: Distinguishes draws from one seed.
_TRAIN, _DEV, _SEEN, _UNSEEN, _VOICES = range(5)


def main() -> None:
    """Read the arguments and write the data."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fsdd", type=Path, help="archive of the Free Spoken Digit Dataset (.tar.gz, .tar.xz ...)")
    parser.add_argument("folder", type=Path, help="where to write; must not exist")
    parser.add_argument("--speechocean", type=Path, help="folder of speechocean762's shards, train-*.tar and dev-*.tar")
    parser.add_argument("--utterances", type=int, default=10_000, help="of the training data")
    parser.add_argument("--words", type=int, default=8000, help="single words of the training data")
    parser.add_argument("--voices", type=int, default=240, help="of espeak-ng, where it is installed")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.folder.exists():
        raise SystemExit(f"{options.folder} exists: name a new folder")
    prepare(options)


def prepare(options: argparse.Namespace) -> None:
    """Write all manifests and their recordings."""
    folder, seed = options.folder, options.seed
    clips = read_fsdd(options.fsdd)
    unseen = [clip for clip in clips if clip.speaker in UNSEEN]
    known = [clip for clip in clips if clip.speaker not in UNSEEN]
    train = [clip for clip in known if clip.take not in TEST_TAKES and clip.take not in DEV_TAKES]
    made = list(synthesise(options.voices, np.random.default_rng((seed, _VOICES))))
    speakers = list(dict.fromkeys(clip.speaker for clip in made))
    held_out = set(speakers[::12])  # voices to choose the best checkpoint by
    print(f"{len(clips)} recorded digits, {len(made)} synthesised ones of {len(speakers)} voices", flush=True)
    read: list[Spoken] = []
    if options.speechocean:
        read = [(text, samples) for text, _, samples in read_speechocean(f"{options.speechocean}/train-*.tar")]
        other = [(text, samples) for text, _, samples in read_speechocean(f"{options.speechocean}/dev-*.tar")]
        write(folder, "other", other)
    synthetic = [clip for clip in made if clip.speaker not in held_out]
    write(folder, "train", training(train, synthetic, read, options.utterances, seed))
    dev = [clip for clip in known if clip.take in DEV_TAKES], [clip for clip in made if clip.speaker in held_out]
    write(folder, "dev", (spoken for part in dev for spoken in every_digit_once(part, (seed, _DEV))))
    seen = [clip for clip in known if clip.take in TEST_TAKES]
    write(folder, "seen", (one for turn in range(3) for one in every_digit_once(seen, (seed, _SEEN, turn))))
    write(folder, "unseen", every_digit_once(unseen, (seed, _UNSEEN)))
    words = training(train, synthetic, [], options.words, seed, longest=1)
    write(folder, "words-train", words, label=True)
    write(folder, "words-unseen", ((clip.word, clip.samples) for clip in unseen), label=True)


def training(
    real: Sequence[Clip],
    synthetic: Sequence[Clip],
    read: Sequence[Spoken],
    count: int,
    seed: int,
    *,
    longest: int = MOST_DIGITS,
) -> Iterator[Spoken]:
    """Utterances of up to ``longest`` digits by one speaker each, and read ones as they are; all are disturbed."""
    pools = [_by_speaker(clips) for clips in (real, synthetic)]
    shares = np.array([REAL, SYNTHETIC * bool(synthetic), READ * bool(read)])
    for number in range(count):
        generator = np.random.default_rng((seed, _TRAIN, number))
        source = generator.choice(3, p=shares / shares.sum())
        size, pace = np.exp(generator.normal(0, 0.12)), np.exp(generator.normal(0, 0.15))
        if source == 2:
            text, samples = read[int(generator.integers(len(read)))]
            samples = level(other_voice(samples, size, pace))
        else:
            words = list(pools[source].values())[int(generator.integers(len(pools[source])))]
            chosen = [words[int(generator.integers(len(words)))] for _ in range(generator.integers(1, longest + 1))]
            moved = [
                level(other_voice(clip.samples, size, pace * generator.uniform(0.95, 1.05)), generator.normal(0, 2))
                for clip in chosen
            ]
            text, samples = " ".join(clip.word for clip in chosen), joined(moved, generator, longest=0.45)
        yield text, with_noise(in_a_room(samples, generator), generator)


def every_digit_once(clips: Sequence[Clip], seed: tuple[int, ...]) -> Iterator[Spoken]:
    """Utterances of one to six digits by one speaker each, undisturbed, until each clip has had its turn."""
    generator = np.random.default_rng(seed)
    for of_speaker in _by_speaker(clips).values():
        left = [of_speaker[index] for index in generator.permutation(len(of_speaker))]
        while left:
            count = int(generator.integers(1, MOST_DIGITS + 1))
            chosen, left = left[:count], left[count:]
            samples = joined([level(clip.samples) for clip in chosen], generator, longest=0.35)
            noise = 1e-4 * generator.standard_normal(len(samples), np.float32)
            yield " ".join(clip.word for clip in chosen), samples + noise


def joined(clips: Sequence[np.ndarray], generator: np.random.Generator, *, longest: float) -> np.ndarray:
    """Clips with pauses between them, of at most so many seconds, and around them."""
    parts = [_silence(generator.uniform(0.05, 0.4))]
    for number, clip in enumerate(clips):
        parts += [_silence(generator.uniform(0, longest))] if number else []
        parts.append(clip)
    return np.concatenate([*parts, _silence(generator.uniform(0.05, 0.4))])


def _by_speaker(clips: Iterable[Clip]) -> dict[str, list[Clip]]:
    found: dict[str, list[Clip]] = {}
    for clip in clips:
        found.setdefault(clip.speaker, []).append(clip)
    return found


def _silence(seconds: float) -> np.ndarray:
    return np.zeros(round(seconds * RATE), np.float32)


if __name__ == "__main__":
    main()
