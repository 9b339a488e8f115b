"""Wav2Vec2Config: every option of a model in one flat, validated record, read from and written as ``config.json``."""

from __future__ import annotations

import copy
import dataclasses
import difflib
import functools
import warnings
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar

from wav2vec2_core.config_files import ConfigFiles
from wav2vec2_core.config_rules import ACTIVATIONS, DTYPES, PRESETS, check_fields, check_relations, fill_labels
from wav2vec2_core.errors import ConfigError, brief

__all__ = ["ACTIVATIONS", "DTYPES", "FOREIGN", "PRESETS", "Wav2Vec2Config"]

Lengths = TypeVar("Lengths")


@dataclass(kw_only=True, eq=True)
class Wav2Vec2Config(ConfigFiles):
    """Configuration of a wav2vec 2.0 model; names and defaults are transformers 4.57's, plus
    ``masked_group_norm``, ``feature_penalty_weight``, ``feature_gradient_scale`` and ``classifier_head``.

    Lists are kept as tuples. Keywords and fields of a ``config.json`` that are not ours are kept in ``extra``, can be
    read as attributes, and are written back; a keyword that looks like a misspelt field is warned about.

    ``replace(...)`` makes a changed copy. Assigning to a field changes this configuration with everything that follows
    from the field (``num_labels`` renames the labels); whether fields fit each other is checked when a model is made.
    The configuration of a model, ``model.config``, is its own copy: it refuses what the model could not follow.

    Raises:
        ConfigError: a value has the wrong type, is out of range, or contradicts another.
    """

    # Transformer
    vocab_size: int = 32
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout: float = 0.1
    activation_dropout: float = 0.1
    attention_dropout: float = 0.1
    feat_proj_dropout: float = 0.0
    feat_quantizer_dropout: float = 0.0
    final_dropout: float = 0.1
    layerdrop: float = 0.1
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-5
    #: True: layer norm before attention and feed-forward (LARGE lv60, XLS-R, MMS); False: after (BASE).
    do_stable_layer_norm: bool = False

    # Convolutional feature encoder (paper section 2 and 4.2): hop 320 samples, receptive field 400
    #: "group": group norm in the first layer only; "layer": layer norm in every layer.
    feat_extract_norm: str = "group"
    feat_extract_activation: str = "gelu"
    conv_dim: tuple[int, ...] = (512,) * 7
    conv_stride: tuple[int, ...] = (5, 2, 2, 2, 2, 2, 2)
    conv_kernel: tuple[int, ...] = (10, 3, 3, 3, 3, 2, 2)
    conv_bias: bool = False
    #: True: padding never changes the numbers of valid frames, so a batch equals its single utterances.
    masked_group_norm: bool = False
    num_conv_pos_embeddings: int = 128
    num_conv_pos_embedding_groups: int = 16

    # SpecAugment
    apply_spec_augment: bool = True
    mask_time_prob: float = 0.05
    mask_time_length: int = 10
    mask_time_min_masks: int = 2
    mask_feature_prob: float = 0.0
    mask_feature_length: int = 10
    mask_feature_min_masks: int = 0

    # Pretraining
    num_codevectors_per_group: int = 320
    num_codevector_groups: int = 2
    contrastive_logits_temperature: float = 0.1
    num_negatives: int = 100
    codevector_dim: int = 256
    proj_codevector_dim: int = 256
    diversity_loss_weight: float = 0.1
    #: Of the mean square of the feature encoder's output in the loss; 10 in the paper's runs on LibriSpeech.
    feature_penalty_weight: float = 0.0
    #: Factor of every gradient that reaches the feature encoder; 0.1 in the paper's runs on LibriSpeech.
    feature_gradient_scale: float = 1.0

    # CTC
    ctc_loss_reduction: str = "sum"
    ctc_zero_infinity: bool = False
    pad_token_id: int | None = 0
    bos_token_id: int | None = 1
    eos_token_id: int | None = 2

    # Classification and x-vectors
    use_weighted_layer_sum: bool = False
    #: Of utterances. "linear": projector, mean over the frames, classifier; "tanh": mean over the frames, dense layer,
    #: tanh, another layer, as in emotion models that were made before transformers had a class for them.
    classifier_head: str = "linear"
    classifier_proj_size: int = 256
    tdnn_dim: tuple[int, ...] = (512, 512, 512, 512, 1500)
    tdnn_kernel: tuple[int, ...] = (5, 3, 3, 1, 1)
    tdnn_dilation: tuple[int, ...] = (1, 2, 3, 1, 1)
    xvector_output_dim: int = 512

    # Convolutional adapter (shortens the sequence) and attention adapters (MMS)
    add_adapter: bool = False
    adapter_kernel_size: int = 3
    adapter_stride: int = 2
    num_adapter_layers: int = 3
    output_hidden_size: int | None = None  # hidden_size where None
    adapter_attn_dim: int | None = None

    # Labels, outputs and bookkeeping
    num_labels: int | None = None  # len(id2label), or 2, where None
    id2label: dict[int, str] | None = None
    label2id: dict[str, int] | None = None
    problem_type: str | None = None
    output_attentions: bool = False
    output_hidden_states: bool = False
    return_dict: bool = True
    architectures: tuple[str, ...] | None = None
    dtype: str | None = None  # of the stored weights
    extra: dict[str, Any] = field(default_factory=dict)

    # Of transformers' programs, which read and write them; never in a file.
    _commit_hash = None
    _name_or_path = ""
    _attn_implementation = "sdpa"

    def __post_init__(self) -> None:
        self._complete()
        self.validate()
        self._ready = True

    def _complete(self) -> None:
        """Fill in what follows from other fields, and check each field by itself."""
        for name in _TUPLES:
            value = getattr(self, name)
            if isinstance(value, list):
                setattr(self, name, tuple(value))
        if self.output_hidden_size is None:
            self.output_hidden_size = self.hidden_size
        fill_labels(self)
        check_fields(self)

    # ---- derived values ---------------------------------------------------------------------------------------

    @property
    def model_type(self) -> str:
        return "wav2vec2"

    @property
    def num_feat_extract_layers(self) -> int:
        return len(self.conv_dim)

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_attention_heads

    @property
    def torch_dtype(self) -> str | None:
        """The older name of ``dtype``."""
        return self.dtype

    @property
    def use_return_dict(self) -> bool:
        return self.return_dict

    @property
    def inputs_to_logits_ratio(self) -> int:
        """Samples from one feature-encoder frame to the next: 320 for the released models."""
        ratio = 1
        for stride in self.conv_stride:
            ratio *= stride
        return ratio

    @property
    def receptive_field(self) -> int:
        """Samples that one feature-encoder frame depends on, hence the shortest input: 400 for the released models."""
        field_size = 1
        for kernel, stride in zip(reversed(self.conv_kernel), reversed(self.conv_stride), strict=True):
            field_size = (field_size - 1) * stride + kernel
        return field_size

    def num_frames(self, samples: Lengths, *, add_adapter: bool | None = None) -> Lengths:
        """Frames that ``samples`` samples give; works on ints and on integer arrays of any framework.

        Below the receptive field the result is 0 or negative. ``add_adapter=None`` follows the configuration.
        """
        frames: Any = samples
        for kernel, stride in zip(self.conv_kernel, self.conv_stride, strict=True):
            frames = (frames - kernel) // stride + 1
        if self.add_adapter if add_adapter is None else add_adapter:
            frames = self.num_adapter_frames(frames)
        return frames

    def num_adapter_frames(self, frames: Lengths) -> Lengths:
        """Output frames of the convolutional adapter for ``frames`` frames, as in ``num_frames``; 0 or less if there
        are none.
        """
        made: Any = frames
        for _ in range(self.num_adapter_layers):
            made = (made + 2 - self.adapter_kernel_size) // self.adapter_stride + 1  # padding 1 on both sides
        return made

    # ---- reading and writing ----------------------------------------------------------------------------------

    @classmethod
    def of(cls, config: Any) -> Self:
        """``config`` itself where it is one, else what a ``transformers.Wav2Vec2Config`` says.

        Raises:
            ConfigError: it is neither.
        """
        if isinstance(config, cls):
            return config
        if getattr(config, "model_type", None) != "wav2vec2" or not hasattr(config, "to_dict"):
            raise ConfigError(
                f"config is a {type(config).__name__}: make a Wav2Vec2Config, such as Wav2Vec2Config.from_pretrained"
                "('facebook/wav2vec2-base') or Wav2Vec2Config.preset('base')"
            )
        return cls.from_dict(config.to_dict())

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], **overrides: Any) -> Any:
        """Build from the content of a ``config.json``; unknown fields go to ``extra``.

        ``overrides`` are fields to change; with ``return_unused_kwargs=True`` the result is the configuration and those
        that are no fields, which are refused otherwise. Raises ``ConfigError``.
        """
        if overrides.pop("return_unused_kwargs", False):
            known = {name: overrides.pop(name) for name in list(overrides) if name in _CHANGEABLE}
            return cls.from_dict(values, **known), overrides
        values = dict(values)
        model_type = values.pop("model_type", "wav2vec2")
        if model_type != "wav2vec2":
            raise ConfigError(
                f"model_type is {brief(model_type)}, this library reads 'wav2vec2' models: choose a wav2vec2, XLS-R or "
                "MMS checkpoint"
            )
        values = _renamed(values)
        extra = dict(values.pop("extra", None) or {})
        extra.update({name: values.pop(name) for name in list(values) if name not in _FIELDS})
        if values.get("id2label") is not None:
            values.pop("num_labels", None)
        config = cls(**values, extra=extra)
        return config.replace(**overrides) if overrides else config

    @classmethod
    def preset(cls, name: str, **overrides: Any) -> Self:
        """The architecture of a released family: ``base``, ``large``, ``large-lv60``, ``xls-r-300m``, ``xls-r-1b``,
        ``mms-1b``. Raises ``ConfigError`` for another name."""
        if name not in PRESETS:
            raise ConfigError(f"preset {name!r:.100} is unknown: choose one of {', '.join(PRESETS)}")
        return cls(**{**PRESETS[name], **overrides})

    def to_dict(self) -> dict[str, Any]:
        """Content of ``config.json``, every field in full, unknown ones included; ``id2label`` has integer keys."""
        values = {name: getattr(self, name) for name in _FIELDS if name not in {"extra", "num_labels"}}
        values = {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
        values["id2label"] = dict(self.id2label or {})
        values["num_feat_extract_layers"] = self.num_feat_extract_layers
        return copy.deepcopy({**self.extra, **values, "model_type": self.model_type})

    # ---- changing -----------------------------------------------------------------------------------------------

    def replace(self, **overrides: Any) -> Self:
        """A validated copy with some fields changed. A new ``num_labels`` renames the labels.

        ``gradient_checkpointing`` and what transformers' programs know of any configuration may be changed too.

        Raises:
            ConfigError: a field is unknown (the nearest name is suggested) or its value breaks a rule.
        """
        overrides = _renamed(overrides)
        others = {name: overrides.pop(name) for name in list(overrides) if name in {*FOREIGN, "gradient_checkpointing"}}
        unknown = [name for name in overrides if name not in _FIELDS]
        if unknown:
            near = difflib.get_close_matches(unknown[0], list(_FIELDS), n=1)
            hint = f"did you mean {near[0]!r:.100}?" if near else "see Wav2Vec2Config for the fields"
            raise ConfigError(f"config field {unknown[0]!r:.100} is unknown: {hint}")
        values = copy.deepcopy(self._with(overrides))
        values["extra"].update(others)
        changed = type(self)(**values)
        changed._name_or_path = self._name_or_path
        return changed

    def update(self, config_dict: Mapping[str, Any]) -> None:
        """Assign to several fields at once. Raises ``ConfigError`` as an assignment does, and then changes nothing."""
        changes = _renamed(config_dict)
        changes.pop("model_type", None)
        private = {name: changes.pop(name) for name in list(changes) if name.startswith("_")}
        fields = {name: value for name, value in changes.items() if name in _FIELDS}
        others = {name: value for name, value in changes.items() if name not in _FIELDS}
        changed = object.__new__(type(self))
        vars(changed).update(self._with(fields))
        changed._complete()
        differing = [name for name in _FIELDS if name != "extra" and getattr(changed, name) != getattr(self, name)]
        self._check_bound([*differing, *others], changed)
        _warn_of_misspelt(others)
        vars(changed)["extra"] = {**changed.extra, **others}
        vars(self).update({**vars(changed), **private})

    def _with(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        """The fields with some changed, and without those that then must be worked out anew."""
        values = {name: getattr(self, name) for name in _FIELDS}
        if "id2label" in changes:
            values.update(num_labels=None, label2id=None)
        elif changes.get("num_labels") not in (None, self.num_labels):
            values.update(id2label=None, label2id=None)
        if "hidden_size" in changes and self.output_hidden_size == self.hidden_size:
            values["output_hidden_size"] = None  # it was the default, so it follows
        return {**values, **changes}

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("_") or "_ready" not in vars(self):
            object.__setattr__(self, name, value)
        elif name == "name_or_path":
            self._name_or_path = value
        elif name not in _CHANGEABLE and isinstance(getattr(type(self), name, None), property):
            raise ConfigError(f"{name}={value!r:.100} follows from other fields of the configuration: set those")
        else:
            self.update({name: value})

    def __getattr__(self, name: str) -> Any:
        extra = self.__dict__.get("extra", {})  # not self.extra: it may not be set yet while unpickling
        if name in extra:
            return extra[name]
        if name in FOREIGN:
            return copy.copy(FOREIGN[name])
        raise AttributeError(f"Wav2Vec2Config has no field {name!r:.100}")

    def __delattr__(self, name: str) -> None:
        if name not in self.extra:
            raise ConfigError(f"{name!r:.100} cannot be removed from a configuration: set it to another value")
        self.extra.pop(name)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """A copy that is nobody's, also of the configuration of a model."""
        twin = object.__new__(type(self))
        memo[id(self)] = twin
        vars(twin).update({name: copy.deepcopy(value, memo) for name, value in vars(self).items() if name != "_bound"})
        return twin

    __copy__ = functools.partialmethod(__deepcopy__, {})

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_bound"}

    # ---- of a model -----------------------------------------------------------------------------------------------

    def bound(self, followed: Collection[str]) -> Self:
        """The configuration of a model: a copy, or this one where it is a model's already.

        Args:
            followed: fields that the model reads whenever it is called. Assigning to others is refused from now on.

        Raises:
            ConfigError: fields contradict each other.
        """
        if "_bound" in vars(self):
            return self
        self.validate()
        twin = copy.deepcopy(self)
        twin.bind(followed)
        return twin

    def bind(self, followed: Collection[str]) -> None:
        """Make this the configuration of a model; see ``bound``."""
        self._bound = frozenset(followed)

    def _check_bound(self, names: Collection[str], changed: Wav2Vec2Config) -> None:
        """Refuse changes that the model of this configuration could not follow. Raises ``ConfigError``."""
        followed = vars(self).get("_bound")
        if followed is None:
            return
        for name in names:
            if name == "gradient_checkpointing":
                raise ConfigError(
                    "gradient_checkpointing of a model's configuration changes nothing: call "
                    "model.gradient_checkpointing_enable() or model.gradient_checkpointing_disable()"
                )
            if name in _FIELDS and name not in followed:
                raise ConfigError(
                    f"{name}={getattr(changed, name)!r:.100} cannot be set: the model was built with "
                    f"{getattr(self, name)!r:.100}. Make another one, by {name}= in from_pretrained or of "
                    f"config.replace({name}=...)"
                )
        masks = [bool(config.mask_time_prob or config.mask_feature_prob) for config in (self, changed)]
        if masks[0] != masks[1]:
            raise ConfigError(
                "mask_time_prob and mask_feature_prob decide whether a model has a mask embedding, so they cannot both "
                "become 0 or cease to be: set apply_spec_augment, or make another model with them"
            )
        if changed.apply_spec_augment and not self.apply_spec_augment:
            raise ConfigError(
                "apply_spec_augment=True cannot be set: the model was built without, so its mask embedding does not "
                "train. Make another one, by apply_spec_augment=True in from_pretrained or of config.replace"
            )

    def take_gradient_checkpointing(self) -> bool:
        """Whether a model must start with gradient checkpointing; the field is gone then, as the model says it."""
        return bool(self.extra.pop("gradient_checkpointing", False))

    def validate(self) -> None:
        """Check every rule. Raises ``ConfigError`` naming the field, its value and the rule."""
        check_fields(self)
        check_relations(self)


_FIELDS = {item.name: item for item in dataclasses.fields(Wav2Vec2Config)}
_TUPLES = tuple(name for name, item in _FIELDS.items() if str(item.type).startswith("tuple"))
#: Keywords that change a field: the fields, and the older name of one.
_CHANGEABLE = frozenset({*_FIELDS, "torch_dtype"})
#: What transformers' programs read of any configuration, with the values that it has for wav2vec 2.0 models.
FOREIGN: dict[str, Any] = {
    "is_encoder_decoder": False, "is_decoder": False, "add_cross_attention": False, "tie_encoder_decoder": False,
    "tie_word_embeddings": True, "cross_attention_hidden_size": None, "torchscript": False, "use_bfloat16": False,
    "pruned_heads": {}, "chunk_size_feed_forward": 0, "task_specific_params": None, "finetuning_task": None,
    "prefix": None, "tokenizer_class": None, "sep_token_id": None, "decoder_start_token_id": None,
    "transformers_version": None, "tf_legacy_loss": False, "attribute_map": {}, "sub_configs": {},
    "base_config_key": "", "is_composition": False, "keys_to_ignore_at_inference": [],
}  # fmt: skip
#: Keywords that repeat what other fields say.
_DERIVED = ("model_type", "num_feat_extract_layers", "name_or_path")
_LIKENESS = 0.85  # of a misspelt name to the right one; "hidden_dropout_prob" of the first releases is just below


def _renamed(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values by our names: ``dtype`` for ``torch_dtype``, the name that transformers 4 used before 4.56."""
    values = {name: value for name, value in values.items() if name != "num_feat_extract_layers"}  # len(conv_dim)
    torch_dtype = values.pop("torch_dtype", None)
    if values.get("dtype") is None and torch_dtype is not None:
        values["dtype"] = torch_dtype
    if values.get("dtype") is not None and not isinstance(values["dtype"], (int, float)):
        values["dtype"] = str(values["dtype"]).removeprefix("torch.")
    return values


def _warn_of_misspelt(names: Collection[str]) -> None:
    for name in names:
        near = difflib.get_close_matches(name, list(_FIELDS), n=1, cutoff=_LIKENESS)
        if near and name not in FOREIGN:
            warnings.warn(
                f"{name!r} is no field of Wav2Vec2Config, it is kept and changes nothing: did you mean {near[0]!r}?",
                stacklevel=3,
            )


def _accepting_others(init: Callable[..., None]) -> Callable[..., None]:
    """A constructor of fields that takes any keyword, as transformers' does; the others go to ``extra``."""

    @functools.wraps(init)
    def __init__(self: Wav2Vec2Config, **values: Any) -> None:  # noqa: N807 (it is one)
        values = {name: value for name, value in _renamed(values).items() if name not in _DERIVED}
        others = {name: values.pop(name) for name in list(values) if name not in _FIELDS}
        private = {name: others.pop(name) for name in list(others) if name.startswith("_")}
        _warn_of_misspelt(others)
        init(self, **values, **({"extra": {**(values.pop("extra", None) or {}), **others}} if others else {}))
        vars(self).update(private)

    return __init__


Wav2Vec2Config.__init__ = _accepting_others(Wav2Vec2Config.__init__)
