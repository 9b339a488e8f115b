"""``config.json``: how configurations are read from files and written."""

from __future__ import annotations

import json
import os
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from wav2vec2_core.files import make_folder, read_json, write_json, write_text
from wav2vec2_core.loading_options import accepted_in_loading
from wav2vec2_core.pretrained import Pretrained
from wav2vec2_core.source import ModelSource


class ConfigFiles(Pretrained):
    """Base of ``Wav2Vec2Config``, which adds the fields."""

    _name_or_path = ""

    @classmethod
    @abstractmethod
    def from_dict(cls, values: Mapping[str, Any], **overrides: Any) -> Any:
        """Build from the content of a ``config.json``."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Content of ``config.json``, every field in full."""

    @abstractmethod
    def update(self, config_dict: Mapping[str, Any]) -> None:
        """Assign to several fields at once."""

    @abstractmethod
    def validate(self) -> None:
        """Check every rule."""

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike[str], **options: Any) -> Any:
        """From the ``config.json`` of a folder or a hub model; ``options`` as in ``Pretrained.from_pretrained``.

        Args:
            pretrained_model_name_or_path: folder, hub id, or the path of a ``config.json``.
            options: those of the hub, and fields to change; others are kept as those of the constructor are. With
                ``return_unused_kwargs=True`` the result is the configuration and a dictionary of the others.

        Raises:
            CheckpointError: the model or its file is missing or damaged.
            ConfigError: a value breaks a rule.
        """
        unused_too = options.pop("return_unused_kwargs", False)
        values, options = cls.get_config_dict(pretrained_model_name_or_path, **options)
        config, others = cls.from_dict(values, return_unused_kwargs=True, **options)
        config._name_or_path = str(pretrained_model_name_or_path)
        if unused_too:
            return config, others
        config.update(others)
        return config

    @classmethod
    def get_config_dict(
        cls, pretrained_model_name_or_path: str | os.PathLike[str], **options: Any
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """The content of a ``config.json``, and the options that do not say where it is. As ``from_pretrained``."""
        path = Path(pretrained_model_name_or_path)
        if path.suffix == ".json" and path.is_file():
            return read_json(path), accepted_in_loading(options)
        source, options = cls.find(pretrained_model_name_or_path, options)
        return source.config_values(), options

    @classmethod
    def from_json_file(cls, json_file: str | os.PathLike[str]) -> Self:
        """From the path of a ``config.json``. Raises ``CheckpointError`` and ``ConfigError``."""
        return cls.from_dict(read_json(json_file))

    @classmethod
    def from_source(cls, source: ModelSource, **overrides: Any) -> Self:
        """From the ``config.json`` of a model that is already open. Raises ``CheckpointError`` and ``ConfigError``."""
        return cls.from_dict(source.config_values(), **overrides)

    def to_diff_dict(self) -> dict[str, Any]:
        """``to_dict`` without the fields that have their default."""
        ours, usual = self.to_dict(), type(self)().to_dict()
        if ours["output_hidden_size"] == ours["hidden_size"]:
            usual["output_hidden_size"] = ours["hidden_size"]
        return {name: value for name, value in ours.items() if name == "model_type" or usual.get(name, ...) != value}

    def to_json_string(self, use_diff: bool = False) -> str:
        """``config.json`` as text; with ``use_diff`` without the fields that have their default."""
        values = self.to_diff_dict() if use_diff else self.to_dict()
        return json.dumps(values, indent=2, sort_keys=True, ensure_ascii=False) + "\n"

    def to_json_file(self, json_file_path: str | os.PathLike[str], use_diff: bool = False) -> None:
        """Write ``to_json_string`` into a file. Raises ``OutputError``."""
        write_text(json_file_path, self.to_json_string(use_diff))

    def save_pretrained(self, save_directory: str | os.PathLike[str], **options: Any) -> None:
        """Write ``config.json`` into a folder (created where missing); ``options``: see ``Pretrained``.

        Raises:
            OutputError: the folder or the file cannot be written. InputError: an option is unknown.
        """
        self.validate()
        with self.saving(save_directory, options):
            write_json(make_folder(save_directory) / "config.json", self.to_dict())

    @property
    def name_or_path(self) -> str:
        """Where ``from_pretrained`` found it."""
        return self._name_or_path

    def get_text_config(self, decoder: bool = False) -> Self:
        """Itself: there are no parts."""
        return self
