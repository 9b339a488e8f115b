"""Inference behind the core's back end interface: waveforms in, numpy logits out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

import wav2vec2_torch
from wav2vec2_core.backend import check_head_and_dtype, check_trained
from wav2vec2_core.checkpoint import open_model
from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.data import pad_batch, similar_lengths, unpad_scores
from wav2vec2_core.errors import BackendError, InputError
from wav2vec2_core.inputs import check_shape, check_waveforms
from wav2vec2_core.window_statistics import WindowStatistics
from wav2vec2_torch.layers import masked_mean_and_std
from wav2vec2_torch.model import Wav2Vec2Model
from wav2vec2_torch.pretrained import Wav2Vec2PreTrainedModel
from wav2vec2_torch.tiled_encoder import TiledEncoder
from wav2vec2_torch.weights import to_tensor


def devices() -> list[str]:
    """Devices usable here, the best one first; ``cpu`` is always among them."""
    found = [f"cuda:{index}" for index in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    if torch.backends.mps.is_available():
        found.append("mps")
    return [*found, "cpu"]


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
        device: as torch names it; ``"auto"`` for the first CUDA device, else the CPU.
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
    model_class: type[Wav2Vec2PreTrainedModel] = getattr(wav2vec2_torch, f"Wav2Vec2{head}")
    found = open_model(source, local_files_only=local_files_only)
    model = model_class.from_source(found, dtype=dtype, target_lang=language, masked_group_norm=True)
    check_trained(found.name, head, model.loading)
    return InferenceModel(model.to(place))


class InferenceModel:
    """A model ready for use; the numbers of one waveform do not depend on the others."""

    def __init__(self, model: Wav2Vec2PreTrainedModel) -> None:
        self.model = model.eval()
        self._body: Wav2Vec2Model = getattr(model, "wav2vec2", model)  # the bare model is its own body
        self._encoder = TiledEncoder(self._body.feature_extractor)

    @property
    def config(self) -> Wav2Vec2Config:
        """The configuration in effect."""
        return self.model.config

    def summary(self) -> str:
        """One line: library, device and type."""
        return f"torch {torch.__version__} on {self.model.device}, {str(self.model.dtype).removeprefix('torch.')}"

    @torch.inference_mode()
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
        waveforms = self._checked(waveforms)
        given = [None] * len(waveforms) if statistics is None else list(statistics)
        if len(given) != len(waveforms):
            raise InputError(f"{len(waveforms)} waveforms come with {len(given)} statistics: give one for each")
        results = []
        for waveform, known in zip(waveforms, given, strict=True):
            frames = self.config.num_frames(len(waveform), add_adapter=False)
            result = np.empty((frames, self.config.conv_dim[-1]), np.float32)
            start = 0
            for tile in self._encoder(waveform, known):
                result[start : start + len(tile)] = tile.float().cpu().numpy()
                start += len(tile)
            results.append(result)
        return results

    @torch.inference_mode()
    def contextualize(self, features: Sequence[np.ndarray]) -> list[np.ndarray]:
        """What follows the feature encoder: (frames, conv_dim[-1]) each -> what ``logits`` gives; full attention.

        Raises:
            InputError: features have another shape.
        """
        results = []
        for one in self._checked_features(features):
            hidden, states = self._context(one)
            results.append(self._scores(hidden, states)[0].float().cpu().numpy())
        return results

    @torch.inference_mode()
    def hidden_states(self, features: Sequence[np.ndarray], layers: Sequence[int]) -> list[np.ndarray]:
        """(frames, conv_dim[-1]) each -> (len(layers), frames, hidden) float32 each.

        Args:
            features: as ``encode`` gives them.
            layers: 0 is the transformer's input, n the output of its n-th layer; negative numbers count from the last.

        Raises:
            InputError: features have another shape, or the model has no such layer.
        """
        chosen = [self._layer(number) for number in layers]
        results = []
        for one in self._checked_features(features):
            states = self._context(one)[1]
            result = np.empty((len(chosen), len(one), self.config.hidden_size), np.float32)
            for row, number in enumerate(chosen):
                result[row] = states[number][0].float().cpu().numpy()
            results.append(result)
        return results

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
        waveforms = self._checked(waveforms)
        results: dict[int, np.ndarray] = {}
        for batch in similar_lengths([len(waveform) for waveform in waveforms], batch_samples):
            results.update(zip(batch, self._batch([waveforms[index] for index in batch]), strict=True))
        return [results[index] for index in range(len(waveforms))]

    @torch.inference_mode()
    def _batch(self, waveforms: list[np.ndarray]) -> list[np.ndarray]:
        values, mask = pad_batch(waveforms, len(waveforms), max(map(len, waveforms)))
        device = self.model.device
        output = self.model(torch.from_numpy(values).to(device), torch.from_numpy(mask).to(device), return_dict=True)
        field = next(name for name in ("logits", "last_hidden_state", "projected_states") if name in output)
        scores = output[field].float().cpu().numpy()
        return unpad_scores(scores, waveforms, self.config)

    def _context(self, features: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """(frames, conv_dim[-1]) -> (1, frames', hidden') for the head, and (1, frames, hidden) of every layer."""
        body = self._body
        hidden, states, _ = body.encoder(body.feature_projection(features[None])[0], None, None, True, False)
        return hidden if body.adapter is None else body.adapter(hidden, None), states or ()

    def _scores(self, hidden: Tensor, states: Sequence[Tensor]) -> Tensor:
        """What the head makes of its body's (1, frames, hidden), or of all layers' where it mixes them."""
        model: Any = self.model
        if getattr(model, "layer_weights", None) is not None:
            hidden = sum(share * state for share, state in zip(F.softmax(model.layer_weights, 0), states, strict=True))
        match model.head:
            case "ForPreTraining":
                return model.project_hid(hidden)
            case "ForCTC":
                return model.lm_head(hidden)
            case "ForAudioFrameClassification":
                return model.classifier(hidden)
            case "ForSequenceClassification":
                return model.classifier(model.projector(hidden).mean(1))
            case "ForXVector":
                hidden = model.projector(hidden)
                model.check_frames(hidden.shape[1], dilated=True)
                for layer in model.tdnn:
                    hidden = layer(hidden)
                return model.classifier(model.feature_extractor(torch.cat(masked_mean_and_std(hidden, None), dim=-1)))
        return hidden

    def _checked(self, waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
        waveforms = [np.asarray(waveform, np.float32) for waveform in waveforms]
        for waveform in waveforms:
            check_waveforms(self.config, (1, *waveform.shape))
        return waveforms

    def _checked_features(self, features: Sequence[np.ndarray]) -> list[Tensor]:
        checked = []
        for one in features:
            array = np.asarray(one, np.float32)
            frames = array.shape[0] if array.ndim else 0
            check_shape("features", array.shape, (max(frames, 1), self.config.conv_dim[-1]), "(frames, conv_dim[-1])")
            if self.config.add_adapter and self.config.num_adapter_frames(frames) < 1:
                raise InputError(
                    f"an utterance has {frames} frames, the convolutional adapter makes less than one of them: "
                    "leave it out or use a longer one"
                )
            checked.append(to_tensor(array).to(self.model.device, self.model.dtype))
        return checked

    def _layer(self, number: int) -> int:
        """A layer's number counted from the first one."""
        count = self.config.num_hidden_layers + 1
        if not -count <= number < count:
            raise InputError(f"layer {number} does not exist: use 0 to {count - 1}, or -1 to {-count} from the last")
        return number % count


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        place = torch.device(name)
        torch.empty(0, device=place)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise BackendError(f"device {name!r} is not available here: use one of {', '.join(devices())}") from error
    return place
