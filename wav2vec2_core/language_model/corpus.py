"""Converting text, one sentence per line, to word ids on disk, so that the text itself is read only once."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from wav2vec2_core.errors import InputError
from wav2vec2_core.language_model.line_blocks import LineBlocks, open_text

UNKNOWN_ID, BEGIN_ID, END_ID = 0, 1, 2
SYMBOLS = (b"<unk>", b"<s>", b"</s>")
#: Symbols that must not occur as words; readers of ARPA files also accept the spelling ``<UNK>``.
RESERVED = re.compile(rb"(?<!\S)(?:<unk>|<UNK>|<s>|</s>)(?!\S)")


@dataclass(frozen=True)
class Corpus:
    """Sentences as ids.

    words: UTF-8, indexed by id, the three symbols first. path: file of uint32 ids; each sentence ends in ``END_ID``.
    tokens: number of ids in the file, with the ends of sentences.
    """

    words: list[bytes]
    path: Path
    tokens: int
    sentences: int


class _Vocabulary(dict[bytes, int]):
    """Assigns the next id to a new word."""

    def __missing__(self, word: bytes) -> int:
        number = self[word] = len(self)
        return number


def read_corpus(
    texts: Sequence[Path | BinaryIO],
    target: Path,
    *,
    skip_symbols: bool = False,
    progress: Callable[[float], None] = lambda part: None,
) -> Corpus:
    """Read texts, plain or .gz, files or streams: UTF-8, one sentence per line, words separated by white space.

    An empty line is an empty sentence.

    Args:
        target: file for the ids.
        skip_symbols: treat ``<s>``, ``</s>`` and ``<unk>`` as white space instead of refusing them.

    Raises:
        CheckpointError: a file cannot be read or is not UTF-8.
        InputError: a symbol occurs as a word, or there are no words.
    """
    vocabulary = _Vocabulary(zip(SYMBOLS, range(3), strict=True))
    sizes = [text.stat().st_size if isinstance(text, Path) and text.exists() else 0 for text in texts]
    total, before, tokens, sentences = sum(sizes), 0, 0, 0
    with target.open("wb") as file:
        for text, size in zip(texts, sizes, strict=True):
            with open_text(text) as lines:
                for block in lines.blocks():
                    words = _sentences(block, lines, skip_symbols)
                    ids = np.fromiter(map(vocabulary.__getitem__, words), np.uint32, len(words))
                    ids.tofile(file)
                    tokens += len(ids)
                    sentences += int((ids == END_ID).sum())
                    lines.line += block.count(b"\n")
                    progress((before + lines.read) / total if total else 0.0)
                before += size
    if tokens == sentences:
        raise InputError("the text has no words: name files with one sentence a line")
    return Corpus(list(vocabulary), target, tokens, sentences)


def _sentences(block: bytes, lines: LineBlocks, skip_symbols: bool) -> list[bytes]:
    """The words of some lines, with ``</s>`` after each line."""
    lines.decoded(block)
    if b"\0" in block:
        block = block.replace(b"\0", b" ")
    if b"<" in block:
        symbol = None if skip_symbols else RESERVED.search(block)
        if symbol:
            line = lines.line + block.count(b"\n", 0, symbol.start())
            raise InputError(
                f"{lines.path}, line {line}: {symbol.group().decode()} is a symbol of the model and no word: "
                "remove it, or have it read as white space with skip_symbols (--skip-symbols)"
            )
        block = RESERVED.sub(b" ", block)
    return (block if block.endswith(b"\n") else block + b"\n").replace(b"\n", b" </s> ").split()
