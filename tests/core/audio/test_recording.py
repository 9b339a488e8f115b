"""Reading recordings: formats, rates, channels, lengths, and every kind of broken file."""

import math
import re
import sys

import numpy as np
import pytest
import soundfile

from wav2vec2_core.audio import audio_duration, read_audio, resample, to_mono
from wav2vec2_core.errors import AudioError, InputError

RATE = 16000


def tone(frequency=440.0, rate=RATE, seconds=1.0, amplitude=0.5):
    time = np.arange(round(rate * seconds)) / rate
    return (amplitude * np.sin(2 * np.pi * frequency * time)).astype(np.float32)


def heard_tone(samples, rate=RATE):
    """Strongest frequency and amplitude (from the power) of the middle of a recording, edges of filters left out."""
    middle = samples[len(samples) // 8 : -len(samples) // 8]
    levels = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
    return np.argmax(levels) * rate / len(middle), np.sqrt(2 * np.mean(np.square(middle, dtype=np.float64)))


def one_line_error(path, read=read_audio):
    with pytest.raises(AudioError) as caught:
        read(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path).rstrip("\0") in message.replace("\\x00", "")
    return message


@pytest.mark.parametrize(
    ("name", "subtype", "tolerance"),
    [
        ("a.wav", "PCM_16", 1e-4),
        ("a.wav", "PCM_24", 1e-6),
        ("a.wav", "PCM_U8", 1e-2),
        ("a.wav", "FLOAT", 0),
        ("a.wav", "DOUBLE", 0),
        ("a.wav", "ULAW", 2e-2),
        ("a.flac", "PCM_16", 1e-4),
        ("a.aiff", "PCM_16", 1e-4),
        ("a.au", "PCM_32", 1e-6),
        ("a.caf", "PCM_16", 1e-4),
    ],
)
def test_samples_of_every_libsndfile_format(tmp_path, name, subtype, tolerance):
    soundfile.write(tmp_path / name, tone(), RATE, subtype=subtype)
    samples = read_audio(tmp_path / name)
    assert samples.dtype == np.float32
    assert samples.shape == (RATE,)
    assert np.abs(samples - tone()).max() <= tolerance
    assert audio_duration(tmp_path / name) == 1.0


@pytest.mark.parametrize("name", ["a.ogg", "a.mp3", "a.opus"])
def test_lossy_formats_keep_the_tone(tmp_path, name):
    form = {"a.opus": {"format": "OGG", "subtype": "OPUS"}}.get(name, {})
    soundfile.write(tmp_path / name, tone(seconds=2), RATE, **form)
    frequency, amplitude = heard_tone(read_audio(tmp_path / name))
    assert frequency == pytest.approx(440, abs=1)
    assert amplitude == pytest.approx(0.5, rel=0.05)
    assert audio_duration(tmp_path / name) == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000])
def test_other_rates_keep_frequency_amplitude_and_length(tmp_path, rate):
    soundfile.write(tmp_path / "a.wav", tone(1000, rate), rate, subtype="FLOAT")
    samples = read_audio(tmp_path / "a.wav")
    assert abs(len(samples) - RATE) <= 1
    frequency, amplitude = heard_tone(samples)
    assert frequency == pytest.approx(1000, abs=1)
    assert amplitude == pytest.approx(0.5, rel=1e-3)


def test_resampling_down_removes_what_the_new_rate_cannot_hold(tmp_path):
    soundfile.write(tmp_path / "a.wav", tone(10_000, 48_000), 48_000, subtype="FLOAT")
    assert heard_tone(read_audio(tmp_path / "a.wav"))[1] < 1e-4


def test_the_filter_is_soxrs_high_quality():
    """Up to 0.9 of the half rate passes unchanged; of 8.7 kHz 1.4e-7 is left (soxr's medium leaves 1.3e-6)."""
    seconds = np.arange(48_000) / 48_000

    def level(frequency):
        made = resample(np.sin(2 * np.pi * frequency * seconds).astype(np.float32), 48_000, RATE)[2000:-2000]
        return float(np.sqrt(2 * np.square(made, dtype=np.float64).mean()))

    assert level(7200) == pytest.approx(1, abs=1e-3)
    assert 4e-8 < level(8700) < 4e-7


def test_another_target_rate(tmp_path):
    soundfile.write(tmp_path / "a.wav", tone(), RATE)
    assert len(read_audio(tmp_path / "a.wav", sampling_rate=8000)) == 8000
    assert len(resample(tone(), 16_000, 24_000)) == 24_000
    assert resample(tone(), RATE, RATE).shape == (RATE,)


@pytest.mark.parametrize("channels", [2, 3, 6])
def test_channels_are_averaged(tmp_path, channels):
    every = np.stack([tone(200 * (index + 1)) for index in range(channels)], axis=1)
    soundfile.write(tmp_path / "a.wav", every, RATE, subtype="FLOAT")
    assert np.abs(read_audio(tmp_path / "a.wav") - every.mean(axis=1)).max() < 1e-7


def test_opposite_channels_cancel():
    assert np.abs(to_mono(np.stack([tone(), -tone()], axis=1))).max() == 0
    assert to_mono(tone()) is not None
    assert np.array_equal(to_mono(tone()), tone())
    for shape in [(2, 3, 4), (5, 0), ()]:
        with pytest.raises(InputError, match="samples have shape"):
            to_mono(np.zeros(shape, np.float32))


def test_recordings_longer_than_a_block_are_whole(tmp_path):
    samples = np.random.default_rng(0).uniform(-1, 1, 600_001).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", samples, RATE, subtype="FLOAT")
    assert np.array_equal(read_audio(str(tmp_path / "a.wav")), samples)


def test_length_of_a_stream_need_not_be_known(tmp_path):
    soundfile.write(tmp_path / "a.wav", tone(), RATE)
    content = bytearray((tmp_path / "a.wav").read_bytes())
    content[40:44] = content[4:8] = b"\xff\xff\xff\xff"  # as ffmpeg writes to a pipe
    (tmp_path / "a.wav").write_bytes(content)
    assert len(read_audio(tmp_path / "a.wav")) == RATE


# ---- containers of PyAV ---------------------------------------------------------------------------------------------


def write_media(path, samples, rate, codec, with_video=False):
    av = pytest.importorskip("av", reason="PyAV comes with the media extra")
    with av.open(str(path), "w") as container:
        if with_video:
            video = container.add_stream("mpeg4", rate=5)
            video.width = video.height = 32
            video.pix_fmt = "yuv420p"
        audio = container.add_stream(codec, rate=rate, layout="stereo" if samples.ndim == 2 else "mono")
        if with_video:
            for _ in range(5):
                container.mux(video.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8))))
            container.mux(video.encode(None))
        planar = np.ascontiguousarray(np.atleast_2d(samples.T))
        frame = av.AudioFrame.from_ndarray(planar, format="fltp", layout=audio.layout.name)
        frame.sample_rate = rate
        container.mux(audio.encode(frame))
        container.mux(audio.encode(None))


@pytest.mark.parametrize(("name", "codec"), [("a.m4a", "aac"), ("a.mkv", "aac"), ("a.mp4", "aac")])
@pytest.mark.parametrize("stereo", [False, True])
def test_containers_through_pyav(tmp_path, name, codec, stereo):
    samples = tone(440, 44_100, 2.0)
    write_media(tmp_path / name, np.stack([samples, samples], 1) if stereo else samples, 44_100, codec)
    heard = read_audio(tmp_path / name)
    assert heard.dtype == np.float32
    assert len(heard) / RATE == pytest.approx(2, abs=0.1)
    frequency, amplitude = heard_tone(heard)
    assert frequency == pytest.approx(440, abs=1)
    assert amplitude == pytest.approx(0.5, rel=0.05)
    assert audio_duration(tmp_path / name) == pytest.approx(2, abs=0.1)


def test_the_sound_of_a_video(tmp_path):
    write_media(tmp_path / "a.mp4", tone(300, RATE, 1.0), RATE, "aac", with_video=True)
    assert heard_tone(read_audio(tmp_path / "a.mp4"))[0] == pytest.approx(300, abs=2)


def test_a_video_without_sound(tmp_path):
    av = pytest.importorskip("av", reason="PyAV comes with the media extra")
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        video = container.add_stream("mpeg4", rate=5)
        video.width = video.height = 32
        video.pix_fmt = "yuv420p"
        container.mux(video.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8))))
        container.mux(video.encode(None))
    assert "holds no audio" in one_line_error(tmp_path / "a.mp4")


@pytest.mark.parametrize("name", ["a.mp4", "a.m3u8", "a.ffconcat"])
def test_a_playlist_opens_no_other_file(tmp_path, name):
    soundfile.write(tmp_path / "secret.wav", tone(), RATE)
    playlist = "#EXTM3U\n#EXTINF:1.0,\nsecret.wav\n" if name == "a.m3u8" else "ffconcat version 1.0\nfile secret.wav\n"
    (tmp_path / name).write_text(playlist)
    one_line_error(tmp_path / name)
    one_line_error(tmp_path / name, audio_duration)


@pytest.mark.parametrize("part", [0.3, 0.9])
def test_a_truncated_m4a(tmp_path, part):
    write_media(tmp_path / "a.m4a", tone(440, RATE, 5.0), RATE, "aac")
    content = (tmp_path / "a.m4a").read_bytes()
    (tmp_path / "a.m4a").write_bytes(content[: int(part * len(content))])
    one_line_error(tmp_path / "a.m4a")


def test_without_pyav_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    (tmp_path / "a.m4a").write_bytes(b"\0\0\0\x1cftypM4A " + bytes(100))
    assert 'pip install "wav2vec2-frameworks[media]"' in one_line_error(tmp_path / "a.m4a")


# ---- broken files ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("read", [read_audio, audio_duration])
def test_files_that_are_no_recordings(tmp_path, read):
    assert "does not exist" in one_line_error(tmp_path / "none.wav", read)
    assert "is a folder" in one_line_error(tmp_path, read)
    (tmp_path / "empty.wav").touch()
    assert "is empty" in one_line_error(tmp_path / "empty.wav", read)
    for name in ("text.wav", "text.txt", "text.raw", "text.m4a"):
        (tmp_path / name).write_bytes(b"This is not a recording. " * 50)
        one_line_error(tmp_path / name, read)
    one_line_error(tmp_path / "nul\0", read)
    one_line_error("/dev/null", read)


@pytest.mark.parametrize("read", [read_audio, audio_duration])
def test_zero_samples(tmp_path, read):
    soundfile.write(tmp_path / "a.wav", np.zeros(0, np.float32), RATE)
    assert "holds no samples" in one_line_error(tmp_path / "a.wav", read)


def test_one_sample_is_a_recording(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.ones(1, np.float32) / 2, RATE)
    assert read_audio(tmp_path / "a.wav").shape == (1,)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("channels", [1, 2])
def test_samples_that_are_not_finite(tmp_path, bad, channels):
    samples = np.zeros((100, channels), np.float32)
    samples[50] = bad
    samples[50, -1] *= -1  # infinities that would cancel
    soundfile.write(tmp_path / "a.wav", samples, RATE, subtype="FLOAT")
    assert "NaN or infinite" in one_line_error(tmp_path / "a.wav")


@pytest.mark.parametrize("name", ["a.wav", "a.aiff"])
@pytest.mark.parametrize("read", [read_audio, audio_duration])
def test_truncated_pcm_names_both_lengths(tmp_path, name, read):
    soundfile.write(tmp_path / name, tone(), RATE)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[:-10_000])
    message = one_line_error(tmp_path / name, read)
    promised, found = (int(number) for number in re.search(r"promises (\d+) .* holds (\d+)", message).groups())
    assert promised - found == 10_000


def test_truncated_flac_names_both_lengths(tmp_path):
    noise = np.random.default_rng(0).uniform(-1, 1, 40_000)
    soundfile.write(tmp_path / "a.flac", noise, RATE)
    content = (tmp_path / "a.flac").read_bytes()
    (tmp_path / "a.flac").write_bytes(content[: len(content) // 2])
    assert "promises 40000 samples" in one_line_error(tmp_path / "a.flac")


@pytest.mark.parametrize("name", ["a.mp3", "a.ogg"])
def test_truncated_lossy_files(tmp_path, name):
    soundfile.write(tmp_path / name, tone(seconds=3), RATE)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) // 2])
    assert "truncated" in one_line_error(tmp_path / name)


def test_a_header_that_promises_the_moon_costs_no_memory(tmp_path):
    soundfile.write(tmp_path / "a.flac", tone(), RATE)
    content = bytearray((tmp_path / "a.flac").read_bytes())
    content[21] |= 0x0F  # the 36-bit number of samples in STREAMINFO: 4 bits here, 32 behind
    content[22:26] = b"\xff" * 4
    (tmp_path / "a.flac").write_bytes(content)
    assert "promises" in one_line_error(tmp_path / "a.flac")


def test_a_file_without_permission(tmp_path, monkeypatch):
    soundfile.write(tmp_path / "a.wav", tone(), RATE)

    def refuse(self, *arguments, **options):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr("pathlib.Path.open", refuse)  # chmod does not stop an administrator
    assert "Permission denied" in one_line_error(tmp_path / "a.wav")


@pytest.mark.parametrize("rate", [0, -1, 16000.0, True, "16000", None])
def test_a_bad_sampling_rate(tmp_path, rate):
    soundfile.write(tmp_path / "a.wav", tone(), RATE)
    with pytest.raises(InputError, match="sampling_rate="):
        read_audio(tmp_path / "a.wav", sampling_rate=rate)
