"""Loading and saving: ``from_pretrained``, ``save_pretrained``, language adapters, the hub. Thin, over the core."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array

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
    write_flax_checkpoint,
)
from wav2vec2_core.config import DTYPES, Wav2Vec2Config
from wav2vec2_core.errors import ConfigError, InputError
from wav2vec2_core.parameters import Parameter, check_trainable, initial_values, parameter_table, trainable_names
from wav2vec2_core.pretrained_model import PretrainedModel
from wav2vec2_flax import layers
from wav2vec2_flax.layers import Precision
from wav2vec2_flax.weights import export_weights, fill_weights, nest, params_of, places, with_params


@dataclass(frozen=True, eq=False)
class ModelInfo:
    """What a model knows besides its parameters; replaced as a whole, never changed.

    Two are equal where their configurations are, so that jax compiles once for models that compute the same.
    """

    config: Wav2Vec2Config
    loading: LoadPlan | None = None
    source: ModelSource | None = None
    frozen: frozenset[str] = frozenset()
    language: str | None = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ModelInfo) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __deepcopy__(self, memo: dict[int, Any]) -> ModelInfo:
        return self

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self.config.bind(())  # a copied configuration is free, a copied model has its own

    @functools.cached_property
    def _text(self) -> str:
        return self.config.to_json_string()


class FlaxWav2Vec2PreTrainedModel(nnx.Module, PretrainedModel):
    """Base class of the body and all heads: construction, parameters, files, freezing, rematerialisation.

    A model is a flax.nnx module and a JAX pytree: pass it to ``jax.jit``, split it, differentiate it. Or use it as a
    function of its parameters, as transformers' Flax models:
    ``model(values, params=params, train=True, dropout_rng=key)``.
    """

    framework = "flax"
    supports_gradient_checkpointing = True

    def __init__(
        self,
        config: Wav2Vec2Config,
        *,
        seed: int = 0,
        dtype: Any = jnp.float32,
        param_dtype: Any = jnp.float32,
        scan_layers: bool = False,
        remat: str | None = None,
        _do_init: bool = True,
    ) -> None:
        """A new model.

        Args:
            config: the configuration.
            seed: of the first values; the same seed gives every back end the same model.
            dtype: what the model computes with; losses, norms and softmax stay in float32.
            param_dtype: what the parameters are kept as.
            scan_layers: compile one transformer layer and loop over it. Parameters and files are the same either way.
            remat: what a transformer layer keeps for the backward pass: None for everything, ``"dots"`` for matrix
                products, ``"dots_no_batch"`` for those with weights, ``"full"`` for nothing.
            _do_init: False leaves parameters as shapes, for ``jax.eval_shape``, sharding and functional use.

        Raises:
            ConfigError: a type or policy is unknown, or the head does not work with the configuration.
        """
        types = Precision(_jax_dtype(dtype), _jax_dtype(param_dtype))
        config = Wav2Vec2Config.of(config).bound(())  # compiled code holds what it says, so nothing of it may change
        remat = remat or ("full" if config.take_gradient_checkpointing() else None)
        self.info = ModelInfo(config)
        self.types = types
        self.build(config, types)
        self._encoder().scan = scan_layers
        self._encoder().remat = layers.check_remat(remat)
        if _do_init:
            fill_weights(self, initial_values(self.parameter_table(), seed))

    def build(self, config: Wav2Vec2Config, types: Precision) -> None:
        """Create the submodules, without values. Each head has its own."""
        raise NotImplementedError

    def __call__(self, *args: Any, params: Mapping[str, Any] | None = None, **options: Any) -> Any:
        """``forward`` with the model's own parameters, or with those of a dictionary like its ``params``."""
        model = self if params is None else with_params(self, params)
        return model.forward(*args, **options)

    def forward(self, *args: Any, **options: Any) -> Any:
        """The computation. Each head has its own."""
        raise NotImplementedError

    @property
    def config(self) -> Wav2Vec2Config:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The configuration in effect."""
        return self.info.config

    @property
    def loading(self) -> LoadPlan | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        """After ``from_pretrained``, which parameters came from where, are new, or were ignored."""
        return self.info.loading

    @property
    def params(self) -> dict[str, Any]:
        """The parameters as a nested dictionary with the names of transformers' Flax models; assign one to set them."""
        return params_of(self)

    def __setattr__(self, name: str, value: Any) -> None:
        if name != "params":
            super().__setattr__(name, value)
            return
        given = places(with_params(self, value))  # not a property's setter: nnx takes assignments for its own
        for own, place in places(self).items():
            place.variable.set_value(given[own].variable.get_value())

    @property
    def dtype(self) -> Any:
        """The type that the model computes with."""
        return jnp.dtype(self.types.dtype)

    @property
    def param_dtype(self) -> Any:
        """What the parameters are kept as."""
        return jnp.dtype(self.types.param_dtype)

    def training_key(self, train: bool, dropout_rng: Array | None) -> Array | None:
        """The key of a training step, None for inference. Raises ``InputError`` for training without one."""
        if not train:
            return None
        if dropout_rng is None:
            raise InputError("train=True draws dropout and masks: pass dropout_rng, such as jax.random.key(0)")
        return dropout_rng

    def head_frames(self, frames: Any) -> Any:
        """Frames of the states that the head reads, of so many of the feature encoder: a number or (batch,) of them."""
        return self.config.num_adapter_frames(frames) if self.config.add_adapter else frames

    # ---- files ------------------------------------------------------------------------------------------------

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | os.PathLike[str] | None, *, _do_init: bool = True, **options: Any
    ) -> Any:
        """As ``PretrainedModel.from_pretrained``; with ``_do_init=False`` the result is the model and ``params``."""
        loaded = super().from_pretrained(pretrained_model_name_or_path, **options)
        return loaded if _do_init else (loaded, loaded.params)

    @classmethod
    def from_source(
        cls,
        source: ModelSource | None,
        *,
        config: Any = None,
        checkpoint: Checkpoint | None = None,
        dtype: Any = jnp.float32,
        param_dtype: Any = jnp.float32,
        scan_layers: bool = False,
        remat: str | None = None,
        seed: int = 0,
        ignore_mismatched_sizes: bool = False,
        target_lang: str | None = None,
        **config_overrides: Any,
    ) -> Self:
        """As ``from_pretrained``, of files found already and without the warning about new parameters.

        Args:
            source: where the configuration and the adapters are; None where ``config`` and ``checkpoint`` are given.
            config: see ``from_pretrained``.
            checkpoint: weights, opened already.
            dtype, scan_layers, remat: as for a new model.
            param_dtype: of the parameters; ``"auto"`` for the file's.
            seed: of parameters that the checkpoint lacks.
            ignore_mismatched_sizes: start head parameters anew that have another shape in the checkpoint.
            target_lang: language of an MMS adapter to load with its vocabulary's ``lm_head``.
            **config_overrides: fields of the configuration to change.
        """
        if checkpoint is None and source is not None:
            checkpoint = open_checkpoint(source)
        config = cls.configuration(source, config, config_overrides, checkpoint)
        opened: Any = checkpoint
        table = parameter_table(config, cls.head)
        plan = plan_loading(table, opened, ignore_mismatched_sizes=ignore_mismatched_sizes)
        if isinstance(param_dtype, str) and param_dtype == "auto":
            param_dtype = opened.dtypes[next(iter(plan.sources.values()))]
        loaded = cls(config, dtype=dtype, param_dtype=param_dtype, scan_layers=scan_layers, remat=remat, _do_init=False)
        loaded.info = dataclasses.replace(loaded.info, source=source, loading=plan)
        loaded._fill(opened, plan, {name: table[name] for name in plan.new}, seed)
        if target_lang is not None:
            loaded.load_adapter(target_lang)
        return loaded

    def save_pretrained(
        self, save_directory: str | os.PathLike[str], params: Mapping[str, Any] | None = None, **options: Any
    ) -> None:
        """As ``PretrainedModel.save_pretrained``.

        ``params``: parameters to write instead of the model's own, such as those of a training state. Raises
        ``ParameterMismatchError`` too, where they are not this model's.
        """
        model = self if params is None else with_params(self, params)
        super(FlaxWav2Vec2PreTrainedModel, model).save_pretrained(save_directory, **options)

    def arrays(self) -> dict[str, np.ndarray]:
        """The parameters by checkpoint name, in the checkpoint's layout."""
        return export_weights(self)

    def write_own_format(
        self,
        folder: str | os.PathLike[str],
        arrays: Mapping[str, np.ndarray],
        config: Wav2Vec2Config,
        max_shard_size: int | str,
    ) -> None:
        """Write ``flax_model.msgpack``, whole, for transformers 4 with its own JAX. Raises ``OutputError``."""
        found = places(self)
        own = {found[name].path: array.T if found[name].reverse else array for name, array in arrays.items()}
        write_flax_checkpoint(folder, nest(own), config=config)

    def _fill(self, checkpoint: Checkpoint, plan: LoadPlan, new: dict[str, Parameter], seed: int) -> None:
        fill_weights(self, ((ours, checkpoint.read(theirs)) for ours, theirs in plan.sources.items()))
        fill_weights(self, initial_values(new, seed))

    # ---- language adapters ------------------------------------------------------------------------------------

    def load_adapter(
        self, target_lang: str, force_load: bool = True, *, source: str | os.PathLike[str] | None = None
    ) -> None:
        """Replace the attention adapters, and in a CTC model ``lm_head``, by those of a language.

        Every shape is checked before anything changes. A new ``lm_head`` has the size of the language's vocabulary
        (``config.vocab_size`` follows): read ``params`` and make an optimizer state after this call, not before.

        Args:
            target_lang: language code as in ``adapter.<language>.safetensors``.
            force_load: False keeps the adapter as it is where it is that of the language already.
            source: folder or hub id of the adapters; where None, that of the model.

        Raises:
            InputError: the model has no adapters or no source, or the language is unknown (the known ones are listed).
            CheckpointError: the file is damaged, or does not fit the model.
        """
        if self.info.language == target_lang and not force_load:
            return
        found = self.info.source if source is None else open_model(source)
        config, checkpoint, plan = plan_adapter(self.config, self.head, found, target_lang)
        self._resize_vocabulary(config)
        self._fill(checkpoint, plan, {}, 0)
        if self.loading is not None:
            self.info = dataclasses.replace(self.info, loading=self.loading.filled_by(plan))
        self.info = dataclasses.replace(self.info, language=target_lang)

    def save_adapter(self, folder: str | os.PathLike[str], language: str) -> Path:
        """Write the attention adapters, and in a CTC model ``lm_head``, as ``adapter.<language>.safetensors``.

        Raises:
            InputError: the model has no adapters, or the language is no plain name.
            OutputError: the folder cannot be written.
        """
        names = set(adapter_table(self.config, self.head))
        tensors = {name: array for name, array in export_weights(self).items() if name in names}
        return write_adapter(folder, language, tensors)

    def init_adapter_layers(self, seed: int = 0) -> None:
        """Give the attention adapters, and in a CTC model ``lm_head``, new initial values, to train another language.

        Raises:
            InputError: the model has no adapters.
        """
        fill_weights(self, initial_values(adapter_table(self.config, self.head), seed))

    def adapter_parameters(self) -> dict[str, Array]:
        """The parameters that adapter-only training updates, by checkpoint name.

        Raises ``InputError`` for a model without adapters.
        """
        found = places(self)
        return {name: found[name].variable.get_value() for name in adapter_table(self.config, self.head)}

    def _resize_vocabulary(self, config: Wav2Vec2Config) -> None:
        """Take over a configuration with another ``vocab_size``; ``lm_head`` gets a shape but no values yet."""

    # ---- training ---------------------------------------------------------------------------------------------

    def trainable_names(self) -> frozenset[str]:
        """Names of the parameters that training changes."""
        return trainable_names(self.config, self.head) - self.info.frozen

    def set_trainable(self, names: Collection[str]) -> None:
        """Let training change these parameters and keep the others as they are: ``trainable`` follows.

        ``names``: of ``parameter_table()``, such as ``wav2vec2_core.parameters.trainable_names`` computes. Raises
        ``InputError`` for an unknown name.
        """
        frozen = self.parameter_table().keys() - check_trainable(self.config, self.head, names)
        self.info = dataclasses.replace(self.info, frozen=frozenset(frozen))

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

    @property
    def trainable(self) -> dict[str, Any]:
        """A mask for optax: a dictionary like ``params`` with True for ``trainable_names``.

        ``train.freeze(optimizer, model.trainable)`` keeps the others as they are, without optimizer state.
        """
        trained = self.trainable_names()
        return nest({place.path: name in trained for name, place in places(self).items()})

    def gradient_checkpointing_enable(self, policy: str = "full") -> None:
        """Recompute transformer layers in the backward pass, all but what the policy keeps: see ``remat``."""
        self._encoder().remat = layers.check_remat(policy)

    def gradient_checkpointing_disable(self) -> None:
        """Store activations again."""
        self._encoder().remat = None

    @property
    def is_gradient_checkpointing(self) -> bool:
        """Whether ``gradient_checkpointing_enable`` is in effect."""
        return self._encoder().remat is not None

    def _encoder(self) -> Any:
        body: Any = getattr(self, "wav2vec2", self)
        return body.encoder


def _jax_dtype(dtype: Any) -> Any:
    """The type of a name, numpy or JAX type. Raises ``ConfigError`` where models cannot have it."""
    try:
        name = jnp.dtype(dtype).name
    except TypeError:
        name = str(dtype)
    if name not in DTYPES:
        raise ConfigError(f"dtype={name!r:.100} is no type for parameters: use 'auto' or one of {', '.join(DTYPES)}")
    if name == "float64" and not jax.config.jax_enable_x64:  # pyright: ignore[reportAttributeAccessIssue]
        raise ConfigError(
            "dtype='float64' is switched off in JAX: call jax.config.update('jax_enable_x64', True) first"
        )
    return jnp.dtype(name)


__all__ = ["FlaxWav2Vec2PreTrainedModel"]
