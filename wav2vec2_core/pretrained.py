"""What everything that lives in a model folder shares: loading by folder or hub id, and uploading."""

from __future__ import annotations

import os
import tempfile
from abc import abstractmethod
from typing import Any, Self

from wav2vec2_core.source import ModelSource, open_model


class Pretrained:
    """Base of the configuration, the tokenizer, the feature extractor, the processor and the models."""

    @classmethod
    def from_pretrained(
        cls,
        model: str | os.PathLike[str],
        *,
        revision: str | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        token: str | bool | None = None,
        local_files_only: bool = False,
        force_download: bool = False,
        **options: Any,
    ) -> Self:
        """Read from a folder or a hub model.

        Args:
            model: folder or hub id.
            revision, cache_dir, token, local_files_only, force_download: of a hub model, as in
                ``huggingface_hub.hf_hub_download``.
            **options: those of ``from_source``.

        Raises:
            CheckpointError: the model or a file is missing or damaged.
            ConfigError, InputError: as the constructor.
        """
        source = open_model(
            model,
            revision=revision,
            cache_dir=cache_dir,
            token=token,
            local_files_only=local_files_only,
            force_download=force_download,
        )
        return cls.from_source(source, **options)

    @classmethod
    @abstractmethod
    def from_source(cls, source: ModelSource, **options: Any) -> Self:
        """As ``from_pretrained``, of a model that is open already."""

    @abstractmethod
    def save_pretrained(self, save_directory: str | os.PathLike[str]) -> Any:
        """Write the files that ``from_pretrained`` reads into a folder, created where missing."""

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool | None = None,
        token: str | bool | None = None,
        commit_message: str | None = None,
        create_pr: bool = False,
    ) -> Any:
        """Upload what ``save_pretrained`` writes to the hub, creating the repository where missing.

        Returns:
            huggingface_hub's description of the commit. Its exceptions are passed on.
        """
        from huggingface_hub import HfApi

        hub = HfApi(token=token)
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            repo_id = hub.create_repo(repo_id, private=private, exist_ok=True).repo_id
            return hub.upload_folder(
                repo_id=repo_id,
                folder_path=folder,
                commit_message=commit_message or f"Upload {type(self).__name__}",
                create_pr=create_pr,
            )
