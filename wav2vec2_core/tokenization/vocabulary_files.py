"""The files of a tokenizer: as transformers 4 writes them, and what transformers 5 and older releases wrote."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from wav2vec2_core.errors import CheckpointError
from wav2vec2_core.files import make_folder, read_json, reporting_writes, write_json
from wav2vec2_core.source import ModelSource
from wav2vec2_core.tokenization.added_tokens import AddedToken
from wav2vec2_core.tokenization.vocabulary import ADDITIONAL, SPECIAL_TOKENS

if TYPE_CHECKING:
    from wav2vec2_core.tokenization.tokenizer import Wav2Vec2CTCTokenizer

#: Entries of ``tokenizer_config.json`` that describe the file or its writer, not the tokenizer.
_NOT_ARGUMENTS = ("tokenizer_class", "auto_map", "init_inputs", "name_or_path", "special_tokens_map_file",
                  "tokenizer_file", "vocab_file", "transformers_version", "backend", "is_local")  # fmt: skip

#: Arguments that are also attributes of a tokenizer, whose current values are saved.
_CHANGEABLE = (*SPECIAL_TOKENS, "do_lower_case", "word_delimiter_token", "replace_word_delimiter_char", "target_lang",
               "padding_side", "truncation_side", "split_special_tokens")  # fmt: skip


def class_in_files(source: ModelSource) -> Any:
    """``tokenizer_class`` of the files of a model, if they have it. Raises ``CheckpointError``."""
    return _read(source, "tokenizer_config.json").get("tokenizer_class")


def read_arguments(source: ModelSource, given: Mapping[str, Any]) -> dict[str, Any]:
    """The constructor's arguments from the files of a model; those in ``given`` win.

    ``added_tokens_decoder`` of tokenizer_config.json states all tokens and flags. Without it,
    special_tokens_map.json and added_tokens.json are read.

    Raises:
        CheckpointError: vocab.json is missing, or a file is damaged.
    """
    vocabulary = source.require("vocab.json")
    config = _read(source, "tokenizer_config.json")
    _check_class(config.get("tokenizer_class"), source.name)
    arguments = {name: value for name, value in config.items() if name not in _NOT_ARGUMENTS}
    extra = arguments.pop("extra_special_tokens", None)
    if isinstance(extra, list):  # transformers 5 renamed the list
        arguments.setdefault(ADDITIONAL, extra)
    elif extra:
        arguments["extra_special_tokens"] = extra
    arguments = {**arguments, **given}
    try:
        decoder = arguments.pop("added_tokens_decoder", None)
        if decoder is None:
            arguments.update(_special_map(source, arguments, given))
            added = _legacy_added(source, arguments)
        else:
            added = {int(index): _token(value) for index, value in decoder.items()}
            by_content = {token.content: token for token in added.values()}
            arguments.update(
                {
                    name: by_content.get(str(arguments[name]), arguments[name])
                    for name in arguments.keys() & set(SPECIAL_TOKENS)
                }
            )
    except (AttributeError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"the tokenizer files of {source.name!r} are damaged ({error}): download or save them again"
        ) from error
    return {**arguments, "vocab_file": vocabulary, "added_tokens_decoder": added}


def write_files(
    tokenizer: Wav2Vec2CTCTokenizer, folder: str | os.PathLike[str], processor_class: str | None
) -> tuple[str, ...]:
    """Write vocab.json, tokenizer_config.json, special_tokens_map.json and, with tokens of its own, added_tokens.json.

    Transformers 4 and 5 read them. Returns the paths. Raises ``OutputError``.
    """
    folder = make_folder(folder)
    config = {
        **tokenizer.init_kwargs,
        **{name: getattr(tokenizer, name) for name in _CHANGEABLE if name in tokenizer.init_kwargs},
        **tokenizer.special_tokens_map,
        "clean_up_tokenization_spaces": tokenizer.clean_up_tokenization_spaces,
        "model_max_length": tokenizer.model_max_length,
        "extra_special_tokens": tokenizer.init_kwargs.get("extra_special_tokens", {}),
        "added_tokens_decoder": {index: token.to_dict() for index, token in tokenizer.added_tokens_decoder.items()},
        "tokenizer_class": type(tokenizer).__name__,
    }
    if processor_class is not None:
        config["processor_class"] = processor_class
    own = {token: index for token, index in tokenizer.added_tokens_encoder.items() if index >= tokenizer.vocab_size}
    documents: dict[str, Any] = {
        "tokenizer_config.json": config,
        "special_tokens_map.json": {
            name: _plain(token) for name, token in tokenizer.special_tokens_map_extended.items()
        },
        **({"added_tokens.json": own} if own else {}),
    }
    for name, document in documents.items():
        write_json(folder / name, document)
    if not own:
        stale = folder / "added_tokens.json"  # of an earlier save: it would add those tokens again
        with reporting_writes(stale):
            stale.unlink(missing_ok=True)
    names = [str(folder / name) for name in documents]
    return (*names, *tokenizer.save_vocabulary(folder))


def _check_class(name: Any, model: str) -> None:
    """Warn if the files belong to the tokenizer of another kind of model. "Wav2Vec2Tokenizer" is the first releases'
    name.
    """
    if name not in (None, "Wav2Vec2CTCTokenizer", "Wav2Vec2PhonemeCTCTokenizer", "Wav2Vec2Tokenizer"):
        warnings.warn(
            f"model {model!r} was saved with {name}, it is read as Wav2Vec2CTCTokenizer: check that its text is right",
            stacklevel=2,
        )


def _read(source: ModelSource, name: str) -> dict[str, Any]:
    path = source.find(name)
    return {} if path is None else read_json(path)


def _special_map(source: ModelSource, arguments: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Special tokens of special_tokens_map.json, which win over tokenizer_config.json but not over the caller."""
    found: dict[str, Any] = {}
    for name, value in _read(source, "special_tokens_map.json").items():
        if given.get(name):
            continue
        if name == ADDITIONAL and isinstance(value, list):
            tokens = map(_special, [*(arguments.get(ADDITIONAL) or []), *value])
            value = list({str(token): token for token in tokens}.values())  # released files repeat tokens
        elif name in SPECIAL_TOKENS:
            value = _special(value)
        found[name] = value
    return found


def _legacy_added(source: ModelSource, arguments: Mapping[str, Any]) -> dict[int, AddedToken]:
    """Tokens of added_tokens.json, token -> id."""
    special = {str(arguments[name]) for name in SPECIAL_TOKENS if arguments.get(name) is not None}
    special |= {str(token) for token in arguments.get(ADDITIONAL) or []}
    return {
        int(index): AddedToken(token, special=token in special)
        for token, index in _read(source, "added_tokens.json").items()
    }


def _special(value: Any) -> Any:
    return AddedToken.of(value, special=True) if isinstance(value, Mapping) else value


def _token(value: Any) -> AddedToken:
    return AddedToken(value) if isinstance(value, str) else AddedToken.of(value)


def _plain(token: Any) -> Any:
    """As special_tokens_map.json holds it: text, or the flags without ``special``."""
    if isinstance(token, list):
        return [_plain(item) for item in token]
    if isinstance(token, AddedToken):
        return {name: value for name, value in token.to_dict().items() if name != "special"}
    return token
