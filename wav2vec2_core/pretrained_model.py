"""Base class of every back end's models: loading, saving, and the interface that training programs use.

A back end adds how its own modules are made, filled and read (``from_source``, ``arrays``, ``is_trainable``).
"""

from __future__ import annotations

import logging
import math
import os
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Self, TypeVar

import numpy as np

from wav2vec2_core.checkpoint import LoadPlan, open_checkpoint, with_head_of, write_checkpoint
from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.errors import InputError, ParameterMismatchError
from wav2vec2_core.outputs import ModelOutput
from wav2vec2_core.parameters import Parameter, parameter_table
from wav2vec2_core.pretrained import Pretrained
from wav2vec2_core.source import ModelSource
from wav2vec2_core.weight_files.checkpoint import Checkpoint

#: Fields of the configuration that a model reads whenever it is called, so that assigning to them changes the model.
FOLLOWED = frozenset({
    "output_attentions", "output_hidden_states", "return_dict", "apply_spec_augment", "mask_time_prob",
    "mask_time_length", "mask_time_min_masks", "mask_feature_prob", "mask_feature_length", "mask_feature_min_masks",
    "layerdrop", "contrastive_logits_temperature", "num_negatives", "diversity_loss_weight", "feature_penalty_weight",
    "feature_gradient_scale", "ctc_loss_reduction", "ctc_zero_infinity", "pad_token_id", "bos_token_id", "eos_token_id",
    "id2label", "label2id", "problem_type", "architectures", "dtype",
})  # fmt: skip

Output = TypeVar("Output", bound=ModelOutput)


class PretrainedModel(Pretrained):
    """Base of the models of every back end.

    Attributes:
        config: the configuration of the model, its own copy; assigning to a field changes the model or is refused.
        loading: after ``from_pretrained``, which parameters came from where, are new, or were ignored.
    """

    head: ClassVar[str]
    config: Any
    loading: Any
    main_input_name = "input_values"
    base_model_prefix = "wav2vec2"
    config_class = Wav2Vec2Config
    #: Options of ``from_source`` that other back ends refuse.
    own_options: ClassVar[tuple[str, ...]] = ()

    def parameter_table(self) -> dict[str, Parameter]:
        """Names, shapes, first values and freeze groups of this model's parameters, as in a checkpoint."""
        return parameter_table(self.config, self.head)

    def as_requested(
        self, output: Output, return_dict: bool | None, dict_only: tuple[str, ...] = ()
    ) -> Output | tuple[Any, ...]:
        """``output`` or, where the call or the configuration wants a tuple, its fields but those in ``dict_only``."""
        if self.config.return_dict if return_dict is None else return_dict:
            return output
        return tuple(value for name, value in output.items() if name not in dict_only)

    # ---- loading ------------------------------------------------------------------------------------------------

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike[str] | None,
        *,
        config: Any = None,
        state_dict: Mapping[str, Any] | None = None,
        use_safetensors: bool | None = None,
        output_loading_info: bool = False,
        torch_dtype: Any = None,
        **options: Any,
    ) -> Any:
        """Load a model from a folder or the hub. A parameter at a time goes from the file into the model.

        Args:
            pretrained_model_name_or_path: folder or hub id; None where ``config`` and ``state_dict`` are given.
            config: configuration to use instead of the checkpoint's ``config.json``: a ``Wav2Vec2Config``, also
                transformers', or the folder or hub id of one.
            state_dict: arrays or tensors by checkpoint name, to use instead of the checkpoint's weights.
            use_safetensors: True reads ``model.safetensors`` alone, False any other weight file; the first there is
                where None.
            output_loading_info: also return a dictionary of ``missing_keys`` (new parameters), ``unexpected_keys``
                (ignored ones), ``mismatched_keys`` and ``error_msgs``.
            torch_dtype: the older name of ``dtype``.
            options: those of ``from_source``, among them fields of the configuration to change, and those of the hub
                (see ``Pretrained.from_pretrained``).

        Raises:
            CheckpointError: the model, a file or a parameter is missing, damaged or of another shape.
            ConfigError: the configuration or an override breaks a rule.
            InputError: an option is refused, or the language has no adapter.
        """
        if torch_dtype is not None and options.get("dtype") is None:
            options["dtype"] = torch_dtype
        checkpoint = None if state_dict is None else Checkpoint.of(state_dict)
        source = None
        if pretrained_model_name_or_path is not None:
            source, options = cls.find(pretrained_model_name_or_path, options, cls.own_options)
            config = cls.configuration(source, config, {})
            if checkpoint is None:
                checkpoint = open_checkpoint(source, use_safetensors=use_safetensors)
        elif config is None or checkpoint is None:
            raise InputError(
                "pretrained_model_name_or_path=None needs config and state_dict: give both, or name a model"
            )
        loaded = cls.from_source(source, config=config, checkpoint=checkpoint, **options)
        plan: LoadPlan = loaded.loading
        if plan.new:
            logging.getLogger(cls.__module__.partition(".")[0]).warning(
                "model %r has no values for %s: newly initialised, train them before use",
                "state_dict" if source is None else source.name,
                ", ".join(plan.new),
            )
        return (loaded, plan.info()) if output_loading_info else loaded

    @classmethod
    @abstractmethod
    def from_source(cls, source: ModelSource | None, **options: Any) -> Self:
        """As ``from_pretrained``, of a model that is already open, and without the warning about new parameters."""

    @classmethod
    def configuration(
        cls,
        source: ModelSource | None,
        config: Any,
        overrides: Mapping[str, Any],
        checkpoint: Checkpoint | None = None,
    ) -> Wav2Vec2Config:
        """The configuration to load with: ``config``, or that of the source, with some fields changed.

        ``checkpoint``: what kind of classification head the model has follows from its parameters.

        Raises:
            ConfigError: a value breaks a rule, or an override is no field.
        """
        if isinstance(config, (str, os.PathLike)):
            config = Wav2Vec2Config.from_pretrained(config)
        elif config is None and source is not None:
            config = Wav2Vec2Config.from_source(source)
        config = Wav2Vec2Config.of(config).replace(**overrides)
        if checkpoint is not None:
            config = with_head_of(config, cls.head, checkpoint.shapes)
        if source is not None:
            config._name_or_path = source.name
        return config

    @property
    def name_or_path(self) -> str:
        """Where ``from_pretrained`` found the model."""
        return self.config.name_or_path

    # ---- saving -------------------------------------------------------------------------------------------------

    def save_pretrained(
        self,
        save_directory: str | os.PathLike[str],
        *,
        is_main_process: bool = True,
        state_dict: Mapping[str, Any] | None = None,
        max_shard_size: int | str = "5GB",
        safe_serialization: bool = True,
        **options: Any,
    ) -> None:
        """Write ``config.json`` and ``model.safetensors`` (in shards above ``max_shard_size``) into a folder.

        An earlier save is replaced as a whole: whenever this process is killed, the folder holds the old model or the
        new one.

        Args:
            save_directory: created where missing.
            is_main_process: False writes nothing.
            state_dict: arrays or tensors to write instead of the model's own, by checkpoint name.
            max_shard_size: in bytes, or a text such as ``"2GB"``.
            safe_serialization: False writes the framework's own file, as transformers 4 calls it.
            options: see ``Pretrained.save_pretrained``.

        Raises:
            InputError: ``max_shard_size`` is no size, or an option is unknown or refused.
            OutputError: the folder cannot be written.
            ParameterMismatchError: ``state_dict`` is not this model's.
        """
        if not is_main_process:
            return
        arrays = self.arrays() if state_dict is None else self._checked(state_dict)
        dtype = next((array.dtype.name for array in arrays.values()), None)
        architecture = type(self).__name__.removeprefix("TF").removeprefix("Flax")  # one name in every framework
        config = self.config.replace(architectures=(architecture,), dtype=dtype)
        with self.saving(save_directory, options):
            if safe_serialization:
                write_checkpoint(save_directory, arrays, config=config, max_shard_size=max_shard_size)
            else:
                self.write_own_format(save_directory, arrays, config, max_shard_size)

    @abstractmethod
    def arrays(self) -> dict[str, np.ndarray]:
        """The parameters by checkpoint name, in the checkpoint's layout."""

    @abstractmethod
    def write_own_format(
        self,
        folder: str | os.PathLike[str],
        arrays: Mapping[str, np.ndarray],
        config: Wav2Vec2Config,
        max_shard_size: int | str,
    ) -> None:
        """Write configuration and weights in the file of this framework in transformers 4. Raises ``OutputError``."""

    def _checked(self, state_dict: Mapping[str, Any]) -> dict[str, np.ndarray]:
        given, table = Checkpoint.of(state_dict), self.parameter_table()
        shapes = {name: row.shape for name, row in table.items()}
        if given.shapes != shapes:
            names = [name for name in {**shapes, **given.shapes} if shapes.get(name) != given.shapes.get(name)]
            raise ParameterMismatchError(
                f"state_dict does not fit the model: {names[0]!r:.100} ({len(names)} such parameters) is missing, "
                "unknown or of another shape: pass what state_dict() of this model returned"
            )
        return {name: given.read(name) for name in table}

    # ---- what programs ask of a model -----------------------------------------------------------------------------

    @abstractmethod
    def trainable_names(self) -> frozenset[str]:
        """Names of the parameters that training changes, as in a checkpoint."""

    @abstractmethod
    def freeze_feature_encoder(self) -> None:
        """Freeze the convolutional feature encoder, as is usual in fine-tuning."""

    def freeze_feature_extractor(self) -> None:
        """The older name of ``freeze_feature_encoder``."""
        self.freeze_feature_encoder()

    def num_parameters(self, only_trainable: bool = False, exclude_embeddings: bool = False) -> int:
        """Numbers in all parameters, or in those that training changes; there are no embeddings of tokens."""
        table = self.parameter_table()
        counted = self.trainable_names() if only_trainable else table.keys()
        return sum(math.prod(row.shape) for name, row in table.items() if name in counted)

    def get_output_embeddings(self) -> Any:
        """The layer of a CTC model that gives the scores of the labels, None for other heads."""
        return getattr(self, "lm_head", None)

    def can_generate(self) -> bool:
        """No: these models have no decoder."""
        return False

    def tie_weights(self) -> None:
        """Nothing: no two parameters are one."""

    def set_attn_implementation(self, attn_implementation: str) -> None:
        """Nothing: attention is computed in one way, with the same numbers."""

    def add_model_tags(self, tags: list[str] | str) -> None:
        """Nothing: no model card is written."""

    def _get_feat_extract_output_lengths(self, input_lengths: Any, add_adapter: bool | None = None) -> Any:
        """``config.num_frames`` under the name that training scripts call."""
        return self.config.num_frames(input_lengths, add_adapter=add_adapter)
