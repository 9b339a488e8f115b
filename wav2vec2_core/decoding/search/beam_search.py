"""A running beam search: log probabilities in, ranked paths out. Arrays: ``beam_state``; loops: ``beam_kernels``.

The semantics are those of pyctcdecode 0.5.0. A beam is the text so far, the partial word and the last label, so
prefixes that end in a blank and in a letter are two beams. Equal beams are merged and their probabilities add up. A
beam's score is the log probability of its paths, plus ``alpha * ln 10 * (log10 p + offset if unknown) + beta`` from the
language model for each complete word, plus ``hotword_weight`` for each hotword, plus a term for the partial word: a
bonus, its share of the shortest hotword with this prefix, or else the penalty ``unk_score_offset`` if no unigram has
this prefix. At the end the partial word is completed; if there is none, an empty word is scored as unknown.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from wav2vec2_core.errors import InputError

if TYPE_CHECKING:
    from wav2vec2_core.decoding.search.beam_state import SearchTables, Settings, State


@dataclass(frozen=True)
class LanguageModelState:
    """The context of a language model: the ids of the preceding words, newest first."""

    words: tuple[int, ...]


class LabelPath(NamedTuple):
    """A label for each frame. labels: (frames,) int32; logp: (frames,) float32, log probability of each."""

    labels: np.ndarray
    logp: np.ndarray

    def joined(self, other: LabelPath) -> LabelPath:
        """This path followed by ``other``."""
        return LabelPath(np.concatenate([self.labels, other.labels]), np.concatenate([self.logp, other.logp]))

    def after(self, frames: int) -> LabelPath:
        """The path without its first ``frames`` frames."""
        return LabelPath(self.labels[frames:], self.logp[frames:])


EMPTY_PATH = LabelPath(np.empty(0, np.int32), np.empty(0, np.float32))


class Ranked(NamedTuple):
    """A result. logit_score: log probability of its paths; lm_score: with language model and hotwords, the ranking
    score.
    """

    path: LabelPath
    logit_score: float
    lm_score: float
    state: LanguageModelState | None


class Search:
    """A search over one recording. ``feed`` it frames; ``results`` may be read at any time."""

    def __init__(
        self, model: SearchTables, settings: Settings, start: LanguageModelState | None, idle: State | None = None
    ) -> None:
        """start: language model state to start from; idle: arrays of an earlier search over the same labels and order,
        to reuse.
        """
        from wav2vec2_core.decoding.search.beam_state import new_state, restart

        self.model, self.settings = model, settings
        if idle is None or len(idle.beams) < settings.beam_width:
            idle = new_state(len(model.label_flags), settings.beam_width, max(model.order - 1, 0))
        self.state = idle
        self._needed = self._needed_frames = 0  # rows and frames left after the last compaction
        self._gaps = np.zeros(0, np.int64)  # silent frames dropped before each of the first frames
        restart(self.state, () if start is None else start.words, hotwords=len(model.hot_ends) > 1)

    def feed(self, logp: np.ndarray) -> None:
        """Search the frames of ``logp``, (frames, labels) float64.

        Raises:
            InputError: no hypothesis has a finite score.
        """
        from wav2vec2_core.decoding.search.beam_kernels import advance
        from wav2vec2_core.decoding.search.beam_state import BEAMS

        frame = 0
        while True:
            with np.errstate(invalid="ignore"):  # from a damaged language model, when not compiled
                frame = advance(self.model, self.settings, self.state, logp, frame)
            if frame == len(logp):
                break
            self._grow()
        if not self.state.counts[BEAMS]:
            raise _no_reading()

    def results(self, most: int | None = None) -> Iterator[Ranked]:
        """The ``most`` best hypotheses if the recording ended here, best first. The search can continue afterwards.

        Raises:
            InputError: no hypothesis has a finite score.
        """
        from wav2vec2_core.decoding.search.beam_kernels import finish, has_room
        from wav2vec2_core.decoding.search.beam_state import CONTEXT, FRAMES, LAST, LOGIT, PARENT, SCORE

        if not has_room(self.model, self.settings, self.state, 1):
            self._grow()
        with np.errstate(invalid="ignore"):
            count = finish(self.model, self.settings, self.state)
        if not count:
            raise _no_reading()
        state = self.state
        rows = state.order[: count if most is None else min(most, count)].tolist()
        frames = int(state.counts[FRAMES])
        for row in rows:
            history = int(state.candidates[row, LAST])
            known = None
            if self.model.order:
                words = state.contexts[history, : state.histories[history, CONTEXT]]
                known = LanguageModelState(tuple(words.tolist()))
            path = self._path(frames, int(state.candidates[row, PARENT]))
            yield Ranked(
                path, float(state.candidate_scores[row, LOGIT]), float(state.candidate_scores[row, SCORE]), known
            )

    @property
    def size(self) -> int:
        """Size of the arrays in bytes."""
        return sum(array.nbytes for array in self.state)

    def settle(self) -> LabelPath:
        """Return, and forget, the leading frames that all beams share; later frames cannot change them."""
        from wav2vec2_core.decoding.search.beam_paths import settled
        from wav2vec2_core.decoding.search.beam_state import forget

        self._compact()
        frames, beam = settled(self.state)
        if not frames:
            return EMPTY_PATH
        path = self._path(int(frames), int(beam))
        self.state = forget(self.state, int(frames))
        self._gaps = self._gaps[int(frames) :]
        return path

    def _compact(self) -> None:
        """Drop unreachable state once it may take as much memory as the reachable state."""
        from wav2vec2_core.decoding.search.beam_compaction import KEPT_FRAMES, ROWS, compact, drop_silence
        from wav2vec2_core.decoding.search.beam_state import FRAMES, HISTORIES, NODES

        counts = self.state.counts
        if counts[[NODES, HISTORIES]].max() > max(ROWS, 2 * self._needed):
            tail = max(1, self.model.order - 1) if self.settings.prune_history else 0
            compact(self.state, self.model.width, tail)
            self._needed = int(counts[[NODES, HISTORIES]].max())
        if counts[FRAMES] > max(KEPT_FRAMES, 2 * self._needed_frames):
            gaps = np.concatenate([self._gaps, np.zeros(int(counts[FRAMES]) - len(self._gaps), np.int64)])
            self._gaps = drop_silence(self.state, gaps, self._blank)
            self._needed_frames = int(counts[FRAMES])

    @property
    def _blank(self) -> int:
        from wav2vec2_core.decoding.search.beam_state import BLANK

        return int(np.flatnonzero(self.model.label_flags & BLANK)[0])

    def _path(self, frames: int, beam: int) -> LabelPath:
        """The path to a beam after ``frames`` of the kept frames, with the dropped blanks put back."""
        from wav2vec2_core.decoding.search.beam_paths import trace_back

        path = LabelPath(np.empty(frames, np.int32), np.empty(frames, np.float32))
        trace_back(self.state, frames, beam, *path)
        gaps = self._gaps[:frames]
        dropped = int(gaps.sum())
        if not dropped:
            return path
        places = np.arange(frames)
        places[: len(gaps)] += np.cumsum(gaps)
        places[len(gaps) :] += dropped
        whole = LabelPath(np.full(frames + dropped, self._blank, np.int32), np.zeros(frames + dropped, np.float32))
        whole.labels[places], whole.logp[places] = path
        return whole

    def _grow(self) -> None:
        from wav2vec2_core.decoding.search.beam_state import grown, needed

        rows = needed(self.state, self.model.longest, self.model.order, self.settings.beam_width)
        self.state = grown(self.state, rows)


def _no_reading() -> InputError:
    return InputError(
        "no reading has a score that is a number: the language model's file is damaged, build it again; or alpha, "
        "beta, unk_score_offset or hotword_weight is too large"
    )
