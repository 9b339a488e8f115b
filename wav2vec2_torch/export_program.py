"""What the exports of this back end share: the program that is traced, and how its rows are run."""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from wav2vec2_core.data import pad_batch
from wav2vec2_core.errors import BackendError
from wav2vec2_core.inputs import shortest_waveform
from wav2vec2_core.names import WHOLE_HEADS, scores_field
from wav2vec2_torch.pretrained import Wav2Vec2PreTrainedModel

#: ``input_values`` (batch, samples) float32 and ``attention_mask`` (batch, samples) int64 -> the program's outputs.
Call = Callable[[np.ndarray, np.ndarray], Sequence[np.ndarray]]
#: Below this a waveform is not amplified any more, as in the feature extractor.
_SMALLEST_VARIANCE = 1e-7


class Program(nn.Module):
    """What is exported: a model behind the normalisation, with the outputs of its head in float32.

    inputs, outputs: names, in the order of the call; fields: of the model's output; per_frame: whether the head scores
    frames.
    """

    inputs = ("input_values", "attention_mask")

    def __init__(self, model: Wav2Vec2PreTrainedModel, do_normalize: bool) -> None:
        super().__init__()
        self.model, self.do_normalize = model, do_normalize
        self.fields = (scores_field(model.head), *(("embeddings",) if model.head == "ForXVector" else ()))
        self.per_frame = model.head not in WHOLE_HEADS

    @property
    def outputs(self) -> tuple[str, ...]:
        """The head's fields, and for heads over frames how many of each row count."""
        return (*self.fields, "frames") if self.per_frame else self.fields

    @property
    def bytes_of_weights(self) -> int:
        """Of all parameters, in the model's type."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.state_dict().values())

    def forward(self, input_values: Tensor, attention_mask: Tensor) -> tuple[Tensor, ...]:
        """(batch, samples) waveforms and mask -> ``outputs``."""
        if self.do_normalize:
            input_values = _normalised(input_values, attention_mask)
        output: Any = self.model(input_values, attention_mask, return_dict=True)
        values = [output[name].float() for name in self.fields]
        if self.per_frame:
            values.append(self.model.config.num_frames(attention_mask.sum(1)))
        return tuple(values)

    def example(self) -> tuple[Tensor, Tensor]:
        """Arguments of a call that a trace starts from: two rows, one of them padded."""
        samples = 2 * shortest_waveform(self.model.config, self.model.head) + 7
        values = torch.randn(2, samples, generator=torch.Generator().manual_seed(0))
        mask = torch.ones(2, samples, dtype=torch.int64)
        mask[1, samples - 5 :] = 0
        return values, mask


def _normalised(waveforms: Tensor, mask: Tensor) -> Tensor:
    """Zero mean and unit variance for each waveform's own samples, zeros after them."""
    valid = mask.to(waveforms.dtype)
    count = valid.sum(1, keepdim=True)
    centred = (waveforms - (waveforms * valid).sum(1, keepdim=True) / count) * valid
    variance = centred.square().sum(1, keepdim=True) / count
    return centred / torch.sqrt(variance + _SMALLEST_VARIANCE)


class Runner:
    """Waveforms (samples,) in one batch through a program -> the scores of each, padding cut off."""

    def __init__(self, call: Call, *, per_frame: bool) -> None:
        self._call, self._per_frame = call, per_frame

    def __call__(self, waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
        values, mask = pad_batch(waveforms, len(waveforms), max(map(len, waveforms)))
        scores, *rest = self._call(values, mask.astype(np.int64))
        if not self._per_frame:
            return list(scores)
        return [row[:count] for row, count in zip(scores, rest[-1], strict=True)]


def described_inputs(do_normalize: bool) -> dict[str, str]:
    """Name -> type, shape and meaning."""
    level = "of any level" if do_normalize else "as the feature extractor returns them"
    return {
        "input_values": f"float32 (batch, samples): waveforms, {level}",
        "attention_mask": "int64 (batch, samples): 1 for samples, 0 for the padding after them",
    }


def described_outputs(program: Program) -> dict[str, str]:
    """Name -> type, shape and meaning."""
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
def quiet() -> Iterator[None]:
    """Without the exporters' progress on stdout and their notes on what nobody uses here."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


def library(name: str, format_name: str, extra: str) -> Any:
    """An optional library. Raises ``BackendError`` with the extra that brings it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise BackendError(
            f'{format_name} needs {name}, which is not installed: pip install "wav2vec2-frameworks[torch,{extra}]"'
        ) from error
