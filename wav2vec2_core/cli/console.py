"""What every command says the same way."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from wav2vec2_core.errors import Wav2Vec2Error


def print_error(error: Wav2Vec2Error, name: tuple[str, str] | None = None) -> None:
    """First line of the message to stderr; longer messages (parameter lists) are for the library's callers.

    ``name``: how the message spells a file, and what the user called it.
    """
    message = str(error)
    if name is not None:
        message = message.replace(name[0], shown(name[1]))
    print(f"error: {shown(message.splitlines()[0])}", file=sys.stderr)


def shown(name: object) -> str:
    """A file name that fits into a line of any terminal: line breaks and what is no text escaped."""
    text = str(name).encode("utf-8", "backslashreplace").decode()  # bytes that are no UTF-8
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


def printable(text: str) -> str:
    """Text that stdout can encode: a file name may hold bytes that are no text."""
    encoding = sys.stdout.encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


@contextmanager
def stoppable(remedy: str = "") -> Iterator[None]:
    """Ctrl-C ends the command with exit code 130, as a shell expects, and one line that names the ``remedy``."""
    try:
        yield
    except KeyboardInterrupt:
        print(f"stopped{remedy and ': '}{remedy}", file=sys.stderr)
        raise typer.Exit(130) from None
