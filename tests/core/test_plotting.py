"""Pictures of recordings."""

import re
import sys

import numpy as np
import pytest
from numpy_transcriber import RATE, recording, write

from wav2vec2_core.audio import Recording
from wav2vec2_core.captions import TimedWord
from wav2vec2_core.errors import AudioError, BackendError, InputError
from wav2vec2_core.plotting import plot, save_plot, spectrogram

WORDS = [
    TimedWord("one", 0.5, 0.9, 0.95, (TimedWord("o", 0.5, 0.6, 0.9), TimedWord("n", 0.6, 0.7, 0.99))),
    TimedWord("$5 & <6>", 1.2, 1.9, 0.1, (TimedWord("字", 1.2, 1.9, 0.1),)),
]
matplotlib = pytest.importorskip("matplotlib", reason="draws with matplotlib")


def written(axes):
    return [text.get_text() for text in axes.texts]


def test_waveform_spectrogram_words_and_characters(tmp_path):
    samples = recording(3)
    figure = plot(Recording(write(tmp_path / "a.wav", samples)).at(RATE), WORDS)
    wave, spectrum, spoken = figure.axes[:3]
    assert written(spoken) == ["one\n0.95", "$5 & <6>\n0.10", "o", "n", "字"]
    assert wave.get_title() == str(tmp_path / "a.wav")
    assert spoken.get_xlim() == (0, 3)
    assert spectrum.images[0].get_extent() == [0, 3, 0, RATE / 2000]
    low, high = wave.dataLim.intervaly
    assert (low, high) == pytest.approx((samples.min(), samples.max()))
    bars = [[patch.get_extents().intervalx.tolist() for patch in bar.get_paths()] for bar in spoken.collections]
    assert bars == [[[0.5, 0.9], [1.2, 1.9]], [[0.5, 0.6], [0.6, 0.7], [1.2, 1.9]]]
    sure, unsure = spoken.collections[0].get_facecolors()
    assert sure[1] > sure[0]  # green
    assert unsure[0] > unsure[1]  # red


def test_a_stretch_is_on_the_clock_of_its_recording(tmp_path):
    figure = plot(Recording.of(recording(3), RATE, 1.0, 2.5).at(RATE), [], title="a stretch")
    assert figure.axes[0].get_xlim() == (1.0, 2.5)
    assert figure.axes[0].get_title() == "a stretch"


def test_a_tone_in_the_spectrogram():
    times = np.arange(RATE) / RATE
    decibels = spectrogram(np.sin(2 * np.pi * 200 * times).astype(np.float32), RATE)
    assert (decibels[20:-20].argmax(1) * RATE / 25 == 200).all()  # windows of 25 samples: 40 Hz each
    assert spectrogram(np.zeros(3, np.float32), RATE).max() == -120
    assert len(spectrogram(np.zeros(100 * RATE, np.float32), RATE)) <= 4000


def test_files(tmp_path):
    figure = plot((recording(1), RATE), WORDS)
    notes = save_plot(figure, tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert all("in no font" in note for note in notes)
    assert save_plot(plot((recording(1), RATE), WORDS), tmp_path / "a.svg") == []
    drawn = (tmp_path / "a.svg").read_text()
    assert "字" in drawn
    assert "$5 &amp; &lt;6&gt;" in drawn
    save_plot(plot((recording(1), RATE), WORDS), tmp_path / "b.SVG")
    # matplotlib names a clip after its place, which its layout solver finds to the last bit but one.
    clips = re.compile(r"\bp[0-9a-f]{10}\b")
    assert clips.sub("clip", (tmp_path / "b.SVG").read_text()) == clips.sub("clip", drawn)
    with pytest.raises(InputError, match=r"a\.pdf ends in neither \.png nor \.svg: choose one of them"):
        save_plot(figure, tmp_path / "a.pdf")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "a.svg", "b.SVG"]


def test_what_cannot_be_drawn(monkeypatch):
    with pytest.raises(AudioError, match=r"lasts 601 s, a picture holds 600 s at most: draw a stretch of it"):
        plot((np.zeros(601 * RATE, np.float32), RATE), [])
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(BackendError, match=r"pictures need matplotlib, which is not installed: pip install .*\[plot\]"):
        plot((recording(1), RATE), [])
