"""Reading and writing files safely: atomic writes, JSON with clear errors, and checked file names."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from wav2vec2_core.errors import CheckpointError, OutputError, Wav2Vec2Error
from wav2vec2_core.temporaries import is_abandoned, locked, machine, temporary_file, temporary_folder

_NO_EXCHANGE = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EPERM)  # an old system, or a disk that cannot
_NO_FLUSH = (errno.EINVAL, errno.EBADF, errno.ENOTSUP, errno.EACCES)  # for folders only; files must be flushed


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; move it to ``path`` if the block succeeds, else delete it.

    A reader never sees a partial file, and a failed write leaves the old file unchanged. Temporary files that a killed
    process left for the same path are deleted.

    Raises:
        OutputError: the folder does not exist or is not writable, or the disk is full.
    """
    path = Path(path)
    with temporary_beside(path) as temporary:
        yield temporary
        place(temporary, path)


@contextmanager
def temporary_beside(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a new empty file in the folder of ``path``, to be moved by ``place``; deleted if it was not moved.

    Raises:
        OutputError: the folder does not exist or is not writable, or the disk is full.
    """
    path = Path(path)
    with reporting_writes(path), temporary_file(path) as temporary:
        yield temporary


def place(temporary: Path, path: Path) -> None:
    """Flush a complete file to disk, then move it to ``path``. Raises ``OSError``."""
    open_to_others(temporary)
    flush(temporary)
    temporary.replace(path)
    flush(path.parent)


@contextmanager
def atomic_folder(folder: str | os.PathLike[str], *, mark: str) -> Iterator[Path]:
    """Yield a temporary folder beside ``folder``; move it to ``folder`` if the block succeeds, else delete it.

    Where the system can exchange two folders, ``folder`` exists at every moment. Elsewhere, a process killed between
    the two renames leaves the earlier result under a hidden name, and the next call restores it.

    ``mark``: a file that results of this kind contain. Only an empty folder or one with this file is replaced.

    Raises:
        OutputError: the folder holds other files, its parent is not writable, or the disk is full.
    """
    folder = Path(folder).resolve()
    make_folder(folder.parent)
    _bring_back(folder)
    if folder.exists() and not (folder.is_dir() and ((folder / mark).exists() or not any(folder.iterdir()))):
        raise OutputError(f"{folder} exists and is no earlier result with a {mark}: name a new or an empty folder")
    with reporting_writes(folder), temporary_folder(folder) as temporary:
        yield temporary
        open_to_others(temporary)
        for inner, _, names in os.walk(temporary):
            for name in names:
                flush(Path(inner, name))
            flush(Path(inner))
        if not _is_filled(folder):
            with suppress(FileNotFoundError):
                folder.rmdir()
            temporary.rename(folder)
        else:
            _replace(temporary, folder)
        flush(folder.parent)


def _is_filled(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())


def _replace(new: Path, folder: Path) -> None:
    with locked(folder):  # stays with what goes, so that nobody takes it for abandoned meanwhile
        if _exchange(new, folder):
            shutil.rmtree(new, ignore_errors=True)
        else:
            _replace_in_two_steps(new, folder)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two folders in one step; False where the system or the disk cannot. Raises ``OSError``."""
    import ctypes

    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None) if os.name == "posix" else None
    if rename is None:
        return False
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE of Linux
    if rename(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0:
        return True
    number = ctypes.get_errno()
    if number in _NO_EXCHANGE:
        return False
    raise OSError(number, os.strerror(number))


def _replace_in_two_steps(new: Path, folder: Path) -> None:
    """Move ``folder`` aside and ``new`` into its place. Raises ``OSError``, with the old folder in its place."""
    former = _former(folder)
    folder.rename(former)
    try:
        new.rename(folder)
    except OSError:
        former.rename(folder)
        raise
    shutil.rmtree(former, ignore_errors=True)


def _bring_back(folder: Path) -> None:
    """Recover after a killed process: undo the first of two renames, or finish after the second. Raises
    ``OutputError``.
    """
    former = _former(folder)
    if former.is_dir() and is_abandoned(former):
        with reporting_writes(folder):
            if folder.exists():
                shutil.rmtree(former, ignore_errors=True)
            else:
                former.rename(folder)


def _former(folder: Path) -> Path:
    return folder.parent / f".{folder.name[:200]}.{machine()}.old"


def open_to_others(temporary: Path) -> None:
    """Give a complete temporary file or folder the permissions of a new one. Raises ``OSError``."""
    temporary.chmod((0o777 if temporary.is_dir() else 0o666) & ~_umask())


def flush(path: Path) -> None:
    """Wait until a file, or the entries of a folder, are on disk. Raises ``OSError``."""
    is_folder = path.is_dir()
    if is_folder and os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY if is_folder or os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if not (is_folder and error.errno in _NO_FLUSH):
            raise
    finally:
        os.close(descriptor)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write UTF-8 text atomically; half a character becomes its escape, such as ``\\ud800``. Raises ``OutputError``."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(text.encode("utf-8", "backslashreplace"))


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write JSON as Hugging Face libraries do: indent 2, sorted keys, UTF-8, final newline. Raises ``OutputError``."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


def read_json(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        CheckpointError: the file cannot be read, is not UTF-8 JSON, or holds something other than an object.
    """
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8-sig"))  # some editors begin with a mark
    except (OSError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{path} is not readable JSON ({_reason(error)}): restore or download it again"
        ) from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} holds a JSON {type(value).__name__}, a JSON object is needed: restore it")
    return value


def user_cache_folder(name: str) -> Path:
    """The user's folder of cached ``name``: below ``XDG_CACHE_HOME`` or ``~/.cache``, on Windows ``LOCALAPPDATA``."""
    default = Path.home() / ".cache"
    if sys.platform == "win32":
        default = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    return Path(os.environ.get("XDG_CACHE_HOME") or default) / "wav2vec2-frameworks" / name


def make_folder(folder: str | os.PathLike[str]) -> Path:
    """Create ``folder`` if missing and check that files can be created in it. Raises ``OutputError``."""
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"cannot create folder {folder} ({_reason(error)}): name a folder that you may write to"
        ) from error
    try:
        tempfile.TemporaryFile(dir=folder).close()  # permissions are not enough: the disk may be read-only or full
    except OSError as error:
        raise OutputError(
            f"folder {folder} is not writable ({_reason(error)}): change its permissions or name another folder"
        ) from error
    return folder


def check_file_name(name: str, what: str) -> str:
    """Return ``name`` if it is a plain file name; a separator, ``..`` or an absolute path is refused.

    Raises:
        CheckpointError: the name would leave its folder.
    """
    if not name or name in {".", ".."} or any(mark in name for mark in ("/", "\\", "\0", ":")):
        raise CheckpointError(f"{what} {name!r:.100} is not a plain file name: it must not leave the model's folder")
    return name


@contextmanager
def reporting_writes(path: Path) -> Iterator[None]:
    """Convert any error that stops the block from writing into an ``OutputError`` that names ``path``."""
    try:
        yield
    except Wav2Vec2Error:  # some are OSErrors too; what was wrong with a source says so itself
        raise
    except OSError as error:
        raise _not_written(path, error) from error


def _umask() -> int:
    """The process's umask, read without ``os.umask``, which would have to change it for every thread."""
    with suppress(OSError), Path("/proc/self/status").open(encoding="ascii", errors="replace") as file:
        for line in file:
            if line.startswith("Umask:"):
                return int(line.split()[1], 8)
    with tempfile.TemporaryDirectory() as folder:
        probe = Path(folder, "probe")
        probe.touch(0o777)
        return 0o777 & ~probe.stat().st_mode


def _not_written(path: Path, error: OSError) -> OutputError:
    return OutputError(f"cannot write {path} ({_reason(error)}): check the folder, its permissions and the free space")


def _reason(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
