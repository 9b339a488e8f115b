"""Classes of rows and of frames, from the columns of a manifest."""

from pathlib import Path

import numpy as np
import pytest

from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.data import checking
from wav2vec2_core.data.labels import ClassLabels, FrameLabels, segments_of
from wav2vec2_core.data.manifest import Utterance
from wav2vec2_core.errors import InputError

CONFIG = Wav2Vec2Config()


def row(**columns):
    return Utterance(Path("a.wav"), columns=columns)


def test_a_class_is_a_column():
    labels = ClassLabels(["no", "yes"], "word", CONFIG)
    found, finding = labels.check(row(word=" yes "), 16_000)
    assert (found.labels, found.text, finding, labels.count(found)) == ((1,), "yes", None, 1)
    unknown, finding = labels.check(row(word="maybe"), 16_000)  # an answer can only be wrong: it counts
    assert (unknown.labels, unknown.text, finding.reason) == ((), "maybe", checking.UNKNOWN_LABEL)
    missing, finding = labels.check(row(other="yes"), 16_000)
    assert (missing, finding.reason) == (None, checking.NO_LABEL)
    assert labels.array([found, unknown], 49, few_shapes=True).tolist() == [1, -100]


def test_a_class_may_be_a_number_and_the_text():
    labels = ClassLabels(["3", "10"], "digit", CONFIG)
    assert labels.check(row(digit=10), 16_000)[0].labels == (1,)
    texts = ClassLabels(["on", "off"], "text", CONFIG)
    assert texts.check(Utterance(Path("a.wav"), "off"), 16_000)[0].labels == (1,)


def test_a_head_that_needs_several_frames_says_so():
    labels = ClassLabels(["a", "b"], "speaker", CONFIG, fewest_frames=16)
    assert labels.check(row(speaker="a"), 400 + 15 * 320)[1] is None
    found, finding = labels.check(row(speaker="a"), 400 + 14 * 320)
    assert (found, finding.reason) == (None, checking.TOO_SHORT)
    assert "15 frames and this head needs 16" in finding.detail


def test_a_frame_has_the_class_of_the_stretch_that_holds_its_middle():
    labels = FrameLabels(["noise", "speech"], "segments", None, CONFIG, 16_000)
    found, finding = labels.check(row(segments=[[0.1, 0.2, "speech"], [0.3, 0.4, "noise"]]), 16_000)
    assert finding is None
    # Middles are at (320 i + 200) / 16000 s: 0.1125 s is the first in the first stretch.
    assert [number for number, label in enumerate(found.labels) if label == 1] == [5, 6, 7, 8, 9]
    assert [number for number, label in enumerate(found.labels) if label == 0] == [15, 16, 17, 18, 19]
    assert (len(found.labels), labels.count(found)) == (49, 10)
    array = labels.array([found], 60, few_shapes=False)
    assert array.shape == (1, 60, 2)
    assert (array[0, 5].tolist(), array[0, 15].tolist(), array[0, 0].tolist()) == ([0, 1], [1, 0], [-100, -100])
    assert (array[0, 49:] == -100).all()


def test_the_rest_is_a_class_of_its_own():
    labels = FrameLabels(["quiet", "speech"], "segments", "quiet", CONFIG, 16_000)
    found, _ = labels.check(row(segments='[{"start": 0.5, "end": 9, "label": "speech"}]'), 16_000)
    assert np.flatnonzero(found.labels)[0] == 25
    assert labels.count(found) == 49
    silent, _ = labels.check(row(), 16_000)
    assert set(silent.labels) == {0}


@pytest.mark.parametrize(
    ("segments", "reason", "detail"),
    [
        (None, checking.NO_LABEL, "no stretches"),
        ("", checking.NO_LABEL, "no stretches"),
        ([[5, 6, "speech"]], checking.NO_LABEL, "none of its frames"),
        ([[0, 1, "music"]], checking.UNKNOWN_LABEL, "music not among noise, speech"),
        ("[[0, 1", checking.BAD_SEGMENTS, "is not JSON"),
        ({"start": 0}, checking.BAD_SEGMENTS, "is no list"),
        ([[0, 1]], checking.BAD_SEGMENTS, "write [start, end, label] in seconds"),
        ([["a", 1, "speech"]], checking.BAD_SEGMENTS, "write [start, end, label] in seconds"),
        ([[2, 1, "speech"]], checking.BAD_SEGMENTS, "end after that"),
        ([[0, 1, " "]], checking.BAD_SEGMENTS, "have a label"),
        ([{"start": 0, "end": 1}], checking.BAD_SEGMENTS, "have a label"),
    ],
)
def test_what_is_found_in_stretches(segments, reason, detail):
    labels = FrameLabels(["noise", "speech"], "segments", None, CONFIG, 16_000)
    found, finding = labels.check(row(segments=segments), 16_000)
    assert (found, finding.reason) == (None, reason)
    assert detail in finding.detail


def test_stretches_of_any_spelling():
    assert segments_of(row(turns=[{"start": 0, "end": 1.5, "label": "a  b"}]), "turns") == [(0.0, 1.5, "a b")]
    with pytest.raises(InputError, match="must start at 0 or later"):
        segments_of(row(turns=[[-1, 1, "a"]]), "turns")
