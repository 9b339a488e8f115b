"""Rows that a model cannot learn from, each found before training starts with its reason."""

import numpy as np
import pytest
import soundfile

from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.data import checking
from wav2vec2_core.data.checking import check_rows
from wav2vec2_core.data.labels import TextLabels
from wav2vec2_core.data.manifest import Utterance
from wav2vec2_core.processing import Wav2Vec2Processor
from wav2vec2_core.transcription import EMBEDDED_MODEL


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recordings")
    noise = np.random.default_rng(0).standard_normal(16_000) * 0.1
    soundfile.write(folder / "second.wav", noise, 16_000)
    soundfile.write(folder / "click.wav", noise[:100], 16_000)
    whole = (folder / "second.wav").read_bytes()
    (folder / "cut.wav").write_bytes(whole[: len(whole) // 2])
    return folder


def checked(utterances, **options):
    config = Wav2Vec2Config.from_pretrained(EMBEDDED_MODEL)
    labels = TextLabels(Wav2Vec2Processor.from_pretrained(EMBEDDED_MODEL).tokenizer, config)
    return check_rows(utterances, labels, config, 16_000, **options)


@pytest.mark.parametrize(
    ("name", "text", "reason", "detail"),
    [
        ("second.wav", "one two", None, None),
        ("cut.wav", "one two", checking.UNREADABLE, "cut.wav is truncated"),
        ("gone.wav", "one two", checking.UNREADABLE, "gone.wav does not exist"),
        ("second.wav", None, checking.NO_TEXT, "no text"),
        ("second.wav", "  ", checking.NO_TEXT, "no text"),
        ("click.wav", "one", checking.TOO_SHORT, "100 samples"),
        ("second.wav", "one, two", checking.UNKNOWN_LETTERS, ", in 'one, two'"),
        ("second.wav", "ONE", checking.UNKNOWN_LETTERS, "E N O (the vocabulary is in lower case)"),
        ("second.wav", "on" * 40, checking.TOO_MUCH_TEXT, "80 letters and 0 blanks"),
    ],
)
def test_what_is_found_in_a_row(folder, name, text, reason, detail):
    found = checked([Utterance(folder / name, text)])
    if reason is None:
        (row,) = found.rows
        assert (row.samples, row.text, len(row.labels), found.seconds) == (16_000, "one two", 7, 1.0)
        assert (found.findings, found.scorable) == ((), found.rows)
        return
    (finding,) = found.findings
    assert (finding.reason, found.rows, found.seconds) == (reason, (), 0)
    assert detail in finding.detail
    assert len(found.scorable) == (reason in (checking.UNKNOWN_LETTERS, checking.TOO_MUCH_TEXT))


def test_equal_letters_need_a_frame_between_them(folder):
    """49 frames hold 49 letters, or 25 equal ones with 24 blanks."""
    config = Wav2Vec2Config.from_pretrained(EMBEDDED_MODEL)
    frames = config.num_frames(16_000)
    most = (frames + 1) // 2
    second = folder / "second.wav"
    assert checked([Utterance(second, "e" * most)]).rows
    assert not checked([Utterance(second, "e" * (most + 1))]).rows
    assert checked([Utterance(second, ("on" * frames)[:frames])]).rows
    assert not checked([Utterance(second, ("on" * frames)[: frames + 1])]).rows


def test_rows_keep_their_order_stretches_their_length_and_long_ones_are_left_out(folder, monkeypatch):
    monkeypatch.setattr(checking, "_AT_A_TIME", 2)
    done = []
    rows = [Utterance(folder / "second.wav", "one", 0.25, length) for length in (0.5, 0.125, 0.75, 0.25, 0.3)]
    found = checked(rows, longest_seconds=0.5, progress=done.append)
    assert [row.samples for row in found.rows] == [8000, 2000, 4000, 4800]
    assert [finding.reason for finding in found.findings] == [checking.TOO_LONG]
    assert sum(done) == 5
    assert list(found.lines()) == [
        "longer than a micro-batch: 1 row",
        f"  {folder / 'second.wav'} at 0.25 s: 0.8 s are over 0.5 s: raise that or cut it",
    ]
