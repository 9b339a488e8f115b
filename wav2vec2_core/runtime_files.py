"""Vocabulary files that other runtimes read beside an exported CTC program."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from wav2vec2_core.files import write_json, write_text
from wav2vec2_core.tokenization import Wav2Vec2CTCTokenizer

#: Of sherpa-onnx: a symbol and its id in each line. It decodes the mark of a word's beginning as a space.
SYMBOLS, _BLANK, _SPACE = "tokens.txt", "<blk>", "\N{LOWER ONE EIGHTH BLOCK}"
#: Of transformers.js, in the format of Hugging Face's tokenizers.
TOKENIZER = "tokenizer.json"


def write_runtime_files(folder: Path, tokenizer: Wav2Vec2CTCTokenizer) -> None:
    """Write ``tokens.txt`` and ``tokenizer.json``, under which these programs decode the text that we decode.

    Nothing is written for tokenizers of phones, whose delimiters these files cannot express, or without a blank.

    Raises:
        OutputError: the folder cannot be written.
    """
    blank = tokenizer.pad_token
    if blank is None or tokenizer.words_are_tokens:
        return
    written = _written_tokens(tokenizer)
    space = tokenizer.replace_word_delimiter_char
    delimiter = tokenizer.word_delimiter_token
    shown = {blank: _BLANK, delimiter: _SPACE if space == " " else space, " ": _SPACE}
    lines = [f"{shown.get(token, token)} {index}" for token, index in sorted(written.items(), key=lambda one: one[1])]
    write_text(folder / SYMBOLS, "\n".join([*lines, ""]))
    decoders: list[dict[str, Any]] = [
        {"type": "CTC", "pad_token": blank, "word_delimiter_token": delimiter or " ", "cleanup": False}
    ]
    if delimiter is not None:
        decoders.append({"type": "Replace", "pattern": {"String": delimiter}, "content": space})
    write_json(
        folder / TOKENIZER,
        {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            # None is special: the blank must survive until repeated tokens are merged.
            "added_tokens": [],
            "normalizer": None if delimiter is None else {**_REPLACED_SPACE, "content": delimiter},
            "pre_tokenizer": {"type": "Split", "pattern": {"Regex": ""}, "behavior": "Isolated", "invert": False},
            "post_processor": None,
            "decoder": {"type": "Sequence", "decoders": decoders},
            "model": {
                "type": "WordPiece",
                "unk_token": tokenizer.unk_token or blank,
                "continuing_subword_prefix": "",
                "max_input_chars_per_word": 100,
                "vocab": written,
            },
        },
    )


_REPLACED_SPACE = {"type": "Replace", "pattern": {"String": " "}}


def _written_tokens(tokenizer: Wav2Vec2CTCTokenizer) -> dict[str, int]:
    """Token as it is decoded -> id: letters in lower case where the tokenizer decodes them so."""
    vocabulary = tokenizer.get_vocab()
    if not tokenizer.do_lower_case:
        return vocabulary
    special = set(tokenizer.all_special_tokens)
    return {token if token in special else token.lower(): index for token, index in vocabulary.items()}
