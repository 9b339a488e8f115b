"""Models as programs of other runtimes for any batch size and length: ONNX, OpenVINO and ``torch.export``."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch

import wav2vec2_torch
from wav2vec2_core.backend import ExportedProgram, check_head_and_dtype, check_trained
from wav2vec2_core.checkpoint import ModelSource
from wav2vec2_core.errors import InputError
from wav2vec2_torch import export_onnx, export_openvino, export_pt2
from wav2vec2_torch.export_program import Call, Program, Runner, described_inputs, described_outputs
from wav2vec2_torch.pretrained import Wav2Vec2PreTrainedModel

#: Format -> name of the program's file.
PROGRAMS = {"onnx": "model.onnx", "openvino": "model.xml", "torch-export": "model.pt2"}


def check_format(to: str) -> None:
    """Check that ``to`` is a format of PyTorch, and that what writes and runs it is installed.

    Raises:
        InputError: another format.
        BackendError: a library is missing.
    """
    if to not in PROGRAMS:
        raise InputError(f"format {to!r:.100} is not written by PyTorch: use one of {', '.join(PROGRAMS)}")
    if to == "openvino":  # first: its extra brings ONNX
        export_openvino.check_libraries()
    if to in ("onnx", "openvino"):
        export_onnx.check_libraries()


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
    """Write ``model.onnx``, ``model.xml`` with ``model.bin``, or ``model.pt2``.

    Inputs: ``input_values`` (batch, samples) float32 and ``attention_mask`` (batch, samples) int64, 1 for samples and
    0 for the padding after them. A row has the numbers that it has alone, but for 8 bits. ONNX programs may be run
    without the mask, and have weights beside them in ``model.onnx.data`` where one file cannot hold them.

    Args:
        source: an open model.
        folder: exists.
        to: one of ``PROGRAMS``.
        head: one of ``wav2vec2_core.parameters.HEADS``.
        do_normalize: the program scales each row to zero mean and unit variance.
        language: of an MMS adapter.
        precision: ``float32``, ``float16``, ``bfloat16`` or ``int8``, as ``wav2vec2_core.exporting.PRECISIONS`` allows.

    Raises:
        CheckpointError: the model is damaged, or its head is not trained.
        InputError: the head, format or language is unknown.
        BackendError: a library is missing.
        OutputError: by the caller, where the folder cannot be written.
    """
    check_format(to)
    # OpenVINO stores weights in half precision and leaves the type of computing to the device.
    dtype = precision if precision != "int8" and to != "openvino" else "float32"
    check_head_and_dtype(head, dtype)
    model_class: type[Wav2Vec2PreTrainedModel] = getattr(wav2vec2_torch, f"Wav2Vec2{head}")
    model = model_class.from_source(source, dtype=dtype, target_lang=language, masked_group_norm=True)
    check_trained(source.name, head, model.loading)
    program = Program(model, do_normalize).eval()
    call, about = _written(program, folder / PROGRAMS[to], to, precision)
    return ExportedProgram(
        config=model.config,
        inputs=described_inputs(do_normalize),
        outputs=described_outputs(program),
        about={
            **about,
            "too_short": "the runtime refuses rows of fewer samples than the shortest, with an error of its own: pad "
            "such a waveform with zeros and mark them as samples",
        },
        run=Runner(call, per_frame=program.per_frame),
        has_batches=True,
    )


def _written(program: Program, path: Path, to: str, precision: str) -> tuple[Call, dict[str, Any]]:
    """Write a program; it as a function, opened again by its own runtime, and what describes it."""
    if to == "torch-export":
        export_pt2.write(program, path)
        return export_pt2.open_program(path), {"torch": torch.__version__, "reading": export_pt2.READING}
    if to == "openvino":
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            onnx = Path(folder) / PROGRAMS["onnx"]
            export_onnx.write(program, onnx)
            export_openvino.write(onnx, path, half=precision == "float16")
        return export_openvino.open_compiled(path), export_openvino.versions()
    if precision == "int8":
        export_onnx.write_8_bit(program, path)
    else:
        export_onnx.write(program, path)
    export_onnx.suit_runtimes(path)
    return export_onnx.open_session(path), export_onnx.versions()
