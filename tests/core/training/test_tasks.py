"""What tasks take from a model and data, and how they score."""

from pathlib import Path

import numpy as np
import pytest

from wav2vec2_core.checkpoint import Checkpoint, open_checkpoint
from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.data.checking import Row
from wav2vec2_core.data.manifest import Utterance
from wav2vec2_core.errors import AudioError, InputError
from wav2vec2_core.metrics import equal_error_rate
from wav2vec2_core.source import open_model
from wav2vec2_core.training.tasks import CTC, Classification, FrameClassification, OpenedModel, SpeakerRecognition
from wav2vec2_core.transcription import EMBEDDED_MODEL


def opened(arrays=None, **changes):
    source = open_model(EMBEDDED_MODEL)
    config = Wav2Vec2Config.from_source(source).replace(**changes)
    return OpenedModel(source, config, open_checkpoint(source) if arrays is None else Checkpoint.of(arrays))


def row(text="", labels=(), **columns):
    return Row(Utterance(Path("a.wav"), columns=columns), 16_000, text, tuple(labels))


def utterances(column, values):
    return [Utterance(Path(f"{number}.wav"), columns={column: value}) for number, value in enumerate(values)]


def scored(job, rows, outputs):
    counts = job.counts(len(rows))
    for number, (one, output) in enumerate(zip(rows, outputs, strict=True)):
        job.count(number, one, np.asarray(output, np.float32), counts)
    return job.scores(rows, counts)


def spoken(job, text):
    """Logits that say a text, a blank after each letter."""
    vocabulary = job.processor.tokenizer.get_vocab()
    numbers = [number for letter in text.replace(" ", "|") for number in (vocabulary[letter], job.config.pad_token_id)]
    return np.eye(job.config.vocab_size)[numbers]


def test_letters_are_scored_by_words_and_characters():
    pytest.importorskip("jiwer", reason="jiwer, of the extra train, is not installed here")
    job = CTC().prepare(opened(), [])
    found = scored(job, [row("one two"), row("three")], [spoken(job, "one too"), spoken(job, "three")])
    assert found.values == {"wer": pytest.approx(1 / 3), "cer": pytest.approx(1 / 12)}
    assert (found.ranking, found.begun, found.stuck) == (tuple(found.values.values()), True, "")
    assert str(found) == "WER 33.33%, CER 8.33%"
    silent = np.eye(job.config.vocab_size)[[job.config.pad_token_id] * 3]
    nothing = scored(job, [row("one")], [silent])
    assert (nothing.values["wer"], nothing.begun, nothing.stuck[:14]) == (1.0, False, "writes nothing")
    near, far = (scored(job, [row("one")], [spoken(job, text)]) for text in ("on e", "ten"))
    assert (near.values["wer"], far.values["wer"]) == (2.0, 1.0)
    assert near.ranking < far.ranking  # no word is right, but most letters are


def test_classes_are_those_of_the_data_numbers_by_size():
    job = Classification("digit").prepare(opened(), utterances("digit", ["10", "2", " 2 ", "", None]))
    assert job.names == ("2", "10")
    assert job.config.id2label == {0: "2", 1: "10"}
    assert "classifier.weight" not in job.checkpoint.shapes


def test_a_head_that_knows_the_classes_is_kept():
    arrays = {"classifier.weight": np.ones((3, 4)), "classifier.bias": np.ones(3), "projector.weight": np.ones((4, 4))}
    names = {0: "a", 1: "b", 2: "c"}
    kept = Classification().prepare(opened(arrays, id2label=names), utterances("label", "cab"))
    assert kept.names == ("a", "b", "c")
    assert kept.checkpoint.shapes["classifier.weight"] == (3, 4)
    other = Classification().prepare(opened(arrays, id2label=names), utterances("label", "ad"))
    assert other.names == ("a", "d")
    assert list(other.checkpoint.shapes) == ["projector.weight"]


def test_utterances_are_scored_by_accuracy_and_mean_recall():
    job = Classification().prepare(opened(), utterances("label", "ab"))
    rows = [row("a", [0]), row("a", [0]), row("a", [0]), row("b", [1]), row("c")]  # c was not in the training data
    found = scored(job, rows, [[1, 0], [1, 0], [0, 1], [0, 1], [1, 0]])
    assert found.values == {"accuracy": 0.6, "mean recall": pytest.approx((2 / 3 + 1) / 2)}
    assert found.ranking == (pytest.approx(0.4), pytest.approx(1 / 6))
    assert found.begun
    same = scored(job, rows, [[1, 0]] * 5)
    assert (same.begun, same.stuck) == (False, "answers 'a' to everything")


def test_frames_are_scored_where_they_have_a_class():
    job = FrameClassification(rest=None).prepare(
        opened(), [Utterance(Path("a.wav"), columns={"segments": [[0, 1, "a"], [1, 2, "b"]]})]
    )
    found = scored(job, [row(labels=[0, 1, -1, 1])], [[[1, 0], [1, 0], [1, 0], [0, 1]]])
    assert found.values == {"accuracy": pytest.approx(2 / 3), "mean recall": 0.75}


def test_speakers_are_scored_by_pairs():
    job = SpeakerRecognition().prepare(opened(), utterances("speaker", "ab"))
    size = job.config.xvector_output_dim
    one, other = np.eye(size)[0], np.eye(size)[1]
    rows = [row("x"), row("x"), row("y"), row("y")]
    assert scored(job, rows, [2 * one, one, other, 3 * other]).values == {"eer": 0.0}
    found = scored(job, rows, [one, other, one, other])
    assert found.values["eer"] == pytest.approx(0.75, abs=0.26)
    assert not found.begun
    with pytest.raises(InputError, match="needs both kinds"):
        job.scores([row("x"), row("x")], job.counts(2))


@pytest.mark.parametrize("task", [Classification("word"), FrameClassification("word"), SpeakerRecognition("word")])
def test_data_without_classes_are_refused_with_their_columns(task):
    with pytest.raises(
        InputError, match=r"column 'word' of the training data holds nothing.*choose another --column, of accent"
    ):
        task.prepare(opened(), utterances("accent", "ab"))


def test_the_equal_error_rate_is_where_both_errors_are_equally_frequent():
    scores = np.asarray([0.9, 0.8, 0.4, 0.7, 0.3, 0.2, 0.1])
    same = np.asarray([True, True, True, False, False, False, False])
    # With the threshold above 0.4 one of 3 equal pairs is refused and one of 4 others accepted.
    assert equal_error_rate(scores, same) == pytest.approx((1 / 3 + 1 / 4) / 2)
    assert equal_error_rate(-scores, same) > 0.5
    assert equal_error_rate(np.asarray([1.0, 0.0]), np.asarray([True, False])) == 0.0


class Answers:
    """A classifier that finds for each recording what the test says; "gone" cannot be read."""

    labels = ("a", "b", "c")

    def __init__(self, answers):
        self.answers = answers

    def __call__(self, model, *, backend, device):
        return self

    def probabilities(self, recording, progress=None):
        return np.eye(3)[self.answers[recording.name]]

    def frame_probabilities(self, recording, progress=None):
        found = np.eye(3)[self.answers[recording.name]]
        yield from (found[:1], found[1:])  # in pieces

    def speaker(self, recording, progress=None):
        vector = np.asarray(self.answers[recording.name], np.float32)
        return vector / np.linalg.norm(vector)


class Named:
    """An utterance whose recording has a name and nothing else."""

    def __init__(self, name):
        self.name = name

    def recording(self):
        if self.name == "gone":
            raise AudioError("it is gone")
        return self


def scored_by(monkeypatch, module, task, answers, labels):
    """``answers`` and ``labels``: name of a row -> what is found, what is true."""
    monkeypatch.setattr(f"wav2vec2_core.training.tasks.{module}.Classifier", Answers(answers))
    rows = [Row(Named(name), 16_000, str(true), () if true is None else tuple(np.atleast_1d(true)))
            for name, true in labels.items()]  # fmt: skip
    (found,) = task.test(Path("model"), rows, backend="torch", device="cpu")
    return found


def test_a_saved_classifier_is_scored_with_intervals(monkeypatch):
    labels = {f"{n}": n % 3 for n in range(30)} | {"gone": 1, "30": None}
    answers = {f"{n}": n % 3 if n < 24 else 0 for n in range(31)}
    found = scored_by(monkeypatch, "classes", Classification(), answers, labels)
    assert (found.utterances, found.failed) == (31, 1)
    accuracy, recall = found.scores["accuracy"], found.scores["mean recall"]
    assert accuracy.value == pytest.approx(26 / 31)  # the class that training had none of counts as wrong
    assert recall.value == pytest.approx((1 + 0.8 + 0.8) / 3)
    deviation = (26 / 31 * 5 / 31 / 31) ** 0.5  # of the binomial
    assert accuracy.interval[0] == pytest.approx(26 / 31 - 1.96 * deviation, abs=0.04)
    assert accuracy.interval[1] == pytest.approx(26 / 31 + 1.96 * deviation, abs=0.04)
    assert recall.interval[0] < recall.value < recall.interval[1]
    certain = scored_by(monkeypatch, "classes", Classification(), answers, {"0": 0, "1": 1, "2": 2})
    assert str(certain).startswith("accuracy 100.00% (95 % of resamples: 100.00% to 100.00%), mean recall 100.00%")


def test_frames_are_resampled_by_recording(monkeypatch):
    answers = {"one": [0, 0, 1, 1], "two": [2, 2, 2]}
    found = scored_by(monkeypatch, "classes", FrameClassification(), answers, {"one": [0, -1, 1, 0], "two": [2, 2, 2]})
    assert found.scores["accuracy"].value == pytest.approx(5 / 6)
    assert found.scores["mean recall"].value == pytest.approx((0.5 + 1 + 1) / 3)
    assert found.scores["accuracy"].interval == pytest.approx((2 / 3, 1))  # "one" alone, "two" alone


def test_speakers_are_resampled_by_recording(monkeypatch):
    generator = np.random.default_rng(0)
    labels = {f"{n}": n % 4 for n in range(24)}
    answers = {name: np.eye(4)[who] + 0.45 * generator.standard_normal(4) for name, who in labels.items()}
    found = scored_by(monkeypatch, "speakers", SpeakerRecognition(), answers, labels)
    score = found.scores["eer"]
    assert score.interval[0] < score.value < score.interval[1]
    assert score.interval[1] - score.interval[0] < 0.3


def test_weights_of_pairs_stand_for_repetitions():
    generator = np.random.default_rng(1)
    scores, same, weights = generator.random(50), generator.random(50) < 0.4, generator.integers(0, 4, 50)
    repeated = equal_error_rate(np.repeat(scores, weights), np.repeat(same, weights))
    assert equal_error_rate(scores, same, weights) == pytest.approx(repeated, abs=0.03)
    assert equal_error_rate(scores, same, np.ones(50)) == equal_error_rate(scores, same)


def test_recordings_of_which_none_can_be_read_are_an_error(monkeypatch):
    with pytest.raises(InputError, match="none of 1 recordings can be read: it is gone"):
        scored_by(monkeypatch, "classes", Classification(), {}, {"gone": 1})
