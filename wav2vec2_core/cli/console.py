"""What every command says the same way."""

from __future__ import annotations

import sys

from wav2vec2_core.errors import Wav2Vec2Error


def print_error(error: Wav2Vec2Error) -> None:
    """First line of the message to stderr; longer messages (parameter lists) are for the library's callers."""
    print(f"error: {str(error).splitlines()[0]}", file=sys.stderr)
