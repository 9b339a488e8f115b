"""What is to be done: the recordings of a manifest or a folder, wherever it is."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from wav2vec2_core.audio import Recording
from wav2vec2_core.audio.selection import is_recording
from wav2vec2_core.bulk.store import Place
from wav2vec2_core.data.manifest import Utterance, read_manifest
from wav2vec2_core.errors import InputError, brief
from wav2vec2_core.temporaries import temporary_folder

#: Beside which copies of recordings lie while they are read.
_SCRATCH = Path(tempfile.gettempdir()) / "wav2vec2-bulk"
_PROTOCOL = re.compile(r"^([a-z][a-z0-9+.-]+):/(?=[^/])", re.IGNORECASE)


@dataclass(frozen=True)
class Item:
    """A recording, or a stretch of one. audio: its address; offset, duration: seconds, as in a manifest."""

    audio: str
    offset: float = 0.0
    duration: float | None = None

    @contextmanager
    def recording(self, **reading: Any) -> Iterator[Recording]:
        """The recording while it is used: one of an object store is copied to a temporary file and removed after it.

        ``reading``: as ``Recording.open`` takes it. Raises ``AudioError``.
        """
        place, end = Place.of(self.audio), None if self.duration is None else self.offset + self.duration
        if place.is_local:
            yield Recording.open(place.path, self.offset, end, name=self.audio, **reading)
            return
        with temporary_folder(_SCRATCH) as folder:
            copy = folder / f"recording{PurePosixPath(place.path).suffix}"
            place.fetch(copy)
            yield Recording.open(copy, self.offset, end, name=self.audio, **reading)


def find_items(address: str) -> list[Item]:
    """The recordings of a manifest (``read_manifest`` names the kinds) or those below a folder, in order.

    Relative paths of a manifest start at its folder, and addresses stay what they are. Raises ``InputError``.
    """
    place = Place.of(address)
    if place.is_folder:
        found = [
            Item(str(Place(place.system, path))) for path in place.below() if is_recording(PurePosixPath(path).name)
        ]
        if not found:
            raise InputError(f"there is no recording below {brief(address)}: name another folder or a manifest")
        return found
    if place.is_local:
        folder = Path(place.path).parent
        return [_item(utterance, folder, place.folder) for utterance in read_manifest(place.path)]
    content = place.read()
    if content is None:
        raise InputError(f"{brief(address)} does not exist: check the address")
    with temporary_folder(_SCRATCH) as folder:
        copy = folder / PurePosixPath(place.path).name
        copy.write_bytes(content)
        return [_item(utterance, folder, place.folder) for utterance in read_manifest(copy)]


def _item(utterance: Utterance, folder: Path, home: Place) -> Item:
    """``folder``: where the manifest was read; ``home``: where it is."""
    path = utterance.path
    audio = str(path)
    if path.is_relative_to(folder):
        inside = path.relative_to(folder).as_posix()
        # A path has one slash where an address has two.
        address = _PROTOCOL.sub(r"\1://", inside)
        audio = address if address != inside else str(home / inside)
    return Item(audio, utterance.offset, utterance.duration)
