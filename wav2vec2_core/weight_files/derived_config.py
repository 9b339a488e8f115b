"""The configuration of a checkpoint without ``config.json``, derived from its shapes and completed by guesses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wav2vec2_core.errors import CheckpointError
from wav2vec2_core.names import BODY_PREFIX

Shapes = Mapping[str, tuple[int, ...]]

#: Kernels of the convolutions of every released model (paper, section 4.2).
_KERNELS = (10, 3, 3, 3, 3, 2, 2)
_STRIDES = (5, 2, 2, 2, 2, 2, 2)
#: Heads by width, of the released models: BASE, LARGE and XLS-R 300M, XLS-R 1B and MMS, XLS-R 2B, omnilingual.
_HEADS = {768: 12, 1024: 16, 1280: 16, 1920: 16, 2048: 16}


def config_from_shapes(shapes: Shapes, known: Mapping[str, Any], what: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The content of ``config.json`` for a model with these parameters.

    Args:
        shapes: shape by canonical name, with or without the prefix ``wav2vec2.``.
        known: fields that the checkpoint states; they override guesses.
        what: the file, for messages.

    Returns:
        The fields of the configuration, and the names of those guessed from the released models of this size.

    Raises:
        CheckpointError: parameters are missing, or no released model has this size, so nothing can be guessed.
    """
    measured = _measured({name.removeprefix(BODY_PREFIX): shape for name, shape in shapes.items()}, what)
    guessed = _guessed(measured, known, what)
    return {**measured, **guessed, **known}, tuple(guessed)


def _measured(shapes: Shapes, what: str) -> dict[str, Any]:
    def shape(name: str, axes: int) -> tuple[int, ...]:
        found = shapes.get(name)
        if found is None or len(found) != axes or not all(found):
            state = "is missing" if found is None else f"has the shape {found}"
            raise CheckpointError(f"{what} is no complete wav2vec 2.0 model, {name} {state}: use a complete checkpoint")
        return found

    convolutions = []
    while (name := f"feature_extractor.conv_layers.{len(convolutions)}.conv.weight") in shapes or not convolutions:
        convolutions.append(shape(name, 3))
    hidden = shape("feature_projection.projection.weight", 2)[0]
    layers = 0
    while f"encoder.layers.{layers}.attention.q_proj.weight" in shapes:
        layers += 1
    positions = shape("encoder.pos_conv_embed.conv.weight_v", 3)
    values: dict[str, Any] = {
        "conv_dim": tuple(size for size, _, _ in convolutions),
        "conv_kernel": tuple(kernel for _, _, kernel in convolutions),
        "conv_bias": "feature_extractor.conv_layers.0.conv.bias" in shapes,
        "feat_extract_norm": "layer" if "feature_extractor.conv_layers.1.layer_norm.weight" in shapes else "group",
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_conv_pos_embeddings": positions[2],
        "num_conv_pos_embedding_groups": max(1, hidden // positions[1]),
    }
    if layers:
        values["intermediate_size"] = shape("encoder.layers.0.feed_forward.intermediate_dense.weight", 2)[0]
    if "encoder.layers.0.adapter_layer.linear_1.weight" in shapes:
        values["adapter_attn_dim"] = shape("encoder.layers.0.adapter_layer.linear_1.weight", 2)[0]
    if "lm_head.weight" in shapes:
        values["vocab_size"] = shape("lm_head.weight", 2)[0]
    if "quantizer.codevectors" in shapes:
        values.update(_quantizer(shape("quantizer.codevectors", 3), shape("project_q.weight", 2)))
    return values


def _quantizer(codevectors: tuple[int, ...], projection: tuple[int, ...]) -> dict[str, Any]:
    groups = max(1, projection[1] // codevectors[2])
    return {
        "codevector_dim": projection[1],
        "proj_codevector_dim": projection[0],
        "num_codevector_groups": groups,
        "num_codevectors_per_group": max(1, codevectors[1] // groups),
    }


def _guessed(measured: Mapping[str, Any], known: Mapping[str, Any], what: str) -> dict[str, Any]:
    """The fields that shapes do not determine."""
    guesses: dict[str, Any] = {}
    if "conv_stride" not in known:
        if measured["conv_kernel"] != _KERNELS:
            raise CheckpointError(
                f"{what} does not say its convolution strides, and its kernels {list(measured['conv_kernel'])} are not "
                "those of a released model: give its config.json (--config)"
            )
        guesses["conv_stride"] = _STRIDES
    if "num_attention_heads" not in known:
        if measured["hidden_size"] not in _HEADS:
            raise CheckpointError(
                f"{what} does not say its number of attention heads, and its width {measured['hidden_size']} is not "
                "that of a released model: give its config.json (--config)"
            )
        guesses["num_attention_heads"] = _HEADS[measured["hidden_size"]]
    if "do_stable_layer_norm" not in known:
        guesses["do_stable_layer_norm"] = measured["feat_extract_norm"] == "layer"
    return guesses
