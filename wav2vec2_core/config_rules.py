"""The rules of ``Wav2Vec2Config``: what each field may be, which fields must fit each other; presets."""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Any

from wav2vec2_core.errors import ConfigError, brief

if TYPE_CHECKING:
    from wav2vec2_core.config import Wav2Vec2Config

#: Activations by their transformers names. Those with parameters of their own (prelu, xielu) are in no checkpoint.
ACTIVATIONS = (
    "gelu", "gelu_10", "gelu_accurate", "gelu_fast", "gelu_new", "gelu_python", "gelu_python_tanh",
    "gelu_pytorch_tanh", "laplace", "leaky_relu", "linear", "mish", "quick_gelu", "relu", "relu2", "relu6",
    "sigmoid", "silu", "swish", "tanh",
)  # fmt: skip
DTYPES = ("float32", "float16", "bfloat16", "float64")

# Each layer and label becomes an entry of a table: a damaged file must not ask for more memory than there is.
_MOST_LAYERS = 10_000
_MOST_LABELS = 10_000_000
_LARGEST = 2**31 - 1  # of any integer: what the frameworks can count
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
    "diversity_loss_weight", "feature_penalty_weight", "feature_gradient_scale", "num_adapter_layers",
)  # fmt: skip


def check_fields(config: Wav2Vec2Config) -> None:
    """Check every field by itself. Raises ``ConfigError``."""
    _check_types(config)
    _check_ranges(config)
    _check_choice(config, "feat_extract_norm", ("group", "layer"))
    _check_choice(config, "feat_extract_activation", ACTIVATIONS)
    _check_choice(config, "hidden_act", ACTIVATIONS)
    _check_choice(config, "ctc_loss_reduction", ("sum", "mean", "none"))
    _check_choice(config, "classifier_head", ("linear", "tanh"))
    _check_choice(config, "dtype", (None, *DTYPES))


def check_relations(config: Wav2Vec2Config) -> None:
    """Check that fields fit each other. Raises ``ConfigError``."""
    _check_lists(config, ("conv_dim", "conv_stride", "conv_kernel"))
    _check_lists(config, ("tdnn_dim", "tdnn_kernel", "tdnn_dilation"))
    _check_divisible(config, "hidden_size", "num_attention_heads")
    _check_divisible(config, "hidden_size", "num_conv_pos_embedding_groups")
    _check_divisible(config, "codevector_dim", "num_codevector_groups")


@functools.cache
def _kinds(of: type[Wav2Vec2Config]) -> dict[str, tuple[tuple[type | None, ...], bool]]:
    """Field -> its types, and whether it is a list of them."""
    texts = {item.name: str(item.type) for item in dataclasses.fields(of)}
    return {name: (_TYPES[text], text.startswith("tuple")) for name, text in texts.items() if text in _TYPES}


def fill_labels(config: Wav2Vec2Config) -> None:
    """Make the label maps and ``num_labels`` agree, from whichever are there. Raises ``ConfigError``."""
    if config.id2label is None:
        count = 2 if config.num_labels is None else config.num_labels
        if isinstance(count, bool) or not isinstance(count, int) or not 0 <= count <= _MOST_LABELS:
            raise ConfigError(f"num_labels={count!r:.100} must be an integer, 0 to {_MOST_LABELS}")
        config.id2label = {index: f"LABEL_{index}" for index in range(count)}
        config.label2id = None
    else:
        try:
            config.id2label = {int(index): label for index, label in config.id2label.items()}
        except (AttributeError, TypeError, ValueError) as error:
            raise ConfigError(f"id2label={config.id2label!r:.100} must map class numbers to names") from error
    if config.num_labels is not None and config.num_labels != len(config.id2label):
        raise ConfigError(
            f"num_labels={config.num_labels} contradicts id2label, which names {len(config.id2label)} labels: give one"
        )
    config.num_labels = len(config.id2label)
    if config.label2id is None:
        config.label2id = {label: index for index, label in config.id2label.items()}


def _check_types(config: Wav2Vec2Config) -> None:
    for name, (kind, is_list) in _kinds(type(config)).items():
        value = getattr(config, name)
        items = value if is_list and isinstance(value, tuple) else (value,)
        if is_list and not (isinstance(value, tuple) or (value is None and None in kind)):
            raise ConfigError(f"{name}={value!r:.100} must be a list")
        for item in items:
            if item is None and None in kind:
                continue
            allowed = tuple(part for part in kind if part is not None)
            wrong_bool = isinstance(item, bool) and bool not in allowed
            if wrong_bool or not isinstance(item, allowed):
                names = " or ".join("null" if part is None else part.__name__ for part in kind)
                raise ConfigError(f"{name}={value!r:.100} must be of type {names}, not {type(item).__name__}")
            if isinstance(item, int) and abs(item) > _LARGEST:
                raise ConfigError(f"{name}={brief(value)} must be a number of at most {_LARGEST}: is the file damaged?")


def _check_ranges(config: Wav2Vec2Config) -> None:
    for name in _PROBABILITIES:
        if not 0.0 <= getattr(config, name) <= 1.0:
            raise ConfigError(f"{name}={getattr(config, name)} must be a probability between 0 and 1")
    for name in _POSITIVE:
        values = getattr(config, name)
        for value in values if isinstance(values, tuple) else (values,):
            if value is not None and not value > 0:
                raise ConfigError(f"{name}={brief(values)} must be positive")
    for name in _NOT_NEGATIVE:
        if getattr(config, name) < 0:
            raise ConfigError(f"{name}={getattr(config, name)} must be 0 or more")

    for name in ("num_hidden_layers", "num_adapter_layers"):
        if getattr(config, name) > _MOST_LAYERS:
            raise ConfigError(f"{name}={getattr(config, name)} must be at most {_MOST_LAYERS}: is the file damaged?")


def _check_choice(config: Wav2Vec2Config, name: str, choices: tuple[str | None, ...]) -> None:
    if getattr(config, name) not in choices:
        known = ", ".join(repr(choice) for choice in choices)
        raise ConfigError(f"{name}={getattr(config, name)!r:.100} is unknown: use one of {known}")


def _check_lists(config: Wav2Vec2Config, names: tuple[str, ...]) -> None:
    lengths = {name: len(getattr(config, name)) for name in names}
    if len(set(lengths.values())) != 1 or not all(lengths.values()):
        parts = ", ".join(f"{name} has {length}" for name, length in lengths.items())
        raise ConfigError(f"{parts} entries: these lists describe the same layers and must have the same length")


def _check_divisible(config: Wav2Vec2Config, name: str, divisor: str) -> None:
    if getattr(config, name) % getattr(config, divisor) != 0:
        raise ConfigError(f"{name}={getattr(config, name)} must be divisible by {divisor}={getattr(config, divisor)}")


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
