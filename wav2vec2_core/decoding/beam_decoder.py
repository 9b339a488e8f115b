"""BeamSearchDecoder: logits to text with beam search, a language model and hotwords."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from wav2vec2_core.decoding.alphabet import Alphabet
from wav2vec2_core.decoding.beam_search import EMPTY_PATH, LanguageModelState, Search
from wav2vec2_core.decoding.log_probabilities import checked_logits, log_probabilities
from wav2vec2_core.decoding.search_options import SearchOptions
from wav2vec2_core.decoding.spoken import Hypothesis, Speller
from wav2vec2_core.decoding.timeline import Word
from wav2vec2_core.errors import InputError

if TYPE_CHECKING:
    from wav2vec2_core.decoding.beam_state import Model, Settings, State
    from wav2vec2_core.decoding.ngram import NgramModel

#: Numbers whose log probabilities are computed at a time.
BLOCK = 1 << 21
#: Arrays of a search that are larger are not kept for the next one, bytes.
KEPT = 1 << 26
#: Lists of hotwords whose tries are kept.
HOTWORD_LISTS = 8


class BeamSearchDecoder:
    """Decodes with beam search; ``decode`` and ``stream`` as every ``Decoder``, ``decode_beams`` for several readings.

    May be used by several threads at once; the search itself releases the GIL. Can be pickled: the language model goes
    by its path.

    Args:
        alphabet: labels in the order of the logits.
        model: language model; ``None`` decodes without.
        unigrams: words that count as known; by default all that the model knows.
        options: of all searches, unless a call says otherwise.
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
        self.alphabet, self.model = alphabet, model
        self.unigrams = None if unigrams is None else list(dict.fromkeys(unigrams))
        self.options = options or SearchOptions()
        self._speller = Speller(alphabet)
        self._prepare()

    def _prepare(self) -> None:
        self._lock = threading.Lock()
        self._models: dict[tuple[str, ...], Model] = {}
        self._idle: list[State] = []

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("_lock", "_models", "_idle")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._prepare()

    # ---- decoding -----------------------------------------------------------------------------------------------

    def decode(self, logits: np.ndarray) -> tuple[str, list[Word]]:
        """The best reading of one recording: text, and words with frames.

        Args:
            logits: (frames, vocab) before the softmax, or probabilities; rows that sum to 1 are taken as such.

        Raises:
            InputError: ``logits`` is of another shape, or not finite.
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
        """The best readings of one recording, best first.

        Args:
            logits: (frames, vocab) before the softmax, or probabilities; rows that sum to 1 are taken as such.
            n_best: how many; ``None`` all that are left. There may be fewer.
            lm_start_state: ``last_lm_state`` of the recording before, if this one goes on.
            options: those of ``SearchOptions`` that are to differ.

        Raises:
            InputError: ``logits`` is of another shape or not finite, or an option is unknown or out of range.
        """
        if n_best is not None and (isinstance(n_best, bool) or not isinstance(n_best, int) or n_best < 1):
            raise InputError(f"n_best={n_best!r} must be an integer of at least 1, or None for all")
        chosen = self.options.changed(**options)
        array = checked_logits(logits, len(self.alphabet.labels))
        search = self._search(chosen, lm_start_state)
        for _, logp in _blocks(array, 0):
            search.feed(logp)
        found = []
        for ranked in search.results(n_best):
            text = self._speller.text(ranked.path)
            found.append(
                Hypothesis(text, ranked.logit_score, ranked.lm_score, ranked.state, ranked.path, self._speller)
            )
        self._release(search)
        return found

    def stream(self, lm_start_state: LanguageModelState | None = None) -> BeamStream:
        """Start a recording whose logits come in pieces; its words are those of ``decode``."""
        search = self._search(self.options.changed(prune_history=True), lm_start_state)
        return BeamStream(search, self._speller, len(self.alphabet.labels))

    def reset_params(
        self,
        alpha: float | None = None,
        beta: float | None = None,
        unk_score_offset: float | None = None,
        lm_score_boundary: bool | None = None,
    ) -> None:
        """Change options of all later searches. Raises ``InputError``."""
        self.options = self.options.changed(
            alpha=alpha, beta=beta, unk_score_offset=unk_score_offset, lm_score_boundary=lm_score_boundary
        )

    # ---- searches -----------------------------------------------------------------------------------------------

    def _search(self, options: SearchOptions, start: LanguageModelState | None) -> Search:
        model = self._model(options.hotwords)
        try:
            idle = self._idle.pop()
        except IndexError:
            idle = None
        return Search(model, _settings(options), self._start(options, start), idle)

    def _release(self, search: Search) -> None:
        if search.size <= KEPT:
            self._idle.append(search.state)

    def _start(self, options: SearchOptions, start: LanguageModelState | None) -> LanguageModelState | None:
        if self.model is None:
            if start is not None:
                raise InputError("lm_start_state is given and there is no language model: leave it out")
            return None
        if start is None:
            begins = options.lm_score_boundary and self.model.order > 1
            return LanguageModelState((self.model.begin,) if begins else ())
        if not isinstance(start, LanguageModelState) or len(start.words) >= self.model.order:
            raise InputError(f"lm_start_state={start!r} is no state of this language model: use a last_lm_state of it")
        return start

    def _model(self, hotwords: tuple[str, ...]) -> Model:
        with self._lock:
            if hotwords not in self._models:
                if len(self._models) > HOTWORD_LISTS:
                    self._models = {(): self._models[()]}
                self._models[hotwords] = self._spelled(hotwords)
            return self._models[hotwords]

    def _spelled(self, hotwords: tuple[str, ...]) -> Model:
        from wav2vec2_core.decoding.beam_state import Model
        from wav2vec2_core.decoding.lexicon import Hotwords, Lexicon, Spelling

        spelling = Spelling.of(self.alphabet)
        tries = Hotwords.of(spelling, hotwords)
        if () in self._models:
            return self._models[()]._replace(**tries.named())
        lexicon = Lexicon.of(spelling, self.model, self.unigrams)
        return Model(**spelling.named(), **lexicon.named(), **tries.named(), **_tables(self.model))


class BeamStream:
    """A recording decoded as its logits come: a ``DecodingStream``. Words are final once every beam has them."""

    def __init__(self, search: Search, speller: Speller, labels: int) -> None:
        self._search, self._speller, self._labels = search, speller, labels
        self._settled, self._start, self._frames = EMPTY_PATH, 0, 0
        self.last_lm_state: LanguageModelState | None = None
        self._finished = False

    def feed(self, logits: np.ndarray) -> list[Word]:
        """Search the frames that follow, (frames, vocab); returns the words that are now final.

        Raises:
            InputError: as ``BeamSearchDecoder.decode``; nothing was searched then. Or the stream is finished.
        """
        self._check_open()
        for frame, logp in list(_blocks(checked_logits(logits, self._labels), self._frames)):
            self._search.feed(logp)
            self._frames = frame
        self._settled += self._search.settle()
        words, closed = self._speller.words(self._settled, self._start)
        start = words[closed].start if closed < len(words) else self._start + len(self._settled.labels)
        self._settled, self._start = self._settled.after(start - self._start), start
        return words[:closed]

    def partial(self) -> list[Word]:
        """The words after the final ones if the recording ended here."""
        self._check_open()
        return self._rest()

    def finish(self) -> list[Word]:
        """The words that were not final yet; ``last_lm_state`` is then that after the last word."""
        self._check_open()
        self._finished = True
        return self._rest()

    def _rest(self) -> list[Word]:
        best = next(iter(self._search.results(1)))
        self.last_lm_state = best.state
        return self._speller.words(self._settled + best.path, self._start)[0]

    def _check_open(self) -> None:
        if self._finished:
            raise InputError("the stream is finished: start another one for the next recording")


def _blocks(logits: np.ndarray, first_frame: int) -> Iterator[tuple[int, np.ndarray]]:
    """Log probabilities of checked logits, a few frames at a time, with the number of the frame after them."""
    rows = max(1, BLOCK // logits.shape[1])
    for start in range(0, len(logits), rows):
        block = logits[start : start + rows]
        yield first_frame + start + len(block), log_probabilities(block, first_frame + start)


def _settings(options: SearchOptions) -> Settings:
    from wav2vec2_core.decoding.beam_state import Settings

    return Settings(
        alpha=options.alpha,
        beta=options.beta,
        unknown=options.unk_score_offset,
        boundary=bool(options.lm_score_boundary),
        hotword_weight=options.hotword_weight,
        beam_width=options.beam_width,
        beam_prune=options.beam_prune_logp,
        token_min=options.token_min_logp,
        prune_history=bool(options.prune_history),
    )


def _tables(model: NgramModel | None) -> dict[str, Any]:
    """The language model's fields of a ``beam_state.Model``; of the same types without one, so one program serves both."""
    if model is None:
        empty, order, end = np.zeros(1, np.uint32), 0, 0
        offsets = buckets = np.zeros(1, np.int64)
    else:
        empty, order, end = np.asarray(model.data), int(model.order), int(model.end)
        offsets, buckets = model.offsets, model.buckets
    data = empty.view(np.ndarray)
    data.flags.writeable = False
    return {"ngram_data": data, "ngram_offsets": offsets, "ngram_buckets": buckets, "order": order, "end": end}
