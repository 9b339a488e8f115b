"""What a conversion did, and the proof that the numbers are the same: arrays read back, and both models run."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from wav2vec2_core.backend import backend_names, is_installed, load_backend
from wav2vec2_core.checkpoint import Checkpoint
from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.errors import BackendError, OutputError
from wav2vec2_core.parameters import BODY_PREFIX
from wav2vec2_core.weight_files.arrays import ArrayLike

#: The receipt lies beside the result under this name, and marks the folder as one that a conversion may replace.
RECEIPT = "conversion.json"
_SECONDS = 1  # of the test signal, and never less than a few frames
_FRAMES = 8


@dataclass(kw_only=True)
class Receipt:
    """The result of a conversion.

    Attributes:
        source, source_format, target, target_format: from where to where.
        head: class without framework prefix.
        parameters: number of values written.
        source_bytes, target_bytes: size of the weight files.
        dtypes: types of the written arrays.
        files: names of what was written; ``carried``: those that were copied as they are.
        renamed: our name -> the source's, of parameters that another program calls otherwise.
        dropped: content of the source that is not in the result.
        guessed: fields of the configuration that the source does not state.
        notes: what else a user should know.
        arrays_equal: number of arrays that were read back bit for bit; None without verification.
        largest_difference: between the two models' outputs for a test signal; None where no back end could compare.
        output_scale: the largest output of the source's model.
        compared: what was compared and by which back end, or why nothing was.
    """

    source: str
    source_format: str
    target: str
    target_format: str
    head: str
    parameters: int = 0
    source_bytes: int = 0
    target_bytes: int = 0
    dtypes: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    carried: list[str] = field(default_factory=list)
    renamed: dict[str, str] = field(default_factory=dict)
    dropped: list[str] = field(default_factory=list)
    guessed: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    arrays_equal: int | None = None
    largest_difference: float | None = None
    output_scale: float | None = None
    compared: str = "not verified"

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return dataclasses.asdict(self)


def compare_arrays(expected: Mapping[str, ArrayLike], found: Checkpoint) -> int:
    """Read every array back and compare it with what was to be written, bit for bit; return their number.

    Raises:
        OutputError: one differs or is missing. The result must not be used.
    """
    for name, array in expected.items():
        stored = name if name in found.shapes else BODY_PREFIX + name  # tf_model.h5 gives the bare body one, too
        if stored not in found.shapes:
            raise OutputError(f"{found.files[0]} lacks {name!r:.100} after writing: nothing is kept, check the disk")
        back, values = found.read(stored), np.asarray(array)
        same = back.dtype == values.dtype and back.shape == values.shape
        if not same or back.tobytes() != np.ascontiguousarray(values).tobytes():
            raise OutputError(f"{found.files[0]} holds {name!r} changed after writing: nothing is kept, check the disk")
    return len(expected)


def compare_outputs(
    receipt: Receipt,
    source: str | os.PathLike[str],
    target: Path,
    config: Wav2Vec2Config,
    rows: Sequence[int | None] | None,
) -> None:
    """Run both models on a test signal, one after the other, and note the largest difference in ``receipt``.

    ``rows``: of a CTC head whose tokens changed places, the old row of each new one.
    """
    name = next(filter(is_installed, backend_names()), None)
    if name is None:
        receipt.compared = "no back end is installed, outputs were not compared"
        return
    signal = _signal(config)

    def run(model: str | os.PathLike[str]) -> np.ndarray:
        return load_backend(name).inference.load_model(model, head=receipt.head, device="cpu").logits([signal])[0]

    try:
        before, after = run(source), run(target)
    except BackendError as error:
        receipt.compared = f"outputs were not compared: {str(error).splitlines()[0]}"
        return
    if rows is not None:
        kept = [row for row, old in enumerate(rows) if old is not None]
        after = after[:, kept]
        before = before[:, [old for old in rows if old is not None]]
    receipt.largest_difference = float(np.abs(after - before).max())
    receipt.output_scale = float(np.abs(before).max())
    what = {"Model": "hidden states", "ForPreTraining": "projected states"}.get(receipt.head, "logits")
    receipt.compared = f"{what} of {len(signal)} samples by {name}"


def _signal(config: Wav2Vec2Config) -> np.ndarray:
    """Noise with a falling tone, mean 0 and variance 1, long enough for any stride."""
    samples = max(16_000 * _SECONDS, config.receptive_field + _FRAMES * config.inputs_to_logits_ratio)
    noise = np.random.default_rng(0).standard_normal(samples)
    signal = noise + np.sin(np.linspace(0, 300, samples) ** 1.2)
    return ((signal - signal.mean()) / signal.std()).astype(np.float32)
