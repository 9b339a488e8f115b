"""Hidden states of recordings of any length, written to files in bounded memory."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import numpy as np

from wav2vec2_core.audio import Recording
from wav2vec2_core.backend import InferenceModel
from wav2vec2_core.decoding import Timeline
from wav2vec2_core.errors import InputError
from wav2vec2_core.feature_extraction import Wav2Vec2FeatureExtractor
from wav2vec2_core.files import atomic_path
from wav2vec2_core.long_form.signal_statistics import SignalStatistics
from wav2vec2_core.long_form.windows import Window
from wav2vec2_core.pipeline import Audio, LoadedModel, Progress, exact_window
from wav2vec2_core.source import open_model
from wav2vec2_core.temporaries import temporary_folder

#: Ends of the names of files that ``write_embeddings`` writes.
EMBEDDING_FORMATS = ("npz", "safetensors")


class Embedder:
    """Computes hidden states of recordings of any length, with a model of any head."""

    def __init__(
        self,
        model: str | os.PathLike[str],
        *,
        layers: Sequence[int] = (-1,),
        backend: str = "torch",
        device: str = "auto",
        dtype: str = "float32",
        local_files_only: bool = False,
        window: Window | None = None,
    ) -> None:
        """Load a model.

        Args:
            model: folder or hub id.
            layers: 0 is the transformer's input, n the output of its n-th layer; negative numbers count from the last.
            backend, device, dtype, local_files_only: as ``Transcriber`` takes them.
            window: how long recordings are cut for the transformer.

        Raises:
            CheckpointError, BackendError: the model or the back end cannot be used.
            InputError: the model has no such layer, or the window is of the legacy kind.
        """
        window = exact_window(window)
        source = open_model(model, local_files_only=local_files_only)
        self._take(LoadedModel.load(source, head="Model", backend=backend, device=device, dtype=dtype), layers, window)

    @classmethod
    def of(cls, loaded: LoadedModel, layers: Sequence[int] = (-1,)) -> Self:
        """An embedder over a model that is loaded already, with any head. Raises ``InputError`` for the layers."""
        made = cls.__new__(cls)
        made._take(loaded, layers, Window())
        return made

    def _take(self, loaded: LoadedModel, layers: Sequence[int], window: Window) -> None:
        self.window, self._loaded = window, loaded
        self.extractor: Wav2Vec2FeatureExtractor = self._loaded.extractor
        self.model: InferenceModel = self._loaded.model
        config = self.model.config
        count = config.num_hidden_layers + 1
        for layer in layers:
            if not -count <= layer < count:
                raise InputError(f"layer {layer} does not exist: use 0 to {count - 1}, or -1 to {-count} from the last")
        if not layers:
            raise InputError("no layer is named: name one or more")
        #: Layers counted from the first, each once, in ascending order.
        self.layers = tuple(sorted({layer % count for layer in layers}))
        #: Samples from one frame to the next.
        self.hop = config.inputs_to_logits_ratio

    def frames(self, level: SignalStatistics) -> int:
        """Number of frames of a recording with these statistics."""
        return self.model.config.num_frames(level.count, add_adapter=False)

    def open(self, audio: Audio) -> Recording:
        """Open a recording at the model's rate. Raises ``AudioError``, and ``InputError`` for anything else."""
        return self._loaded.open(audio)

    def level(self, recording: Audio) -> SignalStatistics:
        """Compute the statistics of a recording, its first reading. Raises ``AudioError``."""
        return self._loaded.statistics(self.open(recording))

    def blocks(
        self, recording: Audio, level: SignalStatistics | None = None, progress: Progress | None = None
    ) -> Iterator[np.ndarray]:
        """Hidden states in consecutive pieces: (len(layers), frames, hidden) float32 each.

        Args:
            recording: its path, a ``Recording``, or (samples, rate).
            level: its statistics, if already computed.
            progress: called with the seconds processed since the last call.

        Raises:
            AudioError: the recording cannot be read, or is shorter than one frame.
        """
        opened = self.open(recording)
        level = level or self._loaded.statistics(opened)
        for part in self._loaded.windows(opened, self.window, level, progress):
            states = self.model.hidden_states([part.features], self.layers)[0]
            yield states[:, part.first : part.last]

    def embed(self, recording: Audio) -> np.ndarray:
        """(len(layers), frames, hidden) float32 of a whole recording, in memory. Raises ``AudioError``."""
        return np.concatenate(list(self.blocks(recording)), axis=1)

    def write(
        self,
        recording: Audio,
        target: str | os.PathLike[str],
        progress: Progress | None = None,
    ) -> None:
        """Embed a recording into a ``.npz`` or ``.safetensors`` file: ``layer_<n>`` (frames, hidden) for each layer.

        ``hop`` (samples) and ``sampling_rate`` (hertz) are arrays of the former and metadata of the latter.

        Raises:
            AudioError: the recording cannot be used.
            InputError: the target has another suffix.
            OutputError: the file cannot be written.
        """
        opened = self.open(recording)
        level = self._loaded.statistics(opened)
        write_embeddings(
            target,
            [f"layer_{layer}" for layer in self.layers],
            (self.frames(level), self.model.config.hidden_size),
            self.blocks(opened, level, progress),
            {"hop": self.hop, "sampling_rate": self.extractor.sampling_rate},
        )


def measured(recording: Audio, model: InferenceModel, extractor: Wav2Vec2FeatureExtractor) -> SignalStatistics:
    """The statistics of a recording of at least one frame. Raises ``AudioError``."""
    loaded = LoadedModel(model, extractor, Timeline.of(model.config, extractor.sampling_rate))
    return loaded.statistics(loaded.open(recording))


def write_embeddings(
    target: str | os.PathLike[str],
    names: Sequence[str],
    shape: tuple[int, int],
    blocks: Iterable[np.ndarray],
    facts: dict[str, int],
) -> None:
    """Write arrays that arrive in pieces; they are buffered in files beside the target, not in memory.

    Args:
        target: ends in ``.npz`` or ``.safetensors``; appears complete or not at all.
        names: of the arrays.
        shape: of each, (frames, width).
        blocks: (len(names), some frames, width) float32 each.
        facts: numbers to keep beside the arrays.

    Raises:
        InputError: the target has another suffix.
        OutputError: it cannot be written.
    """
    target = Path(target)
    kind = target.suffix.removeprefix(".")
    if kind not in EMBEDDING_FORMATS:
        raise InputError(f"{target.name} ends in neither .npz nor .safetensors: choose one of them")
    with atomic_path(target) as temporary, temporary_folder(target.with_name("layers")) as folder:
        parts = [folder / f"{name}.npy" for name in names]
        with ExitStack() as stack:
            files = [stack.enter_context(part.open("wb")) for part in parts]
            for file in files:
                header = {"descr": "<f4", "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(file, header)
            starts = [file.tell() for file in files]
            for block in blocks:
                for file, rows in zip(files, block, strict=True):
                    file.write(np.ascontiguousarray(rows, "<f4").tobytes())
        if kind == "npz":
            _write_npz(temporary, parts, facts)
        else:
            _write_safetensors(temporary, dict(zip(names, zip(parts, starts, strict=True), strict=True)), shape, facts)


def _write_npz(target: Path, parts: Sequence[Path], facts: dict[str, int]) -> None:
    with zipfile.ZipFile(target, "w", allowZip64=True) as archive:
        for part in parts:
            archive.write(part, part.name)
        for name, value in facts.items():
            with archive.open(f"{name}.npy", "w") as file:
                np.lib.format.write_array(file, np.asarray(value))


def _write_safetensors(
    target: Path, parts: dict[str, tuple[Path, int]], shape: tuple[int, int], facts: dict[str, int]
) -> None:
    """The format's own layout: length of the header, header, and the arrays one after the other.

    parts: name -> file and where in it the numbers begin.
    """
    size = 4 * shape[0] * shape[1]
    entries: dict[str, Any] = {
        name: {"dtype": "F32", "shape": list(shape), "data_offsets": [index * size, (index + 1) * size]}
        for index, name in enumerate(parts)
    }
    header = json.dumps({"__metadata__": {name: str(value) for name, value in facts.items()}, **entries}).encode()
    header += b" " * (-len(header) % 8)  # numbers begin at a multiple of 8
    with target.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        for part, start in parts.values():
            with part.open("rb") as numbers:
                numbers.seek(start)
                shutil.copyfileobj(numbers, file)
