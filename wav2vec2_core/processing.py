"""Wav2Vec2Processor: feature extractor and tokenizer of a model as one object."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self

from wav2vec2_core.batching import Batch
from wav2vec2_core.errors import InputError
from wav2vec2_core.feature_extraction import Wav2Vec2FeatureExtractor
from wav2vec2_core.files import make_folder, write_json, write_text
from wav2vec2_core.pretrained import Pretrained
from wav2vec2_core.source import ModelSource
from wav2vec2_core.tokenization import Wav2Vec2CTCTokenizer

_BOTH = ("padding", "truncation", "max_length", "pad_to_multiple_of", "return_attention_mask", "return_tensors")
_AUDIO = frozenset({*_BOTH, "sampling_rate"})
_TEXT = frozenset({
    *_BOTH, "text_pair", "text_target", "text_pair_target", "add_special_tokens", "stride", "is_split_into_words",
    "padding_side", "return_token_type_ids", "return_overflowing_tokens", "return_special_tokens_mask",
    "return_length", "split_special_tokens",
})  # fmt: skip
_EXTRACTOR = ("feature_size", "sampling_rate", "padding_value", "return_attention_mask", "do_normalize")


class Wav2Vec2Processor(Pretrained):
    """Turns audio into model inputs, text into labels, and predictions into text.

    Args:
        feature_extractor: for ``audio``.
        tokenizer: for ``text``, ``decode`` and ``batch_decode``.
    """

    attributes = ("feature_extractor", "tokenizer")
    feature_extractor_class = "Wav2Vec2FeatureExtractor"
    tokenizer_class = "Wav2Vec2CTCTokenizer"

    def __init__(self, feature_extractor: Wav2Vec2FeatureExtractor, tokenizer: Wav2Vec2CTCTokenizer) -> None:
        self.feature_extractor = feature_extractor
        self.tokenizer = tokenizer
        self._is_target = False

    @property
    def model_input_names(self) -> list[str]:
        """Names of the entries that ``__call__`` may return for training."""
        return [*self.feature_extractor.model_input_names, "labels"]

    def __call__(self, audio: Any = None, text: Any = None, **options: Any) -> Batch:
        """Model inputs of audio, labels of text, or both.

        Args:
            audio: waveforms, as the feature extractor takes them.
            text: transcripts, as the tokenizer takes them.
            options: of both; ``raw_speech`` is an older name of ``audio``. Where they must differ,
                ``audio_kwargs={...}`` holds all options of the audio and ``text_kwargs={...}`` all of the text;
                ``return_tensors`` still goes to both.

        Returns:
            Of audio ``input_values`` (and ``attention_mask``); of text alone ``input_ids`` and ``attention_mask``; of
            both the former with the ids as ``labels``.

        Raises:
            InputError: neither is given, an option is unknown or given twice, or as the two parts raise.
        """
        audio = options.pop("raw_speech", audio)
        if self._is_target and text is None:
            audio, text = None, audio
        if audio is None and text is None:
            raise InputError("neither audio nor text is given: pass one of them or both")
        audio_options, text_options = _route(options)
        if audio is None:
            return self.tokenizer(text, **text_options)
        inputs = self.feature_extractor(audio, **audio_options)
        if text is not None:
            inputs["labels"] = self.tokenizer(text, **text_options)["input_ids"]
        return inputs

    def pad(self, input_features: Any = None, labels: Any = None, **options: Any) -> Batch:
        """Pad features and labels of examples, as a data collator does.

        Args:
            input_features: mappings with ``input_values``, for the feature extractor's ``pad``.
            labels: mappings with ``input_ids``, for the tokenizer's ``pad``.
            options: of both; ``truncation`` cuts the audio alone.

        Returns:
            The padded features with the padded ids as ``labels``; of labels alone what the tokenizer gives.

        Raises:
            InputError: neither is given, or as the two parts raise.
        """
        if self._is_target and labels is None:
            input_features, labels = None, input_features
        if input_features is None and labels is None:
            raise InputError("neither input_features nor labels are given: pass one of them or both")
        text_options = {name: value for name, value in options.items() if name != "truncation"}
        if input_features is None:
            return self.tokenizer.pad(labels, **text_options)
        batch = self.feature_extractor.pad(input_features, **options)
        if labels is not None:
            batch["labels"] = self.tokenizer.pad(labels, **text_options)["input_ids"]
        return batch

    def decode(self, *args: Any, **options: Any) -> Any:
        """The tokenizer's ``decode``."""
        return self.tokenizer.decode(*args, **options)

    def batch_decode(self, *args: Any, **options: Any) -> Any:
        """The tokenizer's ``batch_decode``."""
        return self.tokenizer.batch_decode(*args, **options)

    @property
    def current_processor(self) -> Wav2Vec2FeatureExtractor | Wav2Vec2CTCTokenizer:
        """The part that a call with one positional argument uses."""
        return self.tokenizer if self._is_target else self.feature_extractor

    @contextmanager
    def as_target_processor(self) -> Iterator[None]:
        """Within this context, a call or ``pad`` with one argument takes text or ids. Prefer
        ``processor(text=...)``.
        """
        self._is_target = True
        try:
            yield
        finally:
            self._is_target = False

    @classmethod
    def from_source(cls, source: ModelSource, **overrides: Any) -> Self:
        """Read the files of a model that is already open; ``overrides`` are arguments of the constructor."""
        audio = {name: overrides.pop(name) for name in _EXTRACTOR if name in overrides}
        return cls(
            feature_extractor=Wav2Vec2FeatureExtractor.from_source(source, **audio),
            tokenizer=Wav2Vec2CTCTokenizer.from_source(source, **overrides),
        )

    def save_pretrained(self, save_directory: str | os.PathLike[str], **options: Any) -> None:
        """Write the files of both parts, for transformers 4 and for transformers 5, into a folder.

        ``options``: see ``Pretrained``.

        Raises:
            InputError: an option is unknown or refused.
            OutputError: the folder or a file cannot be written.
        """
        with self.saving(save_directory, options):
            folder, name = make_folder(save_directory), type(self).__name__
            self.tokenizer.save_pretrained(folder, processor_class=name)
            self.feature_extractor.save_pretrained(folder, processor_class=name)
            write_json(folder / "processor_config.json", self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """The content of ``processor_config.json``."""
        name = type(self).__name__
        extractor = {**self.feature_extractor.to_dict(), "processor_class": name}
        return {"feature_extractor": extractor, "processor_class": name}

    def to_json_string(self) -> str:
        """``processor_config.json`` as text."""
        return json.dumps(self.to_dict(), indent=2, sort_keys=True) + "\n"

    def to_json_file(self, json_file_path: str | os.PathLike[str]) -> None:
        """Write ``to_json_string`` into a file. Raises ``OutputError``."""
        write_text(json_file_path, self.to_json_string())

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.feature_extractor!r:.100}, {self.tokenizer!r:.100})"


def _route(options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split the options of a call into those of the feature extractor and of the tokenizer. Raises ``InputError``."""
    plain = dict(options)
    own = {name: plain.pop(name, None) for name in ("audio_kwargs", "text_kwargs", "common_kwargs")}
    for name in plain:
        if name not in _AUDIO | _TEXT:
            raise InputError(f"option {name!r:.100} is unknown: the feature extractor and the tokenizer list theirs")
        twice = next((group for group, values in own.items() if name in (values or {})), None)
        if twice is not None:
            raise InputError(f"option {name!r:.100} is given twice, in {twice} and by itself: leave one out")
    common = {"return_tensors": plain["return_tensors"]} if "return_tensors" in plain else own["common_kwargs"] or {}
    if set(common) - {"return_tensors"}:
        raise InputError(f"common_kwargs={common} takes return_tensors alone: pass the others by themselves")
    audio = {name: value for name, value in plain.items() if name in _AUDIO}
    text = {name: value for name, value in plain.items() if name in _TEXT}
    if own["audio_kwargs"] is not None:
        audio = own["audio_kwargs"]
    if own["text_kwargs"] is not None:
        text = own["text_kwargs"]
    return {**audio, **common}, {**text, **common}
