"""Options of a beam search, validated once."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from wav2vec2_core.errors import InputError

#: Largest beam width accepted. More is a mistake: memory grows with it and no frame has as many hypotheses.
MAX_BEAMS = 100_000


@dataclass(frozen=True)
class SearchOptions:
    """Options of a beam search; the defaults are pyctcdecode's. Scores are natural logarithms.

    beam_width: beams kept per frame.
    beam_prune_logp: beams whose score is this much below the best are dropped.
    token_min_logp: labels less probable than this do not extend beams, except the most probable label of a frame.
    prune_history: keep only the best of the beams with the same last words; faster, but loses alternatives.
    hotwords: words to prefer; a phrase counts as its words.
    hotword_weight: added to the score for each hotword.
    alpha: weight of the language model.
    beta: added for each word.
    unk_score_offset: log10, added for unknown words.
    lm_score_boundary: score sentence start and end at the ends of the recording.

    Raises:
        InputError: a value is out of its range.
    """

    beam_width: int = 100
    beam_prune_logp: float = -10.0
    token_min_logp: float = -5.0
    prune_history: bool = False
    hotwords: tuple[str, ...] = ()
    hotword_weight: float = 10.0
    alpha: float = 0.5
    beta: float = 1.5
    unk_score_offset: float = -10.0
    lm_score_boundary: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "hotwords", _checked_hotwords(self.hotwords))
        width = self.beam_width
        if isinstance(width, bool) or not isinstance(width, (int, np.integer)) or not 1 <= width <= MAX_BEAMS:
            raise InputError(f"beam_width={width!r:.100} must be an integer from 1 to {MAX_BEAMS}: 100 is usual")
        object.__setattr__(self, "beam_width", int(width))
        for name in ("beam_prune_logp", "token_min_logp"):
            if not self._number(name) <= 0:
                raise InputError(f"{name}={getattr(self, name)!r:.100} is a log probability: it must be 0 or less")
        for name in ("hotword_weight", "alpha", "beta", "unk_score_offset"):
            if not math.isfinite(self._number(name)):
                raise InputError(f"{name}={getattr(self, name)!r:.100} must be finite")
        for name in ("prune_history", "lm_score_boundary"):
            if not isinstance(getattr(self, name), (bool, np.bool_)):
                raise InputError(f"{name}={getattr(self, name)!r:.100} must be True or False")

    def _number(self, name: str) -> float:
        value = getattr(self, name)
        if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.integer, np.floating)):
            raise InputError(f"{name}={value!r:.100} must be a number")
        object.__setattr__(self, name, float(value))
        return float(value)

    def changed(self, **given: Any) -> SearchOptions:
        """A copy with the given options replaced; ``None`` means unchanged. Raises ``InputError``."""
        names = [field.name for field in fields(self)]
        for name in given:
            if name not in names:
                raise InputError(f"option {name!r:.100} is unknown: use {', '.join(names)}")
        new = {name: value for name, value in given.items() if value is not None}
        return replace(self, **new) if new else self


def _checked_hotwords(hotwords: Iterable[str]) -> tuple[str, ...]:
    if isinstance(hotwords, str):
        raise InputError(f"hotwords is the string {hotwords!r:.100}: give a list of words")
    try:
        words = tuple(hotwords)
    except TypeError as error:
        raise InputError(f"hotwords={hotwords!r:.100} must be a list of words") from error
    for word in words:
        if not isinstance(word, str):
            raise InputError(f"hotword {word!r:.100} is a {type(word).__name__}: hotwords are strings")
    return words
