"""Text while it is spoken: what is stable stays, and equals one pass where the level is known."""

import numpy as np
import pytest
from numpy_model import NumpyModel
from numpy_transcriber import RATE, make_transcriber, recording

from wav2vec2_core.errors import InputError
from wav2vec2_core.long_form.signal_statistics import SignalStatistics
from wav2vec2_core.long_form.windows import Window
from wav2vec2_core.streaming import StreamingTranscriber


def run(stream, samples, size):
    heard = [stream.feed(samples[start : start + size]) for start in range(0, len(samples), size)]
    return [*heard, stream.finish()]


@pytest.mark.parametrize("size", [7, 100, 1234, 10**6])
@pytest.mark.parametrize("stride", [1, 2])
def test_a_known_level_gives_the_text_and_times_of_one_pass(tmp_path, monkeypatch, size, stride):
    model = NumpyModel(stride=stride)
    transcriber = make_transcriber(tmp_path, monkeypatch, model, window=Window(100, 0))
    samples = recording(8 if size == 7 else 30)
    extractor = transcriber.processor.feature_extractor
    level = SignalStatistics.of(model.config, extractor, [samples])
    values = extractor(samples, sampling_rate=RATE, return_tensors="np")["input_values"][0]
    text, words = transcriber.decoder.decode(model.logits([values])[0])
    model.longest = 0
    heard = run(StreamingTranscriber(transcriber, past=3, ahead=0.5, step=0.25, level=level), samples, size)
    assert " ".join(filter(None, (one.stable for one in heard))) == text
    streamed = [word for one in heard for word in one.words]
    assert [(w.text, w.start, w.end) for w in streamed] == [(w.text, w.start, w.end) for w in words]
    assert model.longest <= (2 * 3 + 0.5 + 0.25) * 50 + 2  # frames: past, as much of a long call, ahead, a step


def test_stable_text_comes_early_and_partial_text_follows_it(tmp_path, monkeypatch):
    stream = StreamingTranscriber(make_transcriber(tmp_path, monkeypatch), past=3, ahead=0.5, step=0.25)
    samples = recording(20)
    ends = []
    for start in range(0, len(samples), 100):
        heard = stream.feed(samples[start : start + 100])
        ends += [(word.end * 20 / RATE, start / RATE) for word in heard.words]
        assert not heard.stable or heard.stable == " ".join(word.text for word in heard.words)
        if start > 2000:
            assert stream.seconds <= start / RATE
            assert stream.seconds > start / RATE - 1
    assert len(ends) > 10
    assert all(spoken <= heard for spoken, heard in ends)
    assert np.median([heard - spoken for spoken, heard in ends]) < 2
    assert any(one.partial for one in (stream.feed(recording(1, seed)) for seed in range(5)))


def test_the_level_so_far_approaches_that_of_the_whole(tmp_path, monkeypatch):
    """Of a stream whose level does not drift, all but the beginning reads as with the level of the whole."""
    transcriber = make_transcriber(tmp_path, monkeypatch)
    samples = np.random.default_rng(1).normal(0, 0.2, 40 * RATE).astype(np.float32)
    level = SignalStatistics.of(transcriber.model.config, transcriber.processor.feature_extractor, [samples])
    texts = []
    for known in (level, None):
        heard = run(StreamingTranscriber(transcriber, level=known), samples, 200)
        words = [word for one in heard for word in one.words]
        letters = [letter for word in words for letter in word.characters]
        texts.append({(letter.text, letter.start) for letter in letters if letter.start > 20 * 50})
    assert len(texts[0]) > 300
    assert len(texts[0] & texts[1]) > 0.95 * len(texts[0])


def test_short_and_empty_streams(tmp_path, monkeypatch):
    transcriber = make_transcriber(tmp_path, monkeypatch)
    for samples in (np.zeros(0), np.zeros(24), np.zeros(25), recording(0.2)):
        stream = StreamingTranscriber(transcriber)
        first = stream.feed(samples)
        assert first.stable == ""
        stream.finish()
        assert stream.finish().stable == ""
        with pytest.raises(InputError, match="the stream is finished"):
            stream.feed(samples)


def test_wrong_samples(tmp_path, monkeypatch):
    stream = StreamingTranscriber(make_transcriber(tmp_path, monkeypatch))
    with pytest.raises(InputError, match="mix the channels"):
        stream.feed(np.zeros((10, 2)))
    with pytest.raises(InputError, match="NaN"):
        stream.feed(np.array([0, np.nan]))
    for options in ({"step": 0}, {"past": -1}, {"ahead": float("nan")}, {"past": float("inf")}):
        with pytest.raises(InputError, match="is not possible"):
            StreamingTranscriber(make_transcriber(tmp_path, monkeypatch), **options)
