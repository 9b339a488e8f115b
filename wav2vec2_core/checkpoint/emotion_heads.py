"""Classification heads that emotion models of the community have, told by the names of their parameters.

| whose                                            | parameters                            | computed                |
|--------------------------------------------------|---------------------------------------|-------------------------|
| audeering's arousal, dominance and valence;      | classifier.dense, classifier.out_proj | mean over the frames,   |
| models that m3hrdadfi's soxan has trained        |                                       | dense, tanh, out_proj   |
| ehcalabres' emotions                             | classifier.dense, classifier.output   | the same                |
| audeering's age and gender                       | age.dense, ..., gender.dense, ...     | refused: they are two   |

The second one's file does not record what is between its layers; tanh is what the class that it was made from has.
"""

from __future__ import annotations

from collections.abc import Collection

from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.errors import ConfigError, brief

_HEAD = "ForSequenceClassification"
#: Of the first two, as ``canonical_name`` spells them.
_TANH = ("classifier.dense.weight", "classifier.out_proj.weight")
_TWO_HEADS = ("age.dense.weight", "gender.dense.weight")


def with_head_of(config: Wav2Vec2Config, head: str, names: Collection[str]) -> Wav2Vec2Config:
    """The configuration of a model of this head, with the kind of head that a checkpoint's parameters show.

    Raises:
        ConfigError: the checkpoint pools frames in another way than by their mean.
    """
    if head != _HEAD or not all(name in names for name in _TANH):
        return config
    pooling = config.extra.get("pooling_mode", "mean")
    if pooling != "mean":
        raise ConfigError(
            f"pooling_mode={brief(pooling)} is not computed: frames are pooled by their mean; take the hidden states "
            "of the body (wav2vec2 embed, Wav2Vec2Model), or fine-tune a head of your own (wav2vec2 finetune classify)"
        )
    return config if config.classifier_head == "tanh" else config.replace(classifier_head="tanh")


def refused_head(names: Collection[str]) -> str | None:
    """What is said of a checkpoint with heads that no class here computes, and what to do; ``None`` for any other."""
    if not all(name in names for name in _TWO_HEADS):
        return None
    return (
        "has two heads, for age and gender, which no class here computes: take the hidden states of its body "
        "(wav2vec2 embed, Wav2Vec2Model), or fine-tune a head of your own (wav2vec2 finetune classify)"
    )
