"""THE parameter table: name, shape, initial value and freeze group of every parameter of any model head.

Names and layouts are those of the released PyTorch checkpoints: linear weights ``(out, in)``, convolution weights
``(out, in / groups, kernel)``, the positional convolution split by weight norm into ``weight_g`` and ``weight_v``. Back
ends create and initialize their parameters from this table; the checkpoint reader compares files with it.

Known sizes: BASE pretraining 95,044,608 parameters, LARGE lv60 pretraining 317,390,592, BASE CTC with 32 letters
94,396,320.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.errors import InputError, listed
from wav2vec2_core.names import BODY_PREFIX, HEADS, MASK_EMBEDDING

# Parameters that only this head has; the last two are distinguished by the first one's projector.
_TELLTALES = {
    "ForPreTraining": ("quantizer.codevectors",),
    "ForCTC": ("lm_head.weight",),
    "ForXVector": ("objective.weight",),
    "ForSequenceClassification": ("projector.weight", "classifier.out_proj.weight"),
    "ForAudioFrameClassification": ("classifier.weight",),
}


@dataclass(frozen=True)
class Init:
    """How a parameter is initialized.

    kind: ``normal`` (scale: standard deviation), ``uniform`` (from low to high), ``constant`` (low), or ``norm``: the
    weight-norm gain for which g * v / |v| equals the initial ``weight_v``.
    """

    kind: str
    scale: float = 0.0
    low: float = 0.0
    high: float = 0.0


@dataclass(frozen=True)
class Parameter:
    """One row.

    group: ``feature_encoder``, ``body``, ``conv_adapter``, ``attention_adapter``, ``quantizer`` or ``head``.
    """

    name: str
    shape: tuple[int, ...]
    init: Init
    group: str

    @property
    def size(self) -> int:
        return math.prod(self.shape)


ZEROS = Init("constant", low=0.0)
ONES = Init("constant", low=1.0)


def _normal(std: float) -> Init:
    return Init("normal", scale=std)


def _uniform(low: float, high: float) -> Init:
    return Init("uniform", low=low, high=high)


def parameter_table(config: Wav2Vec2Config, head: str = "Model") -> dict[str, Parameter]:
    """Every parameter of ``Wav2Vec2<head>`` by checkpoint name, in the order of the forward pass.

    ``config`` may be a ``transformers.Wav2Vec2Config``.

    Raises:
        InputError: ``head`` is not one of ``HEADS``.
    """
    if head not in HEADS:
        raise InputError(f"head {head!r:.100} is unknown: use one of {', '.join(HEADS)}")
    config = Wav2Vec2Config.of(config)
    prefix = "" if head == "Model" else BODY_PREFIX
    rows = list(_body(config, prefix))
    rows += {
        "Model": lambda: (),
        "ForPreTraining": lambda: _pretraining(config),
        "ForCTC": lambda: _linear("lm_head", ctc_input_size(config), config.vocab_size, config, "head"),
        "ForSequenceClassification": lambda: _sequence_classification(config),
        "ForAudioFrameClassification": lambda: _frame_classification(config),
        "ForXVector": lambda: _xvector(config),
    }[head]()
    return {row.name: row for row in rows}


def num_parameters(config: Wav2Vec2Config, head: str = "Model") -> int:
    """Total number of values in ``parameter_table(config, head)``."""
    return sum(row.size for row in parameter_table(config, head).values())


#: Name of a frozen part -> groups of ``Parameter`` that belong to it.
FROZEN_PARTS: dict[str, frozenset[str]] = {
    "feature_encoder": frozenset({"feature_encoder"}),
    "base_model": frozenset({"feature_encoder", "body", "conv_adapter", "attention_adapter"}),
    "all_but_adapters": frozenset({"feature_encoder", "body", "conv_adapter", "quantizer"}),
}


def trainable_names(config: Wav2Vec2Config, head: str = "Model", *, frozen: str | None = None) -> frozenset[str]:
    """Names of the parameters that training updates: the one definition of "frozen" for every back end.

    The mask embedding is excluded if ``apply_spec_augment`` is False: it is unused then, and distributed training would
    wait for its gradient.

    Args:
        config, head: those of the model.
        frozen: what training must not change. ``feature_encoder``: the convolutions. ``base_model``: everything but the
            head; the bare model has no head, so nothing is frozen. ``all_but_adapters``: everything but the attention
            adapters and, in a CTC model, ``lm_head``. None: nothing.

    Raises:
        InputError: ``head`` or ``frozen`` is unknown, or the model has no adapters.
    """
    if frozen is not None and frozen not in FROZEN_PARTS:
        raise InputError(f"frozen={frozen!r:.100} is unknown: use one of {', '.join(FROZEN_PARTS)}, or None")
    groups = FROZEN_PARTS[frozen] if frozen else frozenset()
    if frozen == "all_but_adapters":
        check_attention_adapters(config)
        groups |= frozenset() if head == "ForCTC" else {"head"}
    elif frozen == "base_model" and head == "Model":
        groups = frozenset()
    names = {name for name, row in parameter_table(config, head).items() if row.group not in groups}
    if not config.apply_spec_augment:
        names -= {MASK_EMBEDDING, f"{BODY_PREFIX}{MASK_EMBEDDING}"}
    return frozenset(names)


def check_trainable(config: Wav2Vec2Config, head: str, names: Collection[str]) -> frozenset[str]:
    """Check the argument of ``set_trainable``; returns ``names`` without parameters that cannot be trained.

    Raises:
        InputError: a name is not a parameter of the model.
    """
    unknown = set(names) - parameter_table(config, head).keys()
    if unknown:
        raise InputError(
            f"{listed(sorted(unknown))} {'is no parameter' if len(unknown) == 1 else 'are no parameters'} of a "
            f"Wav2Vec2{head}: use names of its parameter_table()"
        )
    return trainable_names(config, head) & frozenset(names)


def initial_values(table: dict[str, Parameter], seed: int) -> Iterator[tuple[str, np.ndarray]]:
    """Yield (name, float32 array) for every row; with the same seed every back end gets the same model."""
    generator = np.random.default_rng(seed)
    directions: dict[str, np.ndarray] = {}
    for name, row in table.items():
        match row.init.kind:
            case "constant":
                value = np.full(row.shape, row.init.low, np.float32)
            case "normal":
                value = generator.standard_normal(row.shape, np.float32) * np.float32(row.init.scale)
            case "uniform":
                span = np.float32(row.init.high - row.init.low)
                value = generator.random(row.shape, np.float32) * span + np.float32(row.init.low)
            case "norm":
                direction = directions.pop(name.removesuffix("_g") + "_v")
                value = np.sqrt(np.square(direction).sum(axis=(0, 1), keepdims=True))
            case kind:
                raise AssertionError(f"initialiser {kind!r:.100} of {name} is not implemented")
        if name.endswith("weight_v"):
            directions[name] = value
        yield name, value


def head_of(architectures: Sequence[str] | None, names: Collection[str]) -> str:
    """The head of a checkpoint, from the class names in its ``config.json`` or else from its parameter names."""
    for architecture in architectures or ():
        head = architecture.removeprefix("TF").removeprefix("Flax").removeprefix("Wav2Vec2")
        if head in HEADS:
            return head
    for head, telltales in _TELLTALES.items():
        if any(name in names for name in telltales):
            return head
    return "Model"


def ctc_input_size(config: Wav2Vec2Config) -> int:
    """Width of the hidden states that the CTC head and the x-vector head read."""
    return config.output_hidden_size or config.hidden_size if config.add_adapter else config.hidden_size


def has_attention_adapters(config: Wav2Vec2Config) -> bool:
    """Whether the model has MMS adapters, which exist in pre-norm encoders only, as in every released checkpoint."""
    return config.adapter_attn_dim is not None and config.do_stable_layer_norm


# ---- building blocks ------------------------------------------------------------------------------------------


def _linear(name: str, inputs: int, outputs: int, config: Wav2Vec2Config, group: str) -> Iterator[Parameter]:
    yield Parameter(f"{name}.weight", (outputs, inputs), _normal(config.initializer_range), group)
    yield Parameter(f"{name}.bias", (outputs,), ZEROS, group)


def _linear_fan_in(name: str, inputs: int, outputs: int, group: str) -> Iterator[Parameter]:
    bound = 1 / math.sqrt(inputs)
    yield Parameter(f"{name}.weight", (outputs, inputs), _uniform(-bound, bound), group)
    yield Parameter(f"{name}.bias", (outputs,), _uniform(-bound, bound), group)


def _norm(name: str, size: int, group: str) -> Iterator[Parameter]:
    yield Parameter(f"{name}.weight", (size,), ONES, group)
    yield Parameter(f"{name}.bias", (size,), ZEROS, group)


def _conv(name: str, inputs: int, outputs: int, kernel: int, bias: bool, group: str) -> Iterator[Parameter]:
    fan_in = inputs * kernel
    yield Parameter(
        f"{name}.weight", (outputs, inputs, kernel), _normal(math.sqrt(2 / fan_in)), group
    )  # He et al. 2015
    if bias:
        yield Parameter(f"{name}.bias", (outputs,), _uniform(-1 / math.sqrt(fan_in), 1 / math.sqrt(fan_in)), group)


# ---- the model, in the order of the forward pass ---------------------------------------------------------------


def _body(config: Wav2Vec2Config, prefix: str) -> Iterator[Parameter]:
    yield from _feature_encoder(config, f"{prefix}feature_extractor")
    projection = f"{prefix}feature_projection"
    yield from _norm(f"{projection}.layer_norm", config.conv_dim[-1], "body")
    yield from _linear_fan_in(f"{projection}.projection", config.conv_dim[-1], config.hidden_size, "body")
    if config.mask_time_prob > 0 or config.mask_feature_prob > 0:
        yield Parameter(f"{prefix}{MASK_EMBEDDING}", (config.hidden_size,), _uniform(0, 1), "body")
    yield from _encoder(config, f"{prefix}encoder")
    if config.add_adapter:
        yield from _conv_adapter(config, f"{prefix}adapter")


def _feature_encoder(config: Wav2Vec2Config, prefix: str) -> Iterator[Parameter]:
    inputs = 1
    for index, (outputs, kernel) in enumerate(zip(config.conv_dim, config.conv_kernel, strict=True)):
        name = f"{prefix}.conv_layers.{index}"
        yield from _conv(f"{name}.conv", inputs, outputs, kernel, config.conv_bias, "feature_encoder")
        if config.feat_extract_norm == "layer" or index == 0:
            yield from _norm(f"{name}.layer_norm", outputs, "feature_encoder")
        inputs = outputs


def _encoder(config: Wav2Vec2Config, prefix: str) -> Iterator[Parameter]:
    hidden, kernel = config.hidden_size, config.num_conv_pos_embeddings
    conv = f"{prefix}.pos_conv_embed.conv"
    std = 2 / math.sqrt(kernel * hidden)  # fairseq's TransformerEncoder without dropout
    shape = (hidden, hidden // config.num_conv_pos_embedding_groups, kernel)
    yield Parameter(f"{conv}.weight_v", shape, _normal(std), "body")
    yield Parameter(f"{conv}.weight_g", (1, 1, kernel), Init("norm"), "body")
    yield Parameter(f"{conv}.bias", (hidden,), ZEROS, "body")
    yield from _norm(f"{prefix}.layer_norm", hidden, "body")
    for index in range(config.num_hidden_layers):
        yield from _encoder_layer(config, f"{prefix}.layers.{index}")


def _encoder_layer(config: Wav2Vec2Config, prefix: str) -> Iterator[Parameter]:
    hidden = config.hidden_size
    for projection in ("q_proj", "k_proj", "v_proj", "out_proj"):
        yield from _linear(f"{prefix}.attention.{projection}", hidden, hidden, config, "body")
    yield from _norm(f"{prefix}.layer_norm", hidden, "body")
    yield from _linear(f"{prefix}.feed_forward.intermediate_dense", hidden, config.intermediate_size, config, "body")
    yield from _linear(f"{prefix}.feed_forward.output_dense", config.intermediate_size, hidden, config, "body")
    yield from _norm(f"{prefix}.final_layer_norm", hidden, "body")
    if has_attention_adapters(config):
        yield from attention_adapter(config, f"{prefix}.adapter_layer")


def attention_adapter(config: Wav2Vec2Config, prefix: str) -> Iterator[Parameter]:
    """Rows of one MMS adapter: norm, projection down to ``adapter_attn_dim``, projection up."""
    hidden, inner = config.hidden_size, config.adapter_attn_dim
    assert inner is not None
    yield from _norm(f"{prefix}.norm", hidden, "attention_adapter")
    yield from _linear(f"{prefix}.linear_1", hidden, inner, config, "attention_adapter")
    yield from _linear(f"{prefix}.linear_2", inner, hidden, config, "attention_adapter")


def _conv_adapter(config: Wav2Vec2Config, prefix: str) -> Iterator[Parameter]:
    outputs = ctc_input_size(config)
    if outputs != config.hidden_size:
        yield from _linear(f"{prefix}.proj", config.hidden_size, outputs, config, "conv_adapter")
        yield from _norm(f"{prefix}.proj_layer_norm", outputs, "conv_adapter")
    for index in range(config.num_adapter_layers):
        name = f"{prefix}.layers.{index}.conv"
        yield from _conv(name, outputs, 2 * outputs, config.adapter_kernel_size, True, "conv_adapter")


def _pretraining(config: Wav2Vec2Config) -> Iterator[Parameter]:
    groups, entries = config.num_codevector_groups, config.num_codevectors_per_group
    entry_size = config.codevector_dim // groups
    yield Parameter("quantizer.codevectors", (1, groups * entries, entry_size), _uniform(0, 1), "quantizer")
    yield Parameter("quantizer.weight_proj.weight", (groups * entries, config.conv_dim[-1]), _normal(1), "quantizer")
    yield Parameter("quantizer.weight_proj.bias", (groups * entries,), ZEROS, "quantizer")
    yield from _linear_fan_in("project_q", config.codevector_dim, config.proj_codevector_dim, "head")
    yield from _linear_fan_in("project_hid", config.hidden_size, config.proj_codevector_dim, "head")


def _layer_weights(config: Wav2Vec2Config) -> Iterator[Parameter]:
    if config.use_weighted_layer_sum:
        layers = config.num_hidden_layers + 1  # every layer's output and the first one's input
        yield Parameter("layer_weights", (layers,), Init("constant", low=1 / layers), "head")


def _sequence_classification(config: Wav2Vec2Config) -> Iterator[Parameter]:
    yield from _layer_weights(config)
    if config.classifier_head == "tanh":
        yield from _linear("classifier.dense", config.hidden_size, config.hidden_size, config, "head")
        yield from _linear("classifier.out_proj", config.hidden_size, config.num_labels or 0, config, "head")
    else:
        yield from _linear("projector", config.hidden_size, config.classifier_proj_size, config, "head")
        yield from _linear("classifier", config.classifier_proj_size, config.num_labels or 0, config, "head")


def _frame_classification(config: Wav2Vec2Config) -> Iterator[Parameter]:
    yield from _layer_weights(config)
    yield from _linear("classifier", config.hidden_size, config.num_labels or 0, config, "head")


def _xvector(config: Wav2Vec2Config) -> Iterator[Parameter]:
    yield from _layer_weights(config)
    yield from _linear("projector", config.hidden_size, config.tdnn_dim[0], config, "head")
    inputs = config.tdnn_dim[0]
    for index, (outputs, kernel) in enumerate(zip(config.tdnn_dim, config.tdnn_kernel, strict=True)):
        yield from _linear(f"tdnn.{index}.kernel", inputs * kernel, outputs, config, "head")
        inputs = outputs
    yield from _linear("feature_extractor", 2 * inputs, config.xvector_output_dim, config, "head")
    yield from _linear("classifier", config.xvector_output_dim, config.xvector_output_dim, config, "head")
    yield Parameter("objective.weight", (config.xvector_output_dim, config.num_labels or 0), _normal(1), "head")


def check_attention_adapters(config: Wav2Vec2Config) -> None:
    """Check that a model has attention adapters. Raises ``InputError``."""
    if not has_attention_adapters(config):
        raise InputError(
            f"adapter_attn_dim={config.adapter_attn_dim} and do_stable_layer_norm={config.do_stable_layer_norm} give a "
            "model without attention adapters: set adapter_attn_dim (16 in MMS) and do_stable_layer_norm=True when "
            "loading"
        )
