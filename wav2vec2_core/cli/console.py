"""Messages that all commands print in the same way."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import typer


def print_error(error: Exception, name: tuple[str, str] | None = None) -> None:
    """Print the first line of the message to stderr; the rest, such as lists of parameters, is for callers of the
    library.

    ``name``: how the message spells a file, and how the user named it.
    """
    message = str(error)
    if name is not None:
        for spelled in (name[0], readable(name[0])):
            message = message.replace(spelled, shown(name[1]))
    print(f"error: {shown(message.splitlines()[0])}", file=sys.stderr)


def shown(name: object) -> str:
    """A file name for one line of any terminal: line breaks and bytes that are not text are escaped."""
    text = readable(str(name))
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


def readable(text: str) -> str:
    r"""Text with file names in which bytes that are not UTF-8 become escapes such as ``\\xff``."""
    try:
        content = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # a lone surrogate that does not stand for a byte
        content = text.encode("utf-8", "backslashreplace")
    return content.decode("utf-8", "backslashreplace")


def print_notes(notes: Iterable[str]) -> None:
    """Print notes about a recording to stderr, one per line."""
    for note in notes:
        print(f"note: {shown(note)}", file=sys.stderr)


def printable(text: str, encoding: str | None = None) -> str:
    """Text that can be encoded, by default for stdout; file names may contain bytes that are not text.

    These become JSON escapes, from which a program can restore the name.
    """
    known = encoding or sys.stdout.encoding or "utf-8"
    return text.encode(known, "backslashreplace").decode(known)


@contextmanager
def stoppable(remedy: str = "") -> Iterator[None]:
    """On Ctrl-C end the command with exit code 130, as shells expect, and one line with the ``remedy``."""
    try:
        yield
    except KeyboardInterrupt:
        print(f"stopped{remedy and ': '}{remedy}", file=sys.stderr)
        raise typer.Exit(130) from None


def note_embedded_model() -> None:
    """Note on stderr which model is used by default and what it recognizes."""
    print(
        "note: no --model given, using the embedded one: it hears English digits (zero to nine) and nothing else. "
        "For real speech: --model facebook/wav2vec2-base-960h, or --model facebook/mms-1b-all --language fra",
        file=sys.stderr,
    )


def spoken(seconds: float) -> str:
    """A duration in hours, or in seconds if it is short."""
    return f"{seconds / 3600:.2f} hours" if seconds >= 360 else f"{seconds:.1f} seconds"
