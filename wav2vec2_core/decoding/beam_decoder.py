"""BeamSearchDecoder: decodes logits with beam search, a language model and hotwords."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from wav2vec2_core.decoding.alphabet import Alphabet
from wav2vec2_core.decoding.decoder_folder import read_decoder, write_decoder
from wav2vec2_core.decoding.search.beam_search import EMPTY_PATH, LanguageModelState, Search
from wav2vec2_core.decoding.search.log_probabilities import checked_logits, log_probabilities
from wav2vec2_core.decoding.search.resources import Resources
from wav2vec2_core.decoding.search.search_options import SearchOptions
from wav2vec2_core.decoding.search.spoken import Hypothesis, PathSpeller
from wav2vec2_core.decoding.timeline import Word
from wav2vec2_core.errors import InputError
from wav2vec2_core.source import ModelSource, open_model

if TYPE_CHECKING:
    from wav2vec2_core.language_model.ngram import NgramModel

#: How many logits are turned into log probabilities at a time.
BLOCK = 1 << 21


class BeamSearchDecoder:
    """Beam search: ``decode`` and ``stream`` as in every ``Decoder``; ``decode_beams`` returns several hypotheses.

    Several threads may share one decoder; the search releases the GIL. Decoders can be pickled; the language model is
    pickled as its path.

    Args:
        alphabet: labels in the order of the logits.
        model: language model; ``None`` decodes without one.
        unigrams: words that count as known. Without them every word of the model is known, but each partial word counts
            as unknown until it is complete, which is less accurate. ``model.unigrams`` lists the words of a model.
        options: defaults for all searches; a call may override them.
    """

    def __init__(
        self,
        alphabet: Alphabet,
        model: NgramModel | None = None,
        unigrams: Sequence[str] | None = None,
        options: SearchOptions | None = None,
    ) -> None:
        if unigrams is not None and model is None:
            raise InputError("unigrams are given without a language model: give its file as well")
        #: Defaults for all searches; a call may override them.
        self.options = options or SearchOptions()
        self._resources = Resources(alphabet, model, unigrams)

    def changed(self, **options: Any) -> BeamSearchDecoder:
        """A decoder with other options (see ``SearchOptions``; ``None`` means unchanged) that shares everything else.

        Raises:
            InputError: an option is unknown or out of range.
        """
        other = copy.copy(self)
        other.options = self.options.changed(**options)
        return other

    @property
    def alphabet(self) -> Alphabet:
        """Labels in the order of the logits."""
        return self._resources.alphabet

    @property
    def model(self) -> NgramModel | None:
        """The language model, if there is one."""
        return self._resources.model

    @property
    def unigrams(self) -> list[str] | None:
        """The words that count as known, if they were given."""
        return self._resources.unigrams

    def decode(self, logits: np.ndarray) -> tuple[str, list[Word]]:
        """Decode one recording: the best hypothesis as text and as words with frames.

        Args:
            logits: (frames, vocab) before the softmax. Rows that sum to 1 are taken as probabilities.

        Raises:
            InputError: ``logits`` has the wrong shape or is not finite.
        """
        best = self.decode_beams(logits, prune_history=True)[0]
        return best.text, best.words

    def decode_beams(
        self,
        logits: np.ndarray,
        n_best: int | None = 1,
        *,
        lm_start_state: LanguageModelState | None = None,
        **options: Any,
    ) -> list[Hypothesis]:
        """The best hypotheses for one recording, best first.

        Args:
            logits: (frames, vocab) before the softmax. Rows that sum to 1 are taken as probabilities.
            n_best: how many to return at most; ``None`` returns all surviving ones.
            lm_start_state: ``last_lm_state`` of the previous recording, if this one continues it.
            options: ``SearchOptions`` to override.

        Raises:
            InputError: ``logits`` has the wrong shape or is not finite, or an option is unknown or out of range.
        """
        if n_best is not None and (isinstance(n_best, bool) or not isinstance(n_best, (int, np.integer)) or n_best < 1):
            raise InputError(f"n_best={n_best!r:.100} must be an integer of at least 1, or None for all")
        array = checked_logits(logits, len(self.alphabet.labels))
        search = self._resources.begin(self.options.changed(**options), lm_start_state)
        for _, logp in _blocks(array, 0):
            search.feed(logp)
        speller = self._resources.speller
        found = [
            Hypothesis(ranked.logit_score, ranked.lm_score, ranked.state, ranked.path, speller)
            for ranked in search.results(n_best)
        ]
        self._resources.end(search)
        return found

    def stream(self, lm_start_state: LanguageModelState | None = None) -> BeamStream:
        """Start decoding a recording whose logits arrive in pieces. Its words are the same as those of ``decode``."""
        search = self._resources.begin(self.options.changed(prune_history=True), lm_start_state)
        return BeamStream(search, self._resources.speller, len(self.alphabet.labels))

    def reset_params(
        self,
        alpha: float | None = None,
        beta: float | None = None,
        unk_score_offset: float | None = None,
        lm_score_boundary: bool | None = None,
    ) -> None:
        """Change the options of all later searches. Raises ``InputError``."""
        self.options = self.options.changed(
            alpha=alpha, beta=beta, unk_score_offset=unk_score_offset, lm_score_boundary=lm_score_boundary
        )

    @classmethod
    def load_from_dir(cls, folder: str | os.PathLike[str]) -> BeamSearchDecoder:
        """Read ``alphabet.json`` and ``language_model`` from a folder in pyctcdecode's format.

        Raises:
            CheckpointError: a file is missing or damaged; the message names it.
        """
        return cls.from_source(open_model(Path(folder)))

    @classmethod
    def from_source(cls, source: ModelSource, **weights: Any) -> BeamSearchDecoder:
        """Read the decoder from an opened model; ``weights`` that are not ``None`` replace the stored ones.

        Raises:
            CheckpointError: a file is missing or damaged.
            InputError: a weight is out of its range.
        """
        return cls(*read_decoder(source, **weights))

    def save_to_dir(self, folder: str | os.PathLike[str]) -> None:
        """Write ``alphabet.json`` and, with a language model, ``language_model`` into a folder, created where missing.

        Raises:
            InputError: there is no language model here and one in the folder. OutputError: it cannot be written.
        """
        write_decoder(folder, self.alphabet, self.model, self.unigrams, self.options)


def build_ctcdecoder(
    labels: Iterable[str],
    kenlm_model_path: str | os.PathLike[str] | None = None,
    unigrams: Iterable[str] | None = None,
    alpha: float = SearchOptions.alpha,
    beta: float = SearchOptions.beta,
    unk_score_offset: float = SearchOptions.unk_score_offset,
    lm_score_boundary: bool = SearchOptions.lm_score_boundary,
) -> BeamSearchDecoder:
    """Build a decoder from a model's labels and a language model file, like pyctcdecode's function of this name.

    Args:
        labels: in the order of the logits, as ``Alphabet.build`` takes them.
        kenlm_model_path: an ARPA file, plain or gzipped, or a KenLM binary; ``None`` decodes without a language model.
        unigrams: words that count as known; by default those of an ARPA file, and none for a binary: see
            ``BeamSearchDecoder``.
        alpha, beta, unk_score_offset, lm_score_boundary: see ``SearchOptions``.

    Raises:
        InputError: labels are not a list of distinct strings, or an option is out of range.
        CheckpointError: the file cannot be read.
    """
    options = SearchOptions(
        alpha=alpha, beta=beta, unk_score_offset=unk_score_offset, lm_score_boundary=lm_score_boundary
    )
    alphabet = Alphabet.build(labels)
    if kenlm_model_path is None:
        return BeamSearchDecoder(alphabet, None, None if unigrams is None else list(unigrams), options)
    from wav2vec2_core.language_model.ngram import BEGIN, END, UNKNOWN, NgramModel

    model = NgramModel.open(kenlm_model_path)
    words = None if unigrams is None else list(unigrams)
    if words is None and ".arpa" in (model.path.suffix, Path(model.path.stem).suffix):
        words = [word for word in model.unigrams or () if word not in (BEGIN, END, UNKNOWN)]
    return BeamSearchDecoder(alphabet, model, words, options)


class BeamStream:
    """A ``DecodingStream`` that runs beam search. A word is final once all beams share it."""

    def __init__(self, search: Search, speller: PathSpeller, labels: int) -> None:
        self._search, self._speller, self._labels = search, speller, labels
        self._settled, self._start, self._frames = EMPTY_PATH, 0, 0
        self.last_lm_state: LanguageModelState | None = None
        self._finished = False

    def feed(self, logits: np.ndarray) -> list[Word]:
        """Search the next frames, (frames, vocab); returns the words that have become final.

        Raises:
            InputError: as in ``BeamSearchDecoder.decode``, in which case no frame was searched; or the stream is
                finished.
        """
        self._check_open()
        for frame, logp in list(_blocks(checked_logits(logits, self._labels), self._frames)):
            self._search.feed(logp)
            self._frames = frame
        self._settled = self._settled.joined(self._search.settle())
        words, closed = self._speller.words(self._settled, self._start)
        start = words[closed].start if closed < len(words) else self._start + len(self._settled.labels)
        self._settled, self._start = self._settled.after(start - self._start), start
        return words[:closed]

    def partial(self) -> list[Word]:
        """The best words after the final ones, as if the recording ended here."""
        self._check_open()
        return self._rest()

    def finish(self) -> list[Word]:
        """The words that were not final yet. Afterwards ``last_lm_state`` is the state after the last word."""
        self._check_open()
        self._finished = True
        return self._rest()

    def _rest(self) -> list[Word]:
        best = next(iter(self._search.results(1)))
        self.last_lm_state = best.state
        return self._speller.words(self._settled.joined(best.path), self._start)[0]

    def _check_open(self) -> None:
        if self._finished:
            raise InputError("the stream is finished: start another one for the next recording")


def _blocks(logits: np.ndarray, first_frame: int) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (number of the next frame, log probabilities) for blocks of frames of checked logits."""
    rows = max(1, BLOCK // logits.shape[1])
    for start in range(0, len(logits), rows):
        block = logits[start : start + rows]
        yield first_frame + start + len(block), log_probabilities(block, first_frame + start)
