"""Finding the recordings that a user names (files, folders, patterns, stdin) and the paths of their results."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wav2vec2_core.audio.recording import Recording, is_address
from wav2vec2_core.errors import AudioError, InputError

#: The name of standard input.
STANDARD_INPUT = "-"
#: What is taken for a recording in a folder, by the end of its name. Files that are named are read whatever theirs is.
SUFFIXES = frozenset(
    [
        ".3gp",
        ".aac",
        ".ac3",
        ".aif",
        ".aifc",
        ".aiff",
        ".amr",
        ".ape",
        ".au",
        ".avi",
        ".caf",
        ".dts",
        ".eac3",
        ".flac",
        ".flv",
        ".m2ts",
        ".m4a",
        ".m4b",
        ".m4v",
        ".mka",
        ".mkv",
        ".mov",
        ".mp1",
        ".mp2",
        ".mp3",
        ".mp4",
        ".mpeg",
        ".mpg",
        ".mts",
        ".oga",
        ".ogg",
        ".ogv",
        ".opus",
        ".ra",
        ".rf64",
        ".snd",
        ".sph",
        ".spx",
        ".ts",
        ".tta",
        ".vob",
        ".w64",
        ".wav",
        ".wave",
        ".weba",
        ".webm",
        ".wma",
        ".wmv",
        ".wv",
    ]
)


@dataclass(frozen=True)
class Source:
    """A recording that was asked for.

    path: of the file, ``-`` for standard input; name: as the user would write it; relative: where its results go below
    the output folder, without the end of the name; content: of standard input.
    """

    path: Path
    name: str
    relative: Path
    content: bytes | None = field(default=None, repr=False, compare=False)

    def recording(self, **options: Any) -> Recording:
        """The recording; options as ``Recording.open`` takes them. Raises ``AudioError`` and ``InputError``."""
        if self.content is not None:
            return Recording.from_bytes(self.content, name="standard input", **options)
        return Recording.open(self.path, **options)


def find_sources(named: Sequence[str], *, recursive: bool = False) -> list[Source]:
    """What ``named`` stands for, each recording once; standard input is read to its end.

    Args:
        named: files; folders, for the recordings in them; patterns with ``*``, ``?``, ``[...]`` or ``**``; ``-``.
        recursive: folders in folders too.

    Raises:
        InputError: a folder or a pattern holds no recording.
        AudioError: standard input is empty or cannot be read.
    """
    found: dict[Path, Source] = {}
    for name in dict.fromkeys(named):  # standard input can be read but once
        for source in _sources(name, recursive):
            found.setdefault(source.path, source)
    return list(found.values())


def output_paths(sources: Sequence[Source], folder: Path, suffixes: Sequence[str]) -> dict[Path, list[Path]]:
    """Recording -> its files below ``folder``, one for each suffix. Two recordings never share a file.

    Raises:
        InputError: two would.
    """
    taken: dict[Path, Source] = {}
    targets: dict[Path, list[Path]] = {}
    for source in sources:
        files = [folder / f"{source.relative}.{suffix}" for suffix in suffixes]
        other = taken.setdefault(files[0], source)
        if other is not source:
            raise InputError(
                f"{other.name} and {source.name} would both be written to {files[0]}: use two output folders"
            )
        targets[source.path] = files
    return targets


def _sources(name: str, recursive: bool) -> Iterator[Source]:
    if name == STANDARD_INPUT:
        yield Source(Path(STANDARD_INPUT), STANDARD_INPUT, Path("stdin"), _standard_input())
        return
    path = Path(name)
    if path.is_dir() and path.suffix.lower() not in SUFFIXES:
        paths = [*recordings_in(path, recursive=recursive)]
        base = path
        what = f"folder {name} holds no recording" + ("" if recursive else ": name another or add --recursive")
    elif any(mark in name for mark in "*?[") and not path.exists() and not is_address(name):
        paths = sorted(Path(match) for match in glob.iglob(name, recursive=True))  # noqa: PTH207  (a pattern may be absolute)
        paths = [match for match in paths if not match.is_dir()]
        base = _fixed_part(path)
        what = f"pattern {name!r:.100} matches no file: check it"
    else:
        yield Source(path, name, Path(path.stem))
        return
    if not paths:
        raise InputError(what)
    for match in paths:
        yield Source(match, str(match), match.relative_to(base).with_suffix(""))


def is_recording(name: str) -> bool:
    """Whether a file in a folder is taken for a recording, by its name; hidden files are not."""
    return not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES


def recordings_in(folder: Path, *, recursive: bool) -> Iterator[Path]:
    """Recordings in a folder, by name; hidden files and folders and links to folders are left out.

    Raises:
        AudioError: a folder cannot be read.
    """

    def refuse(error: OSError) -> None:
        raise AudioError(f"folder {error.filename} cannot be read ({error.strerror}): check its permissions")

    for parent, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = sorted(name for name in folders if recursive and not name.startswith("."))
        for name in sorted(files):
            if is_recording(name):
                yield Path(parent, name)


def _fixed_part(pattern: Path) -> Path:
    """The folders before the first one with a pattern in it."""
    parts = []
    for part in pattern.parts[:-1]:
        if any(mark in part for mark in "*?["):
            break
        parts.append(part)
    return Path(*parts)


def _standard_input() -> bytes:
    """All of it: recordings are read more than once, and many formats from their end."""
    try:
        content = sys.stdin.buffer.read()
    except OSError as error:
        raise AudioError(f"standard input cannot be read ({error.strerror}): pipe a recording into it") from error
    if not content:
        raise AudioError("standard input is empty: pipe a recording into it")
    return content
