"""The engine over a model in numpy: places, limits, batches of requests, long beside short, streams."""

import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
from numpy_model import NumpyModel
from numpy_transcriber import RATE, make_transcriber, recording, save_processor, write

from wav2vec2_core.audio import Recording
from wav2vec2_core.errors import AudioError, InputError
from wav2vec2_core.serving.engine import Busy, Cancelled, Engine, Limits, Stopping, TooLongError, spelled


class Slow(NumpyModel):
    """Waits before each call until ``go_on`` is set."""

    def __init__(self, **options):
        super().__init__(**options)
        self.go_on, self.begun, self.calls = threading.Event(), threading.Event(), []
        self.go_on.set()

    def logits(self, waveforms):
        self._wait("logits", sum(map(len, waveforms)))
        return NumpyModel.logits(self, waveforms)

    def encode(self, waveforms, statistics=None):
        return super().encode(waveforms, statistics)

    def contextualize(self, features):
        self._wait("contextualize", sum(map(len, features)))
        return super().contextualize(features)

    def _wait(self, name, size):
        self.calls.append((name, size))
        self.begun.set()
        assert self.go_on.wait(20)


@pytest.fixture
def made(tmp_path, monkeypatch):
    """Make engines over a model in numpy; they are stopped at the end."""
    engines = []
    monkeypatch.setattr("wav2vec2_core.serving.engine.head_of_source", lambda source: "ForCTC")

    def make(model=None, extractor=None, **limits):
        model = model or NumpyModel()
        backend = SimpleNamespace(inference=SimpleNamespace(load_model=lambda source, **given: model))
        monkeypatch.setattr("wav2vec2_core.pipeline.load_backend", lambda name: backend)
        engines.append(Engine(save_processor(tmp_path / "model", **extractor or {}), limits=Limits(**limits)))
        return engines[-1]

    yield make
    for engine in engines:
        engine.stop()


def sound(seconds, seed=0):
    return Recording.of(recording(seconds, seed), RATE, sampling_rate=RATE)


def test_requests_at_once_get_the_text_of_a_run_alone_short_and_long(made, tmp_path, monkeypatch):
    engine = made()
    lengths = [0.5, 3, 60, 2, 90, 7, 1, 40, 5]
    sounds = [sound(seconds, seed) for seed, seconds in enumerate(lengths)]
    places = [engine.place() for _ in sounds]
    futures = [place.transcribe(one) for place, one in zip(places, sounds, strict=True)]
    found = [future.result(60) for future in futures]
    for place in places:
        place.cancel()
    assert engine.waiting == 0
    alone = make_transcriber(tmp_path, monkeypatch, NumpyModel())
    for one, transcript in zip(sounds, found, strict=True):
        expected = alone.transcribe(one)
        assert expected.text
        assert (transcript.text, transcript.words, transcript.duration) == (
            expected.text, expected.words, expected.duration,
        )  # fmt: skip


def test_words_are_told_as_they_become_final(made):
    engine = made()
    for seconds, several in ((5, False), (120, True)):
        told = []
        with engine.place() as place:
            transcript = place.transcribe(sound(seconds), heard=told.append).result(60)
        assert [word.text for words in told for word in words] == [word.text for word in transcript.timed_words]
        assert (len(told) > 3) == several


def test_a_full_queue_refuses_and_says_when_to_come_again(made):
    engine = made(queue=2)
    one, other = engine.place(), engine.place()
    with pytest.raises(Busy, match="2 requests wait") as refused:
        engine.place()
    assert refused.value.retry_after >= 1
    assert engine.refused == {"queue": 1}
    one.cancel()
    one.cancel()  # gives back one place, once
    with engine.place(), pytest.raises(Busy):
        engine.place()
    other.cancel()
    assert engine.waiting == 0


def test_a_cancelled_request_is_dropped(made):
    model = Slow()
    engine = made(model)
    model.go_on.clear()
    with engine.place() as first, engine.place() as second:
        running = first.transcribe(sound(100))
        assert model.begun.wait(20)
        first.cancel()
        second.cancel()
        dropped = second.transcribe(sound(2))
        with pytest.raises(Cancelled):
            dropped.result(20)
        model.go_on.set()
        with pytest.raises(Cancelled):
            running.result(20)
    assert len(model.calls) < 3  # three windows and more were left


def test_a_long_recording_takes_turns_with_short_ones(made):
    model = Slow()
    engine = made(model)
    model.go_on.clear()
    with engine.place() as long, engine.place() as short:
        slow = long.transcribe(sound(400))
        assert model.begun.wait(20)
        quick = short.transcribe(sound(2))
        while not engine._shared._line:  # the short one stands in the line
            time.sleep(0.001)
        model.go_on.set()
        quick.result(20)
        slow.result(60)
    kinds = [name for name, size in model.calls if name == "logits" or size > 1000]
    assert "logits" in kinds[:3]
    assert len(kinds) > 8


def test_long_recordings_never_take_the_threads_of_short_ones(made):
    model = Slow()
    engine = made(model)
    model.go_on.clear()
    places = [engine.place() for _ in range(41)]
    slow = [place.transcribe(sound(50, seed)) for seed, place in enumerate(places[:40])]
    quick = places[-1].transcribe(sound(1))
    started = time.monotonic()
    while not any(call.work[1] == "logits" for call in list(engine._shared._line)):
        assert time.monotonic() - started < 20
        time.sleep(0.005)
    model.go_on.set()
    quick.result(20)
    for place, future in zip(places, [*slow, quick], strict=True):
        future.result(60)
        place.cancel()


def test_recordings_above_the_limit_are_refused_and_not_read_further(made):
    engine = made(seconds=10.0)
    read = []

    class Endless(Recording):
        def __iter__(self):
            for block in super().__iter__():
                read.append(len(block))
                yield block

    with engine.place() as place:
        for start in (place.transcribe, place.embed, lambda one: place.align(one, "abc")):
            with pytest.raises(TooLongError, match="longer than 10 s"):
                start(Endless.of(recording(2000), RATE, sampling_rate=RATE)).result(20)
            assert sum(read) <= 11 * RATE
            read.clear()
        assert place.transcribe(sound(9.9)).result(20).text
    assert engine.refused == {"seconds": 3}


def test_bad_recordings_are_errors_of_their_request(made, tmp_path):
    engine = made()
    (tmp_path / "bad.wav").write_bytes(b"RIFF nothing at all")
    with engine.place() as place:
        with pytest.raises(AudioError):
            place.transcribe(Recording.open(tmp_path / "bad.wav")).result(20)
        with pytest.raises(AudioError, match="needs at least"):
            place.transcribe(sound(0.01)).result(20)
        path = write(tmp_path / "good.wav", recording(3))
        assert place.transcribe(Recording.open(path)).result(20).text


def test_stopping_finishes_what_was_accepted_and_refuses_the_rest(made):
    model = Slow()
    engine = made(model)
    model.go_on.clear()
    place = engine.place()
    future = place.transcribe(sound(3))
    assert model.begun.wait(20)
    stopping = threading.Thread(target=engine.stop)
    stopping.start()
    while not engine._stopping:
        time.sleep(0.001)
    with pytest.raises(Stopping):
        engine.place()
    assert stopping.is_alive()
    model.go_on.set()
    assert future.result(20).text
    place.cancel()
    stopping.join(20)
    assert not stopping.is_alive()


def test_alignments_and_embeddings_are_those_of_the_pipelines(made):
    from wav2vec2_core.embedding import Embedder
    from wav2vec2_core.pipeline import LoadedModel

    engine = made()
    one = sound(50)
    with engine.place() as place:
        aligned = place.align(one, "ab cd ef").result(60)
        vectors = place.embed(one, (0, -1)).result(60)
        with pytest.raises(InputError, match="no words"):
            place.align(one, "?!").result(20)
        with pytest.raises(InputError, match="ForSequenceClassification"):
            place.classify(one).result(20)
    assert [word.text for word in aligned.words] == ["ab", "cd", "ef"]
    loaded = LoadedModel(NumpyModel(), engine._loaded.extractor, engine._loaded.timeline)
    states = Embedder.of(loaded, (0, -1)).embed(one)
    assert list(vectors) == [0, 2]
    np.testing.assert_allclose(np.stack([*vectors.values()]), states.mean(axis=1), rtol=1e-5)


def test_a_stream_equals_the_streaming_transcriber_and_begins_anew_after_an_end(made, tmp_path, monkeypatch):
    from wav2vec2_core.streaming import StreamingTranscriber

    engine = made()
    samples = recording(30)
    alone = StreamingTranscriber(make_transcriber(tmp_path, monkeypatch, NumpyModel()))
    pieces = [samples[first : first + 700] for first in range(0, len(samples), 700)]
    with engine.place() as place:
        stream, heard = place.stream(RATE), []
        for piece in pieces:
            update, other = stream.feed(piece).result(20), alone.feed(piece)
            assert (update.stable, update.partial) == (other.stable, other.partial)
            heard.append(update.stable)
        assert stream.finish().result(20).stable == alone.finish().stable
        assert any(heard)
        assert [stream.feed(piece).result(20).stable for piece in pieces[:20]] == heard[:20]
        stream.drop()
        assert [stream.feed(piece).result(20).stable for piece in pieces[:20]] == heard[:20]
        with pytest.raises(InputError, match="rate"):
            place.stream(-1)


def test_a_stream_at_another_rate_is_resampled_as_a_recording_is(made):
    engine = made(NumpyModel(norm="layer"), {"do_normalize": False})  # its text does not depend on the pieces
    samples = np.repeat(recording(20), 2)

    def text(stream, pieces):
        updates = [stream.feed(piece).result(20) for piece in pieces]
        return " ".join(filter(None, [update.stable for update in [*updates, stream.finish().result(20)]]))

    with engine.place() as place:
        found = text(place.stream(2 * RATE), np.array_split(samples, 37))
        resampled = Recording.of(samples, 2 * RATE, sampling_rate=RATE).read()
        assert found == text(place.stream(RATE), np.array_split(resampled, 11))
    assert len(found) > 20


def test_hotwords_take_the_case_of_the_vocabulary():
    assert spelled(("Ab", "cab", "xyz", "", "cab"), {"a": 0, "b": 1, "c": 2, "|": 3}) == ("ab", "cab")
    assert spelled(("abc",), {"A": 0, "B": 1, "C": 2}) == ("ABC",)


@pytest.mark.parametrize("limits", [{"queue": 0}, {"seconds": -1.0}, {"seconds": float("inf")}])
def test_impossible_limits_are_refused(limits):
    with pytest.raises(InputError, match=next(iter(limits))):
        Limits(**limits)
