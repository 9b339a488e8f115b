"""Rows that a model cannot learn from, each found before training starts with its reason."""

from dataclasses import replace

import numpy as np
import pytest
import soundfile
from written_shards import write_shard

from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.data import checking
from wav2vec2_core.data.checking import check_rows, histogram
from wav2vec2_core.data.labels import TextLabels
from wav2vec2_core.data.manifest import Utterance
from wav2vec2_core.data.opening import open_rows
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
        ("second.wav", "ONE", checking.UNKNOWN_LETTERS, "E N O (the vocabulary is in lower case: use --case lower)"),
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


def test_what_is_odd_is_a_warning_and_the_row_stays(tmp_path):
    noise = np.random.default_rng(1).standard_normal(16_000) * 0.1
    loud = np.where(np.arange(16_000) % 500 == 0, 1.0, noise)
    for name, samples, rate in [
        ("good", noise, 16_000),
        ("quiet", noise * 1e-3, 16_000),
        ("loud", loud, 16_000),
        ("peak", np.where(np.arange(16_000) % 2000 == 0, 1.0, noise), 16_000),  # 8 of 16,000 samples
        ("phone", noise[:8000], 8000),
        ("again", noise, 16_000),
    ]:
        soundfile.write(tmp_path / f"{name}.wav", samples, rate)
    names = ["good", "quiet", "loud", "peak", "phone", "again"]
    rows = [Utterance(tmp_path / f"{name}.wav", "one") for name in names]
    rows += [Utterance(rows[0].path, "two"), Utterance(rows[0].path, "one", 0.5), Utterance(tmp_path / "gone.wav", "a")]
    found = checked(rows)
    assert len(found.rows) == 8
    assert [(item.utterance.path.stem, item.reason, item.detail) for item in found.warnings] == [
        ("quiet", checking.SILENCE, "its largest sample is 0.0004 of full scale"),
        ("loud", checking.CLIPPING, "0.2% of its samples are at full scale"),
        ("phone", checking.LOW_RATE, "it has 8000 Hz and the model hears 16000 Hz"),
        ("again", checking.DUPLICATE, f"the same sound as {tmp_path}/good.wav"),
        ("good", checking.DUPLICATE, "it is named twice, with another text"),
    ]
    assert found.rates == {16_000: 7, 8000: 1}
    assert list(found.durations) == [1.0] * 7 + [0.5]
    assert list(found.warning_lines(examples=1))[:2] == [
        "duplicates: 2 rows",
        f"  {tmp_path}/again.wav: the same sound as {tmp_path}/good.wav",
    ]
    record = found.to_dict()
    assert (record["rows"], record["usable"], record["reasons"]) == (9, 8, {checking.UNREADABLE: 1})
    assert record["warnings"][checking.DUPLICATE] == 2
    assert sum(item["rows"] for item in record["durations"]) == 8
    assert [item["skipped"] for item in record["findings"]] == [True] + [False] * 5


def test_samples_that_are_not_finite_and_recordings_without_any(tmp_path):
    samples = np.zeros(16_000, np.float32)
    soundfile.write(tmp_path / "none.wav", samples[:0], 16_000)
    samples[5] = np.nan
    soundfile.write(tmp_path / "nan.wav", samples, 16_000, subtype="FLOAT")
    found = checked([Utterance(tmp_path / "nan.wav", "one"), Utterance(tmp_path / "none.wav", "one")])
    assert [item.reason for item in found.findings] == [checking.UNREADABLE, checking.TOO_SHORT]
    assert "NaN or infinite" in found.findings[0].detail
    assert found.warnings == ()


@pytest.mark.parametrize(
    ("values", "bins"),
    [
        ([], []),
        ([0.0], [(0.0, 0.001, 1)]),
        ([0.0, 0.5, 11.9], [(low, low + 1, count) for low, count in enumerate([2, *[0] * 10, 1])]),
        ([12.0, 23.9], [(low, low + 2, int(low in (12, 22))) for low in range(0, 24, 2)]),
    ],
)
def test_durations_by_round_bins(values, bins):
    assert histogram(values) == bins


def test_a_recording_that_is_damaged_in_a_sound_tar_is_found_by_its_name(tmp_path):
    """The tar's own headers say nothing of the bytes between them."""
    path = write_shard(tmp_path / "a.tar", 3)
    rows = open_rows(path)
    member = rows[1].content
    content = bytearray(path.read_bytes())
    content[member.offset + member.size // 2 : member.offset + member.size // 2 + 64] = bytes(64)
    path.write_bytes(content)
    found = checked([replace(row, text="one") for row in open_rows(path)])
    assert [(item.utterance.path.name, item.reason) for item in found.findings] == [("0001.flac", checking.UNREADABLE)]
    assert len(found.rows) == 2
