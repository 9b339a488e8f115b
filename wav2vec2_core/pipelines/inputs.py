"""Whatever a program passes to a pipeline, as a ``Recording``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

import numpy as np

from wav2vec2_core.audio import Recording
from wav2vec2_core.data.tables import as_floats, audio_in
from wav2vec2_core.errors import AudioError, InputError, brief

#: Entries of a mapping that say what the recording is; others come back with the result.
_AUDIO = ("raw", "array", "sampling_rate", "path", "bytes", "stride")
_PATIENCE = 60.0  # seconds for a server to answer


@dataclass(frozen=True)
class Given:
    """A recording that a program passed.

    stride: samples at its beginning and at its end, at the rate of ``recording``, that count for nothing in the result;
    extra: entries that came with it.
    """

    recording: Recording
    stride: tuple[int, int] = (0, 0)
    extra: Mapping[str, Any] = field(default_factory=dict)


def read_input(thing: Any, sampling_rate: int) -> Given:
    """Open what a program passes to a pipeline for one recording.

    Args:
        thing: a path or an http address; the bytes of a file; samples, (samples,) or (channels, samples), an array or a
            tensor of any framework at ``sampling_rate``; ``{"raw" or "array", "sampling_rate"}`` with samples at any
            rate, ``{"path"}`` or ``{"bytes"}``, each maybe with ``"stride"`` in samples and with other entries; a
            decoder of torchcodec; a ``Recording`` or (samples, rate).
        sampling_rate: hertz, of the model.

    Raises:
        AudioError: there is no such file or address, or samples are not finite.
        InputError: it is nothing of these.
    """
    if isinstance(thing, Mapping):
        return _of_mapping(thing, sampling_rate)
    return Given(_recording(thing, sampling_rate).at(sampling_rate))


def _of_mapping(entries: Mapping[str, Any], sampling_rate: int) -> Given:
    samples = entries.get("raw", entries.get("array"))
    if samples is not None and entries.get("sampling_rate") is not None:
        recording = _of_samples(samples, entries["sampling_rate"])
    else:
        found = None if samples is not None else audio_in(entries)
        if found is None:
            raise InputError(
                f"the dictionary has {brief(list(entries))}: it must hold a recording as 'raw' or 'array' with its "
                "'sampling_rate', as 'path' or as 'bytes'; of a data set pass KeyDataset(data, column)"
            )
        recording = _recording(found, sampling_rate)
    extra = {name: value for name, value in entries.items() if name not in _AUDIO}
    return Given(recording.at(sampling_rate), _stride(entries, sampling_rate), extra)


def _stride(entries: Mapping[str, Any], sampling_rate: int) -> tuple[int, int]:
    """The stride of a mapping, from its own rate to ``sampling_rate``. Raises ``InputError``."""
    given = entries.get("stride")
    if given is None:
        return 0, 0
    factor = sampling_rate / (entries.get("sampling_rate") or sampling_rate)
    try:
        before, after = (round(samples * factor) for samples in given)
    except (TypeError, ValueError) as error:
        raise InputError(f"stride={brief(given)} must be samples at the beginning and at the end") from error
    if before < 0 or after < 0:
        raise InputError(f"stride={brief(given)} must not be negative")
    return before, after


def _recording(thing: Any, sampling_rate: int) -> Recording:
    if isinstance(thing, Recording):
        return thing
    if isinstance(thing, str) and thing.startswith(("http://", "https://")):
        return Recording.from_bytes(_downloaded(thing), name=thing)
    if isinstance(thing, str | os.PathLike):
        return Recording.open(thing)
    if isinstance(thing, bytes | bytearray | memoryview):
        return Recording.from_bytes(bytes(thing))
    if isinstance(thing, tuple):
        return Recording.wrap(thing)
    if hasattr(thing, "get_all_samples"):  # a decoder of torchcodec
        decoded = thing.get_all_samples()
        return _of_samples(decoded.data, decoded.sample_rate)
    if hasattr(thing, "shape"):
        return _of_samples(thing, sampling_rate)
    raise InputError(
        f"a {type(thing).__name__} is no recording: give a path, bytes, samples, or a dictionary of 'array' and "
        "'sampling_rate'"
    )


def _of_samples(samples: Any, rate: int) -> Recording:
    """(samples,) or (channels, samples) of any framework. Raises ``InputError`` and ``AudioError``."""
    if hasattr(samples, "detach"):  # a torch tensor may need gradients or lie on another device
        samples = samples.detach().cpu()
    array = as_floats(np.asarray(samples))
    if array.ndim == 2:
        if array.shape[0] > array.shape[1]:
            raise InputError(f"samples have shape {array.shape}: (samples,) or (channels, samples) is needed")
        array = array.T
    elif array.ndim != 1:
        raise InputError(f"samples have shape {array.shape}: (samples,) or (channels, samples) is needed")
    return Recording.of(array, rate)


def _downloaded(address: str) -> bytes:
    try:
        with urlopen(Request(address, headers={"User-Agent": "wav2vec2-frameworks"}), timeout=_PATIENCE) as answer:
            return answer.read()
    except (URLError, OSError, ValueError) as error:
        reason = " ".join(str(getattr(error, "reason", error)).split())[:100]
        raise AudioError(
            f"{address[:100]} cannot be downloaded ({reason}): check the address, or download the recording and name "
            "the file"
        ) from error
