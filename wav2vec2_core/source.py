"""Sources of a model's files: a local folder or file, or the Hugging Face hub with its local cache."""

from __future__ import annotations

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wav2vec2_core.errors import CheckpointError
from wav2vec2_core.files import check_file_name, read_json
from wav2vec2_core.saving import PendingSave

if TYPE_CHECKING:
    from wav2vec2_core.weight_files.bare_file import BareModel

_PATIENCE = 10.0  # seconds to wait for the hub's list of a model's files
_BARE = (".pt", ".pth")  # endings of checkpoints that need no folder
_ADAPTER_FILE = re.compile(r"adapter\.(.+)\.(safetensors|bin)")


class ModelSource(ABC):
    """The files of one model. ``name``: the folder or the hub id, for messages.

    Callers pass fixed file names; a name that was read from a file must pass ``files.check_file_name`` first.
    """

    name: str

    @abstractmethod
    def find(self, *names: str) -> Path | None:
        """Local path of the first of these files that the model has; ``None`` if it has none of them.

        Raises:
            CheckpointError: the hub does not know the model, or it is neither cached nor reachable.
        """

    @abstractmethod
    def file_names(self, folder: str = "") -> list[str]:
        """Names of the model's files, or of those in one of its folders; offline, of those in the local cache.

        Raises:
            CheckpointError: they cannot be listed.
        """

    def require(self, name: str) -> Path:
        """Local path of a file that must exist. Raises ``CheckpointError`` if it does not."""
        path = self.find(name)
        if path is None:
            raise CheckpointError(f"model {self.name!r} has no {name}: {self.remedy}")
        return path

    def config_values(self) -> dict[str, Any]:
        """The content of the model's ``config.json``. Raises ``CheckpointError``."""
        return read_json(self.require("config.json"))

    def files_below(self, folder: str) -> list[str]:
        """Names ``folder/file`` of the files of a folder within the model. Raises ``CheckpointError``."""
        inner = [name.removeprefix(f"{folder}/") for name in self.file_names() if name.startswith(f"{folder}/")]
        return [f"{folder}/{check_file_name(name, 'file of ' + self.name)}" for name in inner if name.count("/") == 0]

    def adapter_languages(self) -> list[str]:
        """Languages with a file ``adapter.<language>.safetensors`` or ``.bin``, sorted. Raises ``CheckpointError``."""
        matches = (_ADAPTER_FILE.fullmatch(name) for name in self.file_names())
        return sorted({match[1] for match in matches if match})

    @property
    @abstractmethod
    def remedy(self) -> str:
        """What to do about a missing file; the end of an error message."""


def open_model(
    model: str | os.PathLike[str] | ModelSource,
    *,
    revision: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    token: str | bool | None = None,
    local_files_only: bool = False,
    force_download: bool = False,
) -> ModelSource:
    """Open the folder or file ``model`` if it exists, else the hub model of that name.

    An open source is returned as it is. Nothing is downloaded until a file is requested. The keyword arguments apply to
    hub models only, as in ``huggingface_hub.hf_hub_download``.

    Raises:
        CheckpointError: ``model`` is a path that does not exist or is part of a model folder, or is not a valid hub id.
    """
    if isinstance(model, ModelSource):
        return model
    path = Path(model)
    if _is(path.is_dir) and str(model):  # Path("") is the current folder
        return _Folder(path)
    if _is(path.is_file):
        if path.suffix not in _BARE:
            raise CheckpointError(
                f"model {str(model)!r:.100} is a file: name the folder that holds config.json and the weights, or a "
                "checkpoint of fairseq, fairseq2 or torchaudio (.pt, .pth)"
            )
        return FileSource(path)
    if not isinstance(model, str) or _looks_like_path(model):
        raise CheckpointError(f"model folder {str(model)!r:.100} does not exist: check the path")
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    try:
        validate_repo_id(model)
    except HFValidationError as error:
        raise CheckpointError(
            f"model {model!r:.100} is neither a folder here nor a hub id: name a folder or write the id as owner/name"
        ) from error
    cache = None if cache_dir is None else Path(cache_dir)
    return _HubModel(model, revision, cache, token, local_files_only, force_download)


def _is(test: Callable[[], bool]) -> bool:
    try:
        return test()
    except (OSError, ValueError):  # a name too long, or with a zero byte: no such file
        return False


def _looks_like_path(model: str) -> bool:
    return model.startswith((".", "~", "/")) or "\\" in model or model.count("/") > 1 or Path(model).is_absolute()


class _Folder(ModelSource):
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = str(folder)

    def files_below(self, folder: str) -> list[str]:
        inner = self.folder / folder
        return [f"{folder}/{name}" for name in _files_in(inner)] if inner.is_dir() else []

    def find(self, *names: str) -> Path | None:
        pending = PendingSave.of(self.folder)
        paths = (self.folder / name if pending is None else pending.path(name) for name in names)
        return next((path for path in paths if path is not None and path.is_file()), None)

    def file_names(self, folder: str = "") -> list[str]:
        names = _files_in(self.folder / folder)
        pending = None if folder else PendingSave.of(self.folder)
        return names if pending is None else sorted({*names, *pending.files} - {*pending.stale})

    @property
    def remedy(self) -> str:
        return "name a folder that save_pretrained wrote, or add the file"


class FileSource(ModelSource):
    """A fairseq, fairseq2 or torchaudio model in a single file, without the files of a model folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = str(path)

    @cached_property
    def content(self) -> BareModel:
        """The opened file. Raises ``CheckpointError``."""
        from wav2vec2_core.weight_files.bare_file import open_bare_file

        return open_bare_file(self.path)

    def find(self, *names: str) -> Path | None:
        return None

    def file_names(self, folder: str = "") -> list[str]:
        return [] if folder else [self.path.name]

    def config_values(self) -> dict[str, Any]:
        return dict(self.content.config_values)

    @property
    def remedy(self) -> str:
        return "make a folder of it with wav2vec2 convert"


@dataclass
class _HubModel(ModelSource):
    name: str
    revision: str | None
    cache_dir: Path | None
    token: str | bool | None
    local_files_only: bool
    force_download: bool

    def find(self, *names: str) -> Path | None:
        wanted = [name for name in names if self._listing is None or name in self._listing]
        return next((path for name in wanted if (path := self._fetch(name)) is not None), None)

    def file_names(self, folder: str = "") -> list[str]:
        if self._listing is not None:
            start = f"{folder}/" if folder else ""
            names = (name.removeprefix(start) for name in self._listing if name.startswith(start))
            return sorted(name for name in names if "/" not in name)
        snapshot = self._snapshot()
        if snapshot is None:
            raise self._unreachable()
        return _files_in(snapshot / folder)

    @cached_property
    def _listing(self) -> frozenset[str] | None:
        """The files of the model by the hub's word; ``None`` where the hub is not to be asked or does not answer.

        One question per model instead of one per file: a download tries a dead connection for half a minute.
        """
        from huggingface_hub import HfApi
        from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

        if self.local_files_only:
            return None
        try:
            info = HfApi().model_info(self.name, revision=self.revision, token=self.token, timeout=_PATIENCE)
        except Exception as error:  # offline mode, no connection, no such model ...: use what is cached
            if self._snapshot() is not None and not self.force_download:
                return None
            known = isinstance(error, (RepositoryNotFoundError, RevisionNotFoundError))
            raise (self._refused(error) if known else self._unreachable(error)) from error
        return frozenset(file.rfilename for file in info.siblings or ())

    def _fetch(self, name: str) -> Path | None:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import LocalEntryNotFoundError

        offline = self._listing is None
        try:
            path = hf_hub_download(
                self.name,
                name,
                revision=self.revision,
                cache_dir=self.cache_dir,
                token=self.token,
                local_files_only=offline,
                force_download=self.force_download and not offline,
            )
        except LocalEntryNotFoundError as error:
            if not offline:
                raise self._refused(error) from error
            if self._snapshot() is None:
                raise self._unreachable() from error
            return None  # the model is cached; this file is not part of what was downloaded
        except Exception as error:
            raise self._refused(error) from error
        return Path(path)

    def _snapshot(self) -> Path | None:
        """Folder of the cached files of this revision: some of the model's, whichever were asked for."""
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import LocalEntryNotFoundError

        try:
            found = snapshot_download(
                self.name, revision=self.revision, cache_dir=self.cache_dir, local_files_only=True
            )
        except LocalEntryNotFoundError:
            return None
        return Path(found)

    def _unreachable(self, error: BaseException | None = None) -> CheckpointError:
        state = "was not asked (local_files_only)" if error is None else f"cannot be reached ({_short(error)})"
        return CheckpointError(
            f"model {self.name!r} is neither a folder here nor in the local cache, and the hub {state}: "
            "download it first or name a folder"
        )

    def _refused(self, error: Exception) -> CheckpointError:
        from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

        match error:
            case GatedRepoError():
                why = f"is gated: accept its terms on https://huggingface.co/{self.name} and log in (hf auth login)"
            case RepositoryNotFoundError():
                why = "is neither a folder here nor a model on the hub: check the name, or log in if it is private"
            case RevisionNotFoundError():
                why = f"has no revision {self.revision!r:.100}: check the branch, tag or commit"
            case _:
                why = f"cannot be fetched from the hub ({_short(error)}): try again, or download it and name the folder"
        return CheckpointError(f"model {self.name!r} {why}")

    @property
    def remedy(self) -> str:
        return f"see https://huggingface.co/{self.name} for its files; offline, only those in the local cache are found"


def _short(error: BaseException) -> str:
    from huggingface_hub.errors import OfflineModeIsEnabled

    if isinstance(error, OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set"
    return " ".join(str(error).split())[:120] or type(error).__name__


def _files_in(folder: Path) -> list[str]:
    """Names of the files in a folder; empty if there is no such folder."""
    try:
        return sorted(path.name for path in folder.iterdir() if path.is_file())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise CheckpointError(f"folder {folder} cannot be listed ({error.strerror}): check its permissions") from error
