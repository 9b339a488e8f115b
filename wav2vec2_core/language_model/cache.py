"""Cache of tables converted from other files, in the user's cache folder, memory-mapped by all processes that use them.

The name of a cached file contains its source's path and state and its own size and checksum, so a stale or damaged file
is detected without any other file. It is a KenLM binary, which KenLM can read.
"""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Callable
from pathlib import Path

from wav2vec2_core.errors import OutputError
from wav2vec2_core.files import make_folder, place, temporary_beside, user_cache_folder, write_text

#: Increment when the same source is converted to different tables.
REVISION = 1
#: Bytes at both ends of a source that distinguish states with equal size and time.
ENDS = 65_536
#: Pages, spread over a cached file, that its checksum covers: it detects incomplete and mixed-up copies.
PAGE, PAGES = 4096, 64


def cache_folder() -> Path:
    """Folder of cached tables."""
    return user_cache_folder("language-models")


def cached_tables(source: Path, write: Callable[[Path], None]) -> Path | None:
    """The cached tables of ``source``; if missing, stale or damaged, they are made by ``write(path)``.

    Files of earlier states of ``source`` are removed. Processes may make the same file at the same time.

    Returns:
        The file, or None if the cache folder is not writable.
    """
    try:
        folder = make_folder(cache_folder())
    except OutputError:
        return None
    origin, state = _names(source)
    for path in sorted(folder.glob(f"{origin}-*.bin")):
        if path.name.startswith(f"{origin}-{state}-") and _is_intact(path):
            return path
        try:
            path.unlink(missing_ok=True)
        except OSError:  # in use on Windows: a later run removes it
            continue
    with temporary_beside(folder / origin) as temporary:
        write(temporary)
        path = folder / f"{origin}-{state}-{_signature(temporary)}.bin"
        place(temporary, path)
    return path


def checked_once(source: Path, check: Callable[[], None]) -> None:
    """Call ``check`` unless it passed before for this state of ``source``; an empty file in the cache tells."""
    try:
        folder = make_folder(cache_folder())
    except OutputError:
        check()
        return
    origin, state = _names(source)
    mark = folder / f"{origin}-{state}.checked"
    if mark.exists():
        return
    check()
    for former in folder.glob(f"{origin}-*.checked"):
        former.unlink(missing_ok=True)
    write_text(mark, "")


def _names(source: Path) -> tuple[str, str]:
    """Names of a source and of its state."""
    path, about = source.resolve(), source.stat()
    with path.open("rb") as file:
        ends = file.read(ENDS)
        file.seek(-min(ENDS, about.st_size), os.SEEK_END)
        ends += file.read()
    state = f"{REVISION} {about.st_size} {about.st_mtime_ns} ".encode() + ends
    return _digest(os.fsencode(path)), _digest(state)


def _digest(value: bytes) -> str:
    return hashlib.blake2b(value, digest_size=10).hexdigest()


def _signature(path: Path) -> str:
    """Size and checksum of sampled pages of a file."""
    size, checksum = path.stat().st_size, 0
    with path.open("rb") as file:
        for page in range(PAGES):
            file.seek(max(size - PAGE, 0) * page // (PAGES - 1))
            checksum = zlib.crc32(file.read(PAGE), checksum)
    return f"{size:x}-{checksum:08x}"


def _is_intact(path: Path) -> bool:
    try:
        return path.stem.endswith(_signature(path))
    except OSError:
        return False
