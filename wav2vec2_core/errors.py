"""All errors that bad input can cause. Each message names the value, the rule it breaks and the remedy.

The classes also derive from the built-in exception that transformers raises in the same place (``ValueError``,
``OSError``), so existing exception handlers keep working. A command prints the message as one line and exits with 1.
"""

from __future__ import annotations

from collections.abc import Iterable

#: How many names a message lists, and how many characters of each.
_MOST_NAMES, _LONGEST_NAME = 12, 40
_LONGEST_VALUE = 100  # characters of a value in a message


class Wav2Vec2Error(Exception):
    """Base class of all errors that a user can cause and correct."""


class ConfigError(Wav2Vec2Error, ValueError):
    """A configuration value is invalid."""


class CheckpointError(Wav2Vec2Error, OSError):
    """A model folder or one of its files is missing, damaged or refused."""


class ParameterMismatchError(CheckpointError):
    """The parameters of a checkpoint and of a model differ in names or shapes."""


class AudioError(Wav2Vec2Error, ValueError):
    """A recording cannot be read or is not usable."""


class InputError(Wav2Vec2Error, ValueError):
    """An argument of a call (labels, masks, text, vocabulary, language ...) is invalid."""


class OutputError(Wav2Vec2Error, OSError):
    """A result cannot be written."""


class BackendError(Wav2Vec2Error, RuntimeError):
    """A back end, a device or an optional library is not available here."""


def brief(value: object) -> str:
    """A value for a message: its ``repr`` on one line, cut at 100 characters."""
    if isinstance(value, (str, bytes)):
        value = value[: _LONGEST_VALUE + 1]
    try:
        text = " ".join(repr(value).split())
    except ValueError:  # an integer that Python refuses to print
        text = f"<{type(value).__name__} of too many digits>"
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 3]}..."


def listed(names: Iterable[object]) -> str:
    """Names for a message: on one line and cut to a limited length, whatever a file contains."""
    shown = [" ".join(str(name).split())[:_LONGEST_NAME] for name in names]
    return ", ".join(shown[:_MOST_NAMES]) + (" ..." if len(shown) > _MOST_NAMES else "")
