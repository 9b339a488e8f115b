"""From files to transcripts: order, errors, batches, windows and threads change nothing."""

import threading

import numpy as np
import pytest
from numpy_model import NumpyModel
from numpy_transcriber import RATE, make_transcriber, recording, write

from wav2vec2_core.decoding import BeamSearchDecoder, GreedyDecoder
from wav2vec2_core.decoding.best_times import BestTimesDecoder
from wav2vec2_core.decoding.choice import DecoderOptions
from wav2vec2_core.errors import AudioError, InputError
from wav2vec2_core.long_form.windows import Window

LENGTHS = (3, 0.03, 45.5, 1, 9.7, 12, 80, 2)


@pytest.fixture
def files(tmp_path):
    paths = [write(tmp_path / f"{index}.wav", recording(seconds, index)) for index, seconds in enumerate(LENGTHS)]
    (tmp_path / "broken.wav").write_bytes(b"no audio " * 100)
    return [*paths[:3], tmp_path / "broken.wav", *paths[3:], tmp_path / "missing.wav"]


def words_of(result):
    return result.transcript and (result.transcript.text, result.transcript.words)


def test_order_errors_batches_windows_and_threads_change_nothing(files, tmp_path, monkeypatch):
    window = Window(keep=8, context=1)
    ways = [
        {"window": Window(keep=100, context=0), "batch_seconds": 0.001},  # one pass, one by one
        {"window": window, "batch_seconds": 10},
        {"window": window, "batch_seconds": 1000},
    ]
    found = []
    for options in ways:
        transcriber = make_transcriber(tmp_path, monkeypatch, **options)
        for jobs in (1, 3):
            results = list(transcriber.transcribe_all(files, jobs=jobs))
            assert [result.path for result in results] == files
            found.append(results)
    for results in found:
        for path, result, first in zip(files, results, found[0], strict=True):
            if path.stem in ("broken", "missing"):
                assert isinstance(result.error, AudioError)
                assert result.transcript is None
                continue
            one, other = result.unwrap(), first.unwrap()
            assert one.text == other.text
            assert [(w.text, w.start, w.end) for w in one.words] == [(w.text, w.start, w.end) for w in other.words]
            assert one.duration == other.duration
            np.testing.assert_allclose(
                [w.confidence for w in one.words], [w.confidence for w in other.words], atol=1e-4
            )
    assert sum(len(result.unwrap().words) for result in found[0] if result.error is None) > 100


def test_times_are_those_of_the_recording(tmp_path, monkeypatch):
    transcriber = make_transcriber(tmp_path, monkeypatch, window=Window(8, 1))
    path = write(tmp_path / "a.wav", recording(60))
    transcript = transcriber.transcribe(path)
    assert transcript.duration == 60
    timed = transcript.timed_words
    assert 0 <= timed[0].start < timed[-1].end <= 60
    assert timed[-1].end > 55
    starts = [word.start for word in timed]
    assert starts == sorted(starts)
    assert [word for segment in transcript.segments for word in segment.words] == list(timed)


def test_progress_adds_up(files, tmp_path, monkeypatch):
    transcriber = make_transcriber(tmp_path, monkeypatch, window=Window(8, 1))
    done = []
    list(transcriber.transcribe_all(files, progress=done.append))
    assert sum(done) == pytest.approx(sum(LENGTHS), abs=0.01)
    assert len(done) > len(LENGTHS)  # a long recording tells of its parts


def test_logits_are_those_of_one_pass(tmp_path, monkeypatch):
    for seconds in (4, 50):
        path = write(tmp_path / "a.wav", recording(seconds))
        parts = list(make_transcriber(tmp_path, monkeypatch, window=Window(8, 1)).logits(path))
        whole = list(make_transcriber(tmp_path, monkeypatch, window=Window(100, 0)).logits(path))
        assert len(whole) == 1
        np.testing.assert_allclose(np.concatenate(parts), whole[0], atol=1e-4)
    with pytest.raises(AudioError, match="does not exist"):
        list(make_transcriber(tmp_path, monkeypatch).logits(tmp_path / "none.wav"))


def threads():
    """Ours that are alive; those of other tests may be among them."""
    return {thread for thread in threading.enumerate() if thread.name.startswith("wav2vec2-")}


def test_a_caller_that_stops_ends_the_threads(files, tmp_path, monkeypatch):
    before = threads()
    results = make_transcriber(tmp_path, monkeypatch).transcribe_all(files * 20)
    next(results)
    results.close()
    assert not threads() - before


def test_an_error_that_nobody_foresaw_is_raised(files, tmp_path, monkeypatch):
    before = threads()
    model = NumpyModel()
    model.logits = lambda waveforms: 1 / 0
    with pytest.raises(ZeroDivisionError):
        list(make_transcriber(tmp_path, monkeypatch, model).transcribe_all(files))
    assert not threads() - before


@pytest.mark.parametrize("value", [0.0, 0.5])
def test_silence_and_a_constant(tmp_path, monkeypatch, value):
    for seconds in (2, 50):
        path = write(tmp_path / "a.wav", np.full(round(seconds * RATE), value, np.float32))
        transcript = make_transcriber(tmp_path, monkeypatch, window=Window(8, 1)).transcribe(path)
        assert transcript.duration == seconds


def test_numbers_that_cannot_be(files, tmp_path, monkeypatch):
    with pytest.raises(InputError, match="batch_seconds=0"):
        make_transcriber(tmp_path, monkeypatch, batch_seconds=0)
    with pytest.raises(InputError, match="jobs=0"):
        list(make_transcriber(tmp_path, monkeypatch).transcribe_all(files, jobs=0))


def test_which_decoder(tmp_path, monkeypatch):
    def decoder(**options):
        found = make_transcriber(tmp_path, monkeypatch, decoding=DecoderOptions(**options)).decoder
        return found.decoder if isinstance(found, BestTimesDecoder) else found

    assert isinstance(decoder(), GreedyDecoder)
    assert isinstance(decoder(lm="none"), GreedyDecoder)
    searching = decoder(hotwords=["cafe"], beam_width=7)
    assert isinstance(searching, BeamSearchDecoder)
    assert (searching.options.beam_width, searching.options.hotwords) == (7, ("cafe",))
    arpa = tmp_path / "lm.arpa"
    arpa.write_text(
        "\\data\\\nngram 1=4\n\n\\1-grams:\n-1 <s>\n-1 </s>\n-2 <unk>\n-0.5 cafe\n\n\\end\\\n", encoding="utf-8"
    )
    assert decoder(lm=arpa, alpha=0.7).options.alpha == 0.7
    with pytest.raises(InputError, match="alpha and beta weigh a language model and there is none"):
        decoder(alpha=0.7)
    with pytest.raises(InputError, match="does not exist: name a file, a folder, auto or none"):
        decoder(lm=tmp_path / "none.arpa")


def test_beam_search_streams_a_long_recording(tmp_path, monkeypatch):
    path = write(tmp_path / "a.wav", recording(40))
    choice = DecoderOptions(beam_width=8)
    one = make_transcriber(tmp_path, monkeypatch, decoding=choice, window=Window(100, 0)).transcribe(path)
    parts = make_transcriber(tmp_path, monkeypatch, decoding=choice, window=Window(8, 1)).transcribe(path)
    assert one.text == parts.text
    assert [(w.start, w.end) for w in one.words] == [(w.start, w.end) for w in parts.words]
