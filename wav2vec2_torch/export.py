"""Models as ONNX programs for any batch size and length, written by ``torch.onnx`` and run by onnxruntime."""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import wav2vec2_torch
from wav2vec2_core.backend import ExportedProgram, check_head_and_dtype, check_trained
from wav2vec2_core.checkpoint import ModelSource
from wav2vec2_core.data import pad_batch
from wav2vec2_core.errors import BackendError, InputError
from wav2vec2_core.inputs import shortest_waveform
from wav2vec2_core.names import WHOLE_HEADS, scores_field
from wav2vec2_torch.pretrained import Wav2Vec2PreTrainedModel

PROGRAM = "model.onnx"
#: Set of operators: read by onnxruntime from 1.14 on.
OPSET = 18
#: Bytes of weights from which they lie in ``model.onnx.data``: one file of this format holds less than 2 GiB.
LARGEST_FILE = 1_900_000_000
_LIBRARIES = ("onnx", "onnxscript", "onnxruntime")
#: Below this a waveform is not amplified any more, as in the feature extractor.
_SMALLEST_VARIANCE = 1e-7


def check_format(to: str) -> None:
    """Check that ``to`` is ``onnx`` and that what writes and runs it is installed.

    Raises:
        InputError: another format.
        BackendError: a library is missing.
    """
    if to != "onnx":
        raise InputError(f"format {to!r:.100} is not written by PyTorch: use onnx")
    for name in _LIBRARIES:
        _library(name)


def write_program(
    source: ModelSource, folder: Path, to: str, *, head: str, do_normalize: bool, language: str | None = None
) -> ExportedProgram:
    """Write ``model.onnx`` in float32, and ``model.onnx.data`` beside it for weights that one file cannot hold.

    Inputs: ``input_values`` (batch, samples) float32 and ``attention_mask`` (batch, samples) int64, 1 for samples and
    0 for the padding after them. A row has the numbers that it has alone.

    Args:
        source: an open model.
        folder: exists.
        to: ``onnx``.
        head: one of ``wav2vec2_core.parameters.HEADS``.
        do_normalize: the program scales each row to zero mean and unit variance.
        language: of an MMS adapter.

    Raises:
        CheckpointError: the model is damaged, or its head is not trained.
        InputError: the head, format or language is unknown.
        BackendError: a library is missing.
        OutputError: by the caller, where the folder cannot be written.
    """
    check_format(to)
    check_head_and_dtype(head, "float32")
    model_class: type[Wav2Vec2PreTrainedModel] = getattr(wav2vec2_torch, f"Wav2Vec2{head}")
    model = model_class.from_source(source, dtype="float32", target_lang=language, masked_group_norm=True)
    check_trained(source.name, head, model.loading)
    program = _Program(model, do_normalize).eval()
    _write(program, folder / PROGRAM, 2 * shortest_waveform(model.config, head) + 7)
    return ExportedProgram(
        config=model.config,
        inputs={
            "input_values": "float32 (batch, samples): waveforms"
            + (", of any level" if do_normalize else ", as the feature extractor returns them"),
            "attention_mask": "int64 (batch, samples): 1 for samples, 0 for the padding after them",
        },
        outputs=_described(program),
        about={
            "opset": OPSET,
            "onnxruntime": _library("onnxruntime").__version__,
            "torch": torch.__version__,
            "too_short": f"onnxruntime refuses rows of fewer than {shortest_waveform(model.config, head)} samples with "
            "an error of its own: pad such a waveform with zeros and mark them as samples",
        },
        run=_Session(folder / PROGRAM, per_frame=program.per_frame),
        has_batches=True,
    )


class _Program(nn.Module):
    """What is exported: a model behind the normalisation, with the outputs of its head."""

    def __init__(self, model: Wav2Vec2PreTrainedModel, do_normalize: bool) -> None:
        super().__init__()
        self.model, self.do_normalize = model, do_normalize
        self.fields = (scores_field(model.head), *(("embeddings",) if model.head == "ForXVector" else ()))
        self.per_frame = model.head not in WHOLE_HEADS

    @property
    def outputs(self) -> tuple[str, ...]:
        return (*self.fields, "frames") if self.per_frame else self.fields

    def forward(self, input_values: Tensor, attention_mask: Tensor) -> tuple[Tensor, ...]:
        if self.do_normalize:
            input_values = _normalised(input_values, attention_mask)
        output: Any = self.model(input_values, attention_mask, return_dict=True)
        values = [output[name] for name in self.fields]
        if self.per_frame:
            values.append(self.model.config.num_frames(attention_mask.sum(1)))
        return tuple(values)


def _normalised(waveforms: Tensor, mask: Tensor) -> Tensor:
    """Zero mean and unit variance for each waveform's own samples, zeros after them."""
    valid = mask.to(waveforms.dtype)
    count = valid.sum(1, keepdim=True)
    centred = (waveforms - (waveforms * valid).sum(1, keepdim=True) / count) * valid
    variance = centred.square().sum(1, keepdim=True) / count
    return centred / torch.sqrt(variance + _SMALLEST_VARIANCE)


def _write(program: _Program, path: Path, samples: int) -> None:
    values = torch.randn(2, samples, generator=torch.Generator().manual_seed(0))
    mask = torch.ones(2, samples, dtype=torch.int64)
    mask[1, samples - 5 :] = 0
    size = {0: "batch", 1: "samples"}
    weights = sum(tensor.numel() * tensor.element_size() for tensor in program.state_dict().values())
    with _quiet(), torch.no_grad():
        made: Any = torch.onnx.export(
            program,
            (values, mask),
            input_names=["input_values", "attention_mask"],
            output_names=list(program.outputs),
            dynamic_shapes={"input_values": size, "attention_mask": size},
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
        made.save(str(path), external_data=weights > LARGEST_FILE)


class _Session:
    """A program run by onnxruntime on the CPU: waveforms (samples,) -> the scores of each, padding cut off."""

    def __init__(self, path: Path, *, per_frame: bool) -> None:
        runtime = _library("onnxruntime")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        self._session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._per_frame = per_frame

    def __call__(self, waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
        values, mask = pad_batch(waveforms, len(waveforms), max(map(len, waveforms)))
        scores, *rest = self._session.run(None, {"input_values": values, "attention_mask": mask.astype(np.int64)})
        if not self._per_frame:
            return list(scores)
        return [row[:count] for row, count in zip(scores, rest[-1], strict=True)]


def _described(program: _Program) -> dict[str, str]:
    config = program.model.config
    widths = {"last_hidden_state": "hidden", "projected_states": f"{config.proj_codevector_dim}"}
    described = {}
    for name in program.fields:
        shape = f"(batch, frames, {widths.get(name, 'scores')})" if program.per_frame else "(batch, scores)"
        described[name] = f"float32 {shape}"
    if program.per_frame:
        described["frames"] = "int64 (batch,): frames of each row; what follows them is padding"
    return described


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's progress on stdout and its notes on operators that nobody uses here."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise BackendError(
            f'ONNX needs {name}, which is not installed: pip install "wav2vec2-frameworks[torch,onnx]"'
        ) from error
