"""Export as StableHLO for any batch size and length, beside the weights in their usual file; and back.

The program takes the tensors of ``model.safetensors`` under their names and in their layout, so the two files are all
that another runtime needs.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import wav2vec2_flax
from wav2vec2_core.backend import ExportedProgram, check_head_and_dtype, check_trained
from wav2vec2_core.checkpoint import ModelSource, open_checkpoint, open_model
from wav2vec2_core.data import pad_batch, unpad_scores
from wav2vec2_core.errors import CheckpointError, InputError
from wav2vec2_core.files import atomic_path
from wav2vec2_core.inputs import shortest_waveform
from wav2vec2_core.names import WHOLE_HEADS, scores_field
from wav2vec2_flax.pretrained import FlaxWav2Vec2PreTrainedModel
from wav2vec2_flax.weights import nest, places

PROGRAM = "model.stablehlo"


def export_model(
    model: FlaxWav2Vec2PreTrainedModel,
    folder: str | os.PathLike[str],
    *,
    masked: bool = True,
    platforms: Sequence[str] = ("cpu", "cuda", "tpu"),
) -> Path:
    """Write ``model.stablehlo``, ``model.safetensors`` and ``config.json``; return the program's path.

    Args:
        model: with its parameters.
        folder: created where missing.
        masked: the program takes an attention mask; without, waveforms only.
        platforms: that the program may run on, as JAX names them.

    Raises:
        OutputError: the folder cannot be written.
    """
    program = trace(model, masked=masked, platforms=platforms)
    model.save_pretrained(folder)
    path = Path(folder) / PROGRAM
    with atomic_path(path) as temporary:
        temporary.write_bytes(program.serialize())
    return path


def trace(
    model: FlaxWav2Vec2PreTrainedModel, *, masked: bool = True, platforms: Sequence[str] = ("cpu", "cuda", "tpu")
) -> jax.export.Exported:
    """The program ``(tensors, input_values[, attention_mask]) -> outputs`` with symbolic batch and length.

    ``tensors``: arrays by checkpoint name; ``input_values``: (batch, samples) float32; ``attention_mask``: the same
    shape, int32; ``outputs``: dictionary of the model's outputs.
    """
    found = places(model)
    path_of = {name: (place.path, place.reverse) for name, place in found.items()}
    tensors = {
        name: jax.ShapeDtypeStruct(place.shape, place.variable.get_value().dtype) for name, place in found.items()
    }

    def run(tensors: dict[str, Any], *call: Any) -> dict[str, Any]:
        params = {path: tensors[name].T if reverse else tensors[name] for name, (path, reverse) in path_of.items()}
        return dict(model(*call, params=nest(params), return_dict=True))

    batch, samples = jax.export.symbolic_shape(
        "batch, samples", constraints=("batch >= 1", f"samples >= {shortest_waveform(model.config, model.head)}")
    )
    call = [jax.ShapeDtypeStruct((batch, samples), jnp.float32)]
    if masked:
        call.append(jax.ShapeDtypeStruct((batch, samples), jnp.int32))
    return jax.export.export(jax.jit(run), platforms=tuple(platforms))(tensors, *call)


def load_exported(folder: str | os.PathLike[str]) -> Callable[..., dict[str, Any]]:
    """The exported model as a function of ``input_values[, attention_mask]`` that returns a dictionary of outputs.

    Raises:
        CheckpointError: a file is missing or damaged.
    """
    source = open_model(folder)
    path = source.require(PROGRAM)
    try:
        program = jax.export.deserialize(bytearray(path.read_bytes()))
    except Exception as error:  # whatever flatbuffers and MLIR say about bytes that are no program
        raise CheckpointError(f"{path} is no exported program: export the model again") from error
    checkpoint = open_checkpoint(source)
    tensors = {name: jnp.asarray(checkpoint.read(name)) for name in checkpoint.shapes}
    run = jax.jit(program.call)

    def call(input_values: Any, attention_mask: Any = None) -> dict[str, Any]:
        arguments: list[np.ndarray] = [np.asarray(input_values, np.float32)]
        if attention_mask is not None:
            arguments.append(np.asarray(attention_mask, np.int32))
        return run(tensors, *arguments)

    return call


def check_format(to: str) -> None:
    """Check that ``to`` is ``stablehlo``. Raises ``InputError`` for another format."""
    if to != "stablehlo":
        raise InputError(f"format {to!r:.100} is not written by JAX: use stablehlo")


def write_program(
    source: ModelSource,
    folder: Path,
    to: str,
    *,
    head: str,
    do_normalize: bool,
    language: str | None = None,
    precision: str = "float32",
) -> ExportedProgram:
    """``export_model`` of an open model, and its program loaded again.

    Raises:
        CheckpointError: the model is damaged, or its head is not trained.
        InputError: the head, format or language is unknown, or ``do_normalize`` is asked for: callers of this program
            normalise.
        OutputError: the folder cannot be written.
    """
    check_format(to)
    check_head_and_dtype(head, precision)
    if do_normalize:
        raise InputError("a stablehlo program does not normalise: leave fold_normalisation out")
    model_class: type[FlaxWav2Vec2PreTrainedModel] = getattr(wav2vec2_flax, f"FlaxWav2Vec2{head}")
    model = model_class.from_source(source, dtype=precision, target_lang=language, masked_group_norm=True)
    check_trained(source.name, head, model.loading)
    export_model(model, folder)
    program, config = load_exported(folder), model.config
    field = scores_field(head)

    def run(waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
        batch = pad_batch(waveforms, len(waveforms), max(map(len, waveforms)))
        return unpad_scores(np.asarray(program(*batch)[field]), waveforms, config)

    inputs = {
        "tensors": "the tensors of model.safetensors by name",
        "input_values": "float32 (batch, samples): waveforms, as the feature extractor returns them",
        "attention_mask": "int32 (batch, samples): 1 for samples, 0 for the padding after them",
    }
    outputs = {field: "float32 (batch, scores)" if head in WHOLE_HEADS else "float32 (batch, frames, scores)"}
    return ExportedProgram(config, inputs, outputs, {"jax": jax.__version__}, run, has_batches=True)
