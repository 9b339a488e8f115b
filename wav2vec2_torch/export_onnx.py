"""ONNX programs: written by ``torch.onnx``, in 8 bits by onnxruntime's own tools, and run by onnxruntime."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from wav2vec2_torch.export_program import Call, Program, library, quiet

#: Set of operators: read by onnxruntime from 1.17 on. It is the first in which GELU is one operator.
OPSET = 20
#: Bytes of weights from which they lie in ``model.onnx.data``: one file of this format holds less than 2 GiB.
LARGEST_FILE = 1_900_000_000
_LIBRARIES = ("onnx", "onnxscript", "onnxruntime")
_MASK = "attention_mask"


def check_libraries() -> None:
    """Raises ``BackendError`` where what writes or runs the format is missing."""
    for name in _LIBRARIES:
        _library(name)


def write(program: Program, path: Path) -> None:
    """Write a program whose two inputs are both required."""
    size = {0: "batch", 1: "samples"}
    with quiet(), torch.no_grad():
        made: Any = torch.onnx.export(
            program,
            program.example(),
            input_names=list(program.inputs),
            output_names=list(program.outputs),
            dynamic_shapes=dict.fromkeys(program.inputs, size),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
        made.save(str(path), external_data=program.bytes_of_weights > LARGEST_FILE)


def write_8_bit(program: Program, path: Path) -> None:
    """Write a program whose products of weights are of 8 bits; activations are rounded as the program runs."""
    quantization = _library("onnxruntime.quantization")
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        whole = Path(folder) / path.name
        write(program, whole)
        with quiet():
            quantization.quantize_dynamic(
                whole,
                path,
                op_types_to_quantize=["MatMul", "Gemm"],
                weight_type=quantization.QuantType.QInt8,
                per_channel=True,
                use_external_data_format=program.bytes_of_weights > LARGEST_FILE,
            )


def suit_runtimes(path: Path) -> None:
    """Let runtimes that know one input only run the program as it is, and onnxruntime run it fast.

    ``attention_mask`` gets a default, under which every sample counts: one 1, spread over the shape of ``input_values``
    before anything reads it. So sherpa-onnx, optimum and transformers.js need not give it.

    The shapes of what lies between are left out: where onnxruntime 1.32 knows them, it merges each sum with the layer
    norm behind it into an operator that takes four times as long as the two.
    """
    onnx = _library("onnx")
    model: Any = onnx.load(str(path), load_external_data=False)
    graph, spread = model.graph, f"{_MASK}_of_samples"
    for node in graph.node:
        node.input[:] = [spread if name == _MASK else name for name in node.input]
    graph.node.insert(0, onnx.helper.make_node("Shape", ["input_values"], ["shape_of_samples"]))
    graph.node.insert(1, onnx.helper.make_node("Expand", [_MASK, "shape_of_samples"], [spread]))
    graph.initializer.append(onnx.numpy_helper.from_array(np.ones((1, 1), np.int64), _MASK))
    for given in graph.input:
        if given.name == _MASK:
            for dimension, name in zip(given.type.tensor_type.shape.dim, ("mask_rows", "mask_samples"), strict=True):
                dimension.dim_param = name
    del graph.value_info[:]
    onnx.save(model, str(path))


def open_session(path: Path) -> Call:
    """A program run by onnxruntime on the CPU."""
    runtime = _library("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # otherwise it warns of an input that has a default
    session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda values, mask: session.run(None, {"input_values": values, _MASK: mask})


def versions() -> dict[str, Any]:
    """What describes the program: its operators, and the versions of what wrote and ran it."""
    return {"opset": OPSET, "onnxruntime": _library("onnxruntime").__version__, "torch": torch.__version__}


def _library(name: str) -> Any:
    return library(name, "ONNX", "onnx")
