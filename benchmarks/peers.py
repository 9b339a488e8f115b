"""Other engines on the same weights and audio: each takes waveforms one by one and gives logits.

A peer is a function (folder of a CTC model, dtype) -> (waveform -> (frames, vocab) logits). Raises ``UnavailableError``
where it is not installed or does not have the type.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.transcription import EMBEDDED_MODEL

Run = Callable[[np.ndarray], np.ndarray]


class UnavailableError(Exception):
    """This peer cannot be measured here, and why."""


def transformers_model(folder: str, dtype: str) -> Any:
    """The model of transformers in a type: int8 as its users have it, dynamic for linear layers."""
    import transformers

    name = "float32" if dtype == "int8" else dtype
    model = transformers.Wav2Vec2ForCTC.from_pretrained(
        folder, dtype=getattr(torch, name), attn_implementation="sdpa"
    ).eval()
    if dtype == "int8":
        # transformers folds no weight norm, and quantisation copies the model: take the parametrisation away first.
        return torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8, inplace=True)
    return model


def transformers(folder: str, dtype: str) -> Run:
    """transformers with sdpa attention, as its users run it."""
    model = transformers_model(folder, dtype)
    kind = torch.float32 if dtype == "int8" else getattr(torch, dtype)

    @torch.inference_mode()
    def run(waveform: np.ndarray) -> np.ndarray:
        return model(torch.from_numpy(waveform)[None].to(kind)).logits[0].float().numpy()

    return run


def onnxruntime(folder: str, dtype: str) -> Run:
    """ONNX Runtime on an export of transformers' model; int8 by its dynamic quantisation."""
    try:
        import onnxruntime as ort
        from onnxruntime.quantization import quantize_dynamic
    except ImportError as error:
        raise UnavailableError(f"needs {error.name}: pip install onnxruntime onnx onnxscript") from error
    if dtype not in ("float32", "int8"):
        raise UnavailableError(f"its CPU provider does not compute in {dtype}")
    with tempfile.TemporaryDirectory() as work:
        path = str(Path(work) / "model.onnx")
        samples = torch.export.Dim("samples", min=400)
        torch.onnx.export(
            _LogitsOnly(transformers_model(folder, "float32")),
            (torch.randn(1, 32_000),),
            path,
            dynamo=True,
            dynamic_shapes=({1: samples},),
            verbose=False,
        )
        if dtype == "int8":
            quantize_dynamic(path, path := str(Path(work) / "int8.onnx"), op_types_to_quantize=["MatMul", "Gemm"])
        settings = ort.SessionOptions()
        settings.intra_op_num_threads = torch.get_num_threads()
        session = ort.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda waveform: np.asarray(session.run(None, {name: waveform[None]})[0])[0]


def openvino(folder: str, dtype: str) -> Run:
    """OpenVINO on a conversion of transformers' model; int8 by NNCF, calibrated on white noise as it is measured on."""
    try:
        import openvino as ov

        if dtype == "int8":
            import nncf
    except ImportError as error:
        raise UnavailableError(f"needs {error.name}: pip install openvino nncf") from error
    core = ov.Core()
    if dtype == "bfloat16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise UnavailableError("computes in bfloat16 only on processors that have it")
    model = ov.convert_model(
        _LogitsOnly(transformers_model(folder, "float32")), example_input=torch.randn(1, 32_000), input=[1, -1]
    )
    if dtype == "int8":
        noise = np.random.default_rng(1).standard_normal((4, 1, 48_000), np.float32)
        model = nncf.quantize(model, nncf.Dataset(list(noise)), model_type=nncf.ModelType.TRANSFORMER)
    kind = {"float32": "f32", "bfloat16": "bf16", "float16": "f16", "int8": "f32"}[dtype]
    settings = {"INFERENCE_PRECISION_HINT": kind, "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    compiled = core.compile_model(model, "CPU", settings)
    return lambda waveform: np.array(compiled(waveform[None])[0])[0]


def ctranslate2(folder: str, dtype: str) -> Run:
    """CTranslate2, which knows models with layer norm in the feature encoder and pre-norm layers."""
    try:
        import ctranslate2 as ct2
        from ctranslate2.converters import TransformersConverter
    except ImportError as error:
        raise UnavailableError(f"needs {error.name}: pip install ctranslate2") from error
    with tempfile.TemporaryDirectory() as work:
        target = str(Path(work) / "model")
        for name in ("tokenizer_config.json", "preprocessor_config.json"):  # its converter wants any
            shutil.copy(EMBEDDED_MODEL / name, folder)
        size = Wav2Vec2Config.from_pretrained(folder).vocab_size
        names = ["<pad>", "<s>", "</s>", "<unk>", "|", *(chr(0x4E00 + index) for index in range(size))][:size]
        Path(folder, "vocab.json").write_text(json.dumps({name: index for index, name in enumerate(names)}))
        try:
            TransformersConverter(folder).convert(target)
            model: Any = ct2.models.Wav2Vec2(
                target, device="cpu", compute_type=dtype, intra_threads=torch.get_num_threads(), inter_threads=1
            )
        except Exception as error:
            raise UnavailableError(f"does not take this model: {str(error).splitlines()[0]}") from error

    def run(waveform: np.ndarray) -> np.ndarray:
        encoded = model.encode(ct2.StorageView.from_array(waveform[None, None]), to_cpu=True)
        return np.array(encoded)[0]

    return run


PEERS: dict[str, Callable[[str, str], Run]] = {
    "transformers": transformers,
    "onnxruntime": onnxruntime,
    "openvino": openvino,
    "ctranslate2": ctranslate2,
}


class _LogitsOnly(torch.nn.Module):
    """What exporters want: one tensor in, one out."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return self.model(values).logits
