"""Outputs of a model call: fields readable by attribute, key or index, in a fixed order; ``None`` fields are omitted.

Field names and order are those of transformers 4.57, so ``outputs.logits``, ``outputs["logits"]``, ``outputs[0]`` and
``loss, logits = outputs.to_tuple()`` all work. Arrays are those of the back end.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from wav2vec2_core.appearance import SeenByTransformers


class ModelOutput(dict[str, Any], SeenByTransformers):
    """An ordered mapping of the fields that are set; subclasses annotate their fields in order.

    It is a ``dict``, so training loops that look up ``outputs["loss"]`` or rebuild mappings of tensors work. A field
    that is not set is ``None`` as an attribute and raises ``KeyError`` as a key.
    """

    field_names: ClassVar[tuple[str, ...]] = ()
    passes_for = ("transformers.utils.generic", "ModelOutput")

    def __init_subclass__(cls) -> None:
        annotated = vars(cls).get("__annotations__", {})
        cls.field_names = tuple(name for name in annotated if name != "field_names") or cls.field_names

    def __init__(self, fields: Mapping[str, Any] | Iterable[tuple[str, Any]] = (), /, **named: Any) -> None:
        values = dict(fields, **named)
        unknown = set(values) - set(self.field_names)
        if unknown:
            raise TypeError(f"{type(self).__name__} has no field {sorted(unknown)}; it has {list(self.field_names)}")
        super().__init__({name: values[name] for name in self.field_names if values.get(name) is not None})

    def __getattr__(self, name: str) -> Any:
        if name in type(self).field_names:
            return self.get(name)
        raise AttributeError(f"{type(self).__name__} has no field {name!r:.100}; it has {list(self.field_names)}")

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def __setitem__(self, key: str, value: Any) -> None:
        if key not in self.field_names:
            raise KeyError(f"{type(self).__name__} has no field {key!r:.100}; it has {list(self.field_names)}")
        values = {**self, key: value}
        self.clear()
        self.update({name: values[name] for name in self.field_names if values.get(name) is not None})

    def __getitem__(self, key: str | int | slice) -> Any:
        return super().__getitem__(key) if isinstance(key, str) else self.to_tuple()[key]

    def __reduce__(self) -> Any:
        return type(self), (dict(self),)

    def to_tuple(self) -> tuple[Any, ...]:
        """The fields that are set, in order, as with ``return_dict=False``."""
        return tuple(self.values())


class Wav2Vec2BaseModelOutput(ModelOutput):
    """Output of ``Wav2Vec2Model``.

    last_hidden_state: (batch, frames, hidden). extract_features: (batch, frames, conv_dim[-1]), normalised features
    before projection. hidden_states: one (batch, frames, hidden) per layer, preceded by the input of the first.
    attentions: one (batch, heads, frames, frames) per layer. feature_penalty: mean square of the features before they
    are normalised, over the valid frames of utterances with a masked one.
    """

    last_hidden_state: Any
    extract_features: Any
    hidden_states: tuple[Any, ...] | None
    attentions: tuple[Any, ...] | None
    feature_penalty: Any


class Wav2Vec2ForPreTrainingOutput(ModelOutput):
    """Output of ``Wav2Vec2ForPreTraining``.

    projected_states, projected_quantized_states: (batch, frames, proj_codevector_dim). The losses are sums over masked
    frames. codevector_perplexity: effective number of codes in use, from num_codevector_groups to the number of codes.
    soft_codevector_perplexity, hard_codevector_perplexity: (groups,) the same for each group, of the quantizer's
    probabilities and of its most probable choices, both without noise. contrastive_accuracy: share of masked frames
    whose true vector is nearer than every distractor. feature_penalty: mean square of the features before they are
    normalised, over the valid frames of utterances with a masked one.
    """

    loss: Any
    projected_states: Any
    projected_quantized_states: Any
    codevector_perplexity: Any
    hidden_states: tuple[Any, ...] | None
    attentions: tuple[Any, ...] | None
    contrastive_loss: Any
    diversity_loss: Any
    contrastive_accuracy: Any
    feature_penalty: Any
    soft_codevector_perplexity: Any
    hard_codevector_perplexity: Any


class CausalLMOutput(ModelOutput):
    """Output of ``Wav2Vec2ForCTC``. logits: (batch, frames, vocab), before the softmax."""

    loss: Any
    logits: Any
    hidden_states: tuple[Any, ...] | None
    attentions: tuple[Any, ...] | None


class SequenceClassifierOutput(ModelOutput):
    """Output of ``Wav2Vec2ForSequenceClassification``. logits: (batch, labels)."""

    loss: Any
    logits: Any
    hidden_states: tuple[Any, ...] | None
    attentions: tuple[Any, ...] | None


class TokenClassifierOutput(ModelOutput):
    """Output of ``Wav2Vec2ForAudioFrameClassification``. logits: (batch, frames, labels)."""

    loss: Any
    logits: Any
    hidden_states: tuple[Any, ...] | None
    attentions: tuple[Any, ...] | None


class XVectorOutput(ModelOutput):
    """Output of ``Wav2Vec2ForXVector``. logits, embeddings: (batch, xvector_output_dim)."""

    loss: Any
    logits: Any
    embeddings: Any
    hidden_states: tuple[Any, ...] | None
    attentions: tuple[Any, ...] | None


OUTPUT_CLASSES: tuple[type[ModelOutput], ...] = (
    Wav2Vec2BaseModelOutput,
    Wav2Vec2ForPreTrainingOutput,
    CausalLMOutput,
    SequenceClassifierOutput,
    TokenClassifierOutput,
    XVectorOutput,
)
