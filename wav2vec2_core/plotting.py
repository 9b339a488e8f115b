"""A recording as a picture: waveform and spectrogram over the words and characters in it, with their confidences."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from wav2vec2_core.audio import Recording
from wav2vec2_core.captions import TimedWord
from wav2vec2_core.errors import AudioError, BackendError, InputError
from wav2vec2_core.files import atomic_path, temporary_beside
from wav2vec2_core.pipeline import Audio

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Formats of a picture, by the ending of its name.
PICTURES = ("png", "svg")
#: Seconds of the longest recording that is drawn: its words could not be read.
LONGEST = 600.0
_INCHES = 1.2  # of a second, within these:
_WIDTHS = (8.0, 120.0)
_COLUMNS = 4000  # of waveform and spectrogram, at most
_FLOOR = 80.0  # decibels below the loudest that are still drawn
_ROWS = {"words": (1.0, 0.9), "characters": (0.0, 0.9)}  # bottom and height


def plot(recording: Audio, words: Sequence[TimedWord], *, title: str | None = None) -> Figure:
    """Draw a recording with its words; a notebook shows what is returned.

    Colours are confidences, from 0 to 1. Times are on the clock of the recording, also of a stretch of one.

    Args:
        recording: a path, a ``Recording`` or (samples, rate).
        words: with their characters, such as ``Transcript.timed_words`` or those of ``Alignment.segments``.
        title: by default the name of the recording.

    Returns:
        A figure of matplotlib, for ``save_plot`` or changes of your own.

    Raises:
        AudioError: the recording cannot be read, or is too long for a picture.
        BackendError: matplotlib is not installed.
    """
    matplotlib = _matplotlib()
    opened = Recording.wrap(recording)
    _check_length(opened)
    samples = opened.read()
    seconds = len(samples) / opened.sampling_rate
    span = (opened.start, opened.start + seconds)
    width = min(max(seconds * _INCHES, _WIDTHS[0]), _WIDTHS[1])
    figure = matplotlib.figure.Figure(figsize=(width, 6.0), layout="constrained")
    wave, spectrum, spoken = figure.subplots(3, 1, sharex=True, height_ratios=(2, 3, 1.2))
    wave.set_title(opened.name if title is None else title, parse_math=False)
    _draw_wave(wave, samples, span)
    _draw_spectrum(spectrum, samples, opened.sampling_rate, span)
    colours = matplotlib.cm.ScalarMappable(matplotlib.colors.Normalize(0, 1), "RdYlGn")
    _draw_words(spoken, words, colours)
    spoken.set_xlim(*span)
    figure.colorbar(colours, ax=[wave, spectrum, spoken], label="confidence", aspect=40, pad=0.01)
    return figure


def save_plot(figure: Figure, path: str | os.PathLike[str]) -> list[str]:
    """Write a figure as PNG or SVG, by the ending of ``path``. In an SVG, letters stay letters.

    Returns:
        Notes for people, such as letters that no font here has.

    Raises:
        InputError: the name has another ending. OutputError: the file cannot be written.
    """
    path = Path(path)
    kind = _kind(path)
    options: dict[str, Any] = {"metadata": {"Date": None}} if kind == "svg" else {"dpi": 120}
    settings: Any = {"svg.fonttype": "none", "svg.hashsalt": "wav2vec2"}
    with atomic_path(path) as temporary, warnings.catch_warnings(record=True) as raised:
        warnings.simplefilter("always")
        with _matplotlib().rc_context(settings):
            figure.savefig(temporary, format=kind, **options)
    lacking = any("missing from" in str(warning.message) for warning in raised)
    if lacking and kind == "png":
        return ["some letters are in no font that matplotlib has here: save as .svg, or install a font with them"]
    return []


def check_plot(recording: Recording, path: Path) -> None:
    """Refuse what ``plot`` and ``save_plot`` would, before a model is loaded. Raises what they raise."""
    _matplotlib()
    _kind(path)
    _check_length(recording)
    with temporary_beside(path):  # fails where the picture could not be written
        pass


def _kind(path: Path) -> str:
    kind = path.suffix.removeprefix(".").lower()
    if kind not in PICTURES:
        raise InputError(f"{path.name[:100]} ends in neither .png nor .svg: choose one of them")
    return kind


def _check_length(recording: Recording) -> None:
    if recording.duration > LONGEST:
        raise AudioError(
            f"{recording.name} lasts {recording.duration:.0f} s, a picture holds {LONGEST:.0f} s at most: draw a "
            "stretch of it (start, end)"
        )


def _draw_wave(axes: Any, samples: np.ndarray, span: tuple[float, float]) -> None:
    """The lowest and the highest sample of each column."""
    columns = min(len(samples), _COLUMNS)
    starts = np.linspace(0, len(samples), columns, endpoint=False).astype(int)
    times = np.linspace(*span, columns, endpoint=False)
    low, high = np.minimum.reduceat(samples, starts), np.maximum.reduceat(samples, starts)
    axes.fill_between(times, low, high, step="post", linewidth=0.5, edgecolor="C0")
    axes.set_ylabel("amplitude")


def _draw_spectrum(axes: Any, samples: np.ndarray, rate: int, span: tuple[float, float]) -> None:
    decibels = spectrogram(samples, rate)
    top = float(decibels.max())
    axes.imshow(
        decibels.T, origin="lower", aspect="auto", extent=(*span, 0, rate / 2000), cmap="magma", vmin=top - _FLOOR,
        vmax=top, interpolation="nearest",
    )  # fmt: skip
    axes.set_ylabel("kHz")


def spectrogram(samples: np.ndarray, rate: int) -> np.ndarray:
    """Decibels of windows of 25 ms, (columns, frequencies): a column every 5 ms, fewer of a long recording.

    samples: (samples,) at ``rate`` hertz, at least one.
    """
    size = max(2, round(0.025 * rate))
    hop = max(round(0.005 * rate), -(-len(samples) // _COLUMNS), 1)
    padded = np.pad(samples, (size // 2, size))
    starts = np.arange(0, len(samples), hop)
    windows = np.lib.stride_tricks.sliding_window_view(padded, size)[starts]
    power = np.square(np.abs(np.fft.rfft(windows * np.hanning(size), axis=1)))
    return 10 * np.log10(np.maximum(power, 1e-12))


def _draw_words(axes: Any, words: Sequence[TimedWord], colours: Any) -> None:
    rows = {"words": words, "characters": [letter for word in words for letter in word.characters]}
    for name, spoken in rows.items():
        bottom, height = _ROWS[name]
        axes.broken_barh(
            [(one.start, one.end - one.start) for one in spoken],
            (bottom, height),
            facecolors=[colours.to_rgba(one.probability) for one in spoken],
            edgecolor="0.3",
            linewidth=0.5,
        )
        for one in spoken:
            what = f"{one.text}\n{one.probability:.2f}" if name == "words" else one.text
            axes.text(
                (one.start + one.end) / 2, bottom + height / 2, what, ha="center", va="center", fontsize=8,
                parse_math=False, clip_on=True,
            )  # fmt: skip
    axes.set_ylim(0, 2)
    axes.set_yticks([bottom + height / 2 for bottom, height in _ROWS.values()], list(_ROWS))
    axes.set_xlabel("seconds")


def _matplotlib() -> Any:
    try:
        import matplotlib
        import matplotlib.cm
        import matplotlib.colors
        import matplotlib.figure
    except ImportError as error:
        raise BackendError(
            'pictures need matplotlib, which is not installed: pip install "wav2vec2-frameworks[plot]"'
        ) from error
    return matplotlib
