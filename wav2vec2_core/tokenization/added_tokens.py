"""Added tokens, which are never split: their flags, their ids, and splitting text at them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from wav2vec2_core.errors import InputError, brief


@dataclass(frozen=True)
class AddedToken:
    """A token and its behaviour in text; the fields are those of Hugging Face files.

    single_word: match only as a whole word; lstrip, rstrip: absorb white space on the left, right; normalized: match
    after lower-casing (the default unless ``special``); special: dropped by ``skip_special_tokens``.
    """

    content: str
    single_word: bool = False
    lstrip: bool = False
    rstrip: bool = False
    normalized: bool | None = None
    special: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.content, str):
            raise InputError(f"token {brief(self.content)} is a {type(self.content).__name__}, a token must be text")
        if self.normalized is None:
            object.__setattr__(self, "normalized", not self.special)

    def __str__(self) -> str:
        return self.content

    @classmethod
    def of(cls, value: Any, **changes: Any) -> AddedToken:
        """Convert an ``AddedToken`` of this or another library, or its fields in a file.

        Raises:
            InputError: ``value`` does not describe a token.
        """
        names = [field.name for field in dataclasses.fields(cls)]
        if isinstance(value, Mapping) and "content" in value:
            fields = {name: value[name] for name in names if name in value}
        elif hasattr(value, "content") and hasattr(value, "lstrip"):
            fields = {name: getattr(value, name) for name in names if hasattr(value, name)}
        else:
            raise InputError(f"token {brief(value)} is a {type(value).__name__}, a token must be text or an AddedToken")
        return cls(**{**fields, **changes})

    def to_dict(self) -> dict[str, Any]:
        """The fields as written to files."""
        return dataclasses.asdict(self)


class AddedTokens:
    """Added tokens by id, and the splitting of text at them."""

    def __init__(self, by_id: Mapping[int, AddedToken]) -> None:
        self.by_id = dict(by_id)
        self.ids = {token.content: index for index, token in by_id.items()}
        self._owned: dict[str, set[int]] = {}
        for index, token in by_id.items():
            self._owned.setdefault(token.content, set()).add(index)
        self._borders: set[str] | None = None  # until the first update
        self._lengths: list[int] = []

    def id_of(self, content: str) -> int | None:
        """The highest id that a token has now."""
        return max(self._owned.get(content, ()), default=None)

    def update(self, tokens: Iterable[tuple[int, AddedToken]] = ()) -> None:
        """Add tokens and rebuild the splitting of text.

        If a new token takes over an id, text is still split at the former owner, unless that lost its id before or in
        the first ``update`` that sees it. transformers behaves the same way.
        """
        changed: set[int] = set()
        for index, token in tokens:
            changed.add(index)
            if index in self.by_id:
                self._owned[self.by_id[index].content].discard(index)
            self.by_id[index] = token
            self.ids[token.content] = index
            self._owned.setdefault(token.content, set()).add(index)
        if self._borders is None:
            self._borders, changed = set(), {*self.by_id}
        new = {self.by_id[index].content for index in changed} - self._borders
        self._borders |= new
        if not {len(content) for content in new} <= {*self._lengths}:
            self._lengths = sorted({*self._lengths, *map(len, new)}, reverse=True)

    def pieces(self, text: str) -> list[str]:
        """Split ``text`` at the added tokens; their flags control the surrounding white space."""
        pieces = self._cut(text)
        for i in range(len(pieces)):
            token = self._token(pieces[i])
            if token is None:
                continue
            left = pieces[i - 1] if i > 0 else ""
            right = pieces[i + 1] if i + 1 < len(pieces) else ""
            if token.rstrip and right:
                pieces[i + 1] = right.lstrip()
            if token.lstrip and left:
                pieces[i - 1] = left.rstrip()
            # A single-word token that touches text is not a match and joins its neighbour. Neighbours are checked
            # before stripping.
            if token.single_word and left and not left.endswith(" "):
                pieces[i - 1] += pieces[i]
                pieces[i] = ""
            elif token.single_word and right and not right.startswith(" "):
                pieces[i + 1] = pieces[i] + pieces[i + 1]
                pieces[i] = ""
        return [piece for piece in pieces if piece]

    def _token(self, piece: str) -> AddedToken | None:
        return self.by_id[self.ids[piece]] if piece in self.ids else None

    def _cut(self, text: str) -> list[str]:
        """Tokens and the text between them; the longest token at a position wins."""
        pieces: list[str] = []
        start = position = 0
        while position < len(text):
            token = self._longest_at(text, position)
            if token is None:
                position += 1
                continue
            pieces += [text[start:position], token]
            start = position = position + len(token)
        pieces.append(text[start:])
        return [piece for piece in pieces if piece]

    def _longest_at(self, text: str, position: int) -> str | None:
        for length in self._lengths:
            candidate = text[position : position + length]
            if self._borders and candidate in self._borders:
                return candidate
        return None
