"""A stretch of a recording is bit for bit the same samples of the whole, at every rate, and costs what it is long."""

import numpy as np
import pytest
import soxr
from written_media import FEW_RATES, MEDIA, RATE, SOUND, tone, write_media, write_sound

from wav2vec2_core.audio import Recording, resample, resample_blocks

STRETCHES = [
    (0.0, 0.5),
    (0.25, 1.0),
    (1.003, 1.017),
    (2.0, 5.0),
    (6.6, None),
    (7.1234, 7.1235),
    (0.0, None),
    (5.0, 60.0),
]


def assert_equal_stretches(open_stretch, whole, rate):
    for start, end in STRETCHES:
        expected = whole[round(start * rate) : None if end is None else round(end * rate)]
        assert np.array_equal(open_stretch(start, end).read(), expected), (start, end)


@pytest.mark.parametrize("rate", [1000, 7919, 8000, 11_025, 16_000, 22_050, 32_000, 44_100, 48_000, 96_000, 192_000])
def test_every_rate(rate):
    samples = tone(8.0, rate)
    for to in (16_000, 8000, 22_050):
        whole = Recording.of(samples, rate, sampling_rate=to).read()
        assert_equal_stretches(lambda a, b, to=to: Recording.of(samples, rate, a, b, sampling_rate=to), whole, to)


@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("kind", ["wav", "float wav", "flac", "w64", "caf", "aiff", "mp3", "ogg"])
def test_every_format(kind, channels):
    data = write_sound(
        np.stack([tone(8.0, 44_100, 200.0 * (index + 1)) for index in range(channels)], 1)[
            :, : 2 if kind == "mp3" else 3
        ],
        kind,
        44_100,
    )
    whole = Recording.from_bytes(data).read()
    assert_equal_stretches(lambda a, b: Recording.from_bytes(data, a, b), whole, RATE)


@pytest.mark.parametrize("kind", ["m4a", "mkv", "ts", "aac"])
def test_containers(kind):
    pytest.importorskip("av", reason="PyAV comes with the media extra")
    data = write_media(np.stack([tone(8.0, 44_100), -tone(8.0, 44_100)]), kind, 44_100)
    whole = Recording.from_bytes(data).read()
    assert_equal_stretches(lambda a, b: Recording.from_bytes(data, a, b), whole, RATE)


def test_where_channels_cancel_each_other():
    pair = np.stack([tone(8.0), np.where(np.arange(8 * RATE) % 5000 < 3000, -1, 0.5) * tone(8.0)], 1).astype(np.float32)
    whole = Recording.of(pair, RATE).read()
    assert_equal_stretches(lambda a, b: Recording.of(pair, RATE, a, b), whole, RATE)


def test_joined_files():
    data = write_sound(tone(3.0), "flac") + write_sound(tone(5.0, 44_100), "flac", 44_100)
    assert_equal_stretches(lambda a, b: Recording.from_bytes(data, a, b), Recording.from_bytes(data).read(), RATE)


def test_durations_of_stretches():
    data = write_sound(tone(2.0), "flac")
    for start, end, seconds in ((0.5, None, 1.5), (0.5, 1.0, 0.5), (0.0, 9.0, 2.0), (3.0, None, 0.0)):
        assert Recording.from_bytes(data, start, end).duration == pytest.approx(seconds)


def test_a_stretch_reads_what_it_needs(tmp_path):
    """Counted in bytes of the file, not in time."""
    (tmp_path / "a.wav").write_bytes(write_sound(np.tile(tone(10.0), 60)))
    recording = Recording.open(tmp_path / "a.wav", 500.0, 504.0)
    assert sum(map(len, recording)) == 64_000
    runs = iter_run(recording)
    rate, begin, blocks = next(runs)
    assert (rate, begin) == (RATE, 500 * RATE // 2048 * 2048)
    assert len(next(blocks)) < 5 * RATE


def iter_run(recording):
    from wav2vec2_core.audio.reading import Reading

    reading = Reading("a", first_needed=lambda rate: round(recording.start * rate), until=recording.end)
    for run in recording._source.runs(reading):
        yield run.rate, run.begin, run.blocks


@pytest.mark.parametrize(
    "rates", [(44_100, 16_000), (8000, 16_000), (16_000, 8000), (7919, 16_000), (1, 16_000), (3, 2)]
)
def test_resampling_in_chunks_is_resampling(rates):
    from_rate, to_rate = rates
    chance = np.random.default_rng(0)
    for count in (1, 2, from_rate, 3 * from_rate + 1, 6 * from_rate + from_rate // 3):
        samples = chance.uniform(-1, 1, count).astype(np.float32)
        expected = soxr.resample(samples, from_rate, to_rate, quality="HQ")
        got = resample(samples, from_rate, to_rate)
        assert got.shape == expected.shape
        assert np.abs(got - expected).max(initial=0) < 1e-5  # the last bits depend on where soxr begins
        cuts = np.sort(chance.integers(0, count + 1, 5))
        assert np.array_equal(np.concatenate([*resample_blocks(np.split(samples, cuts), *rates), got[:0]]), got)


@pytest.mark.parametrize("kind", [*SOUND, *MEDIA])
def test_iterating_again_gives_the_same(kind):
    if kind in MEDIA:
        pytest.importorskip("av", reason="PyAV comes with the media extra")
    rate = FEW_RATES.get(kind, RATE)
    recording = Recording.from_bytes(
        write_media(tone(1.0, rate), kind, rate) if kind in MEDIA else write_sound(tone(1.0), kind)
    )
    first = recording.read()
    next(iter(recording))  # and leave the rest
    assert np.array_equal(recording.read(), first)
