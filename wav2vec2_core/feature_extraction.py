"""Wav2Vec2FeatureExtractor: validates, truncates, pads and normalises waveforms into ``input_values``."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np

from wav2vec2_core.batching import Batch, as_numpy, check_length, framework_of, gather, padding_strategy, round_up
from wav2vec2_core.errors import ConfigError, InputError
from wav2vec2_core.files import make_folder, read_json, write_json, write_text
from wav2vec2_core.pretrained import Pretrained
from wav2vec2_core.source import ModelSource

_FIELDS = ("feature_size", "sampling_rate", "padding_value", "return_attention_mask", "do_normalize", "padding_side")


class Wav2Vec2FeatureExtractor(Pretrained):
    """Converts waveforms to model inputs, like transformers 4.57.

    Args:
        feature_size: values per sample, always 1.
        sampling_rate: sampling rate of the model, in hertz.
        padding_value: value of the padding.
        return_attention_mask: whether to return the mask by default: ``True`` for models with layer norm in their
            feature encoder, ``False`` for those with group norm.
        do_normalize: scale every waveform to zero mean and unit variance.
        padding_side: ``"right"`` or ``"left"``.
        extra: unknown entries of ``preprocessor_config.json``, which are kept and saved again.

    Raises:
        ConfigError: a value has the wrong type or is out of range.
    """

    model_input_names = ["input_values", "attention_mask"]  # noqa: RUF012  (as in transformers)

    def __init__(
        self,
        feature_size: int = 1,
        sampling_rate: int = 16000,
        padding_value: float = 0.0,
        return_attention_mask: bool = False,
        do_normalize: bool = True,
        padding_side: str = "right",
        **extra: Any,
    ) -> None:
        self.feature_size = feature_size
        self.sampling_rate = sampling_rate
        self.padding_value = padding_value
        self.return_attention_mask = return_attention_mask
        self.do_normalize = do_normalize
        self.padding_side = padding_side
        self.extra = extra
        self._warned = False
        self._validate()

    def __call__(
        self,
        raw_speech: Any,
        padding: bool | str = False,
        max_length: int | None = None,
        truncation: bool = False,
        pad_to_multiple_of: int | None = None,
        return_attention_mask: bool | None = None,
        return_tensors: str | None = None,
        sampling_rate: int | None = None,
    ) -> Batch:
        """Convert one waveform or a batch to model inputs; one waveform becomes a batch of one.

        Without an attention mask, normalisation includes the padding, as in transformers, so the values depend on the
        longest waveform of the batch. Request the mask to avoid this.

        Args:
            raw_speech: (samples,), (batch, samples) or a list of (samples,) of different lengths: arrays, tensors or
                lists of any real type, mono.
            padding: ``True`` or ``"longest"``, ``"max_length"``, ``False`` or ``"do_not_pad"``.
            max_length: samples to pad to with ``padding="max_length"`` and to cut at with ``truncation``.
            truncation: cut longer waveforms at their end.
            pad_to_multiple_of: padded lengths (and the length cut at) are rounded up to a multiple of this.
            return_attention_mask: 1 for samples, 0 for padding; the extractor's setting by default.
            return_tensors: ``"np"``, ``"pt"``, ``"tf"``, ``"jax"``; a list of numpy arrays by default.
            sampling_rate: hertz of ``raw_speech``, for a check: nothing is resampled.

        Returns:
            ``input_values`` (batch, samples) float32 and perhaps ``attention_mask`` (batch, samples) int32.

        Raises:
            InputError: the sampling rate is another one; a waveform is empty, not mono, or not finite; options
                contradict each other.
        """
        self._check_sampling_rate(sampling_rate)
        waveforms = [_check_waveform(row, index) for index, row in enumerate(_rows(raw_speech))]
        with_mask = self.return_attention_mask if return_attention_mask is None else return_attention_mask
        padded = self._pad(
            {"input_values": waveforms},
            with_mask=with_mask,
            padding=padding,
            max_length=max_length,
            truncation=truncation,
            multiple=pad_to_multiple_of,
        )
        values, masks = padded["input_values"], padded.get("attention_mask")
        if self.do_normalize:
            values = self.zero_mean_unit_var_norm(values, masks, self.padding_value)
        batch = Batch(input_values=[value.astype(np.float32, copy=False) for value in values])
        if masks is not None:
            batch["attention_mask"] = masks
        return batch.convert_to_tensors(return_tensors)

    def pad(
        self,
        processed_features: Any,
        padding: bool | str = True,
        max_length: int | None = None,
        truncation: bool = False,
        pad_to_multiple_of: int | None = None,
        return_attention_mask: bool | None = None,
        return_tensors: str | None = None,
    ) -> Batch:
        """Pad waveforms that are normalised already, as a data collator does.

        Args:
            processed_features: a mapping or a list of mappings with ``input_values`` and perhaps ``attention_mask``;
                other entries pass through.
            padding, max_length, truncation, pad_to_multiple_of, return_attention_mask: as in ``__call__``.
            return_tensors: as in ``__call__``; by default the kind that the waveforms are, numpy for lists.

        Raises:
            InputError: there are no ``input_values``, or options contradict each other.
        """
        entries = gather(processed_features)
        if "input_values" not in entries:
            raise InputError(
                f"the features to pad have no 'input_values', only {list(entries)}: run the extractor first"
            )
        rows = entries["input_values"]
        with_mask = self.return_attention_mask if return_attention_mask is None else return_attention_mask
        if rows is None or len(rows) == 0:
            return Batch({**entries, "attention_mask": []} if with_mask else entries)
        return_tensors = return_tensors or framework_of(rows[0]) or "np"
        arrays = {name: [as_numpy(row) for row in value] for name, value in entries.items()}
        for name, value in arrays.items():
            if len(value) != len(rows):
                raise InputError(f"entry {name!r} has {len(value)} rows, 'input_values' has {len(rows)}: give as many")
        if any(row.ndim != 1 for row in arrays["input_values"]):
            raise InputError("'input_values' to pad must be a list of (samples,) rows: pass a batch, not one waveform")
        padded = self._pad(
            arrays,
            with_mask=with_mask,
            padding=padding,
            max_length=max_length,
            truncation=truncation,
            multiple=pad_to_multiple_of,
        )
        narrow = {
            name: [row.astype(np.float32) if row.dtype == np.float64 else row for row in value]
            for name, value in padded.items()
        }
        return Batch(narrow).convert_to_tensors(return_tensors)

    @staticmethod
    def zero_mean_unit_var_norm(
        input_values: Sequence[np.ndarray], attention_mask: Any = None, padding_value: float = 0.0
    ) -> list[np.ndarray]:
        """Every waveform to zero mean and unit variance over its valid samples, its padding to ``padding_value``.

        Args:
            input_values: (samples,) each.
            attention_mask: (samples,) each, 1 for valid samples; ``None``: all are.
            padding_value: set after normalising.
        """
        normalised: list[np.ndarray] = []
        masks = [None] * len(input_values) if attention_mask is None else attention_mask
        for waveform, mask in zip(input_values, masks, strict=True):
            valid = np.ones(len(waveform), dtype=bool) if mask is None else np.asarray(mask).astype(bool)
            samples = waveform[valid]
            # 1e-7 keeps silence finite; fairseq and transformers add the same.
            scaled = (waveform - samples.mean()) / np.sqrt(samples.var() + 1e-7)
            scaled[~valid] = padding_value
            normalised.append(scaled)
        return normalised

    # ---- files --------------------------------------------------------------------------------------------------

    @classmethod
    def from_source(cls, source: ModelSource, **overrides: Any) -> Self:
        """Read the files of a model that is already open; ``overrides`` are arguments of the constructor."""
        return cls.from_dict(cls._file_of(source), **overrides)

    @staticmethod
    def _file_of(source: ModelSource) -> dict[str, Any]:
        path = source.find("processor_config.json")
        nested = read_json(path).get("feature_extractor") if path is not None else None  # as transformers 5 writes it
        return nested if isinstance(nested, dict) else read_json(source.require("preprocessor_config.json"))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], **overrides: Any) -> Any:
        """From the content of ``preprocessor_config.json`` with some entries changed. Raises ``ConfigError``.

        With ``return_unused_kwargs=True`` the result is the extractor and the overrides that it does not have.
        """
        unused_too = overrides.pop("return_unused_kwargs", False)
        unused = {name: value for name, value in overrides.items() if unused_too and name not in {*values, *_FIELDS}}
        given = {name: value for name, value in {**values, **overrides}.items() if name not in unused}
        made = cls(**{name: value for name, value in given.items() if name != "feature_extractor_type"})
        return (made, unused) if unused_too else made

    @classmethod
    def from_json_file(cls, json_file: str | os.PathLike[str]) -> Self:
        """From the path of a ``preprocessor_config.json``. Raises ``CheckpointError`` and ``ConfigError``."""
        return cls.from_dict(read_json(json_file))

    @classmethod
    def get_feature_extractor_dict(
        cls, pretrained_model_name_or_path: str | os.PathLike[str], **options: Any
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """The content of the file that ``from_pretrained`` reads, and the options that do not say where it is."""
        source, options = cls.find(pretrained_model_name_or_path, options)
        return cls._file_of(source), options

    def to_dict(self) -> dict[str, Any]:
        """The content of ``preprocessor_config.json``."""
        values = {name: getattr(self, name) for name in _FIELDS}
        return {**self.extra, **values, "feature_extractor_type": "Wav2Vec2FeatureExtractor"}

    def to_json_string(self) -> str:
        """``preprocessor_config.json`` as text."""
        return json.dumps(self.to_dict(), indent=2, sort_keys=True) + "\n"

    def to_json_file(self, json_file_path: str | os.PathLike[str]) -> None:
        """Write ``to_json_string`` into a file. Raises ``OutputError``."""
        write_text(json_file_path, self.to_json_string())

    def save_pretrained(
        self, save_directory: str | os.PathLike[str], *, processor_class: str | None = None, **options: Any
    ) -> tuple[str]:
        """Write ``preprocessor_config.json`` into a folder (created where missing); returns its path.

        ``options``: see ``Pretrained``.

        Raises:
            InputError: an option is unknown or refused.
            OutputError: the folder or the file cannot be written.
        """
        with self.saving(save_directory, options):
            path = make_folder(save_directory) / "preprocessor_config.json"
            write_json(path, {**self.to_dict(), **({"processor_class": processor_class} if processor_class else {})})
        return (str(path),)

    # ---- for transformers' programs -----------------------------------------------------------------------------

    @property
    def _processor_class(self) -> str | None:
        return self.extra.get("processor_class")

    def _set_processor_class(self, processor_class: str | None) -> None:
        self.extra["processor_class"] = processor_class

    def __getattr__(self, name: str) -> Any:
        extra = self.__dict__.get("extra", {})  # not self.extra: it may not be set yet while unpickling
        if name in extra:
            return extra[name]
        raise AttributeError(f"Wav2Vec2FeatureExtractor has no attribute {name!r:.100}")

    def __repr__(self) -> str:
        return f"{type(self).__name__} {self.to_json_string()}"

    # ---- rules --------------------------------------------------------------------------------------------------

    def _validate(self) -> None:
        if self.feature_size != 1:
            raise ConfigError(f"feature_size={self.feature_size!r:.100} must be 1: a waveform has one value per sample")
        if isinstance(self.sampling_rate, bool) or not isinstance(self.sampling_rate, int) or self.sampling_rate <= 0:
            raise ConfigError(f"sampling_rate={self.sampling_rate!r:.100} must be a positive integer, in hertz")
        if isinstance(self.padding_value, bool) or not isinstance(self.padding_value, (int, float)):
            raise ConfigError(f"padding_value={self.padding_value!r:.100} must be a number")
        for name in ("return_attention_mask", "do_normalize"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(f"{name}={getattr(self, name)!r:.100} must be true or false")
        if self.padding_side not in ("right", "left"):
            raise ConfigError(f"padding_side={self.padding_side!r:.100} is unknown: use 'right' or 'left'")

    def _check_sampling_rate(self, sampling_rate: int | None) -> None:
        if sampling_rate is None:
            if not self._warned:
                self._warned = True
                warnings.warn(
                    f"sampling_rate was not given, the audio is taken for {self.sampling_rate} Hz: pass "
                    f"sampling_rate={self.sampling_rate} so that another rate is noticed",
                    stacklevel=3,
                )
        elif sampling_rate != self.sampling_rate:
            raise InputError(
                f"sampling_rate={sampling_rate} but the model hears {self.sampling_rate} Hz: read the file with "
                f"read_audio(path, sampling_rate={self.sampling_rate}), which resamples"
            )

    def _pad(
        self,
        rows: Mapping[str, list[np.ndarray]],
        *,
        with_mask: bool,
        padding: Any,
        max_length: int | None,
        truncation: bool,
        multiple: int | None,
    ) -> dict[str, list[np.ndarray]]:
        """Cut and pad ``input_values`` and ``attention_mask``, a (samples,) array for each waveform."""
        strategy = padding_strategy(padding)
        check_length("max_length", max_length, minimum=1)
        check_length("pad_to_multiple_of", multiple, minimum=1)
        if max_length is None and (truncation or strategy == "max_length"):
            option = "truncation=True" if truncation else "padding='max_length'"
            raise InputError(f"{option} needs max_length, in samples: pass it")
        padded = {name: list(value) for name, value in rows.items()}
        values = padded["input_values"]
        if with_mask and "attention_mask" not in padded:
            padded["attention_mask"] = [np.ones(len(value), dtype=np.int32) for value in values]
        limit = round_up(max_length, multiple) if truncation and max_length is not None else None
        length = 0
        if strategy == "longest":
            length = max(len(value[:limit]) for value in values)
        elif strategy == "max_length":
            length = max_length or 0
        fills = {"input_values": self.padding_value, "attention_mask": 0}
        for name in fills.keys() & padded.keys():
            padded[name] = [self._fit(row[:limit], round_up(length, multiple), fills[name]) for row in padded[name]]
        return padded

    def _fit(self, row: np.ndarray, length: int, value: float) -> np.ndarray:
        missing = max(length - len(row), 0)
        return np.pad(row, (0, missing) if self.padding_side == "right" else (missing, 0), constant_values=value)


def _rows(raw_speech: Any) -> list[Any]:
    """The waveforms of one call, as they were given. Raises ``InputError``."""
    if isinstance(raw_speech, (list, tuple)):
        nested = bool(raw_speech) and (
            isinstance(raw_speech[0], (list, tuple)) or len(getattr(raw_speech[0], "shape", ())) > 0
        )
        return list(raw_speech) if nested else [raw_speech]
    if isinstance(raw_speech, (str, os.PathLike)):
        raise InputError(f"the audio is the file name {str(raw_speech)!r:.100}, not samples: pass read_audio(path)")
    samples = as_numpy(raw_speech)
    if samples.ndim not in (1, 2):
        raise InputError(
            f"the audio has shape {samples.shape}: pass (samples,) or (batch, samples), mono; read_audio mixes channels"
        )
    if samples.ndim == 2 and samples.shape[1] <= 8 < 1000 < samples.shape[0]:
        raise InputError(
            f"the audio has shape {samples.shape}, which looks like (samples, channels), not (batch, samples): mix the "
            "channels with audio.mean(axis=1), or read the file with read_audio"
        )
    return list(samples) if samples.ndim == 2 else [samples]


def _check_waveform(row: Any, index: int) -> np.ndarray:
    """One waveform as (samples,) floating numbers. Raises ``InputError``."""
    samples = as_numpy(row)
    if samples.ndim != 1:
        raise InputError(
            f"waveform {index} has shape {samples.shape}, it must be (samples,), mono: mix its channels, or read the "
            "file with read_audio"
        )
    if samples.size == 0:
        raise InputError(f"waveform {index} has no samples: leave it out")
    if samples.dtype.kind not in "fiu":
        raise InputError(f"waveform {index} holds {samples.dtype} values, samples must be real numbers: convert them")
    if not np.isfinite(samples).all():
        where = int(np.flatnonzero(~np.isfinite(samples))[0])
        raise InputError(
            f"waveform {index} has the sample {samples[where]} at {where}: remove NaN and infinite samples"
        )
    # Integers are normalised in double precision and only then narrowed, as in transformers.
    return samples.astype(np.float32 if samples.dtype.kind == "f" else np.float64)
