"""Inference behind the core's back end interface: waveforms in, numpy logits out."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

import wav2vec2_torch
from wav2vec2_core.backend import check_head_and_dtype, check_trained
from wav2vec2_core.checkpoint import ModelSource, open_model
from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.errors import BackendError
from wav2vec2_core.inputs import (
    check_adapter_frames,
    check_pools,
    check_speakers,
    layer_numbers,
)
from wav2vec2_core.long_form.tiles import checked_features, checked_waveforms, encode_in_tiles
from wav2vec2_core.window_statistics import WindowStatistics
from wav2vec2_torch.cuda_graphs import Replayed, recorder_for
from wav2vec2_torch.kernels import PLAIN, WIDTH, Kernels, fastest
from wav2vec2_torch.model import Wav2Vec2Model
from wav2vec2_torch.packed_transformer import PackedTransformer
from wav2vec2_torch.pretrained import Wav2Vec2PreTrainedModel
from wav2vec2_torch.tiled_encoder import TiledEncoder
from wav2vec2_torch.weights import to_tensor


def devices() -> list[str]:
    """Devices usable here, the best one first; ``cpu`` is always among them."""
    found = [f"cuda:{index}" for index in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    if torch.backends.mps.is_available():
        found.append("mps")
    return [*found, "cpu"]


def chosen_kernels() -> list[str]:
    """For each type of number, the ways to compute that are the fastest on this processor for a base model.

    The last one says so where bfloat16 is the better choice than 8 bits: Intel's matrix unit has been measured.
    """
    types = [("float32", False), ("bfloat16", False), ("int8", True)]
    found = []
    for name, int8 in types:
        if int8 or _has_instructions(name):
            chosen = fastest(torch.float32 if int8 else getattr(torch, name), WIDTH, int8=int8)
            found.append(f"{name}: {chosen.describe() or 'plain'}")
    if _has_matrix_unit() and _has_instructions("bfloat16"):
        found.append("bfloat16 is faster and more exact than int8 here")
    return found


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
        device: as torch names it; ``"auto"`` for the first CUDA device, else the CPU.
        dtype: of the parameters. ``int8``, on the CPU: linear layers and convolutions in 8 bits, the rest in float32.
            Where a CPU has no instructions for bfloat16 or float16, the parameters are rounded to it and computed with
            in float32: emulation is six times slower.
        language: language of an MMS adapter.
        local_files_only: do not ask the hub.

    Raises:
        CheckpointError: no such model, or it has no trained head of this kind.
        BackendError: the device is not available.
        InputError: head, type or language is unknown.
    """
    check_head_and_dtype(head, dtype, int8=True)
    place = device_named(device)
    if dtype == "int8" and place.type != "cpu":
        raise BackendError(f"dtype 'int8' works on the CPU, not on {place}: use device cpu, or float16 or bfloat16")
    model_class: type[Wav2Vec2PreTrainedModel] = getattr(wav2vec2_torch, f"Wav2Vec2{head}")
    found = source if isinstance(source, ModelSource) else open_model(source, local_files_only=local_files_only)
    kept_as = "float32" if dtype == "int8" else dtype
    model = model_class.from_source(found, dtype=kept_as, target_lang=language, masked_group_norm=True)
    check_trained(found.name, head, model.loading)
    model = model.to(place)
    if place.type == "cpu" and not _has_instructions(dtype):
        model = model.float()
    kernels = fastest(model.dtype, model.config.hidden_size, int8=dtype == "int8") if place.type == "cpu" else PLAIN
    return InferenceModel(model, dtype, kernels)


def wrap_model(model: Wav2Vec2PreTrainedModel, *, device: str | None = None) -> InferenceModel:
    """A model that a program has made, for inference; it shares the parameters, and is moved and in eval mode.

    Args:
        model: of any head.
        device: as torch names it; where the model is, if ``None``.

    Raises:
        BackendError: the device is not available.
    """
    return InferenceModel(model if device is None else model.to(device_named(device)))


def _one_thread_in_a_fork() -> None:
    """A forked process has none of the threads of OpenMP, and PyTorch would wait for them forever."""
    torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_one_thread_in_a_fork)


#: (batch, frames, hidden), (batch,) valid frames or None for all -> (batch, frames, scores) or (batch, scores).
Head = Callable[[Tensor, Tensor | None], Tensor]
#: Frames of a pack of features: a minute of speech.
PACK_FRAMES = 3000


class InferenceModel:
    """A model ready for use; the numbers of one waveform do not depend on the others.

    Attributes:
        model: the plain model that the fast path takes its parameters from; do not change them afterwards. Of weights
            that ``load_model`` has put into another layout or into 8 bits it knows the shapes alone.
        kernels: the ways to compute on a processor.
    """

    def __init__(
        self, model: Wav2Vec2PreTrainedModel, dtype: str | None = None, kernels: Kernels | None = None
    ) -> None:
        """Make the fast path.

        Args:
            model: with all its weights.
            dtype: what to call the numbers in ``summary``; ``int8`` makes the layers so. The model's where None.
            kernels: ways to compute on a processor; the model is then this object's alone, and loses the weights that
                the kernels have copies of. Plain ones where None, and the model stays fit for training.
        """
        self.model = model.eval()
        self.dtype = dtype or str(model.dtype).removeprefix("torch.")
        body: Any = getattr(model, "wav2vec2", model)  # the bare model is its own body
        self._body: Wav2Vec2Model = body
        int8 = dtype == "int8"
        with torch.no_grad():  # not inference mode: the model stays fit for training
            owned: dict[str, Any] = {"int8": int8, "release": kernels is not None}
            self.kernels = kernels or PLAIN
            self._encoder = TiledEncoder(self._body.feature_extractor, self.kernels, **owned)
            self._transformer = PackedTransformer(self._body, self.kernels, **owned)
        self._replayed = Replayed(self._transformer.prepared, recorder_for(model.device))

    @property
    def config(self) -> Wav2Vec2Config:
        """The configuration in effect."""
        return self.model.config

    def summary(self) -> str:
        """One line: library, device, type, and the shapes that are replayed on a GPU."""
        computed = str(self.model.dtype).removeprefix("torch.")
        note = "" if computed == self.dtype else f" (other layers in {computed})"
        if self.dtype != "int8" and note:
            note = f" computed in {computed}, as this processor has no instructions for it"
        count = len(self._replayed)
        graphs = f"; {count} CUDA graph{'' if count == 1 else 's'}" if self.model.device.type == "cuda" else ""
        chosen = self.kernels.describe()
        return f"torch {torch.__version__} on {self.model.device}, {self.dtype}{note}{graphs}{chosen and f'; {chosen}'}"

    def use_language(self, language: str) -> None:
        """Switch to the adapter of another language of an MMS model; what was recorded for a GPU is dropped.

        Raises:
            InputError: the model has no adapters, or none for this language.
            CheckpointError: the adapter is damaged, or does not fit the model.
        """
        self.model.load_adapter(language, force_load=False)
        if self.dtype in ("bfloat16", "float16") and self.model.dtype == torch.float32:
            # Rounded when it was loaded, and computed with in float32: so is what came now.
            for parameter in self.model.adapter_parameters().values():
                parameter.data = parameter.data.to(getattr(torch, self.dtype)).float()
        self._replayed = Replayed(self._transformer.prepared, recorder_for(self.model.device))

    @torch.inference_mode()
    def logits(self, waveforms: Sequence[np.ndarray], *, batch_samples: int = 1_000_000) -> list[np.ndarray]:
        """The head's logits; the last hidden states of a model without head, projected ones of one for pretraining.

        Args:
            waveforms: (samples,) each, normalised by the feature extractor.
            batch_samples: samples computed at a time: a minute of speech. A longer waveform goes alone.

        Returns:
            float32, (frames, vocab) each for CTC; (frames, labels), (labels,), (xvector_output_dim,),
            (frames, hidden) or (frames, proj_codevector_dim) for other heads.

        Raises:
            InputError: a waveform has another rank or is shorter than the receptive field.
        """
        waveforms = checked_waveforms(self.config, waveforms)
        results: list[np.ndarray] = []
        for pack in _packs(waveforms, batch_samples):
            features = [torch.cat(list(self._encoder(waveform))) for waveform in pack]
            results += self._scores(features)
        return results

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
        return encode_in_tiles(self.config, lambda *one: map(_numpy, self._encoder(*one)), waveforms, statistics)

    @torch.inference_mode()
    def contextualize(self, features: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Run the rest of the model: (frames, conv_dim[-1]) each -> what ``logits`` returns; full attention.

        Raises:
            InputError: features have another shape.
        """
        results: list[np.ndarray] = []
        for pack in self._feature_packs(features):
            results += self._scores(pack)
        return results

    @torch.inference_mode()
    def hidden_states(self, features: Sequence[np.ndarray], layers: Sequence[int]) -> list[np.ndarray]:
        """(frames, conv_dim[-1]) each -> (len(layers), frames, hidden) float32 each.

        Args:
            features: as ``encode`` returns them.
            layers: 0 is the transformer's input, n the output of its n-th layer; negative numbers count from the last.

        Raises:
            InputError: features have another shape, or the model has no such layer.
        """
        chosen = layer_numbers(self.config, layers)
        results: list[np.ndarray] = []
        for pack in self._feature_packs(features):
            lengths = [len(one) for one in pack]
            made = np.empty((len(chosen), sum(lengths), self.config.hidden_size), np.float32)

            def keep(number: int, states: Tensor, made: np.ndarray = made) -> None:
                for row, wanted in enumerate(chosen):
                    if wanted == number:
                        made[row] = _numpy(states)

            self._transformer(torch.cat(pack), lengths, keep)
            results += [part.copy() for part in np.split(made, np.cumsum(lengths)[:-1], axis=1)]
        return results

    @torch.inference_mode()
    def embed(self, features: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Speaker vectors: (frames, conv_dim[-1]) each -> (xvector_output_dim,) float32 each, compared by cosine.

        Raises:
            InputError: features have another shape or too few frames, or the model is no ``ForXVector``.
        """
        check_speakers(self.model.head)
        vectors: Any = self.model.vectors
        results: list[np.ndarray] = []
        for pack in self._feature_packs(features):
            results += self._scores(pack, vectors)
        return results

    @torch.inference_mode()
    def pool(self, features: Sequence[np.ndarray]) -> list[np.ndarray]:
        """What the head takes the mean of, over all frames: (frames, conv_dim[-1]) each -> (size,) float32 each.

        Raises:
            InputError: features have another shape, or the model is no ``ForSequenceClassification``.
        """
        check_pools(self.model.head)
        model: Any = self.model
        return [vector for pack in self._feature_packs(features) for vector in self._scores(pack, model.pooled)]

    @torch.inference_mode()
    def classify(self, pooled: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Scores of the labels for vectors of ``pool``: (size,) each -> (labels,) float32 each.

        Raises:
            InputError: the model is no ``ForSequenceClassification``.
        """
        check_pools(self.model.head)
        model: Any = self.model
        vectors = (to_tensor(vector).to(model.device, model.dtype) for vector in pooled)
        return [_numpy(model.classified(vector[None])[0]) for vector in vectors]

    def _scores(self, features: Sequence[Tensor], head: Head | None = None) -> list[np.ndarray]:
        """Run the transformer over a pack of (frames, conv_dim[-1]) features, and the head over each utterance.

        ``head``: a method of the model; ``scores`` where None.
        """
        model: Any = self.model
        run: Head = model.scores if head is None else head
        self._check_frames(features)
        lengths = [len(one) for one in features]
        mixes = getattr(model, "layer_weights", None) is not None
        if not mixes:
            hidden = self._replayed(torch.cat(list(features)), lengths)
        else:
            shares, parts = model.shares(), []

            def add(number: int, states: Tensor) -> None:
                term = states * shares[number]
                parts[:] = [parts[0].add_(term) if parts else term]

            self._transformer(torch.cat(list(features)), lengths, add)
            hidden = parts[0]
        adapter = None if mixes else self._body.adapter
        utterances = hidden[None].to(self.model.dtype).split(lengths, dim=1)
        return [_numpy(run(one if adapter is None else adapter(one, None), None)[0]) for one in utterances]

    def _check_frames(self, features: Sequence[Tensor]) -> None:
        """Refuse utterances that are too short for the adapter or the head."""
        model: Any = self.model
        frames = min(len(one) for one in features)
        check_adapter_frames(self.config, frames)
        if model.head == "ForXVector":
            model.check_frames(model.head_frames(frames), dilated=True)

    def _feature_packs(self, features: Sequence[np.ndarray]) -> Iterator[list[Tensor]]:
        """Checked (frames, conv_dim[-1]) features where the model is, in packs of about a minute."""
        for pack in _packs(checked_features(self.config, features), PACK_FRAMES):
            yield [to_tensor(array).to(self.model.device, self.model.dtype) for array in pack]


def _packs(arrays: Sequence[np.ndarray], limit: int) -> Iterator[list[np.ndarray]]:
    """Neighbours whose lengths sum up to ``limit`` at most; a longer array alone."""
    pack: list[np.ndarray] = []
    for array in arrays:
        if pack and sum(map(len, pack)) + len(array) > limit:
            yield pack
            pack = []
        pack.append(array)
    if pack:
        yield pack


def _numpy(tensor: Tensor) -> np.ndarray:
    return tensor.float().cpu().numpy()


def device_named(name: str) -> torch.device:
    """The device of this name; ``"auto"``: the best one. Raises ``BackendError``."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        place = torch.device(name)
        torch.empty(0, device=place)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise BackendError(f"device {name!r:.100} is not available here: use one of {', '.join(devices())}") from error
    return place


def _has_instructions(dtype: str) -> bool:
    """Whether this CPU computes with a type at least as fast as with float32."""
    match dtype:
        case "bfloat16":
            return torch.ops.mkldnn._is_mkldnn_bf16_supported()
        case "float16":
            return torch.ops.mkldnn._is_mkldnn_fp16_supported()
    return True


def _has_matrix_unit() -> bool:
    """Whether this CPU has AMX."""
    has: Callable[[], bool] | None = getattr(torch.cpu, "_is_amx_tile_supported", None)
    return has is not None and has()
