"""Another vocabulary for a CTC head: the letters that both vocabularies have keep their rows of ``lm_head``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.errors import InputError
from wav2vec2_core.parameters import initial_values, parameter_table
from wav2vec2_core.tokenization.vocabulary import Vocabulary

#: The parameters of a CTC head, a row for each token.
HEAD = ("lm_head.weight", "lm_head.bias")
#: Tokens that keep their rows by what they are for, however they are written.
_ROLES = ("pad_token", "unk_token", "word_delimiter_token", "bos_token", "eos_token")


class ResizedHead(NamedTuple):
    """config: with the size and the blank of the new vocabulary; arrays: ``HEAD`` by name; kept: the tokens of the new
    vocabulary that have a row of the old head."""

    config: Wav2Vec2Config
    arrays: dict[str, np.ndarray]
    kept: tuple[str, ...]


def resize_head(
    config: Wav2Vec2Config, arrays: Mapping[str, np.ndarray], old: Vocabulary, new: Vocabulary, *, seed: int
) -> ResizedHead:
    """Compute the CTC head of another vocabulary; every back end takes its values from here.

    Args:
        config: of the model.
        arrays: ``HEAD`` by name, in any floating-point type, which the result has too. Tokens of ``old`` beyond its
            rows have none to keep.
        old, new: tokenizers of the two vocabularies.
        seed: of the rows of tokens that only ``new`` has: their first values, as in a new model.

    Raises:
        InputError: ``new`` has no blank.
    """
    config = for_vocabulary(config, new)
    rows = {row: kept for row, kept in shared_rows(old, new).items() if kept < len(arrays["lm_head.bias"])}
    table = parameter_table(config, "ForCTC")
    resized: dict[str, np.ndarray] = {}
    for name, values in initial_values({name: table[name] for name in HEAD}, seed):
        values = values.astype(arrays[name].dtype)
        values[list(rows)] = arrays[name][list(rows.values())]
        resized[name] = values
    return ResizedHead(config, resized, tuple(new.convert_ids_to_tokens(sorted(rows))))


def for_vocabulary(config: Wav2Vec2Config, tokenizer: Vocabulary) -> Wav2Vec2Config:
    """A configuration with the size and the blank of a vocabulary. Raises ``InputError`` where it has no blank."""
    if tokenizer.pad_token_id is None:
        raise InputError("the vocabulary has no blank: name it with pad_token=")
    return config.replace(vocab_size=max(tokenizer.get_vocab().values()) + 1, pad_token_id=tokenizer.pad_token_id)


def shared_rows(old: Vocabulary, new: Vocabulary) -> dict[int, int]:
    """Id in ``new`` -> id in ``old`` of the tokens that both have.

    The blank, the unknown token, the word delimiter, the first and the last token are shared by what they are for,
    letters by what they are. A letter that ``old`` has only in the other case takes that row, unless ``new`` has both
    cases: the row is the other's then. No row of ``old`` is taken twice.
    """
    old_ids, new_ids = old.get_vocab(), new.get_vocab()
    rows: dict[int, int] = {}
    for role in _ROLES:
        before, after = old_ids.get(_token(old, role)), new_ids.get(_token(new, role))
        if before is not None and after is not None and before not in rows.values():
            rows.setdefault(after, before)
    letters = {token: row for token, row in new_ids.items() if row not in rows}
    taken = set(rows.values())
    rows |= {row: old_ids[token] for token, row in letters.items() if token in old_ids and old_ids[token] not in taken}
    for token, row in sorted(letters.items(), key=lambda item: item[1]):
        for spelling in (token.lower(), token.upper()):
            kept = old_ids.get(spelling)
            if row not in rows and kept is not None and kept not in taken and spelling not in new_ids:
                rows[row] = kept
                taken.add(kept)
    return dict(sorted(rows.items()))


def _token(tokenizer: Vocabulary, role: str) -> str:
    token = getattr(tokenizer, role)
    return " " if token is None and role == "word_delimiter_token" else str(token)
