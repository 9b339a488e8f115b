"""Every recording is read whole, at the right speed and on the container's clock, or refused; no length is guessed."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
from written_media import FEW_RATES, MEDIA, RATE, SOUND, tone, write_media, write_sound

from wav2vec2_core.audio import Recording, audio_duration, read_audio
from wav2vec2_core.errors import AudioError, InputError

CONTAINERS = [kind for kind in MEDIA if kind != "mp2"]  # libsndfile reads mp2


def lengths(data, **options):
    """Seconds by the headers and of what is decoded."""
    recording = Recording.from_bytes(data, **options)
    return recording.duration, len(recording.read()) / RATE


def assert_whole(data, seconds, tolerance=0.01, **options):
    stated, decoded = lengths(data, **options)
    assert decoded == pytest.approx(seconds, abs=tolerance)
    assert stated == pytest.approx(decoded, abs=0.02)


def refusal(data, **options):
    with pytest.raises(AudioError) as caught:
        Recording.from_bytes(data, **options).read()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def media(samples, kind, **options):
    pytest.importorskip("av", reason="PyAV comes with the media extra")
    return write_media(samples, kind, FEW_RATES.get(kind, RATE), **options)


def replaced(data, marker, offset, value):
    """``value`` written ``offset`` bytes behind where ``marker`` begins."""
    data = bytearray(data)
    place = data.index(marker) + offset if marker else offset
    data[place : place + len(value)] = value
    return bytes(data)


# ---- an estimate is not a promise, and "unknown" is no length -------------------------------------------------------


@pytest.mark.parametrize("size", [0, 0x7FFFFFFF, 0x7FFFFFD3, 0x80000000, 0xFFFFFFDB, 0xFFFFFFFE, 0xFFFFFFFF])
@pytest.mark.parametrize("endian", ["LITTLE", "BIG"])
def test_unknown_sizes_of_wav(size, endian):
    file = io.BytesIO()
    soundfile.write(file, tone(0.5), RATE, format="WAV", subtype="PCM_16", endian=endian)
    number = size.to_bytes(4, endian.lower())
    assert_whole(replaced(replaced(file.getvalue(), b"data", 4, number), b"", 4, number), 0.5)


def test_a_wav_without_samples_before_other_chunks_holds_none():
    data = write_sound(np.zeros(0, np.float32)) + b"LIST\x04\x00\x00\x00INFO"
    assert "holds no samples" in refusal(data)


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, (1 << 63) - 1, (1 << 64) - 1])
def test_unknown_sizes_of_rf64(size):
    data = replaced(write_sound(tone(0.5), "rf64"), b"data", 4, b"\xff" * 4)
    assert_whole(replaced(data, b"ds64", 8, size.to_bytes(8, "little") * 3), 0.5)


@pytest.mark.parametrize("size", [0, 24, (1 << 63) - 1, (1 << 64) - 1])
def test_unknown_sizes_of_w64(size):
    assert_whole(replaced(write_sound(tone(0.5), "w64"), b"data\xf3\xac", 16, size.to_bytes(8, "little")), 0.5)


@pytest.mark.parametrize("size", [0, 8, 0x7FFFFFFF, 0xFFFFFFFF])
def test_unknown_sizes_of_aiff(size):
    data = replaced(write_sound(tone(0.5), "aiff"), b"COMM", 10, bytes(4) if size == 8 else size.to_bytes(4, "big"))
    assert_whole(replaced(data, b"SSND", 4, size.to_bytes(4, "big")), 0.5)


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF])
def test_unknown_sizes_of_au(size):
    assert_whole(replaced(write_sound(tone(0.5), "au"), b"", 8, size.to_bytes(4, "little")), 0.5)


@pytest.mark.parametrize("size", [0, (1 << 64) - 1])
def test_unknown_sizes_of_caf(size):
    assert_whole(replaced(write_sound(tone(0.5), "caf"), b"data", 4, size.to_bytes(8, "big")), 0.5)


@pytest.mark.parametrize("total", [0, 1, 7999, 4000])
@pytest.mark.parametrize("channels", [1, 2])
def test_totals_of_flac_that_are_unknown_or_too_small(total, channels):
    data = write_sound(np.stack([tone(0.5)] * channels, 1), "flac")
    stated = int.from_bytes(data[21:26], "big") >> 36 << 36 | total
    assert_whole(replaced(data, b"", 21, stated.to_bytes(5, "big")), 0.5)


@pytest.mark.parametrize("seconds", [0.01, 0.5, 3.0])
def test_mp3_without_a_frame_that_states_the_number_of_frames(seconds):
    data = write_sound(tone(seconds), "mp3")
    mark = max(data.find(b"Info"), data.find(b"Xing"))
    assert mark > 0
    header = data[data.rindex(b"\xff", 0, mark) :][:2]
    assert_whole(data[data.index(header, mark) :], seconds, 0.15)


@pytest.mark.parametrize("kind", ["aac", "mp2", "ac3", "ts", "mkv", "webm", "flv"])
def test_what_only_estimates_its_length_is_never_truncated(kind):
    quiet, loud = np.zeros(RATE * 3, np.float32), tone(1.0)
    samples = np.concatenate([quiet, loud])
    if kind in FEW_RATES:
        samples = np.repeat(samples, FEW_RATES[kind] // RATE)
    assert_whole(media(samples, kind), 4.0, 0.1)


@pytest.mark.parametrize("kind", SOUND)
def test_what_promises_its_length_is_truncated(kind):
    data = write_sound(tone(3.0), kind)
    assert any(word in refusal(data[: 2 * len(data) // 3]) for word in ("truncated", "damaged"))


@pytest.mark.parametrize("kind", [kind for kind in SOUND if kind not in ("ogg", "opus")])
def test_what_can_be_read_of_a_damaged_file_is_kept_on_demand(kind):
    data = write_sound(tone(3.0), kind)
    whole = Recording.from_bytes(data).read()
    recording = Recording.from_bytes(data[: 2 * len(data) // 3], on_damage="keep")
    kept = recording.read()
    assert 1.0 < len(kept) / RATE < 2.6
    assert recording.damage is not None
    assert recording.damage.seconds == pytest.approx(len(kept) / RATE, abs=0.01)
    assert "truncated" in recording.damage.reason
    assert any("could be read" in note for note in recording.notes)
    if kind != "mp3":
        assert np.array_equal(kept, whole[: len(kept)])
    assert Recording.from_bytes(data, on_damage="keep").damage is None


@pytest.mark.parametrize("kind", ["mkv", "aac", "fragmented mp4"])
def test_damaged_containers_are_kept_on_demand(kind):
    data = media(tone(3.0), kind)
    assert "truncated" in refusal(data[: len(data) // 2])
    recording = Recording.from_bytes(data[: len(data) // 2], on_damage="keep")
    assert 0.8 < len(recording.read()) / RATE < 2
    assert recording.damage is not None


# ---- joined files, and streams that change --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SOUND)
def test_joined_files(kind):
    rate = 24_000 if kind == "opus" else 22_050
    other = write_sound(tone(1.5, rate), kind, rate)
    assert_whole(write_sound(tone(1.0), kind) + other, 2.5, 0.02)


@pytest.mark.parametrize("kind", CONTAINERS)
def test_joined_containers(kind):
    first, second = lengths(media(tone(1.0), kind))[1], lengths(write_media(tone(1.5, 48_000), kind, 48_000))[1]
    if kind == "wma":
        pytest.skip("its encoder takes few rates")
    assert_whole(media(tone(1.0), kind) + write_media(tone(1.5, 48_000), kind, 48_000), first + second, 0.06)


def test_joined_files_keep_their_speed():
    data = write_sound(tone(1.0, frequency=1000), "flac") + write_sound(tone(1.0, 44_100, 1000), "flac", 44_100)
    samples = Recording.from_bytes(data).read()
    for part in (samples[2000:14_000], samples[18_000:30_000]):
        assert np.argmax(np.abs(np.fft.rfft(part))) * RATE / len(part) == pytest.approx(1000, abs=2)


def test_unknown_flac_files_that_were_joined():
    data = bytearray(write_sound(tone(0.5), "flac"))
    data[21:26] = (int.from_bytes(data[21:26], "big") >> 36 << 36).to_bytes(5, "big")
    assert_whole(bytes(data) * 2, 1.0)


def test_channels_that_change_within_a_stream():
    two = np.stack([tone(1.0), tone(1.0)])
    assert_whole(media(tone(1.0), "aac") + media(two, "aac"), 2 * lengths(media(two, "aac"))[1], 0.02)


def test_different_kinds_joined_are_refused():
    message = refusal(write_sound(tone(0.5)) + write_sound(tone(2.0), "mp3"))
    assert "joined from different files" in message


def test_an_ogg_that_lacks_a_page_is_refused_and_one_that_just_ends_is_read():
    data = write_sound(tone(6.0), "opus")
    pages = [data.index(b"OggS")]
    while (following := data.find(b"OggS", pages[-1] + 4)) > 0:
        pages.append(following)
    assert len(pages) > 5
    assert "1 of its pages" in refusal(data[: pages[3]] + data[pages[4] :])
    recording = Recording.from_bytes(data[: pages[-1]])
    assert len(recording.read()) / RATE > 4
    assert "without a last page" in recording.notes[0]


def test_a_tag_behind_an_mp3_is_no_sound():
    data = write_sound(tone(1.0), "mp3")
    assert_whole(b"ID3\x04\x00\x00\x00\x00\x00\x0a" + bytes(10) + data + b"TAG" + b"x" * 125, lengths(data)[1])


def encoded(samples, form, codec, rate):
    """Mono samples in a container of PyAV's."""
    av = pytest.importorskip("av", reason="PyAV comes with the media extra")
    file = io.BytesIO()
    with av.open(file, "w", format=form) as container:
        stream = container.add_stream(codec, rate=rate, layout="mono")
        frame = av.AudioFrame.from_ndarray((samples[None] * 32767).astype(np.int16), format="s16", layout="mono")
        frame.sample_rate, frame.pts = rate, 0
        for packet in (*stream.encode(frame), *stream.encode(None)):
            container.mux(packet)
    return file.getvalue()


@pytest.mark.parametrize(
    ("tail", "is_noted"), [(b"TAG" + b"x" * 125, False), (b"junk" * 700, True), (bytes(3000), True)]
)
def test_what_follows_the_last_sample_of_a_flac_does_not_make_it_damaged(tail, is_noted):
    recording = Recording.from_bytes(write_sound(tone(1.0), "flac") + tail)
    assert len(recording.read()) == RATE
    assert [("is no part of its sound" in note) for note in recording.notes] == [True] * is_noted


def test_flac_and_something_else_joined_is_refused():
    assert "joined from different files" in refusal(write_sound(tone(0.5), "flac") + write_sound(tone(20.0), "mp3"))


def test_a_flac_that_ends_behind_its_header():
    data = write_sound(tone(0.5), "flac")
    header = data[:42] if data[4] & 0x80 else data[: data.index(b"\xff\xf8")]
    assert "is truncated: it promises" in refusal(header)


def test_flac_of_other_block_sizes_joined():
    """Frames are numbered: in the blocks of the first stream the numbers of the second mean nothing."""
    first = encoded(tone(1.0, 44_100), "flac", "flac", 44_100)
    data = first + encoded(tone(1.5, 22_050), "flac", "flac", 22_050)
    assert_whole(data, 2.5)
    recording = Recording.from_bytes(data)
    recording.read()
    assert recording.notes == []


@pytest.mark.parametrize("kind", ["m4a", "fragmented mp4"])
def test_text_behind_an_mp4_is_no_box(kind):
    data = media(tone(1.0), kind)
    recording = Recording.from_bytes(data + b"<html>not found</html>" * 9)
    assert np.array_equal(recording.read(), Recording.from_bytes(data).read())
    assert "198 bytes" in recording.notes[0]
    assert "is truncated" in refusal(data[:-1])


def test_an_mp3_that_counts_the_frame_with_the_count():
    data = encoded(tone(1.0), "mp3", "libmp3lame", RATE)
    at = max(data.find(b"Xing"), data.find(b"Info")) + 8
    frames = int.from_bytes(data[at : at + 4], "big")
    one_more = replaced(data, b"", at, (frames + 1).to_bytes(4, "big"))
    assert np.array_equal(Recording.from_bytes(one_more).read(), Recording.from_bytes(data).read())
    assert "is truncated" in refusal(replaced(data, b"", at, (frames + 2).to_bytes(4, "big")))


def test_mp3_in_a_wav_whose_number_of_samples_counts_padding():
    data = encoded(tone(1.0, 44_100), "wav", "libmp3lame", 44_100)
    stated = int.from_bytes(data[data.index(b"fact") + 8 :][:4], "little")
    assert_whole(replaced(data, b"fact", 8, (stated + 1500).to_bytes(4, "little")), 1.0, 0.1)


def test_creative_voice_files_are_read_block_by_block():
    data = encoded(tone(1.0, 44_100), "voc", "pcm_s16le", 44_100)
    assert_whole(data, 1.0)
    samples, rate = Recording.from_bytes(data).read(), RATE
    assert np.argmax(np.abs(np.fft.rfft(samples))) * rate / len(samples) == pytest.approx(440, abs=2)
    assert np.corrcoef(samples[100:15_000], Recording.of(tone(1.0, 44_100), 44_100).read()[100:15_000])[0, 1] > 0.99


# ---- one clock ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["m4a", "mov", "mkv", "ts"])
def test_sound_that_starts_late_in_a_video(kind):
    data = media(tone(1.0), kind, late=1.5, video=2.0)
    samples = Recording.from_bytes(data).read()
    begins = np.flatnonzero(np.abs(samples) > 0.1)[0] / RATE
    assert begins == pytest.approx(1.5, abs=0.07)  # an encoder's delay where the container does not state it
    stated, decoded = lengths(data)
    assert stated == pytest.approx(decoded, abs=0.02)


@pytest.mark.parametrize("kind", CONTAINERS)
def test_lengths_agree(kind):
    stated, decoded = lengths(media(tone(2.0, FEW_RATES.get(kind, RATE)), kind))
    assert stated == pytest.approx(decoded, abs=0.006)


def test_the_padding_of_encoders_is_left_out():
    assert lengths(media(tone(1.3), "m4a")) == (pytest.approx(1.3, abs=1e-4), pytest.approx(1.3, abs=1e-4))


def test_tracks():
    pytest.importorskip("av", reason="PyAV comes with the media extra")
    data = write_media(tone(1.0), "mkv", languages=("eng", "deu"))
    recording = Recording.from_bytes(data)
    recording.read()
    assert "2 audio tracks: 0 (eng), 1 (deu); track 0 is read" in recording.notes[0]
    for track in (0, 1, "eng", "DEU"):
        chosen = Recording.from_bytes(data, track=track)
        assert len(chosen.read())
        assert not chosen.notes
    assert "has no audio track 2" in refusal(data, track=2).replace("'", "")
    assert "has no audio track fra" in refusal(data, track="fra").replace("'", "")
    assert "no audio track" in refusal(write_sound(tone(0.1)), track=1)
    assert len(Recording.from_bytes(write_sound(tone(0.1)), track=0).read())


# ---- channels -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["wav", "mkv"])
def test_channels_that_cancel_each_other_are_heard(kind):
    pair = np.stack([tone(1.0), -tone(1.0)])
    data = write_sound(pair.T) if kind == "wav" else media(pair, kind)
    recording = Recording.from_bytes(data)
    assert recording.read().std() == pytest.approx(tone(1.0).std(), rel=0.1)
    assert "cancel each other" in recording.notes[0]


def test_other_channels_are_averaged_in_the_same_recording():
    pair = np.stack([np.concatenate([tone(1.0), tone(1.0)]), np.concatenate([-tone(1.0), tone(1.0)])], 1)
    recording = Recording.of(pair, RATE)
    samples = recording.read()
    assert np.abs(samples[18_432:] - pair.mean(1)[18_432:]).max() < 1e-6
    assert np.abs(samples[:14_336] - pair[:14_336, 0]).max() < 1e-6
    assert "for 0.90 s" in recording.notes[0]


@pytest.mark.parametrize("kind", ["wav", "mkv"])
def test_one_channel(kind):
    pair = np.stack([tone(0.5), tone(0.5, frequency=900.0)])
    data = write_sound(pair.T) if kind == "wav" else media(pair, kind)
    for channel, frequency in (("left", 440), (0, 440), ("right", 900), (1, 900)):
        samples = Recording.from_bytes(data, channel=channel).read()[1000:7000]
        assert np.argmax(np.abs(np.fft.rfft(samples))) * RATE / len(samples) == pytest.approx(frequency, abs=3)
    assert Recording.from_bytes(data).channels == 2
    assert "has 2 channels: there is no channel 2" in refusal(data, channel=2)
    assert "has 1 channel: there is no channel right" in refusal(write_sound(tone(0.1)), channel="right")


def many_channels(codec, values, layout):
    """(channels, samples) float32 in Matroska, handed over as one plane."""
    av = pytest.importorskip("av", reason="PyAV comes with the media extra")
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as container:
        stream = container.add_stream(codec, rate=RATE, layout=layout)
        packed = np.ascontiguousarray(values.T).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(packed, format="flt", layout=layout)
        frame.sample_rate, frame.pts = RATE, 0
        for packet in (*stream.encode(frame), *stream.encode(None)):
            container.mux(packet)
    return file.getvalue()


@pytest.mark.parametrize(("count", "layout"), [(2, "stereo"), (8, "7.1"), (16, "hexadecagonal"), (24, "22.2")])
def test_many_channels_through_pyav(count, layout):
    data = many_channels("pcm_s16le", np.full((count, 4096), 0.25, np.float32), layout)
    samples = Recording.from_bytes(data).read()
    assert len(samples) == 4096
    assert np.allclose(samples, 0.25)


@pytest.mark.parametrize(("count", "layout"), [(6, "5.1"), (8, "7.1"), (16, "hexadecagonal")])
def test_channels_that_stand_one_after_the_other(count, layout):
    """PyAV looks for a null behind the last plane of a frame: of 8 planes or more it reads past its table of them."""
    values = np.stack([tone(0.5) * (index + 1) / 16 for index in range(count)])
    data = many_channels("aac", values, layout)
    levels = [Recording.from_bytes(data, channel=index).read().std() for index in range(count)]
    assert sorted(np.round(levels, 2)) == pytest.approx(sorted(np.round(values.std(1), 2)), abs=0.03)


# ---- limits and names -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [1, 10, 999, 1_048_576, 4_000_000_000])
def test_absurd_rates(rate):
    data = write_sound(tone(0.1))
    assert "Hz" in refusal(replaced(data, b"fmt ", 12, rate.to_bytes(4, "little") * 2)) or rate > 1 << 31


@pytest.mark.parametrize("channels", [257, 1000, 65_535])
def test_absurd_channel_counts(channels):
    form = (
        channels.to_bytes(2, "little")
        + RATE.to_bytes(4, "little")
        + (RATE * 2 * channels % (1 << 32)).to_bytes(4, "little")
    )
    data = replaced(write_sound(tone(1.0)), b"fmt ", 10, form + (2 * channels % (1 << 16)).to_bytes(2, "little"))
    refusal(data)


@pytest.mark.parametrize("name", [b"caf\xe9.wav", b"\xff\xfe.flac", b"\xe9.m4a"])
def test_names_that_are_not_utf8(tmp_path, name):
    path = os.fsencode(tmp_path) + b"/" + name
    kind = name.decode("latin-1").rsplit(".")[-1]
    data = write_sound(tone(0.5), kind) if kind in SOUND else media(tone(0.5), kind)
    Path(os.fsdecode(path)).write_bytes(data)
    assert len(read_audio(os.fsdecode(path))) == 8000
    assert audio_duration(os.fsdecode(path)) == pytest.approx(0.5, abs=1e-3)
    Path(os.fsdecode(path)).write_bytes(b"nothing")
    with pytest.raises(AudioError) as caught:
        read_audio(os.fsdecode(path))
    assert str(caught.value).isascii()  # any stream can take it


# ---- the type -------------------------------------------------------------------------------------------------------


def test_what_is_a_recording(tmp_path):
    (tmp_path / "a.wav").write_bytes(write_sound(tone(0.5)))
    samples = read_audio(tmp_path / "a.wav")
    for thing in (tmp_path / "a.wav", str(tmp_path / "a.wav"), (samples, RATE), Recording(tmp_path / "a.wav")):
        recording = Recording.wrap(thing)
        assert np.array_equal(recording.read(), samples)
        assert np.array_equal(recording.read(), samples)  # again
        assert (recording.duration, recording.channels, recording.sampling_rate) == (0.5, 1, RATE)
        assert len(recording.at(8000).read()) == 4000
        assert recording.at(RATE) is recording
    assert Recording.wrap(recording) is recording
    assert Recording.open(tmp_path / "a.wav").path == tmp_path / "a.wav"
    assert Recording.of(samples, RATE, name="the call").name == "the call"
    assert Recording.of(samples, RATE).path is None


def test_what_is_none(tmp_path):
    (tmp_path / "a.wav").write_bytes(write_sound(tone(0.1)))
    for wrong, message in (
        ({"start": -1}, "start="),
        ({"start": float("nan")}, "start="),
        ({"end": float("inf")}, "end="),
        ({"start": 2, "end": 1}, "must be later"),
        ({"channel": "middle"}, "channel="),
        ({"channel": -1}, "channel="),
        ({"on_damage": "ignore"}, "on_damage="),
        ({"sampling_rate": 0}, "sampling_rate="),
    ):
        with pytest.raises(InputError, match=message):
            Recording.open(tmp_path / "a.wav", **wrong)
    for samples, message in (
        (np.zeros((2, 2, 2), np.float32), "shape"),
        (np.zeros((4, 0), np.float32), "shape"),
        (np.zeros(4, np.int16), "int16"),
    ):
        with pytest.raises(InputError, match=message):
            Recording.of(samples, RATE)
    with pytest.raises(AudioError, match="NaN or infinite"):
        Recording.of(np.array([0, np.nan], np.float32), RATE)
    with pytest.raises(InputError, match="tuple of 3"):
        Recording.wrap((1, 2, 3))
    with pytest.raises(AudioError, match="is empty"):
        Recording.from_bytes(b"")
    with pytest.raises(AudioError, match="its stretch begins at 3 s"):
        Recording.open(tmp_path / "a.wav", 3).read()
