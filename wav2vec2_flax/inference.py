"""Inference behind the core's back end interface: waveforms in, numpy logits out.

JAX compiles a function for every shape. Waveforms are padded to a few lengths, and batches to a few sizes, so that a
folder of files compiles a handful of shapes; padding never changes a number. What was compiled is kept on disk, for
later runs.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import wav2vec2_flax
from wav2vec2_core.backend import check_head_and_dtype, check_trained
from wav2vec2_core.checkpoint import Checkpoint, ModelSource, open_model
from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.data import pad_batch, unpad_scores
from wav2vec2_core.errors import BackendError
from wav2vec2_core.inputs import (
    check_adapter_frames,
    check_pools,
    check_speakers,
    layer_numbers,
)
from wav2vec2_core.long_form.tiles import checked_features, checked_waveforms, encode_in_tiles
from wav2vec2_core.window_statistics import WindowStatistics
from wav2vec2_flax.compiled import Compiled, keep_compiled_code
from wav2vec2_flax.layers import frame_mask
from wav2vec2_flax.pretrained import FlaxWav2Vec2PreTrainedModel
from wav2vec2_flax.tiled_encoder import TiledEncoder

#: Lengths to compile for: the shortest in samples (half a second at 16 kHz), and how many there are until a length has
#: doubled. Four pad by 9 % on average, and 29 cover half a second to a minute; 1, 2, 5, 10 and 20 s are among them.
SHORTEST = 8_000
LENGTHS_TO_DOUBLE = 4


def devices() -> list[str]:
    """Devices usable here, the best one first; ``cpu`` is always among them."""
    found = [f"{device.platform}:{device.id}" for device in jax.local_devices() if device.platform != "cpu"]
    return [*found, "cpu"]


def chosen_kernels() -> list[str]:
    """Empty: XLA and oneDNN choose by themselves."""
    return []


def load_model(
    source: str | os.PathLike[str] | ModelSource,
    *,
    head: str = "ForCTC",
    device: str = "auto",
    dtype: str = "float32",
    language: str | None = None,
    local_files_only: bool = False,
) -> InferenceModel:
    """Load a checkpoint so that padding never changes a number.

    From then on what JAX compiles is kept in the user's cache folder, unless the program has chosen a folder for that.

    Args:
        source: folder, hub id, or a model that is already open.
        head: one of ``wav2vec2_core.parameters.HEADS``.
        device: one of ``devices()``, or a platform such as ``"gpu"`` or ``"tpu"``; ``"auto"`` for JAX's default device.
        dtype: of the parameters, and of the computation except on a CPU. There half precision saves memory alone: XLA
            computes no faster in it, so parameters kept in it are computed with in float32, which is more exact.
        language: language of an MMS adapter.
        local_files_only: do not ask the hub.

    Raises:
        CheckpointError: no such model, or it has no trained head of this kind.
        BackendError: the device is not available.
        InputError: head, type or language is unknown.
    """
    check_head_and_dtype(head, dtype)
    keep_compiled_code()
    place = device_named(device)
    model_class: type[FlaxWav2Vec2PreTrainedModel] = getattr(wav2vec2_flax, f"FlaxWav2Vec2{head}")
    found = source if isinstance(source, ModelSource) else open_model(source, local_files_only=local_files_only)
    computed = "float32" if place.platform == "cpu" and dtype in ("bfloat16", "float16") else dtype
    with jax.default_device(place):
        model = model_class.from_source(
            found, dtype=computed, param_dtype=dtype, target_lang=language, masked_group_norm=True
        )
    check_trained(found.name, head, model.loading)
    return InferenceModel(model, place)


def wrap_model(model: FlaxWav2Vec2PreTrainedModel, *, device: str | None = None) -> InferenceModel:
    """A model that a program has made, for inference.

    It shares the parameters, unless padding could be seen in its numbers: then it is a copy in which it cannot.

    Args:
        model: of any head.
        device: as for ``load_model``; JAX's default device where ``None``.

    Raises:
        BackendError: the device is not available.
    """
    place = device_named(device or "auto")
    if not model.config.masked_group_norm:
        config, checkpoint = model.config.replace(masked_group_norm=True), Checkpoint.of(model.arrays())
        kept_as = {"dtype": model.dtype.name, "param_dtype": model.param_dtype.name}
        with jax.default_device(place):
            model = type(model).from_source(None, config=config, checkpoint=checkpoint, **kept_as)
    return InferenceModel(model, place)


class InferenceModel:
    """A model ready for use; the numbers of one waveform do not depend on the others."""

    def __init__(self, model: FlaxWav2Vec2PreTrainedModel, device: Any) -> None:
        self.model = model
        self.device = device
        self.shapes: set[tuple[int, int]] = set()
        self._run = Compiled(_scores)
        self._contextualize, self._states, self._embed, self._pool = (
            Compiled(part) for part in (_head_scores, _layers, _vectors, _pooled)
        )
        body: Any = getattr(model, "wav2vec2", model)  # the bare model is its own body
        self._encoder = TiledEncoder(body.feature_extractor, model.config)

    @property
    def config(self) -> Wav2Vec2Config:
        """The configuration in effect."""
        return self.model.config

    def use_language(self, language: str) -> None:
        """Switch to the adapter of another language of an MMS model; a vocabulary of another size compiles anew.

        Raises:
            InputError: the model has no adapters, or none for this language.
            CheckpointError: the adapter is damaged, or does not fit the model.
        """
        with jax.default_device(self.device):
            self.model.load_adapter(language, force_load=False)

    def summary(self) -> str:
        """One line about the work so far: library, device, type, and the shapes that were compiled."""
        shapes = ", ".join(f"{batch} x {samples}" for batch, samples in sorted(self.shapes)) or "none"
        count, computed, kept = len(self.shapes), self.model.dtype.name, self.model.param_dtype.name
        types = computed if computed == kept else f"{kept} computed in {computed}"
        return (
            f"jax {jax.__version__} on {self.device}, {types}; "
            f"{count} compiled shape{'' if count == 1 else 's'} (waveforms x samples): {shapes}"
        )

    def encode(
        self, waveforms: Sequence[np.ndarray], statistics: Sequence[WindowStatistics] | None = None
    ) -> list[np.ndarray]:
        """The feature encoder, in tiles: (samples,) float32 each, any length -> (frames, conv_dim[-1]) float32 each.

        Args:
            waveforms: as for ``logits``.
            statistics: of the whole recording that each waveform is a stretch of; each is a whole one where None.

        Raises:
            InputError: a waveform has another rank or is shorter than the receptive field, or the numbers of
                waveforms and statistics differ.
        """
        with jax.default_device(self.device):
            return encode_in_tiles(self.config, self._encoder, waveforms, statistics)

    def contextualize(self, features: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Run the rest of the model: (frames, conv_dim[-1]) each -> what ``logits`` returns; full attention.

        Raises:
            InputError: features have another shape.
        """
        results = []
        for one in self._checked_features(features):
            scores = self._apply(self._contextualize, one)[0]
            results.append(scores if scores.ndim == 1 else scores[: self._frames(len(one))].copy())
        return results

    def hidden_states(self, features: Sequence[np.ndarray], layers: Sequence[int]) -> list[np.ndarray]:
        """(frames, conv_dim[-1]) each -> (len(layers), frames, hidden) float32 each.

        Args:
            features: as ``encode`` returns them.
            layers: 0 is the transformer's input, n the output of its n-th layer; negative numbers count from the last.

        Raises:
            InputError: features have another shape, or the model has no such layer.
        """
        chosen = layer_numbers(self.config, layers)
        results = []
        for one in self._checked_features(features, for_head=False):
            states = self._apply(self._states, one)[:, 0, : len(one)]
            results.append(states[chosen])
        return results

    def embed(self, features: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Speaker vectors: (frames, conv_dim[-1]) each -> (xvector_output_dim,) float32 each, compared by cosine.

        Raises:
            InputError: features have another shape or too few frames, or the model is no ``ForXVector``.
        """
        check_speakers(self.model.head)
        return [self._apply(self._embed, one)[0] for one in self._checked_features(features)]

    def pool(self, features: Sequence[np.ndarray]) -> list[np.ndarray]:
        """What the head takes the mean of, over all frames: (frames, conv_dim[-1]) each -> (size,) float32 each.

        Raises:
            InputError: features have another shape, or the model is no ``ForSequenceClassification``.
        """
        check_pools(self.model.head)
        return [self._apply(self._pool, one)[0] for one in self._checked_features(features)]

    def classify(self, pooled: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Scores of the labels for vectors of ``pool``: (size,) each -> (labels,) float32 each.

        Raises:
            InputError: the model is no ``ForSequenceClassification``.
        """
        check_pools(self.model.head)
        model: Any = self.model
        with jax.default_device(self.device):
            vectors = (jnp.asarray(vector[None], model.dtype) for vector in pooled)
            return [np.asarray(model.classified(vector)[0], np.float32) for vector in vectors]

    def logits(self, waveforms: Sequence[np.ndarray], *, batch_samples: int = 1_000_000) -> list[np.ndarray]:
        """The head's logits; the last hidden states of a model without head, projected ones of one for pretraining.

        Args:
            waveforms: (samples,) each, normalised by the feature extractor.
            batch_samples: samples computed at a time, with padding: a minute of speech. A longer waveform goes alone.

        Returns:
            float32, (frames, vocab) each for CTC; (frames, labels), (labels,), (xvector_output_dim,),
            (frames, hidden) or (frames, proj_codevector_dim) for other heads.

        Raises:
            InputError: a waveform has another rank or is shorter than the receptive field.
        """
        waveforms = checked_waveforms(self.config, waveforms)
        batches: dict[int, list[int]] = {}
        for index, waveform in enumerate(waveforms):
            batches.setdefault(bucketed_length(len(waveform)), []).append(index)
        results: dict[int, np.ndarray] = {}
        for length, members in batches.items():
            rows = 1 << max(batch_samples // length, 1).bit_length() - 1  # a power of two
            for start in range(0, len(members), rows):
                chosen = members[start : start + rows]
                results.update(zip(chosen, self._batch([waveforms[index] for index in chosen], length), strict=True))
        return [results[index] for index in range(len(waveforms))]

    def _batch(self, waveforms: list[np.ndarray], length: int) -> list[np.ndarray]:
        shape = (bucketed_batch(len(waveforms)), length)
        values, mask = pad_batch(waveforms, *shape)
        self.shapes.add(shape)
        with jax.default_device(self.device):
            scores = np.asarray(self._run(self.model, values, mask))
        return unpad_scores(scores, waveforms, self.config)

    def _apply(self, run: Any, features: np.ndarray) -> np.ndarray:
        """Run a function of (1, frames, conv_dim[-1]), padded to one of a few lengths, and of (1,) valid frames."""
        frames = len(features)
        hop = self.config.inputs_to_logits_ratio
        padded = -(-bucketed_length(frames * hop) // hop)
        values = np.zeros((1, padded, features.shape[1]), np.float32)
        values[0, :frames] = features
        with jax.default_device(self.device):
            return np.asarray(run(self.model, values, np.array([frames], np.int32)))

    def _frames(self, frames: int) -> int:
        return self.config.num_adapter_frames(frames) if self.config.add_adapter else frames

    def _checked_features(self, features: Sequence[np.ndarray], *, for_head: bool = True) -> list[np.ndarray]:
        features = checked_features(self.config, features)
        model: Any = self.model
        for one in features:
            if for_head:
                check_adapter_frames(self.config, len(one))
            if for_head and model.head == "ForXVector":
                model.check_frames(model.head_frames(len(one)), dilated=True)
        return features


def _context(model: Any, features: Any, frames: Any) -> tuple[Any, tuple[Any, ...]]:
    """(1, padded, conv_dim[-1]), (1,) valid frames -> what the head reads, and (1, padded, hidden) of every layer."""
    body = getattr(model, "wav2vec2", model)  # the bare model is its own body
    hidden, _ = body.feature_projection(jnp.asarray(features, model.dtype), None)
    mask = frame_mask(frames, hidden.shape[1])
    hidden, states, _ = body.encoder(hidden, mask, None, None, with_states=True, with_weights=False)
    if body.adapter is not None:
        hidden = body.adapter(hidden, frames)
    if getattr(model, "layer_weights", None) is not None:
        hidden = model.mixed(states)
    return hidden, states


def _head_scores(model: Any, features: Any, frames: Any) -> Any:
    """What the head makes of (1, padded, conv_dim[-1]); padding is invisible to its valid frames."""
    hidden, _ = _context(model, features, frames)
    return model.scores(hidden, model.head_frames(frames)).astype(jnp.float32)


def _layers(model: Any, features: Any, frames: Any) -> Any:
    """(layers + 1, 1, padded, hidden)."""
    return jnp.stack(_context(model, features, frames)[1]).astype(jnp.float32)


def _vectors(model: Any, features: Any, frames: Any) -> Any:
    """(1, padded, conv_dim[-1]) -> (1, xvector_output_dim) speaker vectors."""
    hidden, _ = _context(model, features, frames)
    return model.vectors(hidden, model.head_frames(frames)).astype(jnp.float32)


def _pooled(model: Any, features: Any, frames: Any) -> Any:
    """(1, padded, conv_dim[-1]) -> (1, size) means of the valid frames."""
    hidden, _ = _context(model, features, frames)
    return model.pooled(hidden, model.head_frames(frames)).astype(jnp.float32)


def _scores(model: FlaxWav2Vec2PreTrainedModel, values: Any, mask: Any) -> Any:
    output = model(values, mask, return_dict=True)
    field = next(name for name in ("logits", "last_hidden_state", "projected_states") if name in output)
    return output[field].astype(jnp.float32)


def bucketed_length(samples: int) -> int:
    """The length to pad ``samples`` to: one of a few."""
    doublings = ((samples - 1) // SHORTEST).bit_length() - 1
    if doublings < 0:
        return SHORTEST
    step = (SHORTEST << doublings) // LENGTHS_TO_DOUBLE
    return -(-samples // step) * step


def bucketed_batch(waveforms: int) -> int:
    """The number of rows for ``waveforms``: the next power of two."""
    return 1 << (waveforms - 1).bit_length()


def device_named(name: str) -> Any:
    """The device of this name; ``"auto"``: the best one. Raises ``BackendError``."""
    if name == "auto":
        return jax.local_devices()[0]
    platform, _, index = name.partition(":")
    try:
        return jax.local_devices(backend=platform)[int(index or 0)]
    except (RuntimeError, ValueError, IndexError) as error:
        raise BackendError(f"device {name!r:.100} is not available here: use one of {', '.join(devices())}") from error
