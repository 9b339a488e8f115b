"""Loading and saving: ``from_pretrained``, ``save_pretrained``, language adapters, the hub. Thin, over the core."""

from __future__ import annotations

import inspect
import logging
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

import keras

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
    write_tf_checkpoint,
)
from wav2vec2_core.config import DTYPES, Wav2Vec2Config
from wav2vec2_core.errors import ConfigError
from wav2vec2_core.outputs import ModelOutput
from wav2vec2_core.parameters import Parameter, check_trainable, initial_values, parameter_table, trainable_names
from wav2vec2_core.pretrained import Pretrained
from wav2vec2_tf import layers
from wav2vec2_tf.keras_steps import KerasSteps
from wav2vec2_tf.weights import export_weights, fill_weights, find_variable

logger = logging.getLogger("wav2vec2_tf")

Output = TypeVar("Output", bound=ModelOutput)


class TFWav2Vec2PreTrainedModel(KerasSteps, Pretrained):
    """What the body and all heads share: construction, files, freezing; ``KerasSteps`` adds what ``fit`` needs.

    ``Cls(config)`` gives a new model whose first values depend on ``keras.utils.set_random_seed`` alone.

    Attributes:
        config: the configuration; changing it afterwards does not change the model.
        loading: after ``from_pretrained``, which parameters came from where, are new, or were ignored.
    """

    head: ClassVar[str]
    main_input_name = "input_values"

    def __init__(self, config: Wav2Vec2Config, **options: Any) -> None:
        """``options`` go to ``keras.Model``: ``name``, ``dtype``."""
        super().__init__(**options)
        self.config = config
        self.loading: LoadPlan | None = None
        self._source: ModelSource | None = None
        self.built = True

    def __call__(self, *args: Any, **named: Any) -> Any:
        """Call the model; the arguments are those of ``call``, or a mapping of them comes first, as from a dataset."""
        if args and isinstance(args[0], Mapping):
            args, named = args[1:], {**args[0], **named}
        names = list(inspect.signature(self.call).parameters)
        return super().__call__(**dict(zip(names, args, strict=False)), **named)

    @contextmanager
    def construction(self) -> Iterator[None]:
        """Wraps the creation of layers in a constructor: first values come once, at its end."""
        with layers.without_values() as outermost, layers.dtype_policy(self.dtype_policy):
            yield
        if outermost:
            fill_weights(self, initial_values(self.parameter_table(), layers.draw_seed()))

    def parameter_table(self) -> dict[str, Parameter]:
        """Names, shapes, first values and freeze groups of this model's parameters."""
        return parameter_table(self.config, self.head)

    def as_requested(
        self, output: Output, return_dict: bool | None, dict_only: tuple[str, ...] = ()
    ) -> Output | tuple[Any, ...]:
        """``output`` or, where the call or the configuration wants a tuple, its fields but those in ``dict_only``."""
        if self.config.return_dict if return_dict is None else return_dict:
            return output
        return tuple(value for name, value in output.items() if name not in dict_only)

    def drawn_in_training(self, given: Mapping[str, Any]) -> list[str]:
        """Names of the arguments that a training step draws where they are not ``given``."""
        config = self.config
        rates = {
            "mask_time_indices": config.mask_time_prob * config.apply_spec_augment,
            "mask_feature_indices": config.mask_feature_prob * config.apply_spec_augment,
            "layer_keep": config.layerdrop,
        }
        return [name for name, rate in rates.items() if rate > 0 and given.get(name) is None]

    # ---- Keras' own files -------------------------------------------------------------------------------------

    def get_config(self) -> dict[str, Any]:
        """What ``model.save("model.keras")`` keeps beside the weights."""
        return {**super().get_config(), "config": self.config.to_dict()}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Self:
        """The model that ``get_config`` describes, with new values."""
        options = {name: value for name, value in config.items() if name != "config"}
        return cls(Wav2Vec2Config.from_dict(config["config"]), **options)

    def head_frames(self, frames: Any) -> Any:
        """Frames of the states that the head reads, of so many of the feature encoder: a number or (batch,) of them."""
        return self.config.num_adapter_frames(frames) if self.config.add_adapter else frames

    # ---- files ------------------------------------------------------------------------------------------------

    @classmethod
    def from_pretrained(
        cls,
        model: str | os.PathLike[str],
        *,
        config: Wav2Vec2Config | None = None,
        revision: str | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        token: str | bool | None = None,
        local_files_only: bool = False,
        force_download: bool = False,
        dtype: str | None = None,
        ignore_mismatched_sizes: bool = False,
        target_lang: str | None = None,
        **config_overrides: Any,
    ) -> Self:
        """Load a model from a folder or the hub. A parameter at a time goes from the file into the model.

        Args:
            model: folder or hub id.
            config: configuration to use instead of the checkpoint's ``config.json``.
            revision, cache_dir, token, local_files_only, force_download: as in ``huggingface_hub``.
            dtype: Keras policy: ``"float32"``, ``"bfloat16"``, ``"mixed_bfloat16"`` ..., ``"auto"`` for the file's
                type, the global policy where None.
            ignore_mismatched_sizes: start head parameters anew that have another shape in the checkpoint.
            target_lang: language of an MMS adapter to load with its vocabulary's ``lm_head``.
            **config_overrides: fields of the configuration to change.

        Raises:
            CheckpointError: the model, a file or a parameter is missing, damaged or of another shape.
            ConfigError: the configuration or an override breaks a rule.
            InputError: the language has no adapter.
        """
        source = open_model(
            model,
            revision=revision,
            cache_dir=cache_dir,
            token=token,
            local_files_only=local_files_only,
            force_download=force_download,
        )
        loaded = cls.from_source(
            source,
            config=config,
            dtype=dtype,
            ignore_mismatched_sizes=ignore_mismatched_sizes,
            target_lang=target_lang,
            **config_overrides,
        )
        if loaded.loading is not None and loaded.loading.new:
            new = ", ".join(loaded.loading.new)
            logger.warning("model %r has no values for %s: newly initialised, train them before use", source.name, new)
        return loaded

    @classmethod
    def from_source(
        cls,
        source: ModelSource,
        *,
        config: Wav2Vec2Config | None = None,
        dtype: str | None = None,
        ignore_mismatched_sizes: bool = False,
        target_lang: str | None = None,
        **config_overrides: Any,
    ) -> Self:
        """``from_pretrained`` for files found already, without the warning: ``loading`` names new parameters."""
        if config is None:
            config = Wav2Vec2Config.from_source(source)
        if config_overrides:
            config = config.replace(**config_overrides)
        checkpoint = open_checkpoint(source)
        table = parameter_table(config, cls.head)
        plan = plan_loading(table, checkpoint, ignore_mismatched_sizes=ignore_mismatched_sizes)
        with layers.without_values():
            loaded = cls(config, dtype=_policy(dtype, checkpoint, plan))
        fill_weights(loaded, ((ours, checkpoint.read(theirs)) for ours, theirs in plan.sources.items()))
        fill_weights(loaded, initial_values({name: table[name] for name in plan.new}, layers.draw_seed()))
        loaded.loading = plan
        loaded._source = source
        if target_lang is not None:
            loaded.load_adapter(target_lang)
        return loaded

    def save_pretrained(
        self,
        save_directory: str | os.PathLike[str],
        *,
        max_shard_size: int | str = "5GB",
        safe_serialization: bool = True,
    ) -> None:
        """Write ``config.json`` and ``model.safetensors`` (in shards above ``max_shard_size``) into a folder.

        ``safe_serialization=False`` writes ``tf_model.h5`` instead, which TensorFlow models of transformers 4 read.

        Raises:
            InputError: ``max_shard_size`` is no size.
            OutputError: the folder cannot be written.
        """
        architecture = type(self).__name__.removeprefix("TF")  # one name for the same weights in every framework
        config = self.config.replace(architectures=(architecture,), dtype=self.variable_dtype)
        tensors = export_weights(self)
        if safe_serialization:
            write_checkpoint(save_directory, tensors, max_shard_size=max_shard_size)
        else:
            write_tf_checkpoint(save_directory, tensors, self.head)
        config.save_pretrained(save_directory)

    # ---- language adapters ------------------------------------------------------------------------------------

    def load_adapter(self, target_lang: str, *, source: str | os.PathLike[str] | None = None) -> None:
        """Replace the attention adapters, and in a CTC model ``lm_head``, by those of a language.

        Every shape is checked before anything changes. A new ``lm_head`` has the size of the language's vocabulary
        (``config.vocab_size`` follows): call ``compile`` after this, not before.

        Args:
            target_lang: language code as in ``adapter.<language>.safetensors``.
            source: folder or hub id of the adapters; where None, that of the model.

        Raises:
            InputError: the model has no adapters or no source, or the language is unknown (the known ones are listed).
            CheckpointError: the file is damaged, or does not fit the model.
        """
        found = self._source if source is None else open_model(source)
        config, checkpoint, plan = plan_adapter(self.config, self.head, found, target_lang)
        self._resize_vocabulary(config)
        fill_weights(self, ((ours, checkpoint.read(theirs)) for ours, theirs in plan.sources.items()))
        if self.loading is not None:
            self.loading = self.loading.filled_by(plan)

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
        """Give the attention adapters, and in a CTC model ``lm_head``, new first values, to train another language.

        Raises:
            InputError: the model has no adapters.
        """
        fill_weights(self, initial_values(adapter_table(self.config, self.head), layers.draw_seed()))

    def adapter_parameters(self) -> dict[str, keras.Variable]:
        """What adapter-only training leaves trainable, by name. Raises ``InputError`` for a model without adapters."""
        return {name: find_variable(self, name)[0] for name in adapter_table(self.config, self.head)}

    def _resize_vocabulary(self, config: Wav2Vec2Config) -> None:
        """Take over a configuration with another ``vocab_size``; ``lm_head`` gets memory but no values yet."""

    # ---- training ---------------------------------------------------------------------------------------------

    def trainable_names(self) -> frozenset[str]:
        """Names of the parameters that training changes."""
        trained = {id(variable) for variable in self.trainable_variables}
        return frozenset(name for name in self.parameter_table() if id(find_variable(self, name)[0]) in trained)

    def set_trainable(self, names: Collection[str]) -> None:
        """Let training change these parameters and keep the others as they are; call ``compile`` after this.

        ``names``: of ``parameter_table()``, such as ``wav2vec2_core.parameters.trainable_names`` computes. Raises
        ``InputError`` for an unknown name.
        """
        chosen = check_trainable(self.config, self.head, names)
        self.trainable = True  # a layer that is not has no trainable variables, whatever they say themselves
        for name in self.parameter_table():
            find_variable(self, name)[0].trainable = name in chosen

    def freeze_feature_encoder(self) -> None:
        """Keep the convolutional feature encoder as it is in training, as usual in fine-tuning."""
        self._freeze("feature_encoder")

    def freeze_base_model(self) -> None:
        """Keep everything but the head as it is in training."""
        self._freeze("base_model")

    def freeze_all_but_adapters(self) -> None:
        """Train ``adapter_parameters`` and nothing else. Raises ``InputError`` for a model without adapters."""
        self.set_trainable(trainable_names(self.config, self.head, frozen="all_but_adapters"))

    def _freeze(self, part: str) -> None:
        self.set_trainable(self.trainable_names() & trainable_names(self.config, self.head, frozen=part))


def _policy(dtype: str | None, checkpoint: Checkpoint, plan: LoadPlan) -> str | None:
    if dtype == "auto":
        return checkpoint.dtypes[next(iter(plan.sources.values()))]
    known = (*DTYPES, "mixed_bfloat16", "mixed_float16")
    if dtype is not None and dtype not in known:
        raise ConfigError(f"dtype={dtype!r} is no type for parameters: use 'auto' or one of {', '.join(known)}")
    return dtype


__all__ = ["TFWav2Vec2PreTrainedModel"]
