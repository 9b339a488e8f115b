"""Text for estimation: sentences, one a line, become word ids on disk, so the text itself is read once."""

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
#: Symbols of the model where a word would be; ``<UNK>`` is another spelling that readers of ARPA files know.
RESERVED = re.compile(rb"(?<!\S)(?:<unk>|<UNK>|<s>|</s>)(?!\S)")


@dataclass(frozen=True)
class Corpus:
    """Sentences as ids. words: UTF-8, by id, the three symbols first; path: uint32 ids, each sentence ending in
    ``END_ID``.

    tokens: ids in the file, ends of sentences among them.
    """

    words: list[bytes]
    path: Path
    tokens: int
    sentences: int


class _Vocabulary(dict[bytes, int]):
    """Gives a new word the next id."""

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
    """Read texts, plain or compressed, files or streams: UTF-8, one sentence a line, words between white space.

    An empty line is an empty sentence.

    Args:
        skip_symbols: read ``<s>``, ``</s>`` and ``<unk>`` as white space instead of refusing them.
        target: file for the ids.

    Raises:
        CheckpointError: a file cannot be read or is not UTF-8. InputError: a symbol among the words, or no words at
            all.
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
    """Words of some lines, ``</s>`` after each line."""
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
