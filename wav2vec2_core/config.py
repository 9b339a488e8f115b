"""Wav2Vec2Config: every option of a model in one flat, validated record, read from and written as ``config.json``."""

from __future__ import annotations

import dataclasses
import difflib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar

from wav2vec2_core.errors import ConfigError
from wav2vec2_core.files import make_folder, read_json, write_json
from wav2vec2_core.pretrained import Pretrained
from wav2vec2_core.source import ModelSource

Lengths = TypeVar("Lengths")

#: Activations by their transformers names. Those with parameters of their own (prelu, xielu) are in no checkpoint.
ACTIVATIONS = (
    "gelu", "gelu_10", "gelu_accurate", "gelu_fast", "gelu_new", "gelu_python", "gelu_python_tanh",
    "gelu_pytorch_tanh", "laplace", "leaky_relu", "linear", "mish", "quick_gelu", "relu", "relu2", "relu6",
    "sigmoid", "silu", "swish", "tanh",
)  # fmt: skip
DTYPES = ("float32", "float16", "bfloat16", "float64")


@dataclass(kw_only=True, eq=True)
class Wav2Vec2Config(Pretrained):
    """Configuration of a wav2vec 2.0 model; names and defaults are transformers 4.57's, plus ``masked_group_norm``.

    Lists are kept as tuples. Fields of a ``config.json`` that are not ours are kept in ``extra``, can be read as
    attributes, and are written back. Change a field with ``replace(...)``, which validates again.

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

    # CTC
    ctc_loss_reduction: str = "sum"
    ctc_zero_infinity: bool = False
    pad_token_id: int | None = 0
    bos_token_id: int | None = 1
    eos_token_id: int | None = 2

    # Classification and x-vectors
    use_weighted_layer_sum: bool = False
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

    def __post_init__(self) -> None:
        for name in _TUPLES:
            value = getattr(self, name)
            if isinstance(value, list):
                setattr(self, name, tuple(value))
        if self.output_hidden_size is None:
            self.output_hidden_size = self.hidden_size
        self._fill_labels()
        self.validate()

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
        """Samples that one feature-encoder frame sees, and so the shortest input: 400 for the released models."""
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
        """Frames that the convolutional adapter makes of ``frames`` frames: ints or integer arrays; 0 or less for none."""
        made: Any = frames
        for _ in range(self.num_adapter_layers):
            made = (made + 2 - self.adapter_kernel_size) // self.adapter_stride + 1  # padding 1 on both sides
        return made

    # ---- reading and writing ----------------------------------------------------------------------------------

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], **overrides: Any) -> Self:
        """Build from the content of a ``config.json``; unknown fields go to ``extra``. Raises ``ConfigError``."""
        values = dict(values)
        model_type = values.pop("model_type", "wav2vec2")
        if model_type != "wav2vec2":
            raise ConfigError(
                f"model_type is {model_type!r}, this library reads 'wav2vec2' models: choose a wav2vec2, XLS-R or MMS "
                "checkpoint"
            )
        values.pop("num_feat_extract_layers", None)  # len(conv_dim), as in transformers
        torch_dtype = values.pop("torch_dtype", None)  # the name that transformers 4 used before 4.56
        if values.get("dtype") is None and torch_dtype is not None:
            values["dtype"] = torch_dtype
        if isinstance(values.get("dtype"), str):
            values["dtype"] = values["dtype"].removeprefix("torch.")
        extra = dict(values.pop("extra", None) or {})
        extra.update({name: values.pop(name) for name in list(values) if name not in _FIELDS})
        if values.get("id2label") is not None:
            values.pop("num_labels", None)
        config = cls(**values, extra=extra)
        return config.replace(**overrides) if overrides else config

    @classmethod
    def from_source(cls, source: ModelSource, **overrides: Any) -> Self:
        """From the ``config.json`` of a model that is open already. Raises ``CheckpointError`` and ``ConfigError``."""
        return cls.from_dict(read_json(source.require("config.json")), **overrides)

    @classmethod
    def preset(cls, name: str, **overrides: Any) -> Self:
        """The architecture of a released family: ``base``, ``large``, ``large-lv60``, ``xls-r-300m``, ``xls-r-1b``,
        ``mms-1b``. Raises ``ConfigError`` for another name."""
        if name not in PRESETS:
            raise ConfigError(f"preset {name!r} is unknown: choose one of {', '.join(PRESETS)}")
        return cls(**{**PRESETS[name], **overrides})

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready content of ``config.json``, every field in full, unknown ones included."""
        values = {name: getattr(self, name) for name in _FIELDS if name not in {"extra", "num_labels"}}
        values = {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
        values["id2label"] = {str(index): label for index, label in (self.id2label or {}).items()}
        values["num_feat_extract_layers"] = self.num_feat_extract_layers
        return {**self.extra, **values, "model_type": self.model_type}

    def to_json_string(self, use_diff: bool = False) -> str:
        """``config.json`` as text; ``use_diff`` is accepted for transformers' callers and changes nothing."""
        return json.dumps(self.to_dict(), indent=2, sort_keys=True, ensure_ascii=False) + "\n"

    def save_pretrained(self, save_directory: str | os.PathLike[str]) -> None:
        """Write ``config.json`` into a folder (created where missing). Raises ``OutputError``."""
        write_json(make_folder(save_directory) / "config.json", self.to_dict())

    def replace(self, **overrides: Any) -> Self:
        """A validated copy with some fields changed. A new ``num_labels`` renames the labels.

        Raises:
            ConfigError: a field is unknown (the nearest name is suggested) or its value breaks a rule.
        """
        unknown = [name for name in overrides if name not in _FIELDS]
        if unknown:
            near = difflib.get_close_matches(unknown[0], list(_FIELDS), n=1)
            hint = f"did you mean {near[0]!r}?" if near else "see Wav2Vec2Config for the fields"
            raise ConfigError(f"config field {unknown[0]!r} is unknown: {hint}")
        values = {name: getattr(self, name) for name in _FIELDS}
        if "id2label" in overrides:
            values.update(num_labels=None, label2id=None)
        elif overrides.get("num_labels") not in (None, self.num_labels):
            values.update(id2label=None, label2id=None)
        if "hidden_size" in overrides and self.output_hidden_size == self.hidden_size:
            values["output_hidden_size"] = None  # it was the default, so it follows
        return type(self)(**{**values, **overrides})

    def __getattr__(self, name: str) -> Any:
        extra = self.__dict__.get("extra", {})  # not self.extra: it may not be set yet while unpickling
        if name in extra:
            return extra[name]
        raise AttributeError(f"Wav2Vec2Config has no field {name!r}")

    # ---- rules ------------------------------------------------------------------------------------------------

    def validate(self) -> None:
        """Check every rule. Raises ``ConfigError`` naming the field, its value and the rule."""
        self._check_types()
        self._check_ranges()
        self._check_choice("feat_extract_norm", ("group", "layer"))
        self._check_choice("feat_extract_activation", ACTIVATIONS)
        self._check_choice("hidden_act", ACTIVATIONS)
        self._check_choice("ctc_loss_reduction", ("sum", "mean", "none"))
        self._check_choice("dtype", (None, *DTYPES))
        self._check_lists(("conv_dim", "conv_stride", "conv_kernel"))
        self._check_lists(("tdnn_dim", "tdnn_kernel", "tdnn_dilation"))
        self._check_divisible("hidden_size", "num_attention_heads")
        self._check_divisible("hidden_size", "num_conv_pos_embedding_groups")
        self._check_divisible("codevector_dim", "num_codevector_groups")

    def _fill_labels(self) -> None:
        if self.id2label is None:
            count = 2 if self.num_labels is None else self.num_labels
            if isinstance(count, bool) or not isinstance(count, int) or count < 0:
                raise ConfigError(f"num_labels={count!r} must be an integer, 0 or more")
            self.id2label = {index: f"LABEL_{index}" for index in range(count)}
            self.label2id = None
        else:
            try:
                self.id2label = {int(index): label for index, label in self.id2label.items()}
            except (AttributeError, TypeError, ValueError) as error:
                raise ConfigError(f"id2label={self.id2label!r} must map class numbers to names") from error
        if self.num_labels is not None and self.num_labels != len(self.id2label):
            raise ConfigError(
                f"num_labels={self.num_labels} contradicts id2label, which names {len(self.id2label)} labels: give one"
            )
        self.num_labels = len(self.id2label)
        if self.label2id is None:
            self.label2id = {label: index for index, label in self.id2label.items()}

    def _check_types(self) -> None:
        for name, kind in _KINDS.items():
            value = getattr(self, name)
            items = value if name in _TUPLES and isinstance(value, tuple) else (value,)
            if name in _TUPLES and not (isinstance(value, tuple) or (value is None and None in kind)):
                raise ConfigError(f"{name}={value!r} must be a list")
            for item in items:
                if item is None and None in kind:
                    continue
                allowed = tuple(part for part in kind if part is not None)
                wrong_bool = isinstance(item, bool) and bool not in allowed
                if wrong_bool or not isinstance(item, allowed):
                    names = " or ".join("null" if part is None else part.__name__ for part in kind)
                    raise ConfigError(f"{name}={value!r} must be of type {names}, not {type(item).__name__}")

    def _check_ranges(self) -> None:
        for name in _PROBABILITIES:
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ConfigError(f"{name}={getattr(self, name)} must be a probability between 0 and 1")
        for name in _POSITIVE:
            values = getattr(self, name)
            for value in values if isinstance(values, tuple) else (values,):
                if value is not None and not value > 0:
                    raise ConfigError(f"{name}={values} must be positive")
        for name in _NOT_NEGATIVE:
            if getattr(self, name) < 0:
                raise ConfigError(f"{name}={getattr(self, name)} must be 0 or more")

    def _check_choice(self, name: str, choices: tuple[str | None, ...]) -> None:
        if getattr(self, name) not in choices:
            known = ", ".join(repr(choice) for choice in choices)
            raise ConfigError(f"{name}={getattr(self, name)!r} is unknown: use one of {known}")

    def _check_lists(self, names: tuple[str, ...]) -> None:
        lengths = {name: len(getattr(self, name)) for name in names}
        if len(set(lengths.values())) != 1 or not all(lengths.values()):
            parts = ", ".join(f"{name} has {length}" for name, length in lengths.items())
            raise ConfigError(f"{parts} entries: these lists describe the same layers and must have the same length")

    def _check_divisible(self, name: str, divisor: str) -> None:
        if getattr(self, name) % getattr(self, divisor) != 0:
            raise ConfigError(f"{name}={getattr(self, name)} must be divisible by {divisor}={getattr(self, divisor)}")


_TYPES: dict[str, tuple[type | None, ...]] = {
    "int": (int,),
    "float": (float, int),
    "bool": (bool,),
    "str": (str,),
    "int | None": (int, None),
    "str | None": (str, None),
    "tuple[int, ...]": (int,),
    "tuple[str, ...] | None": (str, None),
}
_FIELDS = {item.name: item for item in dataclasses.fields(Wav2Vec2Config)}
_KINDS = {name: _TYPES[str(item.type)] for name, item in _FIELDS.items() if str(item.type) in _TYPES}
_TUPLES = tuple(name for name, item in _FIELDS.items() if str(item.type).startswith("tuple"))
_PROBABILITIES = (
    "hidden_dropout", "activation_dropout", "attention_dropout", "feat_proj_dropout", "feat_quantizer_dropout",
    "final_dropout", "layerdrop", "mask_time_prob", "mask_feature_prob",
)  # fmt: skip
_POSITIVE = (
    "vocab_size", "hidden_size", "num_attention_heads", "intermediate_size", "layer_norm_eps", "conv_dim",
    "conv_stride", "conv_kernel", "num_conv_pos_embeddings", "num_conv_pos_embedding_groups", "mask_time_length",
    "mask_feature_length", "num_codevectors_per_group", "num_codevector_groups", "contrastive_logits_temperature",
    "codevector_dim", "proj_codevector_dim", "classifier_proj_size", "tdnn_dim", "tdnn_kernel", "tdnn_dilation",
    "xvector_output_dim", "adapter_kernel_size", "adapter_stride", "output_hidden_size", "adapter_attn_dim",
)  # fmt: skip
_NOT_NEGATIVE = (
    "num_hidden_layers", "initializer_range", "mask_time_min_masks", "mask_feature_min_masks", "num_negatives",
    "diversity_loss_weight", "num_adapter_layers",
)  # fmt: skip

# Paper section 4.2 for BASE and LARGE; the released config.json files for the others (XLS-R and MMS share one encoder).
_LARGE: dict[str, Any] = {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
    "codevector_dim": 768,
    "proj_codevector_dim": 768,
}
_STABLE: dict[str, Any] = {"feat_extract_norm": "layer", "conv_bias": True, "do_stable_layer_norm": True}
_ONE_BILLION: dict[str, Any] = {
    **_STABLE,
    "hidden_size": 1280,
    "num_hidden_layers": 48,
    "num_attention_heads": 16,
    "intermediate_size": 5120,
    "codevector_dim": 1024,
    "proj_codevector_dim": 1024,
}
PRESETS: dict[str, dict[str, Any]] = {
    "base": {},
    "large": _LARGE,
    "large-lv60": {**_LARGE, **_STABLE},
    "xls-r-300m": {**_LARGE, **_STABLE},
    "xls-r-1b": _ONE_BILLION,
    "mms-1b": {**_ONE_BILLION, "adapter_attn_dim": 16},
}
