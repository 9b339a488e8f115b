"""Files of this machine and of object stores, by their addresses."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Self, cast

from wav2vec2_core.errors import AudioError, BackendError, InputError, OutputError, brief
from wav2vec2_core.files import atomic_path, make_folder

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem


def library(part: str, use: str) -> Any:
    """A library of the extra, with a part such as ``ray.data``. Raises ``BackendError`` with what it is for."""
    try:
        import_module(part)
    except ImportError as error:
        raise BackendError(f'{use}: pip install "wav2vec2-frameworks[bulk]"') from error
    return import_module(part.partition(".")[0])


@dataclass(frozen=True)
class Place:
    """A file or a folder that may not be there. system: where; path: as that system writes it."""

    system: AbstractFileSystem
    path: str

    @classmethod
    def of(cls, address: str) -> Self:
        """A path of this machine or an address such as ``s3://bucket/folder``.

        Raises:
            BackendError: fsspec, or what it needs for this kind of address, is not installed.
            InputError: there is no such kind of address.
        """
        fsspec = library("fsspec.core", "addresses are read through fsspec")
        try:
            system, path = fsspec.core.url_to_fs(address)
        except ImportError as error:
            raise BackendError(f"{brief(address)} cannot be opened ({error}): install that package") from error
        except ValueError as error:
            raise InputError(
                f"{brief(address)} is no address ({error}): use a path, file://, s3://, gs:// ..."
            ) from error
        return cls(system, path)

    def __truediv__(self, name: str) -> Place:
        return Place(self.system, f"{self.path.rstrip('/')}/{name}")

    def __str__(self) -> str:
        return self.path if self.is_local else self.system.unstrip_protocol(self.path)

    @property
    def is_local(self) -> bool:
        """Whether it is on this machine's disks."""
        return "file" in (self.system.protocol if isinstance(self.system.protocol, tuple) else (self.system.protocol,))

    @property
    def is_folder(self) -> bool:
        """Whether there is such a folder. Raises ``InputError``."""
        with _as(InputError, self, "read"):
            return self.system.isdir(self.path)

    @property
    def folder(self) -> Place:
        """The folder that it is in."""
        return Place(self.system, str(PurePosixPath(self.path).parent))

    def below(self) -> list[str]:
        """Paths of all files below, sorted. Raises ``InputError``."""
        with _as(InputError, self, "read"):
            return sorted(self.system.find(self.path))

    def names(self) -> set[str]:
        """Names of the files in this folder; none where there is no such folder. Raises ``InputError``."""
        with _as(InputError, self, "read"):
            self.system.invalidate_cache(self.path)
            try:
                return {PurePosixPath(path).name for path in self.system.ls(self.path, detail=False)}
            except FileNotFoundError:
                return set()

    def read(self) -> bytes | None:
        """The content; None where there is no such file. Raises ``InputError``."""
        with _as(InputError, self, "read"):
            try:
                with self.system.open(self.path, "rb") as file:
                    return cast(bytes, file.read())
            except FileNotFoundError:
                return None

    def fetch(self, target: Path) -> None:
        """Copy a recording to this machine. Raises ``AudioError``."""
        with _as(AudioError, self, "read"):
            self.system.get_file(self.path, str(target))

    def remove(self) -> None:
        """Remove the file, if there is one. Raises ``OutputError``."""
        with _as(OutputError, self, "removed"), suppress(FileNotFoundError):
            self.system.rm_file(self.path)

    def write(self, content: bytes) -> None:
        """Write it whole: nobody ever reads a part. Object stores do so themselves. Raises ``OutputError``."""
        if self.is_local:
            make_folder(Path(self.path).parent)
            with atomic_path(self.path) as temporary:
                temporary.write_bytes(content)
            return
        with _as(OutputError, self, "written"):
            self.system.pipe_file(self.path, content)


@contextmanager
def _as(kind: type[Exception], place: Place, done: str) -> Iterator[None]:
    """Whatever a system raises as one line. Stores raise errors of their own that have nothing in common."""
    try:
        yield
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:100]
        raise kind(
            f"{brief(str(place))} cannot be {done} ({reason}): check the address and your access to it"
        ) from error
