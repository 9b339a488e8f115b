"""Temporary files and folders beside the result that they become, and what is left of them when a process is killed.

A temporary is called ``.<name>.<machine>-<number>.tmp`` and is locked (``flock``) while its process lives. Whoever
makes a temporary for the same name later removes those that nobody holds. A lock that another machine took on a shared
disk may be invisible here, so only temporaries of this machine are removed. Without such locks all of them stay.
"""

from __future__ import annotations

import functools
import hashlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_MOST = 10_000  # temporaries of one name at a time
_NAME = 20  # characters of the result's name in that of its temporary: names may not be longer than 255 bytes
_PRIVATE_FILE, _PRIVATE_FOLDER = 0o600, 0o700  # until it is complete, nobody else has any use for it


@contextmanager
def temporary_file(beside: Path) -> Iterator[Path]:
    """Yield a new empty file, private to this user, in the folder of ``beside``. What stays there is deleted.

    Raises:
        OSError: the folder does not exist, is not writable or the disk is full.
    """
    path, lock = _create(beside, _new_file)
    try:
        yield path
    finally:
        _remove_own(path, lock)


@contextmanager
def temporary_folder(beside: Path) -> Iterator[Path]:
    """Yield a new empty folder, private to this user, in the folder of ``beside``. What stays there is deleted.

    Raises:
        OSError: the folder does not exist, is not writable or the disk is full.
    """
    path, lock = _create(beside, _new_folder)
    try:
        yield path
    finally:
        _remove_own(path, lock)


@contextmanager
def locked(folder: Path) -> Iterator[bool]:
    """Wait until nobody holds ``folder``, and hold it meanwhile; yield whether it is still there.

    Where the system has no locks there is no wait.
    """
    descriptor = _opened(folder)
    try:
        if descriptor is not None:
            _lock(descriptor, wait=True)
        yield folder.exists() if descriptor is None else _is_at(descriptor, folder)
    finally:
        _release(descriptor)


def is_abandoned(path: Path) -> bool:
    """Whether a temporary exists that no living process holds; False where that cannot be known."""
    descriptor = _opened(path)
    try:
        return descriptor is not None and _lock(descriptor, wait=False) and _is_at(descriptor, path)
    finally:
        _release(descriptor)


@functools.cache
def machine() -> str:
    """Six hexadecimal digits that tell machines apart which write to the same disk."""
    identity = os.uname().nodename if hasattr(os, "uname") else os.environ.get("COMPUTERNAME", "")
    with suppress(OSError):
        identity += Path("/etc/machine-id").read_text(encoding="ascii", errors="replace")
    return hashlib.blake2b(identity.encode(), digest_size=3).hexdigest()


def _create(beside: Path, create: Callable[[Path], int | None]) -> tuple[Path, int | None]:
    """A new temporary and the descriptor that holds its lock. Raises ``OSError``."""
    first = 0 if fcntl else secrets.randbelow(10**9)  # without locks a name must not come again
    for number in range(first, first + _MOST):
        path = _numbered(beside, number)
        while True:
            try:
                descriptor = create(path)
            except FileExistsError:
                if _removed(path):
                    continue
                break
            if _holds(descriptor, path):
                _sweep(beside, number + 1)
                return path, descriptor
            _release(descriptor)
    raise FileExistsError(17, f"there are {_MOST} temporary files of its name")


def _numbered(beside: Path, number: int) -> Path:
    return beside.parent / f".{beside.name[:_NAME]}.{machine()}-{number}.tmp"


def _new_file(path: Path) -> int | None:
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, _PRIVATE_FILE)
    if fcntl:
        return descriptor
    os.close(descriptor)  # Windows renames no open file
    return None


def _new_folder(path: Path) -> int | None:
    path.mkdir(_PRIVATE_FOLDER)
    return _opened(path) if fcntl else None


def _holds(descriptor: int | None, path: Path) -> bool:
    """Lock a temporary that was just made; False if another process took it for abandoned before that."""
    if descriptor is None:
        return path.exists()
    return not _lock(descriptor, wait=True) or _is_at(descriptor, path)


def _sweep(beside: Path, number: int) -> None:
    """Remove abandoned temporaries from ``number`` on: several processes were killed at once."""
    while os.path.lexists(path := _numbered(beside, number)):
        _removed(path)
        number += 1


def _removed(path: Path) -> bool:
    """Remove a temporary that nobody holds; whether its name is free now."""
    descriptor = _opened(path)
    try:
        if descriptor is not None and _lock(descriptor, wait=False) and _is_at(descriptor, path):
            _remove(path)
        return not os.path.lexists(path)
    finally:
        _release(descriptor)


def _remove_own(path: Path, descriptor: int | None) -> None:
    """Remove a temporary unless it has become the result: its name may be another's by now."""
    if descriptor is None or _is_at(descriptor, path):
        _remove(path)
    _release(descriptor)


def _remove(path: Path) -> None:
    with suppress(OSError):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _opened(path: Path) -> int | None:
    """A descriptor that can be locked; network disks lock for writing only what is open for writing."""
    for flags in (os.O_RDWR, os.O_RDONLY):
        with suppress(OSError):
            return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0))
    return None


def _lock(descriptor: int, *, wait: bool) -> bool:
    """Whether this descriptor has the lock now."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:  # held by another, or a disk without locks
        return False
    return True


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except OSError:
        return False


def _release(descriptor: int | None) -> None:
    if descriptor is not None:
        os.close(descriptor)
