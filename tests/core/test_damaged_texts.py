"""Configurations, manifests, vocabularies and subtitles with random damage: read, or refused in our words."""

import json
import random

import pytest
from mutated_files import mutated
from random_models import make_folder

from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.data.manifest import read_manifest, write_manifest
from wav2vec2_core.errors import Wav2Vec2Error
from wav2vec2_core.feature_extraction import Wav2Vec2FeatureExtractor
from wav2vec2_core.parameters import HEADS, parameter_table
from wav2vec2_core.subtitles import spoken_lines
from wav2vec2_core.tokenization import Wav2Vec2CTCTokenizer

ROUNDS = 2000
#: Values that readers forget, as JSON; numbers that Python does not print, and those it does not compute with.
VALUES = [
    "1" + "0" * 400, "-1" + "0" * 400, "1" + "0" * 5000, "1e999", "-1e999", "NaN", "1e308", "0", "-1", "2.5", "true",
    "null", '""', '"\\ud800"', '"a\\udfffb"', '"\\u0000"', "[]", "{}", "[[]]", "[1" + ",1" * 70 + "]",
    "[" * 70 + "]" * 70, '{"a": {"a": 1}}', '"' + "x" * 5000 + '"', "[null]", '["\\ud800"]', '{"\\ud800": 1}',
    '{"1": "\\ud800"}', '{"-1": 1e999}',
]  # fmt: skip


def damaged(chance, content):
    """JSON with one value exchanged, or any text with bytes changed."""
    if chance.random() < 0.6:
        entries = json.loads(content)
        nested = [value for value in entries.values() if isinstance(value, dict) and value]
        place = chance.choice(nested) if nested and chance.random() < 0.3 else entries
        place[chance.choice(list(place))] = "@@"
        return json.dumps(entries).replace('"@@"', chance.choice(VALUES), 1).encode()
    return mutated(chance, content)


def survive(seed, content, path, use, damage=damaged):
    """Anything but our own errors, of one line that is no longer than a line may be, is a failure."""
    chance, fine = random.Random(seed), 0
    for number in range(ROUNDS):
        path.write_bytes(damage(chance, content))
        try:
            use()
        except Wav2Vec2Error as error:
            line = str(error).splitlines()[0]
            assert len(line) < 700 + len(str(path)), line[:200]
        except Exception as error:
            raise AssertionError(f"round {number}: {path.read_bytes()[:2000]!r}") from error
        else:
            fine += 1
    assert 0 < fine < ROUNDS


def test_configurations(tmp_path):
    make_folder(tmp_path)
    path = tmp_path / "config.json"

    def use():
        config = Wav2Vec2Config.from_pretrained(tmp_path)
        json.dumps(config.to_dict())
        config.num_frames(16_000)
        for head in HEADS:
            parameter_table(config, head)

    survive(0, path.read_bytes(), path, use)


@pytest.mark.filterwarnings("ignore:pad_token=")
@pytest.mark.parametrize("name", ["preprocessor_config.json", "tokenizer_config.json", "vocab.json"])
def test_processors(tmp_path, name):
    make_folder(tmp_path)
    path = tmp_path / name

    def use():
        if name.startswith("pre"):
            Wav2Vec2FeatureExtractor.from_pretrained(tmp_path)
        else:
            tokenizer = Wav2Vec2CTCTokenizer.from_pretrained(tmp_path)
            tokenizer.decode(tokenizer("ab cd").input_ids)

    survive(1, path.read_bytes(), path, use)


LINES = {
    "m.jsonl": b'{"audio_filepath": "a.wav", "duration": 2.5, "text": "eins zwei", "offset": 0.5}',
    "m.csv": b'path,sentence,duration\na.wav,"eins, ""zwei""",2.5\nb.wav,drei,1\n',
    "m.tsv": b"path\tsentence\na.wav\teins\nb.wav\tzwei\n",
    "fairseq.tsv": b"/data\na.wav\t16000\nb.wav\t32000\n",
}


@pytest.mark.parametrize("name", LINES)
def test_manifests(tmp_path, name):
    path, copy = tmp_path / name, tmp_path / "copy.jsonl"
    survive(
        2, LINES[name], path, lambda: write_manifest(copy, read_manifest(path)),
        damaged if name == "m.jsonl" else mutated,
    )  # fmt: skip


def test_subtitles():
    chance = random.Random(3)
    content = (
        "\ufeffWEBVTT\n\n00:01.000 --> 00:02.000\n<v A>a &amp; b</v>\n\n2\n00:00:03,5 --> 100:00:04,000\nc\n".encode()
    )
    for _ in range(ROUNDS):
        try:
            lines = spoken_lines(mutated(chance, content).decode("utf-8", "replace"))
        except Wav2Vec2Error as error:
            lines = [str(error)]
        assert all("\n" not in line for line in lines)
