"""Inference behind the core's back end interface: waveforms in, numpy logits out."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

import wav2vec2_tf
from wav2vec2_core.backend import check_head_and_dtype, check_trained
from wav2vec2_core.checkpoint import open_model
from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.data import pad_batch, similar_lengths, unpad_scores
from wav2vec2_core.errors import BackendError
from wav2vec2_core.inputs import check_waveforms
from wav2vec2_tf.layers import Tensor
from wav2vec2_tf.pretrained import TFWav2Vec2PreTrainedModel


def devices() -> list[str]:
    """Devices usable here, the best one first; ``cpu`` is always among them."""
    return [*(f"gpu:{index}" for index in range(len(tf.config.list_physical_devices("GPU")))), "cpu"]


def load_model(
    source: str | os.PathLike[str],
    *,
    head: str = "ForCTC",
    device: str = "auto",
    dtype: str = "float32",
    language: str | None = None,
    local_files_only: bool = False,
) -> InferenceModel:
    """Load a checkpoint so that padding never changes a number.

    Args:
        source: folder or hub id.
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
    place = _device(device)
    model_class: type[TFWav2Vec2PreTrainedModel] = getattr(wav2vec2_tf, f"TFWav2Vec2{head}")
    found = open_model(source, local_files_only=local_files_only)
    with tf.device(place):
        model = model_class.from_source(found, dtype=dtype, target_lang=language, masked_group_norm=True)
    check_trained(found.name, head, model.loading)
    return InferenceModel(model, place)


class InferenceModel:
    """A model ready for use; the numbers of one waveform do not depend on the others."""

    def __init__(self, model: TFWav2Vec2PreTrainedModel, device: str = "cpu") -> None:
        self.model, self.device = model, device
        # One graph for any batch and length. XLA would be compiled anew for each length.
        signature = [tf.TensorSpec((None, None), tf.float32), tf.TensorSpec((None, None), tf.int32)]
        self._graph = tf.function(self._forward, input_signature=signature, autograph=False)

    @property
    def config(self) -> Wav2Vec2Config:
        """The configuration in effect."""
        return self.model.config

    def summary(self) -> str:
        """One line: library, device and type."""
        return f"tensorflow {tf.__version__} on {self.device}, {self.model.compute_dtype}"

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
        waveforms = [np.asarray(waveform, np.float32) for waveform in waveforms]
        for waveform in waveforms:
            check_waveforms(self.config, (1, *waveform.shape))
        results: dict[int, np.ndarray] = {}
        for batch in similar_lengths([len(waveform) for waveform in waveforms], batch_samples):
            results.update(zip(batch, self._batch([waveforms[index] for index in batch]), strict=True))
        return [results[index] for index in range(len(waveforms))]

    def _batch(self, waveforms: list[np.ndarray]) -> list[np.ndarray]:
        values, mask = pad_batch(waveforms, len(waveforms), max(map(len, waveforms)))
        with tf.device(self.device):
            scores = self._graph(values, mask).numpy()
        return unpad_scores(scores, waveforms, self.config)

    def _forward(self, input_values: Tensor, attention_mask: Tensor) -> Tensor:
        output = self.model(input_values, attention_mask, return_dict=True, training=False)
        field = next(name for name in ("logits", "last_hidden_state", "projected_states") if name in output)
        return tf.cast(output[field], tf.float32)


def _device(name: str) -> str:
    available = devices()
    if name == "auto":
        return available[0]
    known = name.replace("cuda", "gpu")
    known = "gpu:0" if known == "gpu" else known
    if known not in available:
        raise BackendError(f"device {name!r} is not available here: use one of {', '.join(available)}")
    return known
