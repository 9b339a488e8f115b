"""The fields of a request, checked one by one."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

from wav2vec2_core.errors import brief, listed
from wav2vec2_core.serving.engine import Engine
from wav2vec2_core.serving.refusals import Refusal

_MOST_HOTWORDS = 1000


class Fields:
    """Named values as text. A list is ``name`` or ``name[]``, as often as it has items."""

    def __init__(self, values: Mapping[str, Sequence[str]], known: Collection[str]) -> None:
        """Raises ``Refusal`` for a name that is not ``known``."""
        self._values: dict[str, list[str]] = {}
        for name, given in values.items():
            plain = name.removesuffix("[]")
            if plain not in known:
                raise Refusal(
                    422,
                    f"field {brief(name)} is unknown: use {listed(sorted(known))}",
                    code="unknown_field",
                    param=name[:100],
                )
            self._values.setdefault(plain, []).extend(given)

    def several(self, name: str) -> list[str]:
        """All values of a field."""
        return self._values.get(name, [])

    def text(self, name: str, default: str | None = None) -> str | None:
        """The value of a field that may be left out; an empty one counts as left out. Raises ``Refusal``."""
        given = self.several(name)
        if len(given) > 1:
            raise self.wrong(name, f"is given {len(given)} times: give it once")
        return given[0] if given and given[0] else default

    def choice(self, name: str, options: Collection[str], default: str) -> str:
        """One of ``options``. Raises ``Refusal``."""
        value = self.text(name, default) or default
        if value not in options:
            raise self.wrong(name, f"is {brief(value)}: use one of {', '.join(options)}")
        return value

    def flag(self, name: str) -> bool:
        """``true`` or ``false``. Raises ``Refusal``."""
        value = (self.text(name) or "false").lower()
        if value not in ("true", "false", "1", "0"):
            raise self.wrong(name, f"is {brief(value)}: use true or false")
        return value in ("true", "1")

    def number(self, name: str, low: float, high: float, default: float) -> float:
        """A number from ``low`` to ``high``. Raises ``Refusal``."""
        value = self.text(name)
        if value is None:
            return default
        try:
            number = float(value)
        except ValueError:
            number = float("nan")
        if not low <= number <= high:
            raise self.wrong(name, f"is {brief(value)}: use a number from {low:g} to {high:g}")
        return number

    def wrong(self, name: str, what: str) -> Refusal:
        """The refusal of a field's value."""
        return Refusal(422, f"field {name} {what}", code="invalid_value", param=name)

    # ---- fields that several requests have ----------------------------------------------------------------------

    def check_model(self, engine: Engine) -> None:
        """Refuse another model than the one that is served; none is the same as this one. Raises ``Refusal``."""
        check_model(self.text("model"), engine)

    @property
    def hotwords(self) -> tuple[str, ...]:
        """The words of ``prompt`` and ``keywords``, without the punctuation around them. Raises ``Refusal``."""
        return words_of([self.text("prompt") or "", *self.several("keywords")])


def check_model(name: str | None, engine: Engine) -> None:
    """Refuse the name of another model than the one that is served; no name stands for it. Raises ``Refusal``."""
    if name is not None and name != engine.name:
        raise Refusal(
            404,
            f"model {brief(name)} is not served here: use {engine.name[:100]!r}",
            code="model_not_found",
            param="model",
        )


def words_of(texts: Sequence[str]) -> tuple[str, ...]:
    """The words of texts, each once, without the punctuation around them. Raises ``Refusal`` for too many."""
    words = (re.sub(r"^\W+|\W+$", "", word) for text in texts for word in text.split())
    found = tuple(dict.fromkeys(word for word in words if word))
    if len(found) > _MOST_HOTWORDS:
        raise Refusal(
            422,
            f"the prompt has {len(found)} different words, {_MOST_HOTWORDS} are possible: keep those that matter",
            code="invalid_value",
            param="prompt",
        )
    return found
