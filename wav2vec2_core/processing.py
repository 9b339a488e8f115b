"""Wav2Vec2Processor: feature extractor and tokenizer of a model as one object."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Self

from wav2vec2_core.batching import Batch
from wav2vec2_core.errors import InputError
from wav2vec2_core.feature_extraction import Wav2Vec2FeatureExtractor
from wav2vec2_core.files import make_folder, write_json
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

    def __init__(self, feature_extractor: Wav2Vec2FeatureExtractor, tokenizer: Wav2Vec2CTCTokenizer) -> None:
        self.feature_extractor = feature_extractor
        self.tokenizer = tokenizer

    @property
    def model_input_names(self) -> list[str]:
        """What ``__call__`` may return for training."""
        return [*self.feature_extractor.model_input_names, "labels"]

    def __call__(self, audio: Any = None, text: Any = None, **options: Any) -> Batch:
        """Model inputs of audio, labels of text, or both.

        Args:
            audio: waveforms, as the feature extractor takes them.
            text: transcripts, as the tokenizer takes them.
            options: of both. Where they must differ, ``audio_kwargs={...}`` holds all options of the audio and
                ``text_kwargs={...}`` all of the text; ``return_tensors`` still goes to both.

        Returns:
            Of audio ``input_values`` (and ``attention_mask``); of text alone ``input_ids`` and ``attention_mask``; of
            both the former with the ids as ``labels``.

        Raises:
            InputError: neither is given, an option is unknown or given twice, or as the two parts raise.
        """
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

    @classmethod
    def from_source(cls, source: ModelSource, **overrides: Any) -> Self:
        """Read the files of a model that is open already; ``overrides`` are arguments of the constructor."""
        audio = {name: overrides.pop(name) for name in _EXTRACTOR if name in overrides}
        return cls(
            feature_extractor=Wav2Vec2FeatureExtractor.from_source(source, **audio),
            tokenizer=Wav2Vec2CTCTokenizer.from_source(source, **overrides),
        )

    def save_pretrained(self, save_directory: str | os.PathLike[str]) -> None:
        """Write the files of both parts, for transformers 4 and for transformers 5, into a folder.

        Raises:
            OutputError: the folder or a file cannot be written.
        """
        folder, name = make_folder(save_directory), type(self).__name__
        self.tokenizer.save_pretrained(folder, processor_class=name)
        self.feature_extractor.save_pretrained(folder, processor_class=name)
        extractor = {**self.feature_extractor.to_dict(), "processor_class": name}
        write_json(folder / "processor_config.json", {"feature_extractor": extractor, "processor_class": name})

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.feature_extractor!r}, {self.tokenizer!r})"


def _route(options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split the options of a call into those of the feature extractor and of the tokenizer. Raises ``InputError``."""
    plain = dict(options)
    own = {name: plain.pop(name, None) for name in ("audio_kwargs", "text_kwargs", "common_kwargs")}
    for name in plain:
        if name not in _AUDIO | _TEXT:
            raise InputError(f"option {name!r} is unknown: the feature extractor and the tokenizer list theirs")
        twice = next((group for group, values in own.items() if name in (values or {})), None)
        if twice is not None:
            raise InputError(f"option {name!r} is given twice, in {twice} and by itself: leave one out")
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
