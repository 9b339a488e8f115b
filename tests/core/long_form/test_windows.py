"""Recordings of any length: the numbers of one pass, in bounded memory."""

import itertools
import tracemalloc

import numpy as np
import pytest
import soundfile
from numpy_model import NumpyModel

from wav2vec2_core import Wav2Vec2FeatureExtractor
from wav2vec2_core.audio import Recording
from wav2vec2_core.decoding import Timeline
from wav2vec2_core.errors import AudioError, InputError
from wav2vec2_core.long_form.signal_statistics import SignalStatistics
from wav2vec2_core.long_form.windows import Window, feature_windows, logit_blocks, recording_logits

RATE = 1000
EXTRACTOR = Wav2Vec2FeatureExtractor(sampling_rate=RATE)


def recording(seconds, seed=0):
    """Noise whose level drifts."""
    samples = np.random.default_rng(seed).normal(0.3, 1, round(seconds * RATE))
    return (samples * np.linspace(0.2, 2, len(samples))).astype(np.float32)


def blocks(samples, seed=1):
    borders = np.sort(np.random.default_rng(seed).integers(0, len(samples), 40))
    return np.split(samples, borders)


def one_pass(model, samples, extractor=EXTRACTOR):
    return model.logits([extractor(samples, sampling_rate=RATE, return_tensors="np")["input_values"][0]])[0]


@pytest.mark.parametrize("norm", ["group", "layer"])
@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("seconds", [0.043, 3, 30.5, 42.01, 97.3])
def test_windows_give_the_numbers_of_one_pass(norm, normalise, seconds):
    extractor = Wav2Vec2FeatureExtractor(sampling_rate=RATE, do_normalize=normalise)
    samples = recording(seconds)
    expected = one_pass(NumpyModel(norm), samples, extractor)
    model = NumpyModel(norm)
    window = Window(keep=8, context=1)  # a second has 50 frames, the model reaches 2 of them
    made = list(logit_blocks(model, extractor, blocks(samples), window=window))
    assert sum(map(len, made)) == len(expected) == model.config.num_frames(len(samples))
    np.testing.assert_allclose(np.concatenate(made), expected, atol=1e-5)
    if seconds > 40:
        assert len(made) > 3


@pytest.mark.parametrize("stride", [2, 3])
@pytest.mark.parametrize("seconds", [5, 33.33, 60.01])
def test_windows_begin_where_the_adapters_frames_do(stride, seconds):
    samples = recording(seconds)
    expected = one_pass(NumpyModel(stride=stride), samples)
    window = Window(keep=7.77, context=0.99)
    made = recording_logits(NumpyModel(stride=stride), EXTRACTOR, blocks(samples), window=window)
    assert made.shape == expected.shape
    np.testing.assert_allclose(made, expected, atol=1e-5)
    assert Timeline.of(NumpyModel(stride=stride).config, RATE).hop == 20 * stride


def test_several_windows_at_a_time_change_nothing():
    samples = recording(70)
    window = Window(keep=5, context=1)
    one = recording_logits(NumpyModel(), EXTRACTOR, [samples], window=window)
    several = list(logit_blocks(NumpyModel(), EXTRACTOR, [samples], window=window, batch_seconds=25))
    np.testing.assert_array_equal(np.concatenate(several), one)


def test_every_frame_has_its_context():
    samples, model = recording(50), NumpyModel(reach=None)
    window = Window(keep=6, context=2)
    level = SignalStatistics.of(model.config, EXTRACTOR, [samples])
    parts = list(feature_windows(model, [samples], level, window, RATE))
    borders = [(part.start + part.first, part.start + part.last) for part in parts]
    assert borders[0][0] == 0
    assert borders[-1][1] == model.config.num_frames(len(samples))
    for (_, end), (start, _) in itertools.pairwise(borders):
        assert end == start
    for part in parts[1:]:
        assert part.first == 100
    for part in parts[:-1]:
        assert len(part.features) - part.last == 100


def test_a_short_recording_is_one_window():
    model = NumpyModel(reach=None)
    samples = recording(10)
    made = recording_logits(model, EXTRACTOR, [samples], window=Window(keep=8, context=1))
    np.testing.assert_allclose(made, one_pass(model, samples), atol=1e-5)


def test_memory_does_not_grow(tmp_path):
    peaks = []
    for minutes in (5, 20):
        path = tmp_path / f"{minutes}.wav"
        with soundfile.SoundFile(path, "w", RATE, 1) as file:
            for minute in range(minutes):
                file.write(recording(60, minute))
        model = NumpyModel()
        tracemalloc.start()
        for _ in logit_blocks(model, EXTRACTOR, Recording(path, sampling_rate=RATE), window=Window(10, 1)):
            pass
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert model.longest <= 1500  # a tile
    assert peaks[1] < 1.1 * peaks[0]


def test_recordings_below_one_frame():
    model = NumpyModel()
    for samples in (recording(0.024), np.zeros(0, np.float32)):
        for window in (Window(), Window(legacy=True)):
            with pytest.raises(AudioError, match=f"has {len(samples)} samples at 1000 Hz, the model needs at least 25"):
                list(logit_blocks(model, EXTRACTOR, [samples], window=window))


def test_a_generator_is_refused_rather_than_read_twice():
    with pytest.raises(InputError, match="pass a Recording or a list"):
        list(logit_blocks(NumpyModel(), EXTRACTOR, iter([recording(3)])))


@pytest.mark.parametrize("seconds", [1.5, 30, 61.7])
def test_silence_and_a_constant_stay_finite(seconds):
    for value in (0.0, 0.25):
        samples = np.full(round(seconds * RATE), value, np.float32)
        made = recording_logits(NumpyModel(), EXTRACTOR, [samples], window=Window(8, 1))
        assert np.isfinite(made).all()


@pytest.mark.parametrize("norm", ["group", "layer"])
def test_quiet_recordings_are_scaled_as_short_ones_are(norm):
    """Their variance, 1e-9, is far below the 1e-7 that is added to it."""
    model, samples = NumpyModel(norm=norm), recording(42.01) * np.float32(2e-5)
    made = recording_logits(model, EXTRACTOR, blocks(samples), window=Window(30, 5))
    np.testing.assert_allclose(made, one_pass(model, samples), atol=1e-5)


def test_chunks_of_their_own():
    """Chunk length 6 s, stride 1 s: every chunk is normalised by itself, kept without its strides."""
    model, samples = NumpyModel(reach=None), recording(13.1)
    made = recording_logits(model, EXTRACTOR, blocks(samples), window=Window.parse("legacy:6:1"))
    pieces = []
    for start, left, right in ((0, 0, 1000), (4000, 1000, 1000), (8000, 1000, 0)):
        chunk = samples[start : start + 6000]
        logits = one_pass(model, chunk)
        whole = round(len(chunk) / 20)
        pieces.append(logits[left // 20 : whole - right // 20])
    np.testing.assert_allclose(made, np.concatenate(pieces), atol=1e-6)


@pytest.mark.parametrize(("samples", "frames"), [(5149, 257), (5157, 258)])
def test_chunks_of_their_own_are_rounded_to_frames(samples, frames):
    """6.013 s are 300.65 frames and become 301, strides of 1.012 s (50.6) 51; so is the last chunk, and its stride."""
    model, whole = NumpyModel(reach=None), recording(7.96 + samples / RATE)
    made = recording_logits(model, EXTRACTOR, blocks(whole), window=Window(3.989, 1.012, legacy=True))
    first, middle, last = (one_pass(model, whole[start : start + 6020]) for start in (0, 3980, 7960))
    np.testing.assert_allclose(made, np.concatenate([first[:250], middle[51:250], last[51:frames]]), atol=1e-6)


@pytest.mark.parametrize(
    ("text", "window"),
    [
        ("auto", Window(30, 3)),
        ("12", Window(8, 2)),
        ("20:1.5", Window(17, 1.5)),
        ("legacy", Window(20, 5, legacy=True)),
        ("legacy:10:2", Window(6, 2, legacy=True)),
    ],
)
def test_windows_as_text(text, window):
    assert Window.parse(text) == window


@pytest.mark.parametrize("text", ["", "x", "10:5", "10:6", "0", "-3", "legacy:", "10:-1", "nan", "inf", "legacy:1:2:3"])
def test_windows_that_are_none(text):
    if text == "legacy:":
        assert Window.parse(text) == Window.parse("legacy")
        return
    with pytest.raises(InputError, match="window"):
        Window.parse(text)
