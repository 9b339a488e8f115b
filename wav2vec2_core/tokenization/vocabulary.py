"""The vocabulary of a CTC tokenizer: tokens and ids, of one language or several, added tokens, special tokens."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, overload

import numpy as np

from wav2vec2_core.batching import check_side
from wav2vec2_core.errors import InputError, brief
from wav2vec2_core.files import read_json
from wav2vec2_core.tokenization.added_tokens import AddedToken, AddedTokens

SPECIAL_TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
ADDITIONAL = "additional_special_tokens"


def check_vocabulary(vocabulary: Mapping[str, Any], what: str) -> dict[str, int]:
    """Return ``vocabulary`` if it maps tokens to distinct ids.

    Raises:
        InputError: it is empty, an id is no integer from 0 up, or two tokens share one.
    """
    if not vocabulary:
        raise InputError(f"{what} is empty: it must map tokens to ids, like {{'<pad>': 0, 'a': 1}}")
    owners: dict[int, str] = {}
    for token, index in vocabulary.items():
        if isinstance(index, bool) or not isinstance(index, int) or index < 0:
            raise InputError(f"{what} maps {token!r} to {brief(index)}: every token needs an integer id, 0 or more")
        if index in owners:
            raise InputError(f"{what} gives id {index} to {owners[index]!r} and {token!r}: every token needs its own")
        owners[index] = token
    return dict(vocabulary)


def is_nested(vocabulary: Mapping[str, Any]) -> bool:
    """Whether this is a vocabulary of vocabularies by language, as MMS models have."""
    return bool(vocabulary) and all(isinstance(entry, dict) for entry in vocabulary.values())


class _SpecialToken:
    """A special token as text; ``None`` where the tokenizer has none."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, tokenizer: Vocabulary | None, owner: type | None = None) -> Any:
        if tokenizer is None:
            return self
        token = tokenizer.special[self.name]
        return None if token is None else str(token)

    def __set__(self, tokenizer: Vocabulary, value: Any) -> None:
        tokenizer.special[self.name] = _as_special(self.name, value)


class _SpecialTokenId:
    """The id of a special token; ``None`` where the tokenizer has none."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name.removesuffix("_id")

    def __get__(self, tokenizer: Vocabulary | None, owner: type | None = None) -> Any:
        if tokenizer is None:
            return self
        return tokenizer.convert_tokens_to_ids(getattr(tokenizer, self.name))

    def __set__(self, tokenizer: Vocabulary, value: int | None) -> None:
        setattr(tokenizer, self.name, None if value is None else tokenizer.convert_ids_to_tokens(value))


class Vocabulary:
    """Tokens and ids, added and special tokens: what ``Wav2Vec2CTCTokenizer`` encodes and decodes with."""

    bos_token = _SpecialToken()
    eos_token = _SpecialToken()
    unk_token = _SpecialToken()
    sep_token = _SpecialToken()
    pad_token = _SpecialToken()
    cls_token = _SpecialToken()
    mask_token = _SpecialToken()
    bos_token_id = _SpecialTokenId()
    eos_token_id = _SpecialTokenId()
    unk_token_id = _SpecialTokenId()
    sep_token_id = _SpecialTokenId()
    pad_token_id = _SpecialTokenId()
    cls_token_id = _SpecialTokenId()
    mask_token_id = _SpecialTokenId()

    def __init__(
        self,
        vocab_file: str | os.PathLike[str] | Mapping[str, Any],
        bos_token: str | AddedToken | None = "<s>",
        eos_token: str | AddedToken | None = "</s>",
        unk_token: str | AddedToken | None = "<unk>",
        pad_token: str | AddedToken | None = "<pad>",
        word_delimiter_token: str | AddedToken | None = "|",
        replace_word_delimiter_char: str = " ",
        do_lower_case: bool = False,
        target_lang: str | None = None,
        **kwargs: Any,
    ) -> None:
        self.word_delimiter_token = None if word_delimiter_token is None else str(word_delimiter_token)
        if not isinstance(replace_word_delimiter_char, str):
            raise InputError(f"replace_word_delimiter_char={brief(replace_word_delimiter_char)} must be text")
        self.replace_word_delimiter_char = replace_word_delimiter_char
        self.do_lower_case = do_lower_case
        self.vocab: dict[str, Any] = dict(vocab_file) if isinstance(vocab_file, Mapping) else read_json(vocab_file)
        self._select(target_lang)

        added = kwargs.pop("added_tokens_decoder", None) or {}
        self._added = AddedTokens({int(index): AddedToken.of(token) for index, token in added.items()})
        given = {
            "bos_token": bos_token,
            "eos_token": eos_token,
            "unk_token": unk_token,
            "pad_token": pad_token,
            **kwargs,
        }
        self.special: dict[str, Any] = {name: _as_special(name, given.get(name)) for name in SPECIAL_TOKENS}
        self.additional_special_tokens = given.get(ADDITIONAL) or []

        self.model_max_length = _check_limit(kwargs.get("model_max_length") or int(1e30))  # transformers' "no limit"
        self.padding_side = check_side(kwargs.get("padding_side", "right"))
        self.truncation_side = check_side(kwargs.get("truncation_side", "right"), "truncation_side")
        self.clean_up_tokenization_spaces: bool = kwargs.get("clean_up_tokenization_spaces", False)
        self.split_special_tokens: bool = kwargs.get("split_special_tokens", False)
        self.init_kwargs: dict[str, Any] = {
            **{name: None if token is None else str(token) for name, token in self.special.items() if name in given},
            "do_lower_case": do_lower_case,
            "word_delimiter_token": self.word_delimiter_token,
            "replace_word_delimiter_char": replace_word_delimiter_char,
            "target_lang": target_lang,
            **{name: value for name, value in kwargs.items() if name not in SPECIAL_TOKENS},
        }
        self._warn_of_new_blank("the vocabulary" if isinstance(vocab_file, Mapping) else os.fspath(vocab_file))
        self._add(self._special_tokens_not_added(), special=True)
        self._keep_long_tokens_whole()

    def __repr__(self) -> str:
        language = f", target_lang={self.target_lang!r:.100}" if self.languages else ""
        return f"{type(self).__name__}({len(self)} tokens, special={self.special_tokens_map}{language})"

    # ---- vocabulary ---------------------------------------------------------------------------------------------

    @property
    def languages(self) -> tuple[str, ...]:
        """Languages of a nested vocabulary; empty for a flat one."""
        return tuple(self.vocab) if is_nested(self.vocab) else ()

    @property
    def vocab_size(self) -> int:
        """Tokens of the vocabulary file, of one language; without added tokens."""
        return len(self.decoder)

    def __len__(self) -> int:
        return len(self.get_vocab())

    def get_vocab(self) -> dict[str, int]:
        """Token -> id, added tokens included."""
        return {**self.encoder, **self.added_tokens_encoder}

    def get_added_vocab(self) -> dict[str, int]:
        """Token -> id of the added tokens, which include the tokens of several characters."""
        return dict(self._added.ids)

    @property
    def added_tokens_decoder(self) -> dict[int, AddedToken]:
        """Id -> added token."""
        return dict(sorted(self._added.by_id.items()))

    @property
    def added_tokens_encoder(self) -> dict[str, int]:
        """Added token -> id."""
        return {token.content: index for index, token in sorted(self._added.by_id.items())}

    def set_target_lang(self, target_lang: str) -> None:
        """Switch to another language of a nested vocabulary.

        Raises:
            InputError: the vocabulary is flat, or does not know the language (the known ones are listed).
        """
        if not self.languages:
            raise InputError(
                f"target_lang={target_lang!r} needs a vocabulary nested by language, this one is flat: load an MMS one"
            )
        former, added = self.encoder, self._added
        self._select(target_lang)
        self.init_kwargs["target_lang"] = target_lang
        # Long tokens of the former language go, so that its ids and splits do not leak into this one. Tokens of the
        # user keep their ids where these are free.
        languages = {*former, *self.encoder}
        own = {index: token for index, token in added.by_id.items() if token.content not in languages}
        self._added = AddedTokens({index: token for index, token in own.items() if index not in self.decoder})
        self._add(self._special_tokens_not_added(), special=True)
        self._add([token for index, token in own.items() if index in self.decoder], special=False)
        self._keep_long_tokens_whole()

    def _select(self, target_lang: str | None) -> None:
        vocabulary: Mapping[str, Any] = self.vocab
        if self.languages:
            known = ", ".join(self.languages)
            if target_lang is None:
                raise InputError(
                    f"the vocabulary is nested by language: name one with target_lang= (--language), of {known}"
                )
            if not isinstance(target_lang, str) or any(mark in target_lang for mark in ("/", "\\", "..", "\0")):
                raise InputError(f"target_lang={target_lang!r:.100} is not the name of a language: use one of {known}")
            if target_lang not in self.vocab:
                raise InputError(f"target_lang={target_lang!r:.100} is not in the vocabulary: use one of {known}")
            vocabulary = self.vocab[target_lang]
        elif target_lang is not None:
            raise InputError(
                f"target_lang={target_lang!r} needs a vocabulary nested by language, this one is flat: leave it out"
            )
        what = "the vocabulary" if target_lang is None else f"the vocabulary of {target_lang!r:.100}"
        self.encoder = check_vocabulary(vocabulary, what)
        self.decoder = {index: token for token, index in self.encoder.items()}
        self.target_lang = target_lang

    def _warn_of_new_blank(self, where: str) -> None:
        pad = self.pad_token
        if pad is not None and pad not in self.encoder and pad not in self._added.ids:
            warnings.warn(
                f"pad_token={pad!r}, the CTC blank, is not in {where}: it is added at the end. If the "
                "blank of the model is another token, name that with pad_token=",
                stacklevel=3,
            )

    def _keep_long_tokens_whole(self) -> None:
        """One after the other, as each may take over the id of another; a large vocabulary has thousands of them."""
        for content, own in self.encoder.items():
            if len(content) > 1:
                index = self._added.id_of(content)
                token = AddedToken(content, lstrip=True, rstrip=True, normalized=False)
                self._added.update([(own if index is None else index, token)])

    # ---- added and special tokens -------------------------------------------------------------------------------

    def add_tokens(
        self, new_tokens: str | AddedToken | Sequence[str | AddedToken], special_tokens: bool = False
    ) -> int:
        """Add tokens that text is never split inside of; a new one gets the id ``len(tokenizer)``.

        Returns:
            How many were not in the vocabulary.

        Raises:
            InputError: one of them is not text.
        """
        if not new_tokens:
            return 0
        several = isinstance(new_tokens, (list, tuple))
        return self._add(new_tokens if several else [new_tokens], special=special_tokens)

    def add_special_tokens(
        self, special_tokens_dict: Mapping[str, Any], replace_additional_special_tokens: bool = True
    ) -> int:
        """Set special tokens (``{"pad_token": "[PAD]"}``) and add them to the vocabulary.

        Returns:
            How many were not in the vocabulary.

        Raises:
            InputError: a key names no special token, or a value is not text.
        """
        added: list[AddedToken] = []
        for name, value in special_tokens_dict.items():
            if name == ADDITIONAL:
                tokens = [_as_token(token, special=True) for token in _as_list(value)]
                if replace_additional_special_tokens and tokens:
                    self.additional_special_tokens = tokens
                else:
                    known = self.additional_special_tokens
                    tokens = [token for token in tokens if token.content not in known]
                    self._additional.extend(tokens)
                added += tokens
            elif name in SPECIAL_TOKENS:
                token = _as_token(_as_special(name, value), special=True)
                self.special[name] = token
                added.append(token)
            else:
                raise InputError(f"{name!r} is no special token: use one of {', '.join((*SPECIAL_TOKENS, ADDITIONAL))}")
        return self._add(added, special=True)

    @property
    def additional_special_tokens(self) -> list[str]:
        """Special tokens beside the named ones."""
        return [str(token) for token in self._additional]

    @additional_special_tokens.setter
    def additional_special_tokens(self, tokens: Iterable[str | AddedToken]) -> None:
        self._additional = [_as_special(ADDITIONAL, token) for token in _as_list(tokens)]

    @property
    def additional_special_tokens_ids(self) -> list[int]:
        """Their ids."""
        return self.convert_tokens_to_ids(self.additional_special_tokens)

    @additional_special_tokens_ids.setter
    def additional_special_tokens_ids(self, ids: Sequence[int]) -> None:
        self.additional_special_tokens = self.convert_ids_to_tokens(ids)

    @property
    def special_tokens_map_extended(self) -> dict[str, Any]:
        """The special tokens that are set, with the flags of those given as ``AddedToken``."""
        tokens = {name: token for name, token in self.special.items() if token}
        return {**tokens, **({ADDITIONAL: list(self._additional)} if self._additional else {})}

    @property
    def special_tokens_map(self) -> dict[str, Any]:
        """The special tokens that are set, as text."""
        return {
            name: self.additional_special_tokens if name == ADDITIONAL else str(token)
            for name, token in self.special_tokens_map_extended.items()
        }

    @property
    def all_special_tokens_extended(self) -> list[str | AddedToken]:
        """All special tokens once."""
        tokens: dict[str, str | AddedToken] = {}
        for token in [*(token for token in self.special.values() if token), *self._additional]:
            tokens.setdefault(str(token), token)
        return list(tokens.values())

    @property
    def all_special_tokens(self) -> list[str]:
        """All special tokens once, as text."""
        return [str(token) for token in self.all_special_tokens_extended]

    @property
    def all_special_ids(self) -> list[int]:
        """Their ids."""
        return self.convert_tokens_to_ids(self.all_special_tokens)

    @property
    def word_delimiter_token_id(self) -> int | None:
        """The id of the word delimiter."""
        return self.convert_tokens_to_ids(self.word_delimiter_token)

    @word_delimiter_token_id.setter
    def word_delimiter_token_id(self, index: int | None) -> None:
        self.word_delimiter_token = None if index is None else self.convert_ids_to_tokens(index)

    def _special_tokens_not_added(self) -> list[str | AddedToken]:
        tokens = self.all_special_tokens_extended
        return [token for token in tokens if isinstance(token, AddedToken) or token not in self._added.ids]

    def _add(self, tokens: Iterable[Any], *, special: bool) -> int:
        vocabulary = self.get_vocab()
        count = len(vocabulary)
        added: list[tuple[int, AddedToken]] = []
        for token in [_as_token(token) for token in tokens]:
            if not token.content:
                continue
            if special:
                token = replace(token, special=True)
            if self.do_lower_case and token.normalized and not token.special:
                token = replace(token, content=token.content.lower())
            # A new id is the number of tokens: with gaps in the ids it may belong to another one already. Models are
            # resized to len(tokenizer), and transformers numbers the same way.
            index = vocabulary.setdefault(token.content, len(vocabulary))
            if token.special and token.content not in self.all_special_tokens:
                self._additional.append(token)
            added.append((index, token))
        self._added.update(added)
        return len(vocabulary) - count

    # ---- tokens and ids -----------------------------------------------------------------------------------------

    @overload
    def convert_tokens_to_ids(self, tokens: list[str] | tuple[str, ...]) -> list[int]: ...
    @overload
    def convert_tokens_to_ids(self, tokens: str | None) -> int | None: ...
    def convert_tokens_to_ids(self, tokens: Any) -> Any:
        """The id of a token, or those of a list. An unknown token has that of ``unk_token``, ``None`` without one."""
        if tokens is None or isinstance(tokens, str):
            return self._id(tokens)
        return [self._id(token) for token in tokens]

    @overload
    def convert_ids_to_tokens(self, ids: int, skip_special_tokens: bool = False) -> str: ...
    @overload
    def convert_ids_to_tokens(self, ids: Sequence[int], skip_special_tokens: bool = False) -> list[str]: ...
    def convert_ids_to_tokens(self, ids: Any, skip_special_tokens: bool = False) -> Any:
        """The token of an id, or those of a list. An id outside of the vocabulary has ``unk_token``."""
        if isinstance(ids, (int, np.integer)):
            return self._token(int(ids))
        skipped = set(self.all_special_ids) if skip_special_tokens else set()
        return [self._token(int(index)) for index in ids if int(index) not in skipped]

    def _id(self, token: str | None) -> int | None:
        if token is None:
            return None
        if token in self._added.ids:
            return self._added.ids[token]
        return self.encoder.get(token, self.encoder.get(self.unk_token))

    def _token(self, index: int) -> str | None:
        if index in self._added.by_id:
            return self._added.by_id[index].content
        return self.decoder.get(index, self.unk_token)


def _as_special(name: str, value: Any) -> Any:
    """A special token as given, if it is text, an ``AddedToken`` or ``None``. Raises ``InputError``."""
    if value is None or isinstance(value, (str, AddedToken)):
        return value
    try:
        return AddedToken.of(value)
    except InputError as error:
        raise InputError(f"{name}={brief(value)} must be text or an AddedToken") from error


def _as_token(value: Any, **changes: Any) -> AddedToken:
    """Text becomes a token that swallows no white space and is looked for before lower-casing."""
    if isinstance(value, str):
        return AddedToken(value, normalized=False, **changes)
    return AddedToken.of(value, **changes)


def _check_limit(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
        raise InputError(f"model_max_length={brief(value)} must be a positive number of tokens")
    return int(min(value, 1e30))


def _as_list(value: Any) -> list[Any]:
    if not isinstance(value, (list, tuple)):
        raise InputError(f"{ADDITIONAL}={brief(value)} must be a list of tokens")
    return list(value)
