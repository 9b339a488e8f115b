"""Vocabularies of SentencePiece (``tokenizer.model``), read as data: pieces in the order of their ids."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from wav2vec2_core.errors import CheckpointError

#: SentencePiece's letter for a space.
SPACE = "\u2581"
# Fields of its protocol buffers: the pieces of a model, and the text of a piece.
_PIECES, _TEXT = 1, 1
_VARINT, _EIGHT, _BYTES, _FOUR = 0, 1, 2, 5  # kinds of fields
_MOST_BITS = 63


def read_pieces(path: Path) -> dict[str, int]:
    """Id by piece.

    Raises:
        CheckpointError: the file cannot be read, is damaged, or has a piece twice.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror}): check the path") from error
    try:
        pieces = [_text(value) for number, value in _fields(content) if number == _PIECES]
    except (IndexError, TypeError, ValueError) as error:  # UnicodeDecodeError is a ValueError
        raise CheckpointError(f"{path} is no SentencePiece model, or damaged: download it again") from error
    if not pieces or len(set(pieces)) < len(pieces):
        raise CheckpointError(f"{path} has {len(pieces)} pieces, some of them twice or none: download it again")
    return {piece: index for index, piece in enumerate(pieces)}


def ctc_rows(pieces: dict[str, int]) -> dict[str, int]:
    """Row of a CTC head by token, of a model whose blank is the first piece, ``<s>``, as fairseq and fairseq2 train.

    The blank is called ``<pad>``, as everywhere here, and ``<pad>``, which is never predicted, gets the freed name.
    """
    swapped = {"<s>": "<pad>", "<pad>": "<s>"}
    if pieces.get("<s>") != 0 or "<pad>" not in pieces:
        return pieces
    return {swapped.get(piece, piece): row for piece, row in pieces.items()}


def _text(piece: bytes | int) -> str:
    if isinstance(piece, int):
        raise TypeError
    found = next(value for number, value in _fields(piece) if number == _TEXT)
    if isinstance(found, int):
        raise TypeError
    return found.decode("utf-8")


def _fields(content: bytes) -> Iterator[tuple[int, bytes | int]]:
    """Number and value of each field of a message. Raises ``IndexError`` and ``ValueError`` for what is none."""
    position = 0
    while position < len(content):
        key, position = _varint(content, position)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, position = _varint(content, position)
            yield number, value
            continue
        if kind == _BYTES:
            length, position = _varint(content, position)
        elif kind in (_EIGHT, _FOUR):
            length = 8 if kind == _EIGHT else 4
        else:
            raise ValueError
        if position + length > len(content):
            raise IndexError
        yield number, content[position : position + length]
        position += length


def _varint(content: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = content[position]
        value |= (byte & 127) << shift
        position += 1
        if byte < 128:
            return value, position
        shift += 7
        if shift > _MOST_BITS:
            raise ValueError
