"""Loading and saving: ``from_pretrained``, ``save_pretrained``, language adapters, the hub. Thin, over the core."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from wav2vec2_core.appearance import SeenByTransformers
from wav2vec2_core.checkpoint import (
    Checkpoint,
    LoadPlan,
    ModelSource,
    adapter_table,
    open_checkpoint,
    open_model,
    plan_adapter,
    plan_loading,
    write_adapter,
    write_checkpoint,
)
from wav2vec2_core.config import DTYPES, Wav2Vec2Config
from wav2vec2_core.errors import ConfigError, InputError
from wav2vec2_core.parameters import check_trainable, initial_values, trainable_names
from wav2vec2_core.pretrained_model import FOLLOWED, PretrainedModel
from wav2vec2_torch import layers
from wav2vec2_torch.weights import export_weights, fill_weights


class Wav2Vec2PreTrainedModel(nn.Module, PretrainedModel, SeenByTransformers):
    """Base class of the body and all heads: construction, files, freezing, gradient checkpointing.

    ``Cls(config)`` gives a new model in training mode whose first values depend on ``torch.manual_seed`` alone.

    Attributes:
        config: the configuration of the model, its own copy; assigning to a field changes the model or is refused.
        loading: after ``from_pretrained``, which parameters came from where, are new, or were ignored.
    """

    passes_for = ("transformers.modeling_utils", "PreTrainedModel")
    framework = "pt"
    supports_gradient_checkpointing = True
    own_options = ("device_map",)

    def __init__(self, config: Wav2Vec2Config) -> None:
        super().__init__()
        self.config = Wav2Vec2Config.of(config).bound(FOLLOWED)
        self.loading: LoadPlan | None = None
        self._source: ModelSource | None = None
        self.target_lang: str | None = None

    def __reduce_ex__(self, protocol: Any) -> Any:
        return _blank, (type(self),), self.__getstate__()  # pickle would compare type(self) with __class__

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.config.bind(FOLLOWED)  # a copied configuration is free, a copied model has its own

    @contextmanager
    def construction(self) -> Iterator[None]:
        """Wraps the creation of submodules in a constructor: memory and first values come once, at its end."""
        with layers.without_values() as outermost:
            yield
        if outermost:
            fill_weights(self, initial_values(self.parameter_table(), layers.draw_seed()))
        if self.config.take_gradient_checkpointing():
            self.gradient_checkpointing_enable()

    @property
    def device(self) -> torch.device:
        """The device of the model."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The type that the model computes with."""
        return next(self.parameters()).dtype

    @property
    def base_model(self) -> Any:
        """The body of a model with a head, the model itself otherwise."""
        return getattr(self, self.base_model_prefix, self)

    def head_frames(self, frames: Any) -> Any:
        """Frames of the states that the head reads, of so many of the feature encoder: a number or (batch,) of them."""
        return self.config.num_adapter_frames(frames) if self.config.add_adapter else frames

    # ---- files ------------------------------------------------------------------------------------------------

    @classmethod
    def from_source(
        cls,
        source: ModelSource | None,
        *,
        config: Any = None,
        checkpoint: Checkpoint | None = None,
        dtype: torch.dtype | str | None = None,
        device_map: Any = None,
        ignore_mismatched_sizes: bool = False,
        target_lang: str | None = None,
        **config_overrides: Any,
    ) -> Self:
        """As ``from_pretrained``, of files found already, in eval mode and without the warning about new parameters.

        Args:
            source: where the configuration and the adapters are; None where ``config`` and ``checkpoint`` are given.
            config: see ``from_pretrained``.
            checkpoint: weights, opened already.
            dtype: of the parameters: a ``torch.dtype`` or its name, ``"auto"`` for the file's, float32 where None.
            device_map: a device, or ``"auto"`` and its kin for the GPU where there is one; a model is on one device.
            ignore_mismatched_sizes: start head parameters anew that have another shape in the checkpoint.
            target_lang: language of an MMS adapter to load with its vocabulary's ``lm_head``.
            **config_overrides: fields of the configuration to change.
        """
        device = _device(device_map)
        if checkpoint is None and source is not None:
            checkpoint = open_checkpoint(source)
        config = cls.configuration(source, config, config_overrides, checkpoint)
        with layers.without_values():
            loaded = cls(config)
        loaded._source = source
        loaded._fill(checkpoint, dtype, ignore_mismatched_sizes)
        if target_lang is not None:
            loaded.load_adapter(target_lang)
        return loaded.to(device).eval()

    def arrays(self) -> dict[str, np.ndarray]:
        """The parameters by name; on the CPU they share memory with the model."""
        return export_weights(self)

    def write_own_format(
        self,
        folder: str | os.PathLike[str],
        arrays: Mapping[str, np.ndarray],
        config: Wav2Vec2Config,
        max_shard_size: int | str,
    ) -> None:
        """Write ``pytorch_model.bin``. Raises ``OutputError``."""
        write_checkpoint(folder, arrays, config=config, max_shard_size=max_shard_size, safe_serialization=False)

    def _fill(self, checkpoint: Any, dtype: torch.dtype | str | None, ignore_mismatched_sizes: bool) -> None:
        table = self.parameter_table()
        plan = plan_loading(table, checkpoint, ignore_mismatched_sizes=ignore_mismatched_sizes)
        if dtype == "auto":
            dtype = checkpoint.dtypes[next(iter(plan.sources.values()))]
        kept_as = _torch_dtype(dtype)
        fill_weights(self, ((ours, checkpoint.read(theirs)) for ours, theirs in plan.sources.items()), dtype=kept_as)
        if plan.new:
            new = {name: table[name] for name in plan.new}
            fill_weights(self, initial_values(new, layers.draw_seed()), dtype=kept_as)
        self.loading = plan

    # ---- language adapters ------------------------------------------------------------------------------------

    def load_adapter(
        self, target_lang: str, force_load: bool = True, *, source: str | os.PathLike[str] | None = None
    ) -> None:
        """Replace the attention adapters, and in a CTC model ``lm_head``, by those of a language.

        Every shape is checked before anything changes. A new ``lm_head`` has the size of the language's vocabulary
        (``config.vocab_size`` follows): make an optimizer after this call, not before.

        Args:
            target_lang: language code as in ``adapter.<language>.safetensors``.
            force_load: False keeps the adapter as it is where it is that of the language already.
            source: folder or hub id of the adapters; where None, that of the model.

        Raises:
            InputError: the model has no adapters or no source, or the language is unknown (the known ones are listed).
            CheckpointError: the file is damaged, or does not fit the model.
        """
        if self.target_lang == target_lang and not force_load:
            return
        found = self._source if source is None else open_model(source)
        config, checkpoint, plan = plan_adapter(self.config, self.head, found, target_lang)
        self._resize_vocabulary(config)
        fill_weights(self, ((ours, checkpoint.read(theirs)) for ours, theirs in plan.sources.items()))
        if self.loading is not None:
            self.loading = self.loading.filled_by(plan)
        self.target_lang = target_lang

    def save_adapter(self, folder: str | os.PathLike[str], language: str) -> Path:
        """Write the attention adapters, and in a CTC model ``lm_head``, as ``adapter.<language>.safetensors``.

        Raises:
            InputError: the model has no adapters, or the language is no plain name.
            OutputError: the folder cannot be written.
        """
        names = set(adapter_table(self.config, self.head))
        tensors = {name: array for name, array in export_weights(self).items() if name in names}
        return write_adapter(folder, language, tensors)

    def init_adapter_layers(self) -> None:
        """Give the attention adapters, and in a CTC model ``lm_head``, new initial values, to train another language.

        Raises:
            InputError: the model has no adapters.
        """
        fill_weights(self, initial_values(adapter_table(self.config, self.head), layers.draw_seed()))

    def adapter_parameters(self) -> dict[str, Tensor]:
        """Parameters of adapter-only training, by name. Raises ``InputError`` for a model without adapters."""
        return {name: self.get_parameter(name) for name in adapter_table(self.config, self.head)}

    def _resize_vocabulary(self, config: Wav2Vec2Config) -> None:
        """Take over a configuration with another ``vocab_size``; ``lm_head`` gets memory but no values yet."""

    # ---- training ---------------------------------------------------------------------------------------------

    def trainable_names(self) -> frozenset[str]:
        """Names of the parameters that training changes; what was added to the model from outside is not among them."""
        rows = self.parameter_table()
        return frozenset(name for name, value in self.named_parameters() if value.requires_grad and name in rows)

    def set_trainable(self, names: Collection[str]) -> None:
        """Make exactly these parameters trainable (``requires_grad``).

        ``names``: of ``parameter_table()``, such as ``wav2vec2_core.parameters.trainable_names`` computes. Parameters
        that were added to the model from outside stay as they are. Raises ``InputError`` for an unknown name.
        """
        chosen, rows = check_trainable(self.config, self.head, names), self.parameter_table()
        for name, value in self.named_parameters():
            if name in rows:
                value.requires_grad_(name in chosen)

    def freeze_feature_encoder(self) -> None:
        """Freeze the convolutional feature encoder, as is usual in fine-tuning."""
        self._freeze("feature_encoder")

    def freeze_base_model(self) -> None:
        """Freeze everything but the head."""
        self._freeze("base_model")

    def freeze_all_but_adapters(self) -> None:
        """Freeze everything but ``adapter_parameters``. Raises ``InputError`` for a model without adapters."""
        self.set_trainable(trainable_names(self.config, self.head, frozen="all_but_adapters"))

    def _freeze(self, part: str) -> None:
        self.set_trainable(self.trainable_names() & trainable_names(self.config, self.head, frozen=part))

    def gradient_checkpointing_enable(self, gradient_checkpointing_kwargs: dict[str, Any] | None = None) -> None:
        """Recompute each transformer layer in the backward pass: less memory, about a third more time.

        ``gradient_checkpointing_kwargs`` go to ``torch.utils.checkpoint.checkpoint``.
        """
        self._encoder().checkpointing = dict(gradient_checkpointing_kwargs or {})

    def gradient_checkpointing_disable(self) -> None:
        """Store activations again."""
        self._encoder().checkpointing = None

    @property
    def is_gradient_checkpointing(self) -> bool:
        """Whether ``gradient_checkpointing_enable`` is in effect."""
        return self._encoder().checkpointing is not None

    def _encoder(self) -> Any:
        body: Any = getattr(self, "wav2vec2", self)
        return body.encoder


def _blank(kind: Any) -> Any:
    return kind.__new__(kind)


def _device(device_map: Any) -> torch.device:
    """The one device of a ``device_map``. Raises ``InputError`` for several."""
    places = {str(place): place for place in (device_map.values() if isinstance(device_map, dict) else [device_map])}
    if len(places) != 1:
        raise InputError(f"device_map={device_map!r:.100} names {len(places)} devices: a model is on one, name that")
    place = next(iter(places.values()))
    if place in ("auto", "balanced", "balanced_low_0", "sequential"):
        place = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return torch.get_default_device() if place is None else torch.device(place)
    except (RuntimeError, TypeError) as error:
        raise InputError(
            f"device_map={device_map!r:.100} is no device: use 'auto', 'cpu', 'cuda' or 'cuda:0'"
        ) from error


def _torch_dtype(dtype: torch.dtype | str | None) -> torch.dtype:
    if dtype is None:
        return torch.float32
    name = str(dtype).removeprefix("torch.")
    if name not in DTYPES:
        raise ConfigError(f"dtype={name!r:.100} is no type for parameters: use 'auto' or one of {', '.join(DTYPES)}")
    return getattr(torch, name)


__all__ = ["Wav2Vec2PreTrainedModel"]
