"""What every pipeline takes for a recording, and what they share."""

import io
import json
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from local_hub import local_hub, run_python
from numpy_model import NumpyModel
from numpy_transcriber import RATE, make_transcriber, recording, save_processor, write

from wav2vec2_core.alignment import Aligner
from wav2vec2_core.audio import Recording
from wav2vec2_core.channels import transcribe_channels
from wav2vec2_core.checkpoint import write_checkpoint
from wav2vec2_core.classification import FRAMES, Classifier
from wav2vec2_core.data.manifest import Utterance
from wav2vec2_core.embedding import Embedder
from wav2vec2_core.errors import AudioError, InputError
from wav2vec2_core.evaluation import transcribe_utterances
from wav2vec2_core.long_form.windows import Window
from wav2vec2_core.streaming import StreamingTranscriber

SECONDS = 50
START, END = 9.5, 45.0


def transcribed(folder, monkeypatch):
    transcriber = make_transcriber(folder, monkeypatch, window=Window(8, 1))

    def run(audio):
        transcript = transcriber.transcribe(audio)
        return transcript.text, [(word.text, word.start, word.end) for word in transcript.timed_words]

    return run


def streamed(folder, monkeypatch):
    transcriber = make_transcriber(folder, monkeypatch)

    def run(audio):
        stream = StreamingTranscriber(transcriber)
        words = [word for update in stream.updates(audio) for word in update.words]
        return [(word.text, stream.timeline.seconds(word.start), stream.timeline.seconds(word.end)) for word in words]

    return run


def aligned(folder, monkeypatch):
    make_transcriber(folder, monkeypatch)  # its back end
    aligner = Aligner(folder / "model", window=Window(8, 1))

    def run(audio):
        return [(word.text, word.start, word.end) for word in aligner.align(audio, "ab\ncafe").words]

    return run


def embedded(folder, monkeypatch):
    model = NumpyModel(dim=16)
    backend = SimpleNamespace(inference=SimpleNamespace(load_model=lambda source, **given: model))
    monkeypatch.setattr("wav2vec2_core.pipeline.load_backend", lambda name: backend)
    embedder = Embedder(save_processor(folder / "model"), window=Window(8, 1))
    return lambda audio: embedder.embed(audio).tolist()


def classified(folder, monkeypatch):
    model = NumpyModel()
    model.config = model.config.replace(id2label={i: f"label {i}" for i in range(8)})
    backend = SimpleNamespace(inference=SimpleNamespace(load_model=lambda source, **given: model))
    monkeypatch.setattr("wav2vec2_core.pipeline.load_backend", lambda name: backend)
    save_processor(folder / "model")
    (folder / "model" / "config.json").write_text(
        json.dumps({"model_type": "wav2vec2", "architectures": [f"Wav2Vec2{FRAMES}"]})
    )
    write_checkpoint(folder / "model", {"classifier.weight": np.zeros((2, 2), np.float32)})
    classifier = Classifier(folder / "model", window=Window(8, 1))
    return lambda audio: [(span.name, span.start, span.end) for span in classifier.spans(audio)]


PIPELINES = (transcribed, streamed, aligned, embedded, classified)


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_a_path_samples_bytes_and_a_recording_are_the_same(pipeline, tmp_path, monkeypatch):
    samples = recording(SECONDS)
    path = write(tmp_path / "a.wav", samples)
    run = pipeline(tmp_path, monkeypatch)
    expected = run(path)
    assert len(expected) > 0
    for audio in (str(path), (samples, RATE), Recording(path), Recording.from_bytes(path.read_bytes())):
        assert run(audio) == expected
    for nothing in (3, None, (samples,), samples):
        with pytest.raises(InputError, match="is no recording: give"):
            run(nothing)
    with pytest.raises(AudioError, match="does not exist"):
        run(tmp_path / "none.wav")


@pytest.mark.parametrize("pipeline", [transcribed, streamed, aligned, classified])
def test_times_of_a_stretch_count_from_the_start_of_the_recording(pipeline, tmp_path, monkeypatch):
    samples = recording(SECONDS)
    path = write(tmp_path / "a.wav", samples)
    run = pipeline(tmp_path, monkeypatch)
    cut = run((samples[round(START * RATE) : round(END * RATE)], RATE))
    found = run(Recording.open(path, START, END))
    if pipeline is transcribed:
        assert found[0] == cut[0]
        found, cut = found[1], cut[1]
    assert [name for name, _, _ in found] == [name for name, _, _ in cut]
    np.testing.assert_allclose(
        [times for _, *times in found], [(start + START, end + START) for _, start, end in cut], rtol=0, atol=1e-9
    )
    assert START <= found[0][1] < found[-1][2] <= END


def test_files_of_a_stretch_are_on_its_clock(tmp_path, monkeypatch):
    path = write(tmp_path / "a.wav", recording(SECONDS))
    transcript = make_transcriber(tmp_path, monkeypatch).transcribe(Recording.open(path, START, END))
    assert transcript.duration == END - START
    grid = transcript.render("textgrid")
    assert "\nxmin = 0\nxmax = 45\n" in grid
    first = transcript.timed_words[0].start
    assert transcript.to_dict()["segments"][0]["start"] == pytest.approx(first, abs=1e-3)
    alignment = Aligner(tmp_path / "model").align_utterance(Utterance(path, "ab", START, END - START))
    assert alignment.start == START
    assert "\nxmin = 0\nxmax = 45\n" in alignment.render("textgrid")


def test_utterances_are_stretches(tmp_path, monkeypatch):
    path = write(tmp_path / "a.wav", recording(SECONDS))
    transcriber = make_transcriber(tmp_path, monkeypatch)
    utterances = [
        Utterance(path),
        Utterance(tmp_path / "none.wav"),
        Utterance(path, offset=START, duration=END - START),
        Utterance(path, offset=SECONDS + 1.0),
    ]
    whole, missing, stretch, beyond = transcribe_utterances(transcriber, utterances)
    assert [one.path for one in (whole, missing, stretch, beyond)] == [one.path for one in utterances]
    assert whole.unwrap().text == transcriber.transcribe(path).text
    assert stretch.unwrap().text == transcriber.transcribe(Recording.open(path, START, END)).text
    assert stretch.unwrap().timed_words[0].start >= START
    assert "does not exist" in str(missing.error)
    assert missing.name == str(tmp_path / "none.wav")
    assert "its stretch begins at 51 s" in str(beyond.error)


# ---- one broken recording -------------------------------------------------------------------------------------------


class Broken(Recording):
    """A recording whose decoder raises what no list of errors foresees, at once or in the middle."""

    def __iter__(self):
        for number, block in enumerate(super().__iter__()):
            if number == self.good:
                raise ZeroDivisionError("a decoder's own trouble")
            yield block


def test_whatever_a_recording_raises_is_its_result(tmp_path, monkeypatch):
    good = write(tmp_path / "good.wav", recording(3))
    long = write(tmp_path / "long.wav", recording(600))

    def broken(path, block):
        found = Broken(path)
        found.good = block
        return found

    def unopened():
        raise RuntimeError("no such drive")

    transcriber = make_transcriber(tmp_path, monkeypatch, window=Window(8, 1))
    recordings = [good, broken(good, 0), unopened, 17, good, broken(long, 1), tmp_path / "none.wav", good]
    results = list(transcriber.transcribe_all(recordings))
    assert [index for index, result in enumerate(results) if result.error is None] == [0, 4, 7]
    assert "good.wav cannot be transcribed (ZeroDivisionError: a decoder's own trouble)" in str(results[1].error)
    assert "(RuntimeError: no such drive)" in str(results[2].error)
    assert [result.name for result in results[:2]] == [str(good), str(good)]
    assert (results[1].path, results[2].path, results[6].path) == (good, None, tmp_path / "none.wav")


@pytest.mark.parametrize("seconds", [3, 50])
def test_a_decoder_that_fails_for_one_recording_does_not_stop_the_others(tmp_path, monkeypatch, seconds):
    paths = [write(tmp_path / f"{index}.wav", recording(seconds, index)) for index in range(3)]
    transcriber = make_transcriber(tmp_path, monkeypatch, window=Window(8, 1))
    inner, calls = transcriber.decoder, []

    def fail_once(function):
        def run(*arguments):
            calls.append(1)
            if len(calls) == 1:
                raise KeyError("a word")
            return function(*arguments)

        return run

    class Decoder:
        decode = staticmethod(fail_once(inner.decode))

        @staticmethod
        def stream():
            stream = inner.stream()
            return SimpleNamespace(feed=fail_once(stream.feed), finish=stream.finish)

    transcriber.decoder = Decoder()
    first, *others = transcriber.transcribe_all(paths)
    assert "0.wav cannot be transcribed (KeyError: 'a word')" in str(first.error)
    assert all(result.error is None for result in others)


# ---- channels -------------------------------------------------------------------------------------------------------


def test_every_channel_can_be_a_speaker(tmp_path, monkeypatch):
    left, right = recording(3, 1), recording(3, 2)
    stereo = tmp_path / "two.wav"
    soundfile.write(stereo, np.stack([left, right], 1), RATE, subtype="FLOAT")
    mono = write(tmp_path / "one.wav", left)
    three = (np.stack([left, right, left], 1), RATE)
    transcriber = make_transcriber(tmp_path, monkeypatch)
    expected = {name: transcriber.transcribe((samples, RATE)) for name, samples in (("l", left), ("r", right))}
    results = list(transcribe_channels(transcriber, [stereo, tmp_path / "none.wav", mono, lambda: three]))
    assert [result.path for result in results] == [stereo, None, mono, None]
    assert "does not exist" in str(results[1].error)
    both = results[0].unwrap()
    assert {name: one.text for name, one in both.speakers.items()} == {
        "left": expected["l"].text, "right": expected["r"].text,
    }  # fmt: skip
    assert list(results[2].unwrap().speakers) == ["0"]
    assert [one.text for one in results[3].unwrap().speakers.values()] == [expected[k].text for k in ("l", "r", "l")]
    starts = [segment.start for segment in both.segments]
    assert starts == sorted(starts)
    assert {segment.speaker for segment in both.segments} == {"left", "right"}
    assert both.lines == [f"{segment.speaker}: {segment.text}" for segment in both.segments]
    assert len(both.words) == sum(len(one.words) for one in expected.values())
    assert {entry["speaker"] for entry in both.to_dict()["segments"]} == {"left", "right"}


# ---- loading --------------------------------------------------------------------------------------------------------


def test_the_hub_is_asked_once_for_what_a_model_has(tmp_path):
    """Each pipeline opens its model once: one list of files, and no file of the model twice."""
    folder = save_processor(tmp_path / "model")
    (folder / "config.json").write_text(json.dumps({"model_type": "wav2vec2", "architectures": ["Wav2Vec2ForXVector"]}))
    write_checkpoint(folder, {"classifier.weight": np.zeros((2, 2), np.float32)})
    published = {path.name: path.read_bytes() for path in folder.iterdir()}
    code = """
import json, sys
from types import SimpleNamespace
from huggingface_hub import HfApi
import wav2vec2_core.pipeline
from wav2vec2_core.classification import Classifier
from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.embedding import Embedder
from wav2vec2_core.transcription import Transcriber
asked, original = [], HfApi.model_info
def model_info(self, *arguments, **options):
    asked.append(arguments)
    return original(self, *arguments, **options)
HfApi.model_info = model_info
def load_model(source, **options):
    source.find("model.safetensors"), source.find("config.json")  # as a back end does
    return SimpleNamespace(config=Wav2Vec2Config())
backend = SimpleNamespace(inference=SimpleNamespace(load_model=load_model))
wav2vec2_core.pipeline.load_backend = lambda name: backend
counts = []
for pipeline in (Transcriber, Embedder, Classifier):
    before = len(asked)
    pipeline("org/name")
    counts.append(len(asked) - before)
print(json.dumps(counts))
"""
    with local_hub(published) as (endpoint, _):
        assert run_python(code, HF_ENDPOINT=endpoint, HF_HOME=str(tmp_path / "hub")) == [1, 1, 1]


def test_bytes_are_read_without_a_file(tmp_path, monkeypatch):
    content = io.BytesIO()
    soundfile.write(content, recording(3), RATE, format="flac")
    transcriber = make_transcriber(tmp_path, monkeypatch)
    monkeypatch.setattr("tempfile.mkstemp", lambda *arguments, **options: pytest.fail("a temporary file"))
    result = next(iter(transcriber.transcribe_all([Recording.from_bytes(content.getvalue(), name="call 7")])))
    assert (result.path, result.name) == (None, "call 7")
    assert result.unwrap().duration == 3
