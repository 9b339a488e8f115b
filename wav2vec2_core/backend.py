"""The interface of a back end, and how the core finds one.

A back end is a package that registers itself as an entry point of the group ``wav2vec2.backends``; it may live in
another distribution. The core reaches a framework only through ``load_backend(name)``; arguments and results are numpy
arrays.
"""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np

from wav2vec2_core.checkpoint import LoadPlan
from wav2vec2_core.config import DTYPES, Wav2Vec2Config
from wav2vec2_core.errors import BackendError, CheckpointError, InputError
from wav2vec2_core.parameters import HEADS
from wav2vec2_core.source import ModelSource
from wav2vec2_core.window_statistics import WindowStatistics

#: Back ends say here, at level INFO, what they compile before they compute: in a moment in which nothing else happens.
COMPILING = logging.getLogger("wav2vec2.compiling")


class InferenceModel(Protocol):
    """A loaded model, ready for inference; returned by ``InferencePart.load_model``."""

    @property
    def config(self) -> Wav2Vec2Config:
        """The configuration in effect."""
        ...

    def logits(self, waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Logits, (frames, vocab) float32 each, of waveforms (samples,) float32 as the feature extractor returns them.

        The result for an utterance does not depend on the others. Raises ``InputError`` below the receptive field.
        """
        ...

    def encode(
        self, waveforms: Sequence[np.ndarray], statistics: Sequence[WindowStatistics] | None = None
    ) -> list[np.ndarray]:
        """Run the feature encoder, in tiles: waveforms (samples,) float32 of any length -> (frames, conv_dim[-1])
        float32 each.

        ``statistics``: one per waveform, of the whole recording that the waveform is a stretch of. With them the frames
        of a stretch equal those of the whole recording, even if the first convolution has a group norm. Without them
        each waveform is treated as a whole recording. Raises ``InputError`` below the receptive field.
        """
        ...

    def contextualize(self, features: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Run the rest of the model, with full attention: frames (frames, conv_dim[-1]) each -> the output of
        ``logits``.
        """
        ...

    def hidden_states(self, features: Sequence[np.ndarray], layers: Sequence[int]) -> list[np.ndarray]:
        """(frames, conv_dim[-1]) each -> (len(layers), frames, hidden) float32 each.

        Layer 0 is the transformer's input, layer n the output of its n-th layer, as in ``output_hidden_states``;
        negative numbers count from the last. Raises ``InputError`` for a layer that the model does not have.
        """
        ...

    def embed(self, features: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Speaker vectors of a ``ForXVector`` model: frames (frames, conv_dim[-1]) each -> (xvector_output_dim,)
        float32 each.

        Compare them by cosine similarity. ``logits`` returns the class scores instead. Raises ``InputError``.
        """
        ...

    def pool(self, features: Sequence[np.ndarray]) -> list[np.ndarray]:
        """What a ``ForSequenceClassification`` model takes the mean of, over all frames: (frames, conv_dim[-1]) each ->
        (size,) float32 each.

        The mean of such vectors, weighed by their frames, is the vector of all frames. Raises ``InputError``.
        """
        ...

    def classify(self, pooled: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Scores of the labels for vectors of ``pool``: (size,) each -> (labels,) float32 each.

        Raises ``InputError``.
        """
        ...

    def use_language(self, language: str) -> None:
        """Switch an MMS model to the adapter of another language; the rest of the model stays in memory.

        ``logits`` then have the width of that language's vocabulary. No other call may run meanwhile. Raises
        ``InputError`` for a language that the model does not have, and ``CheckpointError``.
        """
        ...

    def summary(self) -> str:
        """One line for ``--verbose``: library, device, precision, and details of the work so far."""
        ...


class InferencePart(Protocol):
    """The module ``inference`` of a back end."""

    def devices(self) -> list[str]:
        """Devices usable here, the best one first; ``cpu`` is always among them."""
        ...

    def chosen_kernels(self) -> list[str]:
        """The ways to compute that were chosen for this processor, a line per type of number; empty if none."""
        ...

    def load_model(
        self,
        source: str | os.PathLike[str] | ModelSource,
        *,
        head: str = "ForCTC",
        device: str = "auto",
        dtype: str = "float32",
        language: str | None = None,
        local_files_only: bool = False,
    ) -> InferenceModel:
        """Load a checkpoint for inference.

        Args:
            source: folder, hub id, or a model that is already open.
            head: one of ``HEADS``.
            device: one of ``devices()``, or ``"auto"``.
            dtype: of the parameters.
            language: selects an MMS adapter.
            local_files_only: do not ask the hub.

        Raises:
            CheckpointError: no such model, or it has no trained head of this kind.
            BackendError: the device is not available.
        """
        ...

    def wrap_model(self, model: Any, *, device: str | None = None) -> InferenceModel:
        """A model of this back end that a program has loaded or trained, for inference.

        Args:
            model: in eval mode from now on; its parameters must not change while the result is used.
            device: where to compute; where the model is, if ``None``.

        Raises:
            BackendError: the device is not available.
        """
        ...


@dataclass(frozen=True)
class ExportedProgram:
    """A program that another runtime runs, written by ``ExportPart.write_program``.

    Attributes:
        config: of the exported model.
        inputs, outputs: name -> type, shape and meaning.
        about: what else describes the program, JSON-ready.
        run: waveforms (samples,) each through the program's own runtime, in one batch -> what ``InferenceModel.logits``
            returns for them.
        has_batches: whether ``run`` takes several waveforms.
    """

    config: Wav2Vec2Config
    inputs: dict[str, str]
    outputs: dict[str, str]
    about: dict[str, Any]
    run: Callable[[Sequence[np.ndarray]], list[np.ndarray]]
    has_batches: bool


class ExportPart(Protocol):
    """What ``exporting`` needs of the module ``export`` of a back end."""

    def check_format(self, to: str) -> None:
        """Raise ``InputError`` for a format that the back end does not write, ``BackendError`` where what writes or
        runs it is not installed.
        """
        ...

    def write_program(
        self,
        source: ModelSource,
        folder: Path,
        to: str,
        *,
        head: str,
        do_normalize: bool,
        language: str | None = None,
        precision: str = "float32",
    ) -> ExportedProgram:
        """Write a model into a folder that exists, and load it with its own runtime.

        Args:
            source: an open model.
            folder: where to.
            to: the format.
            head: one of ``HEADS``.
            do_normalize: the program scales waveforms as the feature extractor does.
            language: selects an MMS adapter.
            precision: one that ``exporting.PRECISIONS`` lists for the format.

        Raises:
            CheckpointError, InputError, BackendError: the model or the format cannot be used.
        """
        ...


@dataclass(frozen=True)
class Backend:
    """A registered back end whose framework is imported. Each part is a module, imported on first use.

    name: as the user writes it; package: the Python package of its parts; install: the argument for ``pip install``.
    """

    name: str
    package: str
    install: str

    @cached_property
    def inference(self) -> InferencePart:
        """Waveforms to numpy logits: module ``inference``. Raises ``BackendError``."""
        return cast("InferencePart", self._part("inference"))

    @cached_property
    def training(self) -> Any:
        """Losses, steps and optimizers: module ``train``. Raises ``BackendError``."""
        return self._part("train")

    @cached_property
    def distributed(self) -> Any:
        """Several processes: module ``distributed``. Raises ``BackendError``."""
        return self._part("distributed")

    @cached_property
    def finetuning(self) -> Any:
        """Trainers from the files of a model: module ``finetuning``. Raises ``BackendError``."""
        return self._part("finetuning")

    @cached_property
    def export(self) -> Any:
        """Files for other runtimes: module ``export``. Raises ``BackendError``, also where the back end has none."""
        return self._part("export")

    @cached_property
    def tpu_check(self) -> Any:
        """Training steps compiled for absent TPUs: module ``tpu_check``. Raises ``BackendError``, as ``export``."""
        return self._part("tpu_check")

    def devices(self) -> list[str]:
        """``devices`` of the inference part."""
        return self.inference.devices()

    def load_model(self, source: str | os.PathLike[str] | ModelSource, **options: Any) -> InferenceModel:
        """``load_model`` of the inference part."""
        return self.inference.load_model(source, **options)

    def _part(self, name: str) -> Any:
        module = f"{self.package}.{name}"
        try:
            return importlib.import_module(module)
        except ImportError as error:
            if isinstance(error, ModuleNotFoundError) and error.name == module:
                raise BackendError(f"back end {self.name!r} has no part {name!r:.100}: use another back end") from error
            raise _not_imported(self.name, self.install, error) from error


def check_head_and_dtype(head: str, dtype: str, *, int8: bool = False) -> None:
    """Check two arguments of ``load_model``; ``int8``: whether the back end has it. Raises ``InputError``."""
    if head not in HEADS:
        raise InputError(f"head {head!r:.100} is unknown: use one of {', '.join(HEADS)}")
    known = (*DTYPES, "int8") if int8 else DTYPES
    if dtype == "int8" and not int8:
        raise InputError(f"dtype 'int8' works with the back end torch only: use that or one of {', '.join(known)}")
    if dtype not in known:
        raise InputError(f"dtype {dtype!r:.100} is unknown: use one of {', '.join(known)}")


def check_trained(model: str, head: str, plan: LoadPlan | None) -> None:
    """Refuse inference with parameters that the checkpoint of ``model`` does not contain.

    The mask embedding is exempt: only training uses it.

    Raises:
        CheckpointError: some parameters are missing.
    """
    new = [name for name in (plan.new if plan else ()) if not name.endswith("masked_spec_embed")]
    if new:
        raise CheckpointError(
            f"model {model!r:.100} has no values for {new[0]} ({len(new)} such parameters): "
            f"its {head} part is not trained, fine-tune it or name a model that has it"
        )


def backend_names() -> list[str]:
    """Names of the registered back ends, ours first; nothing is imported."""
    return list(_registered())


def load_backend(name: str) -> Backend:
    """Import a back end's package, and with it its framework.

    Raises:
        InputError: the name is unknown.
        BackendError: the framework is not installed or does not import; the message says how to install it.
    """
    registered = _registered()
    if name not in registered:
        known = ", ".join(registered)
        remedy = f"use one of {known}" if known else 'none is registered: pip install "wav2vec2-frameworks"'
        raise InputError(f"back end {name!r:.100} is unknown: {remedy}")
    point = registered[name]
    install = _installed_by(point)
    try:
        importlib.import_module(point.value)
    except (ImportError, OSError) as error:
        raise _not_imported(name, install, error) from error
    return Backend(name, point.value, install)


def backend_of(model: object) -> Backend | None:
    """The back end whose class a model is, or is derived from; ``None`` where it is of none."""
    packages = {point.value: name for name, point in _registered().items()}
    bases = (base.__module__.partition(".")[0] for base in type(model).__mro__)
    name = next((packages[package] for package in bases if package in packages), None)
    return None if name is None else load_backend(name)


def is_installed(name: str) -> bool:
    """Whether a back end imports here. Raises ``InputError`` for an unknown name."""
    try:
        load_backend(name)
    except BackendError:
        return False
    return True


#: The group of entry points that back ends register under.
_GROUP = "wav2vec2.backends"
#: Our own distribution, whose extras are named as its back ends; these are listed and tried first, in this order.
_OURS, _OUR_ORDER = "wav2vec2-frameworks", ("torch", "tf", "flax")


def _registered() -> dict[str, EntryPoint]:
    """Entry points by name. Raises ``BackendError`` where two packages claim one name."""
    found: dict[str, EntryPoint] = {}
    for point in sorted(entry_points(group=_GROUP), key=_rank):
        other = found.setdefault(point.name, point)
        if other.value != point.value:
            raise BackendError(
                f"two packages register a back end {point.name!r}, {_distribution(other)} and {_distribution(point)}: "
                "uninstall one of them"
            )
    return found


def _rank(point: EntryPoint) -> tuple[int, str]:
    ours = _distribution(point) == _OURS and point.name in _OUR_ORDER
    return (_OUR_ORDER.index(point.name) if ours else len(_OUR_ORDER), point.name)


def _distribution(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else point.value


def _installed_by(point: EntryPoint) -> str:
    distribution = _distribution(point)
    return f"{distribution}[{point.name}]" if distribution == _OURS else distribution


def _not_imported(name: str, install: str, error: Exception) -> BackendError:
    if isinstance(error, ModuleNotFoundError):
        return BackendError(f'back end {name!r} needs {error.name}, which is not installed: pip install "{install}"')
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return BackendError(
        f'back end {name!r} cannot be imported ({reason}): reinstall it with pip install --force-reinstall "{install}"'
    )
