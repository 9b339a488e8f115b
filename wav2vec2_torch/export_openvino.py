"""OpenVINO programs: converted from ONNX, and run by OpenVINO."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from wav2vec2_torch.export_program import Call, library

#: What a caller must know of computing with the file.
COMPUTING = (
    "compile with INFERENCE_PRECISION_HINT f32: left to itself, OpenVINO computes in bfloat16 on processors with AMX, "
    "where release 2026.4 returns other numbers for the positional convolution, and the text is lost"
)


def check_libraries() -> None:
    """Raises ``BackendError`` where OpenVINO is missing."""
    _library()


def write(onnx_program: Path, path: Path, *, half: bool) -> None:
    """Convert an ONNX program to ``path`` (.xml), with its weights beside it (.bin).

    half: weights are stored in float16; devices compute in the precision that they are told.
    """
    openvino = _library()
    openvino.save_model(openvino.convert_model(str(onnx_program)), str(path), compress_to_fp16=half)


def open_compiled(path: Path) -> Call:
    """A program run by OpenVINO on the CPU in float32."""
    openvino = _library()
    options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    compiled = openvino.Core().compile_model(str(path), "CPU", options)

    def call(values: np.ndarray, mask: np.ndarray) -> list[np.ndarray]:
        results = compiled({"input_values": values, "attention_mask": mask})
        return [np.array(results[output]) for output in compiled.outputs]

    return call


def versions() -> dict[str, Any]:
    """What describes the program: the versions of what wrote and ran it."""
    return {"openvino": _library().__version__, "torch": torch.__version__, "computing": COMPUTING}


def _library() -> Any:
    return library("openvino", "OpenVINO", "openvino")
