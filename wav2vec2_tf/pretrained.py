"""Loading and saving: ``from_pretrained``, ``save_pretrained``, language adapters, the hub. Thin, over the core."""

from __future__ import annotations

import inspect
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import keras
import numpy as np

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
    write_tf_checkpoint,
)
from wav2vec2_core.config import DTYPES, Wav2Vec2Config
from wav2vec2_core.errors import ConfigError
from wav2vec2_core.parameters import check_trainable, initial_values, parameter_table, trainable_names
from wav2vec2_core.pretrained_model import FOLLOWED, PretrainedModel
from wav2vec2_tf import layers
from wav2vec2_tf.keras_steps import KerasSteps
from wav2vec2_tf.weights import export_weights, fill_weights, find_variable


class TFWav2Vec2PreTrainedModel(KerasSteps, PretrainedModel):
    """Base class of the body and all heads: construction, files, freezing; ``KerasSteps`` adds what ``fit`` needs.

    ``Cls(config)`` gives a new model whose first values depend on ``keras.utils.set_random_seed`` alone.

    Attributes:
        config: the configuration of the model, its own copy; assigning to a field changes the model or is refused.
        loading: after ``from_pretrained``, which parameters came from where, are new, or were ignored.
    """

    framework = "tf"
    supports_gradient_checkpointing = False

    def __init__(self, config: Wav2Vec2Config, **options: Any) -> None:
        """``options`` go to ``keras.Model``: ``name``, ``dtype``."""
        super().__init__(**options)
        self.config = Wav2Vec2Config.of(config).bound(FOLLOWED)
        self.loading: LoadPlan | None = None
        self._source: ModelSource | None = None
        self.target_lang: str | None = None
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

    def followed(self) -> Any:
        """What a compiled step was made with beside its arguments; another value makes Keras compile anew."""
        return self.config.to_json_string()

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
    def from_source(
        cls,
        source: ModelSource | None,
        *,
        config: Any = None,
        checkpoint: Checkpoint | None = None,
        dtype: Any = None,
        ignore_mismatched_sizes: bool = False,
        target_lang: str | None = None,
        **config_overrides: Any,
    ) -> Self:
        """As ``from_pretrained``, of files found already and without the warning about new parameters.

        Args:
            source: where the configuration and the adapters are; None where ``config`` and ``checkpoint`` are given.
            config: see ``from_pretrained``.
            checkpoint: weights, opened already.
            dtype: Keras policy: ``"float32"``, ``"bfloat16"``, ``"mixed_bfloat16"`` ..., ``"auto"`` for the file's
                type, the global policy where None.
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
        with layers.without_values():
            loaded = cls(config, dtype=_policy(dtype, opened, plan))
        fill_weights(loaded, ((ours, opened.read(theirs)) for ours, theirs in plan.sources.items()))
        fill_weights(loaded, initial_values({name: table[name] for name in plan.new}, layers.draw_seed()))
        loaded.loading = plan
        loaded._source = source
        if target_lang is not None:
            loaded.load_adapter(target_lang)
        return loaded

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
        """Write ``tf_model.h5``, whole, which TensorFlow models of transformers 4 read. Raises ``OutputError``."""
        write_tf_checkpoint(folder, arrays, self.head, config=config)

    # ---- language adapters ------------------------------------------------------------------------------------

    def load_adapter(
        self, target_lang: str, force_load: bool = True, *, source: str | os.PathLike[str] | None = None
    ) -> None:
        """Replace the attention adapters, and in a CTC model ``lm_head``, by those of a language.

        Every shape is checked before anything changes. A new ``lm_head`` has the size of the language's vocabulary
        (``config.vocab_size`` follows): call ``compile`` after this, not before.

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

    def adapter_parameters(self) -> dict[str, keras.Variable]:
        """Parameters of adapter-only training, by name. Raises ``InputError`` for a model without adapters."""
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

    def compute_head_exactly(self) -> None:
        """Let what is not the body compute in float32, where a mixed policy has the model compute in half precision."""
        body: Any = getattr(self, "wav2vec2", self)
        within = {id(layer) for layer in body._flatten_layers()}
        for layer in self._flatten_layers(include_self=False):
            if id(layer) not in within:
                layer.dtype_policy = "float32"

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


def _policy(dtype: Any, checkpoint: Checkpoint, plan: LoadPlan) -> str | None:
    if dtype is not None:
        dtype = getattr(dtype, "name", None) or str(dtype).removeprefix("torch.")
    if dtype == "auto":
        return checkpoint.dtypes[next(iter(plan.sources.values()))]
    known = (*DTYPES, "mixed_bfloat16", "mixed_float16")
    if dtype is not None and dtype not in known:
        raise ConfigError(f"dtype={dtype!r:.100} is no type for parameters: use 'auto' or one of {', '.join(known)}")
    return dtype


__all__ = ["TFWav2Vec2PreTrainedModel"]
