"""The ``Auto`` classes of programs written for transformers: they read a model's files and pick the class of ours.

Those without tensors are here; ``AutoModel`` and its kin are in each back end, on top of ``AutoModelClass``.
"""

from __future__ import annotations

import os
from typing import Any, ClassVar

from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.errors import CheckpointError, ConfigError, InputError, brief
from wav2vec2_core.feature_extraction import Wav2Vec2FeatureExtractor
from wav2vec2_core.files import read_json
from wav2vec2_core.loading_options import accepted_in_loading
from wav2vec2_core.pretrained import Pretrained
from wav2vec2_core.processing import Wav2Vec2Processor
from wav2vec2_core.processing_with_lm import Wav2Vec2ProcessorWithLM
from wav2vec2_core.source import FileSource, ModelSource
from wav2vec2_core.tokenization import Wav2Vec2CTCTokenizer

_FAMILY = "wav2vec2"
#: Values of ``processor_class`` -> the class of ours.
_PROCESSORS = {
    "Wav2Vec2Processor": Wav2Vec2Processor,
    "Wav2Vec2ProcessorWithLM": Wav2Vec2ProcessorWithLM,
}
#: Files that may hold ``processor_class``, in the order in which they are asked.
_NAMING = ("processor_config.json", "preprocessor_config.json", "tokenizer_config.json", "config.json")
#: The folder of a language model within a model.
_LANGUAGE_MODEL = "language_model"


class _Chooser:
    """Base of the classes here: they choose, and are never made."""

    def __new__(cls, *args: Any, **options: Any) -> Any:
        raise InputError(f"{cls.__name__} cannot be made: call {cls.__name__}.from_pretrained(folder or hub id)")


class AutoConfig(_Chooser):
    """Reads configurations."""

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike[str], **options: Any) -> Any:
        """``Wav2Vec2Config.from_pretrained``.

        Raises:
            CheckpointError: the model or its file is missing or damaged.
            ConfigError: the model is of another family, or a value breaks a rule.
        """
        return Wav2Vec2Config.from_pretrained(pretrained_model_name_or_path, **options)

    @classmethod
    def for_model(cls, model_type: str, **fields: Any) -> Wav2Vec2Config:
        """A configuration of these fields; ``model_type`` must be ``"wav2vec2"``. Raises ``ConfigError``."""
        return Wav2Vec2Config.from_dict({"model_type": model_type, **fields})


class AutoFeatureExtractor(_Chooser):
    """Reads feature extractors."""

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | os.PathLike[str], **options: Any
    ) -> Wav2Vec2FeatureExtractor:
        """``Wav2Vec2FeatureExtractor.from_pretrained``. Raises ``ConfigError`` for a model of another family."""
        return _read(Wav2Vec2FeatureExtractor, pretrained_model_name_or_path, options)


class AutoTokenizer(_Chooser):
    """Reads tokenizers."""

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | os.PathLike[str], **options: Any
    ) -> Wav2Vec2CTCTokenizer:
        """``Wav2Vec2CTCTokenizer.from_pretrained``. Raises ``ConfigError`` for a model of another family."""
        return _read(Wav2Vec2CTCTokenizer, pretrained_model_name_or_path, options)


class AutoProcessor(_Chooser):
    """Reads processors, with a language model where the model's folder has one."""

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | os.PathLike[str], **options: Any
    ) -> Wav2Vec2Processor | Wav2Vec2ProcessorWithLM:
        """``from_pretrained`` of the class that ``processor_class`` in the model's files names.

        A folder with a language model beside the weights is a ``Wav2Vec2ProcessorWithLM`` whatever they name.

        Raises:
            CheckpointError: the model or a file is missing or damaged, as in a model without vocabulary, or
                ``processor_class`` is of another family.
            ConfigError: the model is of another family.
        """
        source, options = Pretrained.find(pretrained_model_name_or_path, options)
        check_family(source)
        return processor_class(source).from_source(source, **options)


class AutoModelClass(_Chooser):
    """Base of a back end's ``AutoModelFor...``; ``model_class`` is the class that it makes."""

    model_class: ClassVar[Any]

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | os.PathLike[str] | None, *model_args: Any, **options: Any
    ) -> Any:
        """``from_pretrained`` of ``model_class``, whatever head the checkpoint has; a new one is warned about.

        Raises:
            CheckpointError: the model, a file or a parameter is missing, damaged or of another shape.
            ConfigError: the model is of another family, or a value breaks a rule.
            InputError: an option is refused.
        """
        if model_args:
            raise InputError(f"argument {brief(model_args[0])} has no name: pass options of the model by name")
        return cls.model_class.from_pretrained(pretrained_model_name_or_path, **options)

    @classmethod
    def from_config(cls, config: Any, **options: Any) -> Any:
        """A new model of ``model_class`` with first values; ``options`` as of its constructor.

        Raises:
            ConfigError: the configuration is of another family.
            InputError: an option is refused.
        """
        return cls.model_class(Wav2Vec2Config.of(config), **accepted_in_loading(options))


def check_family(source: ModelSource) -> None:
    """Refuse a model whose ``config.json`` says that it is of another family; a folder may have none.

    Raises:
        ConfigError: it is of another family.
        CheckpointError: the file is damaged.
    """
    path = source.find("config.json")
    kind = _FAMILY if path is None else read_json(path).get("model_type", _FAMILY)
    if kind != _FAMILY:
        raise ConfigError(
            f"model {source.name!r:.100} has model_type {brief(kind)}, this library reads {_FAMILY!r} models: choose a "
            "wav2vec2, XLS-R or MMS checkpoint"
        )


def processor_class(source: ModelSource) -> type[Wav2Vec2Processor]:
    """The class of a model's processor.

    Raises:
        CheckpointError: the files name another family's, or the model has no vocabulary, so that it has no processor.
    """
    if not isinstance(source, FileSource) and source.find("vocab.json") is None:
        raise CheckpointError(
            f"model {source.name!r:.100} has no vocab.json, so it has no processor: use AutoFeatureExtractor for its "
            "audio, or name a CTC model"
        )
    if source.file_names(_LANGUAGE_MODEL):
        return Wav2Vec2ProcessorWithLM
    name = next((name for file in _NAMING if (name := _processor_in(source, file)) is not None), "Wav2Vec2Processor")
    if name not in _PROCESSORS:
        raise CheckpointError(
            f"model {source.name!r:.100} has processor_class {brief(name)}: use one of {', '.join(_PROCESSORS)}"
        )
    return _PROCESSORS[name]


def _processor_in(source: ModelSource, file: str) -> Any:
    path = source.find(file)
    return None if path is None else read_json(path).get("processor_class")


def _read(kind: Any, name: str | os.PathLike[str], options: dict[str, Any]) -> Any:
    source, options = Pretrained.find(name, options)
    check_family(source)
    return kind.from_source(source, **options)
