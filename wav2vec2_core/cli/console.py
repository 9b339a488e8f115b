"""What every command says the same way."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import typer


def print_error(error: Exception, name: tuple[str, str] | None = None) -> None:
    """First line of the message to stderr; longer messages (parameter lists) are for the library's callers.

    ``name``: how the message spells a file, and what the user called it.
    """
    message = str(error)
    if name is not None:
        for spelled in (name[0], readable(name[0])):
            message = message.replace(spelled, shown(name[1]))
    print(f"error: {shown(message.splitlines()[0])}", file=sys.stderr)


def shown(name: object) -> str:
    """A file name that fits into a line of any terminal: line breaks and what is no text escaped."""
    text = readable(str(name))
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


def readable(text: str) -> str:
    """Text with file names in it, whose bytes that are not UTF-8 become escapes such as ``\\xff``."""
    try:
        content = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # half a surrogate pair, which is no byte of a name
        content = text.encode("utf-8", "backslashreplace")
    return content.decode("utf-8", "backslashreplace")


def print_notes(notes: Iterable[str]) -> None:
    """What a user may want to know of a recording, on stderr, a line each."""
    for note in notes:
        print(f"note: {shown(note)}", file=sys.stderr)


def printable(text: str, encoding: str | None = None) -> str:
    """Text that an encoding, by default stdout's, can say: a file name may hold bytes that are no text.

    They become the escapes of JSON, from which a program has the name back.
    """
    known = encoding or sys.stdout.encoding or "utf-8"
    return text.encode(known, "backslashreplace").decode(known)


@contextmanager
def stoppable(remedy: str = "") -> Iterator[None]:
    """Ctrl-C ends the command with exit code 130, as a shell expects, and one line that names the ``remedy``."""
    try:
        yield
    except KeyboardInterrupt:
        print(f"stopped{remedy and ': '}{remedy}", file=sys.stderr)
        raise typer.Exit(130) from None


def note_embedded_model() -> None:
    """Say what the model hears that is used where none is named."""
    print(
        "note: no --model given, using the embedded one: it hears English digits (zero to nine) and nothing else. "
        "For real speech: --model facebook/wav2vec2-base-960h, or --model facebook/mms-1b-all --language fra",
        file=sys.stderr,
    )


def spoken(seconds: float) -> str:
    """How much audio: in hours, or in seconds where it is little."""
    return f"{seconds / 3600:.2f} hours" if seconds >= 360 else f"{seconds:.1f} seconds"
