"""Reading and writing small files safely: atomic writes, JSON with clear errors, names that stay in their folder."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from wav2vec2_core.errors import CheckpointError, OutputError, Wav2Vec2Error


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; move it onto ``path`` when the block succeeds, delete it otherwise.

    A reader never sees half a file, and a failed write leaves the old file as it was.

    Raises:
        OutputError: the folder does not exist, is not writable or the disk is full.
    """
    path = Path(path)
    with temporary_beside(path) as temporary:
        yield temporary
        temporary.replace(path)


@contextmanager
def temporary_beside(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a new empty file in the folder of ``path``, to be moved into its place by the block; what stays is deleted.

    Raises:
        OutputError: the folder does not exist, is not writable or the disk is full.
    """
    path = Path(path)
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name[:20]}.", suffix=".tmp", dir=path.parent)
        os.close(handle)
    except OSError as error:
        raise _not_written(path, error) from error
    temporary = Path(name)
    try:
        temporary.chmod(0o666 & ~_umask())  # mkstemp makes files private; give the usual mode
        yield temporary
    except Wav2Vec2Error:
        raise
    except OSError as error:
        raise _not_written(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(folder: str | os.PathLike[str], *, mark: str) -> Iterator[Path]:
    """Yield a temporary folder beside ``folder``; move it into its place when the block succeeds, delete it otherwise.

    ``mark``: a file that results of this kind contain. A folder that has it, or is empty, is replaced.

    Raises:
        OutputError: the folder holds other files, its parent is not writable or the disk is full.
    """
    folder = Path(folder).resolve()
    parent = make_folder(folder.parent)
    if folder.exists() and not (folder.is_dir() and ((folder / mark).exists() or not any(folder.iterdir()))):
        raise OutputError(f"{folder} exists and is no earlier result with a {mark}: name a new or an empty folder")
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name[:20]}.", suffix=".tmp", dir=parent))
    former = temporary.with_suffix(".old")
    try:
        temporary.chmod(0o777 & ~_umask())
        yield temporary
        if folder.exists():
            folder.rename(former)
        temporary.rename(folder)
    except OSError as error:
        if former.exists():
            former.rename(folder)
        raise error if isinstance(error, OutputError) else _not_written(folder, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(former, ignore_errors=True)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write UTF-8 text atomically. Raises ``OutputError``."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write JSON as Hugging Face libraries do: indent 2, sorted keys, UTF-8, final newline. Raises ``OutputError``."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


def read_json(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        CheckpointError: the file cannot be read, is not UTF-8 JSON, or holds something other than an object.
    """
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{path} is not readable JSON ({_reason(error)}): restore or download it again"
        ) from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} holds a JSON {type(value).__name__}, a JSON object is needed: restore it")
    return value


def make_folder(folder: str | os.PathLike[str]) -> Path:
    """Create ``folder`` where missing and check that files can be created in it. Raises ``OutputError``."""
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"cannot create folder {folder} ({_reason(error)}): name a folder that you may write to"
        ) from error
    try:
        tempfile.TemporaryFile(dir=folder).close()  # permissions alone do not tell: the disk may be read-only or full
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
        raise CheckpointError(f"{what} {name!r} is not a plain file name: it must not leave the model's folder")
    return name


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _not_written(path: Path, error: OSError) -> OutputError:
    return OutputError(f"cannot write {path} ({_reason(error)}): check the folder, its permissions and the free space")


def _reason(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
