"""Base class of everything stored in a model folder: loading by folder or hub id, and uploading."""

from __future__ import annotations

import os
import tempfile
from abc import abstractmethod
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from wav2vec2_core.errors import InputError
from wav2vec2_core.loading_options import accepted_in_loading, accepted_in_saving
from wav2vec2_core.source import ModelSource, open_model

_HUB = ("revision", "cache_dir", "token", "local_files_only", "force_download")
_UPLOAD = ("repo_id", "private", "token", "commit_message", "create_pr", "revision", "commit_description", "tags")


class Pretrained:
    """Base of the configuration, the tokenizer, the feature extractor, the processor and the models."""

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike[str], **options: Any) -> Any:
        """Read from a folder or a hub model.

        Args:
            pretrained_model_name_or_path: folder or hub id.
            options: ``revision``, ``cache_dir``, ``token``, ``local_files_only``, ``force_download`` of a hub model, as
                in ``huggingface_hub.hf_hub_download``, and those of ``from_source``. What else transformers' programs
                pass is in ``loading_options``: it changes nothing or is refused.

        Raises:
            CheckpointError: the model or a file is missing or damaged.
            ConfigError, InputError: as the constructor; an option is refused.
        """
        source, options = cls.find(pretrained_model_name_or_path, options)
        return cls.from_source(source, **options)

    @staticmethod
    def find(
        name: str | os.PathLike[str], options: dict[str, Any], honoured: Collection[str] = ()
    ) -> tuple[ModelSource, dict[str, Any]]:
        """The model ``name``, and the options of a ``from_pretrained`` that are not about where it is.

        ``honoured``: see ``accepted_in_loading``. Raises ``CheckpointError`` and ``InputError``.
        """
        if options.get("token") is None and options.get("use_auth_token") is not None:  # its name before 4.31
            options = {**options, "token": options["use_auth_token"]}
        hub = {key: options[key] for key in _HUB if key in options}
        rest = {key: value for key, value in options.items() if key not in (*_HUB, "use_auth_token")}
        return open_model(name, **hub), accepted_in_loading(rest, honoured)

    @classmethod
    @abstractmethod
    def from_source(cls, source: ModelSource, **options: Any) -> Self:
        """Like ``from_pretrained``, for a model that is already open."""

    @abstractmethod
    def save_pretrained(self, save_directory: str | os.PathLike[str], **options: Any) -> Any:
        """Write the files that ``from_pretrained`` reads into a folder, created where missing.

        ``push_to_hub=True`` uploads the folder, under its own name or that in ``repo_id``; ``token``, ``private``,
        ``commit_message`` and the others go to ``push_to_hub``.
        """

    @contextmanager
    def saving(self, save_directory: str | os.PathLike[str], options: dict[str, Any]) -> Iterator[None]:
        """Wraps the writing of a ``save_pretrained``: checks the options that are left over, uploads afterwards.

        Raises ``InputError`` for an option that is unknown or refused, before anything is written.
        """
        options = accepted_in_saving(options, _UPLOAD)
        push = options.pop("push_to_hub", False)
        upload = {name: options.pop(name) for name in _UPLOAD if name in options}
        if options:
            raise InputError(f"save_pretrained has no option {next(iter(options))!r:.100}: leave it out")
        yield
        if push:
            upload.setdefault("repo_id", Path(save_directory).resolve().name)
            self._upload(save_directory, **upload)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool | None = None,
        token: str | bool | None = None,
        commit_message: str | None = None,
        create_pr: bool = False,
        revision: str | None = None,
        commit_description: str | None = None,
        tags: list[str] | None = None,
        use_temp_dir: bool | None = None,
        **saving: Any,
    ) -> Any:
        """Upload what ``save_pretrained`` writes to the hub, creating the repository where missing.

        Args:
            repo_id: owner/name, or a name of your own.
            private, token, commit_message, create_pr, revision, commit_description: as in
                ``huggingface_hub.HfApi.upload_folder`` and ``create_repo``.
            tags, use_temp_dir: of no effect; there is no model card to put tags in.
            saving: options of ``save_pretrained``.

        Returns:
            huggingface_hub's description of the commit. Its exceptions are passed on.
        """
        optional: dict[str, Any] = {"revision": revision, "commit_description": commit_description}
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder, **saving)
            return self._upload(folder, repo_id, private, token, commit_message, create_pr, **optional)

    def _upload(
        self,
        folder: str | os.PathLike[str],
        repo_id: str,
        private: bool | None = None,
        token: str | bool | None = None,
        commit_message: str | None = None,
        create_pr: bool = False,
        tags: list[str] | None = None,
        **optional: Any,
    ) -> Any:
        from huggingface_hub import HfApi

        hub: Any = HfApi(token=token)
        return hub.upload_folder(
            repo_id=hub.create_repo(repo_id, private=private, exist_ok=True).repo_id,
            folder_path=folder,
            commit_message=commit_message or f"Upload {type(self).__name__}",
            create_pr=create_pr,
            **{name: value for name, value in optional.items() if value is not None},
        )
