"""Tries of the words that a beam search knows in advance: those of the language model, and hotwords."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from wav2vec2_core.decoding.alphabet import BLANK as BLANK_LABEL
from wav2vec2_core.decoding.alphabet import Alphabet
from wav2vec2_core.decoding.search.beam_state import BLANK, ENDS, KNOWN, PREFIX, STARTS
from wav2vec2_core.decoding.search.tries import Trie, spread_to_prefixes
from wav2vec2_core.errors import InputError
from wav2vec2_core.language_model.ngram import NgramModel


class Spelling(NamedTuple):
    """Flags and characters of labels; see ``SearchTables``. alphabet: (characters,) uint32, sorted code points."""

    flags: np.ndarray
    first: np.ndarray
    characters: np.ndarray
    longest: int
    alphabet: np.ndarray

    @property
    def width(self) -> int:
        """1 + the number of characters; the last number is the end-of-word mark."""
        return len(self.alphabet) + 1

    def named(self) -> dict[str, Any]:
        """The fields by their names in ``beam_state.SearchTables``."""
        labels = {f"label_{name}": getattr(self, name) for name in ("flags", "first", "characters")}
        return {**labels, "longest": self.longest, "width": self.width}

    @classmethod
    def of(cls, alphabet: Alphabet) -> Spelling:
        """Spell all labels."""
        texts = [alphabet.text_of(label) for label in alphabet.labels]
        points = np.array([ord(character) for text in texts for character in text], np.uint32)
        known = np.unique(points)
        first = np.zeros(len(texts) + 1, np.int32)
        np.cumsum([len(text) for text in texts], out=first[1:])
        flags = np.array(
            [
                BLANK * (label == BLANK_LABEL) | STARTS * alphabet.starts_word(label) | ENDS * alphabet.ends_word(label)
                for label in alphabet.labels
            ],
            np.uint8,
        )
        return cls(flags, first, np.searchsorted(known, points).astype(np.int32), max(map(len, texts)), known)


class Lexicon(NamedTuple):
    """Trie of the language model's words, as arrays; see ``beam_state.SearchTables``."""

    table: np.ndarray
    words: np.ndarray
    flags: np.ndarray

    @classmethod
    def of(cls, spelling: Spelling, model: NgramModel | None, unigrams: Sequence[str] | None) -> Lexicon:
        """The trie of a language model's words; those among ``unigrams`` are marked as known, and so are their
        prefixes.

        Without unigrams all words of the model are known, and no prefix is.

        Raises:
            InputError: the model does not list its words and no unigrams are given.
        """
        trie = Trie(spelling.alphabet, spelling.width)
        if model is None:
            return cls(trie.table, np.zeros(1, np.uint32), np.zeros(1, np.uint8))
        vocabulary = model.unigrams if model.unigrams is not None else unigrams
        if vocabulary is None:
            raise InputError("the language model's file does not hold its words: give them as unigrams")
        # Labels may spell these, although word lists omit them.
        spelled = [*vocabulary, "<s>", "</s>"]
        nodes, whole = trie.insert(spelled)
        listed, listed_whole = np.empty(0, np.int32), np.empty(0, bool)
        if unigrams:
            ids = model.word_ids(unigrams)
            kept = [word for word, number in zip(unigrams, ids.tolist(), strict=True) if number]
            listed, listed_whole = trie.insert(kept)
        words = np.zeros(trie.count, np.uint32)
        words[nodes[whole]] = model.word_ids(spelled)[whole]
        flags = np.zeros(trie.count, np.uint8)
        if unigrams:
            outside = np.ones(trie.count, np.int32)
            outside[listed] = 0
            spread_to_prefixes(trie.parents, outside)
            flags[outside == 0] |= PREFIX
            flags[listed[listed_whole]] |= KNOWN
        else:
            flags[words > 0] |= KNOWN
        return cls(trie.table, words, flags)

    def named(self) -> dict[str, Any]:
        """The fields by their names in ``beam_state.SearchTables``."""
        return {f"lexicon_{name}": value for name, value in self._asdict().items()}


class Hotwords(NamedTuple):
    """Trie of the hotwords, as arrays; see ``beam_state.SearchTables``."""

    table: np.ndarray
    shortest: np.ndarray
    ends: np.ndarray

    @classmethod
    def of(cls, spelling: Spelling, hotwords: Iterable[str]) -> Hotwords:
        """The trie of these hotwords; a phrase is split into its words."""
        words = sorted({word for hotword in hotwords for word in hotword.split()})
        trie = Trie(spelling.alphabet, spelling.width)
        nodes, whole = trie.insert(words)
        shortest = np.full(trie.count, np.iinfo(np.int32).max, np.int32)
        np.minimum.at(shortest, nodes, np.array([len(word) for word in words], np.int32))
        spread_to_prefixes(trie.parents, shortest)
        ends = np.zeros(trie.count, bool)
        ends[nodes[whole]] = True
        return cls(trie.table, shortest, ends)

    def named(self) -> dict[str, Any]:
        """The fields by their names in ``beam_state.SearchTables``."""
        return {f"hot_{name}": value for name, value in self._asdict().items()}
