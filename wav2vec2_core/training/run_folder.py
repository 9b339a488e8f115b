"""The folder of a run: its configuration, its records, its checkpoints; what makes a resume possible and safe.

run.json                what the run is: model, data, recipe, back end
train.jsonl             a line for each update and each evaluation
checkpoints/step-N/     the state after N updates, with checkpoint.json, which lists its files with their digests
model/                  the result
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from wav2vec2_core.errors import CheckpointError, InputError, OutputError, brief
from wav2vec2_core.files import atomic_folder, make_folder, read_json, reporting_writes, write_json, write_text

_RUN, _RECORDS, _CHECKPOINTS, _SEAL = "run.json", "train.jsonl", "checkpoints", "checkpoint.json"
_FORMAT = 2


@dataclass(frozen=True)
class SavedCheckpoint:
    """A checkpoint on disk. step: updates made; scores: of its evaluation by name; ranking: numbers of it, the lower
    the better, the first counting most. Both are None where it had none."""

    folder: Path
    step: int
    scores: Mapping[str, float] | None
    ranking: tuple[float, ...] | None


class RunFolder:
    """A run on disk; made by ``start`` or ``resume``.

    Attributes:
        path: of the folder.
        model: where the result goes.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.model = path, path / "model"

    @classmethod
    def start(cls, path: str | os.PathLike[str], configuration: Mapping[str, Any]) -> Self:
        """Begin a run in a new or an empty folder.

        Args:
            path: created where missing.
            configuration: what the run is, JSON-ready; ``resume`` compares it.

        Raises:
            OutputError: the folder holds something, or cannot be written.
        """
        folder = Path(path)
        cls.check_is_new(folder)
        make_folder(folder)
        write_json(folder / _RUN, {"format": _FORMAT, **configuration})
        return cls(folder)

    @staticmethod
    def check_is_new(path: str | os.PathLike[str]) -> None:
        """Check that ``start`` will find a new or an empty folder. Raises ``OutputError``."""
        folder = Path(path)
        if (folder / _RUN).exists():
            raise OutputError(f"{folder} holds a run: go on with it by --resume, or name another folder")
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise OutputError(f"{folder} exists and is not empty: name a new folder")

    @classmethod
    def resume(cls, path: str | os.PathLike[str], configuration: Mapping[str, Any]) -> Self:
        """Go on with the run in a folder; one that holds none yet is started, so a job's command is always the same.

        Raises:
            InputError: the run there has another configuration; the differences are named.
            CheckpointError: ``run.json`` cannot be read.
            OutputError: as ``start``.
        """
        folder = Path(path)
        if not (folder / _RUN).exists():
            return cls.start(folder, configuration)
        there, here = dict(_flat(read_json(folder / _RUN))), dict(_flat({"format": _FORMAT, **configuration}))
        names = [name for name in {**there, **here} if there.get(name) != here.get(name)]
        if names:
            shown = "; ".join(_difference(name, there.get(name), here.get(name)) for name in names[:6])
            rest = f" and {len(names) - 6} more" if len(names) > 6 else ""
            raise InputError(
                f"the run in {folder} is another one: {shown}{rest}; repeat its options or name a new folder"
            )
        return cls(folder)

    # ---- records ------------------------------------------------------------------------------------------------

    def records(self) -> list[dict[str, Any]]:
        """What was written so far; a last line that a kill cut short is left out. Raises ``CheckpointError``."""
        path = self.path / _RECORDS
        try:
            lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
        except (OSError, UnicodeDecodeError) as error:
            raise CheckpointError(f"{path} cannot be read ({error}): restore it") from error
        records: list[dict[str, Any]] = []
        for number, line in enumerate(lines, start=1):
            try:
                records.append(json.loads(line))
            except ValueError as error:
                if number == len(lines):
                    break
                raise CheckpointError(f"{path}, line {number} is not JSON: restore it") from error
        return records

    def records_until(self, step: int) -> list[dict[str, Any]]:
        """The records of the first ``step`` updates. Raises ``CheckpointError``."""
        return [record for record in self.records() if record["step"] <= step]

    def forget_after(self, step: int) -> list[dict[str, Any]]:
        """Drop the records of what happened after ``step`` updates, which will happen again; the others.

        Raises:
            CheckpointError, OutputError: the file cannot be read or written.
        """
        kept = self.records_until(step)
        write_text(self.path / _RECORDS, "".join(_line(record) for record in kept))
        return kept

    @contextmanager
    def recording(self) -> Iterator[Callable[[Mapping[str, Any]], None]]:
        """A function that adds one record, at once visible to readers. Raises ``OutputError``."""
        path = self.path / _RECORDS
        with reporting_writes(path):
            file = path.open("a", encoding="utf-8", newline="\n")

        def write(record: Mapping[str, Any]) -> None:
            with reporting_writes(path):
                file.write(_line(record))
                file.flush()

        with file:
            yield write

    # ---- checkpoints --------------------------------------------------------------------------------------------

    def save(
        self,
        step: int,
        write: Callable[[Path], None],
        *,
        scores: Mapping[str, float] | None,
        ranking: Sequence[float] | None,
        keep: int,
    ) -> None:
        """Store the state after ``step`` updates; then delete all but the last ``keep`` and the best.

        The folder appears under its name when all of it is on the disk. A full disk leaves what was there.

        Args:
            step: updates made.
            write: writes the files of a state into a folder.
            scores, ranking: of the evaluation after this step, where there was one: see ``SavedCheckpoint``.
            keep: checkpoints beside the best one.

        Raises:
            OutputError: a file cannot be written.
        """
        with atomic_folder(self.checkpoint(step), mark=_SEAL) as temporary:
            write(temporary)
            files = {
                path.relative_to(temporary).as_posix(): _digest(path)
                for path in sorted(temporary.rglob("*"))
                if path.is_file()
            }
            pairs = None if scores is None else list(scores.items())  # an object would lose the order
            write_json(temporary / _SEAL, {"step": step, "scores": pairs, "ranking": ranking, "files": files})
        best = self.best()
        for checkpoint in self.checkpoints()[keep:]:
            if best is None or checkpoint.step != best.step:
                shutil.rmtree(checkpoint.folder, ignore_errors=True)

    def checkpoint(self, step: int) -> Path:
        """Where the state after ``step`` updates is."""
        return self.path / _CHECKPOINTS / f"step-{step}"

    def checkpoints(self) -> list[SavedCheckpoint]:
        """Those whose ``checkpoint.json`` is there, the newest first."""
        found: list[SavedCheckpoint] = []
        for folder in (self.path / _CHECKPOINTS).glob("step-*"):
            try:
                seal = read_json(folder / _SEAL)
                ranking = seal["ranking"]
                scores = None if ranking is None else dict(seal["scores"])
                ranking = None if ranking is None else tuple(ranking)
                found.append(SavedCheckpoint(folder, int(seal["step"]), scores, ranking))
            except (CheckpointError, KeyError, TypeError, ValueError):
                continue
        return sorted(found, key=lambda checkpoint: -checkpoint.step)

    def best(self) -> SavedCheckpoint | None:
        """The checkpoint with the lowest ranking; of several the first."""
        scored = [checkpoint for checkpoint in self.checkpoints() if checkpoint.ranking is not None]
        return min(scored, key=lambda one: (one.ranking or (), one.step), default=None)

    def newest(self, warn: Callable[[str], None]) -> SavedCheckpoint | None:
        """The newest checkpoint whose files are what was written; ``warn`` is told of those that are not."""
        for checkpoint in self.checkpoints():
            damage = verify(checkpoint)
            if damage is None:
                return checkpoint
            warn(f"{checkpoint.folder} is damaged ({damage}): going back to the one before")
        return None


def verify(checkpoint: SavedCheckpoint) -> str | None:
    """Describe what is wrong with the files of a checkpoint; empty if nothing is."""
    try:
        listed = read_json(checkpoint.folder / _SEAL)["files"]
        for name, digest in listed.items():
            if _digest(checkpoint.folder / name) != digest:
                return f"{name} has changed"
    except (OSError, KeyError, AttributeError) as error:
        return getattr(error, "strerror", None) or str(error)
    return None


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _difference(name: str, there: Any, here: Any) -> str:
    """What differs between two runs, for a message: of data it is not their digest that helps."""
    if name.endswith(".sha256"):
        return f"the rows of {name.removesuffix('.sha256')} are others"
    return f"{name} was {brief(there)} and is {brief(here)}"


def _line(record: Mapping[str, Any]) -> str:
    return json.dumps(record, ensure_ascii=False) + "\n"
