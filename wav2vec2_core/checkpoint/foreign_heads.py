"""Heads that models of the community have and no class here computes, by the names of their parameters."""

from __future__ import annotations

from collections.abc import Collection

#: Parameters that tell a head -> whose it is.
_HEADS = {
    ("classifier.dense.weight", "classifier.out_proj.weight"): "audeering's dimensional emotion models",
    ("classifier.dense.weight", "classifier.output.weight"): "ehcalabres' and similar emotion models",
}


def foreign_head(names: Collection[str]) -> str | None:
    """What is said of a checkpoint with a head of such a model, and what to do; ``None`` for any other checkpoint."""
    for parameters, whose in _HEADS.items():
        if all(name in names for name in parameters):
            places = " and ".join(name.removesuffix(".weight") for name in parameters)
            return (
                f"has the head of {whose} ({places}, with tanh between them), which no class here computes: take the "
                "hidden states of its body (wav2vec2 embed, Wav2Vec2Model), average the frames and apply its two "
                "layers, or fine-tune a head of your own (wav2vec2 finetune classify)"
            )
    return None
