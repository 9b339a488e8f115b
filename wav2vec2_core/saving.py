"""Saving a model over an earlier one: configuration and weights change together, whenever the process is killed.

Files keep their usual names and no folder of others is renamed: the model's folder may be a mount or somebody's working
folder, and may hold anything else. A save goes like this:

1. Everything is written into a temporary folder inside the model's folder.
2. That folder is renamed to ``.saving``, which one save at a time can do, and gets a plan: the names of the new files,
   and of those of the earlier model that go. All of it is on the disk.
3. ``config.json`` of the earlier model is removed. From here on the new model is the model, and what is still in
   ``.saving`` is read from there.
4. Files of the earlier model go, the new ones move into their places, ``config.json`` last.

A program that knows nothing of ``.saving`` finds no ``config.json`` in step 4, so it refuses the folder. If there is a
``config.json``, ``.saving`` has no meaning: step 3 was not reached, or somebody else has written a model since.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from wav2vec2_core.errors import CheckpointError
from wav2vec2_core.files import (
    check_file_name,
    flush,
    make_folder,
    open_to_others,
    read_json,
    reporting_writes,
    write_json,
)
from wav2vec2_core.temporaries import locked, temporary_folder

CONFIG = "config.json"
_PENDING, _PLAN = ".saving", "plan.json"
_INDEX = ".index.json"  # how names of the files end that name shards


@contextmanager
def saving(folder: str | os.PathLike[str], is_stale: Callable[[str], bool]) -> Iterator[Path]:
    """Yield an empty folder; what the block writes there replaces files of ``folder``, all at once or not at all.

    Without a new ``config.json`` the one of ``folder`` stays.

    Args:
        folder: created where missing.
        is_stale: whether a file of an earlier model, by its name, goes unless the new one has it too.

    Raises:
        OutputError: the folder cannot be written.
    """
    folder = make_folder(folder)
    with reporting_writes(folder), temporary_folder(folder / "model") as stage:
        yield stage
        open_to_others(stage)
        for path in (*stage.iterdir(), stage):
            flush(path)
        own = stage.stat()
        _begin(stage, folder)
        try:
            _commit(folder, is_stale)
        except BaseException:
            with suppress(OSError):
                is_own = os.path.samestat(own, (folder / _PENDING).stat())
                if is_own and PendingSave.of(folder) is None:  # otherwise the next save completes this one
                    _remove_pending(folder)
            raise


@dataclass(frozen=True)
class PendingSave:
    """A save that has happened, but not all files are in their places.

    files: names of the new model's. stale: names of files that the new model does not have.
    """

    folder: Path
    files: tuple[str, ...]
    stale: tuple[str, ...]

    @classmethod
    def of(cls, folder: Path) -> PendingSave | None:
        """The save that is pending in a model's folder. Raises ``CheckpointError`` if its plan is damaged."""
        plan = folder / _PENDING / _PLAN
        if (folder / CONFIG).is_file() or not plan.is_file():
            return None
        content = read_json(plan)

        def names(kind: str) -> tuple[str, ...]:
            found = content.get(kind)
            if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
                raise CheckpointError(f"{plan} names no files: save the model again, or delete {plan.parent}")
            return tuple(check_file_name(name, f"file in {plan}") for name in found)

        return cls(folder, names("files"), names("stale"))

    def path(self, name: str) -> Path | None:
        """Where a file of the model is, whether it exists or not; None for one that the new model does not have."""
        if name in self.stale:
            return None
        moving = self.folder / _PENDING / name
        return moving if name in self.files and moving.exists() else self.folder / name

    def complete(self) -> None:
        """Put every file into its place; done twice, it does no harm. Raises ``OSError``."""
        pending = self.folder / _PENDING
        for name in self.stale:
            (self.folder / name).unlink(missing_ok=True)
        waiting = [name for name in sorted(self.files, key=_order) if (pending / name).exists()]
        for name in waiting:
            if name.endswith(_INDEX):
                (self.folder / name).unlink(missing_ok=True)  # the old one names old and new shards alike
        for name in waiting:
            (pending / name).replace(self.folder / name)
        flush(self.folder)


def _order(name: str) -> tuple[int, str]:
    """Configuration last, before it what names the shards, first the rest."""
    return (2 if name == CONFIG else 1 if name.endswith(_INDEX) else 0), name


def _begin(stage: Path, folder: Path) -> None:
    """Rename the new files' folder to ``.saving``, after whatever save is or was at work here. Raises ``OSError``."""
    pending = folder / _PENDING
    while True:
        try:
            stage.rename(pending)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        else:
            return
        with locked(pending) as is_there:  # its process has finished with it, or was killed
            if is_there:
                unfinished = PendingSave.of(folder)
                if unfinished is not None:
                    unfinished.complete()
                _remove_pending(folder)


def _commit(folder: Path, is_stale: Callable[[str], bool]) -> None:
    pending = folder / _PENDING
    if not (pending / CONFIG).exists() and (folder / CONFIG).is_file():
        shutil.copyfile(folder / CONFIG, pending / CONFIG)
        flush(pending / CONFIG)
    files = sorted(path.name for path in pending.iterdir())
    stale = sorted(path.name for path in folder.iterdir() if path.name not in files and is_stale(path.name))
    write_json(pending / _PLAN, {"files": files, "stale": stale})
    flush(folder)
    (folder / CONFIG).unlink(missing_ok=True)
    flush(folder)
    PendingSave(folder, tuple(files), tuple(stale)).complete()
    _remove_pending(folder)


def _remove_pending(folder: Path) -> None:
    """Remove what holds no file of the model any more, or never did. Raises ``OSError``.

    Its name is free at once and as a whole: an empty ``.saving`` would let the next save begin while this one ends.
    """
    with temporary_folder(folder / "model") as trash, suppress(FileNotFoundError):
        (folder / _PENDING).rename(trash / _PENDING)
