"""Tables made from other files, kept in the user's cache folder: memory-mapped by every process that needs them.

A file there is named after its source's path and state, and after its own size and checksum, so it needs no other file
beside it to be found stale or damaged. It is a KenLM binary, which KenLM can read.
"""

from __future__ import annotations

import hashlib
import os
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

from wav2vec2_core.errors import OutputError
from wav2vec2_core.files import make_folder, place, temporary_beside, write_text

#: Changes when the same source gives other tables.
REVISION = 1
#: Bytes at either end of a source that tell states of equal size and time apart.
ENDS = 65_536
#: Pages spread over a cached file whose checksum is in its name: shows a copy that broke off or is of another file.
PAGE, PAGES = 4096, 64


def cache_folder() -> Path:
    """Where tables are kept: below ``XDG_CACHE_HOME`` or ``~/.cache``, on Windows below ``LOCALAPPDATA``."""
    default = Path.home() / ".cache"
    if sys.platform == "win32":
        default = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    return Path(os.environ.get("XDG_CACHE_HOME") or default) / "wav2vec2-frameworks" / "language-models"


def cached_tables(source: Path, write: Callable[[Path], None]) -> Path | None:
    """The tables of ``source`` in the cache, made by ``write(path)`` where missing, stale or damaged.

    Files of earlier states of ``source`` are removed. Processes that make the same file at once do no harm.

    Returns:
        The file, or None if the cache folder cannot be written.
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
        except OSError:  # in use on Windows: it stays until it is not
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
    """Size and checksum of pages of a file."""
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
