"""Inference behind the core's back end interface: waveforms in, numpy logits out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

import wav2vec2_tf
from wav2vec2_core.backend import COMPILING, check_head_and_dtype, check_trained
from wav2vec2_core.checkpoint import Checkpoint, ModelSource, open_model
from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.data import pad_batch, similar_lengths, unpad_scores
from wav2vec2_core.errors import BackendError
from wav2vec2_core.inputs import (
    check_adapter_frames,
    check_pools,
    check_speakers,
    layer_numbers,
)
from wav2vec2_core.long_form.tiles import checked_features, checked_waveforms, encode_in_tiles
from wav2vec2_core.window_statistics import WindowStatistics
from wav2vec2_tf.layers import Tensor
from wav2vec2_tf.pretrained import TFWav2Vec2PreTrainedModel
from wav2vec2_tf.tiled_encoder import TiledEncoder


def devices() -> list[str]:
    """Devices usable here, the best one first; ``cpu`` is always among them."""
    return [*(f"gpu:{index}" for index in range(len(tf.config.list_physical_devices("GPU")))), "cpu"]


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

    Args:
        source: folder, hub id, or a model that is already open.
        head: one of ``wav2vec2_core.parameters.HEADS``.
        device: ``cpu``, ``gpu``, ``gpu:1`` ...; ``cuda`` means ``gpu``; ``"auto"`` for the first GPU, else the CPU.
        dtype: of the parameters.
        language: language of an MMS adapter.
        local_files_only: do not ask the hub.

    Raises:
        CheckpointError: no such model, or it has no trained head of this kind.
        BackendError: the device is not available.
        InputError: head, type or language is unknown.
    """
    check_head_and_dtype(head, dtype)
    place = device_named(device)
    model_class: type[TFWav2Vec2PreTrainedModel] = getattr(wav2vec2_tf, f"TFWav2Vec2{head}")
    found = source if isinstance(source, ModelSource) else open_model(source, local_files_only=local_files_only)
    with tf.device(place):
        model = model_class.from_source(found, dtype=dtype, target_lang=language, masked_group_norm=True)
    check_trained(found.name, head, model.loading)
    return InferenceModel(model, place)


def wrap_model(model: TFWav2Vec2PreTrainedModel, *, device: str | None = None) -> InferenceModel:
    """A model that a program has made, for inference.

    It shares the parameters, unless padding could be seen in its numbers: then it is a copy in which it cannot.

    Args:
        model: of any head.
        device: as for ``load_model``; the best one where ``None``.

    Raises:
        BackendError: the device is not available.
    """
    place = device_named(device or "auto")
    if not model.config.masked_group_norm:
        config, checkpoint = model.config.replace(masked_group_norm=True), Checkpoint.of(model.arrays())
        with tf.device(place):
            model = type(model).from_source(None, config=config, checkpoint=checkpoint, dtype=model.compute_dtype)
    return InferenceModel(model, place)


class InferenceModel:
    """A model ready for use; the numbers of one waveform do not depend on the others."""

    def __init__(self, model: TFWav2Vec2PreTrainedModel, device: str = "cpu") -> None:
        self.model, self.device = model, device
        self._body: Any = getattr(model, "wav2vec2", model)  # the bare model is its own body
        self._encoder = TiledEncoder(self._body.feature_extractor)
        self._make_graphs()

    def _make_graphs(self) -> None:
        # One graph for any batch and length. XLA would be compiled anew for each length.
        signature = [tf.TensorSpec((None, None), tf.float32), tf.TensorSpec((None, None), tf.int32)]
        self._graph = self._placed(tf.function(self._forward, input_signature=signature, autograph=False))
        frames = [tf.TensorSpec((1, None, self.config.conv_dim[-1]), tf.float32)]
        self._contextualize, self._states, self._embed, self._pool = (
            self._placed(tf.function(part, input_signature=frames, autograph=False))
            for part in (self._scores, self._layers, self._vectors, self._pooled)
        )

    @property
    def config(self) -> Wav2Vec2Config:
        """The configuration in effect."""
        return self.model.config

    def use_language(self, language: str) -> None:
        """Switch to the adapter of another language of an MMS model; its graphs are traced anew.

        Raises:
            InputError: the model has no adapters, or none for this language.
            CheckpointError: the adapter is damaged, or does not fit the model.
        """
        with tf.device(self.device):
            self.model.load_adapter(language, force_load=False)
        self._make_graphs()

    def summary(self) -> str:
        """One line: library, device and type."""
        return f"tensorflow {tf.__version__} on {self.device}, {self.model.compute_dtype}"

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
        with tf.device(self.device):
            return encode_in_tiles(
                self.config, lambda *one: (tile.numpy() for tile in self._encoder(*one)), waveforms, statistics
            )

    def contextualize(self, features: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Run the rest of the model: (frames, conv_dim[-1]) each -> what ``logits`` returns; full attention.

        Raises:
            InputError: features have another shape.
        """
        return [self._contextualize(one[None])[0].numpy() for one in self._checked_features(features)]

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
            states = self._states(one[None])
            result = np.empty((len(chosen), len(one), self.config.hidden_size), np.float32)
            for row, number in enumerate(chosen):
                result[row] = states[number][0].numpy()
            results.append(result)
        return results

    def embed(self, features: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Speaker vectors: (frames, conv_dim[-1]) each -> (xvector_output_dim,) float32 each, compared by cosine.

        Raises:
            InputError: features have another shape or too few frames, or the model is no ``ForXVector``.
        """
        check_speakers(self.model.head)
        return [self._embed(one[None])[0].numpy() for one in self._checked_features(features)]

    def pool(self, features: Sequence[np.ndarray]) -> list[np.ndarray]:
        """What the head takes the mean of, over all frames: (frames, conv_dim[-1]) each -> (size,) float32 each.

        Raises:
            InputError: features have another shape, or the model is no ``ForSequenceClassification``.
        """
        check_pools(self.model.head)
        return [self._pool(one[None])[0].numpy() for one in self._checked_features(features)]

    def classify(self, pooled: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Scores of the labels for vectors of ``pool``: (size,) each -> (labels,) float32 each.

        Raises:
            InputError: the model is no ``ForSequenceClassification``.
        """
        check_pools(self.model.head)
        model: Any = self.model
        with tf.device(self.device):
            vectors = (tf.constant(vector[None], model.compute_dtype) for vector in pooled)
            return [tf.cast(model.classified(vector)[0], tf.float32).numpy() for vector in vectors]

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
        results: dict[int, np.ndarray] = {}
        for batch in similar_lengths([len(waveform) for waveform in waveforms], batch_samples):
            results.update(zip(batch, self._batch([waveforms[index] for index in batch]), strict=True))
        return [results[index] for index in range(len(waveforms))]

    def _batch(self, waveforms: list[np.ndarray]) -> list[np.ndarray]:
        values, mask = pad_batch(waveforms, len(waveforms), max(map(len, waveforms)))
        return unpad_scores(self._graph(values, mask).numpy(), waveforms, self.config)

    def _forward(self, input_values: Tensor, attention_mask: Tensor) -> Tensor:
        output = self.model(input_values, attention_mask, return_dict=True, training=False)
        field = next(name for name in ("logits", "last_hidden_state", "projected_states") if name in output)
        return tf.cast(output[field], tf.float32)

    def _context(self, features: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """(1, frames, conv_dim[-1]) -> (1, frames', hidden') for the head, and (1, frames, hidden) of every layer."""
        body = self._body
        hidden = body.feature_projection(tf.cast(features, self.model.compute_dtype))[0]
        hidden, states, _ = body.encoder(hidden, None, None, with_states=True, with_weights=False)
        return hidden if body.adapter is None else body.adapter(hidden, None), states or ()

    def _read(self, features: Tensor) -> Tensor:
        """What a head reads: the body's (1, frames, hidden), or the mixture of all layers'."""
        hidden, states = self._context(features)
        model: Any = self.model
        return hidden if getattr(model, "layer_weights", None) is None else model.mixed(states)

    def _scores(self, features: Tensor) -> Tensor:
        """The head's scores for features (1, frames, conv_dim[-1])."""
        model: Any = self.model
        return tf.cast(model.scores(self._read(features), None), tf.float32)

    def _layers(self, features: Tensor) -> tuple[Tensor, ...]:
        return tuple(tf.cast(state, tf.float32) for state in self._context(features)[1])

    def _vectors(self, features: Tensor) -> Tensor:
        """(1, frames, conv_dim[-1]) -> (1, xvector_output_dim) speaker vectors."""
        model: Any = self.model
        return tf.cast(model.vectors(self._read(features), None), tf.float32)

    def _pooled(self, features: Tensor) -> Tensor:
        """(1, frames, conv_dim[-1]) -> (1, size)."""
        model: Any = self.model
        return tf.cast(model.pooled(self._read(features), None), tf.float32)

    def _placed(self, function: Any) -> Any:
        def run(*arguments: Any) -> Any:
            if not function.experimental_get_tracing_count():
                COMPILING.info("TensorFlow traces the model")
            with tf.device(self.device):
                return function(*arguments)

        return run

    def _checked_features(self, features: Sequence[np.ndarray], *, for_head: bool = True) -> list[np.ndarray]:
        features = checked_features(self.config, features)
        model: Any = self.model
        for one in features:
            if for_head:
                check_adapter_frames(self.config, len(one))
            if for_head and model.head == "ForXVector":
                model.check_frames(model.head_frames(len(one)), dilated=True)
        return features


def device_named(name: str) -> str:
    """The name as TensorFlow knows it; ``"auto"``: the best one. Raises ``BackendError``."""
    available = devices()
    if name == "auto":
        return available[0]
    known = name.replace("cuda", "gpu")
    known = "gpu:0" if known == "gpu" else known
    if known not in available:
        raise BackendError(f"device {name!r:.100} is not available here: use one of {', '.join(available)}")
    return known
