"""Resources that the searches of one decoder share: labels, language model, tries, and reusable arrays."""

from __future__ import annotations

import threading
import uuid
import weakref
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from wav2vec2_core.decoding.alphabet import Alphabet
from wav2vec2_core.decoding.search.beam_search import LanguageModelState, Search
from wav2vec2_core.decoding.search.search_options import SearchOptions
from wav2vec2_core.decoding.search.spoken import PathSpeller
from wav2vec2_core.errors import InputError

if TYPE_CHECKING:
    from wav2vec2_core.decoding.search.beam_state import SearchTables, Settings, State
    from wav2vec2_core.language_model.ngram import NgramModel

#: Arrays of a finished search are reused if they are not larger than this, bytes.
KEPT_BYTES = 1 << 26
#: Cached hotword tries, and unpickled resources that a worker process keeps between tasks.
KEPT_LISTS, KEPT_RESOURCES = 8, 2


class Resources:
    """Starts searches. Thread-safe; a pickle of it is unpickled once per process."""

    def __init__(
        self, alphabet: Alphabet, model: NgramModel | None, unigrams: Sequence[str] | None, key: str | None = None
    ) -> None:
        self.alphabet, self.model = alphabet, model
        self.unigrams = None if unigrams is None else list(dict.fromkeys(unigrams))
        self.speller = PathSpeller(alphabet)
        self._key = key or uuid.uuid4().hex
        self._lock = threading.Lock()
        self._models: OrderedDict[tuple[str, ...], SearchTables] = OrderedDict()
        self._idle: list[State] = []
        _LIVING[self._key] = self

    def __reduce__(self) -> tuple[Any, ...]:
        return _revived, (self._key, self.alphabet, self.model, self.unigrams)

    def begin(self, options: SearchOptions, start: LanguageModelState | None) -> Search:
        """Start a search. Raises ``InputError`` if ``start`` is not a state of the language model."""
        state = self._checked_start(options, start)
        model = self._model(options.hotwords)
        try:
            idle = self._idle.pop()
        except IndexError:
            idle = None
        return Search(model, _settings(options), state, idle)

    def end(self, search: Search) -> None:
        """Take back the arrays of a finished search for reuse."""
        if search.size <= KEPT_BYTES:
            self._idle.append(search.state)

    def _checked_start(self, options: SearchOptions, start: LanguageModelState | None) -> LanguageModelState:
        if self.model is None:
            if start is not None:
                raise InputError("lm_start_state is given and there is no language model: leave it out")
            return LanguageModelState(())
        if start is None:
            begins = options.lm_score_boundary and self.model.order > 1
            return LanguageModelState((self.model.begin,) if begins else ())
        if not isinstance(start, LanguageModelState) or len(start.words) >= self.model.order:
            raise InputError(f"lm_start_state={start!r} is no state of this language model: use a last_lm_state of it")
        return start

    def _model(self, hotwords: tuple[str, ...]) -> SearchTables:
        with self._lock:
            if () not in self._models:
                self._models[()] = self._spelled()
            if hotwords not in self._models:
                self._models[hotwords] = self._with_hotwords(hotwords)
                if len(self._models) > KEPT_LISTS + 1:
                    self._models.popitem(last=False)
            self._models.move_to_end(hotwords)
            self._models.move_to_end(())
            return self._models[hotwords]

    def _spelled(self) -> SearchTables:
        from wav2vec2_core.decoding.search.beam_state import SearchTables
        from wav2vec2_core.decoding.search.lexicon import Hotwords, Lexicon, Spelling

        spelling = Spelling.of(self.alphabet)
        lexicon = Lexicon.of(spelling, self.model, self.unigrams)
        return SearchTables(
            **spelling.named(), **lexicon.named(), **Hotwords.of(spelling, ()).named(), **_tables(self.model)
        )

    def _with_hotwords(self, hotwords: tuple[str, ...]) -> SearchTables:
        from wav2vec2_core.decoding.search.lexicon import Hotwords, Spelling

        return self._models[()]._replace(**Hotwords.of(Spelling.of(self.alphabet), hotwords).named())


#: Resources of this process by key; tasks in a forked worker find those of its parent here.
_LIVING: weakref.WeakValueDictionary[str, Resources] = weakref.WeakValueDictionary()
_KEPT: OrderedDict[str, Resources] = OrderedDict()


def _revived(key: str, alphabet: Alphabet, model: NgramModel | None, unigrams: Sequence[str] | None) -> Resources:
    found = _LIVING.get(key) or Resources(alphabet, model, unigrams, key)
    _KEPT[key] = found
    _KEPT.move_to_end(key)
    if len(_KEPT) > KEPT_RESOURCES:
        _KEPT.popitem(last=False)
    return found


def _settings(options: SearchOptions) -> Settings:
    from wav2vec2_core.decoding.search.beam_state import Settings

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
    """The language model's fields of ``SearchTables``; without a model they have the same types, so one compiled
    program serves both.
    """
    if model is None:
        data, order, end = np.zeros(1, np.uint32), 0, 0
        offsets = buckets = np.zeros(1, np.int64)
    else:
        data, order, end = model.data, int(model.order), int(model.end)
        offsets, buckets = model.offsets, model.buckets
    data = data.view()
    data.flags.writeable = False
    return {"ngram_data": data, "ngram_offsets": offsets, "ngram_buckets": buckets, "order": order, "end": end}
