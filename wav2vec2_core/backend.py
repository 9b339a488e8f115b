"""The interface of a back end, and the only file that knows their names.

The core reaches a framework through ``load_backend(name)``; what crosses the line in either direction is numpy.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from typing import Protocol, cast

import numpy as np

from wav2vec2_core.checkpoint import LoadPlan
from wav2vec2_core.config import DTYPES, Wav2Vec2Config
from wav2vec2_core.errors import BackendError, CheckpointError, InputError
from wav2vec2_core.parameters import HEADS
from wav2vec2_core.window_statistics import WindowStatistics

#: Back end name -> (module that implements ``Backend``, framework it imports, extra that installs it).
BACKENDS = {
    "torch": ("wav2vec2_torch.inference", "torch", "torch"),
    "tf": ("wav2vec2_tf.inference", "tensorflow", "tf"),
    "flax": ("wav2vec2_flax.inference", "jax", "flax"),
}


class InferenceModel(Protocol):
    """A model that is loaded and ready; made by ``Backend.load_model``."""

    @property
    def config(self) -> Wav2Vec2Config:
        """The configuration in effect."""
        ...

    def logits(self, waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
        """(samples,) float32 each, as the feature extractor gives them -> (frames, vocab) float32 each.

        The numbers of an utterance do not depend on the others. Raises ``InputError`` below the receptive field.
        """
        ...

    def encode(
        self, waveforms: Sequence[np.ndarray], statistics: Sequence[WindowStatistics] | None = None
    ) -> list[np.ndarray]:
        """The feature encoder: (samples,) float32 each -> (frames, conv_dim[-1]) float32 each, in tiles, of any length.

        ``statistics``: of the whole recording that each waveform is a stretch of. With them the frames of a stretch are
        those of the whole recording even where the first convolution has a group norm. Without them a waveform is a
        whole recording. Raises ``InputError`` below the receptive field.
        """
        ...

    def contextualize(self, features: Sequence[np.ndarray]) -> list[np.ndarray]:
        """What follows the feature encoder: (frames, conv_dim[-1]) each -> what ``logits`` gives; full attention."""
        ...

    def hidden_states(self, features: Sequence[np.ndarray], layers: Sequence[int]) -> list[np.ndarray]:
        """(frames, conv_dim[-1]) each -> (len(layers), frames, hidden) float32 each.

        Layer 0 is the transformer's input, layer n the output of its n-th layer, as in ``output_hidden_states``;
        negative numbers count from the last. Raises ``InputError`` for a layer that the model does not have.
        """
        ...

    def embed(self, features: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Speaker vectors of a ``ForXVector`` model: (frames, conv_dim[-1]) each -> (xvector_output_dim,) float32 each.

        They are compared by cosine; ``logits`` gives what its classifier makes of them. Raises ``InputError``.
        """
        ...

    def summary(self) -> str:
        """One line for ``--verbose``: library, device, type, and what a user may want to know of the work so far."""
        ...


class Backend(Protocol):
    """A module ``wav2vec2_<name>.inference``."""

    def devices(self) -> list[str]:
        """Devices usable here, the best one first; ``cpu`` is always among them."""
        ...

    def load_model(
        self,
        source: str | os.PathLike[str],
        *,
        head: str = "ForCTC",
        device: str = "auto",
        dtype: str = "float32",
        language: str | None = None,
        local_files_only: bool = False,
    ) -> InferenceModel:
        """Load a checkpoint for inference; ``language`` selects an MMS adapter.

        Raises:
            CheckpointError: no such model, or it has no trained head of this kind.
            BackendError: the device is not available.
        """
        ...


def check_head_and_dtype(head: str, dtype: str, *, int8: bool = False) -> None:
    """Check two arguments of ``load_model``; ``int8``: whether the back end has it. Raises ``InputError``."""
    if head not in HEADS:
        raise InputError(f"head {head!r} is unknown: use one of {', '.join(HEADS)}")
    known = (*DTYPES, "int8") if int8 else DTYPES
    if dtype == "int8" and not int8:
        raise InputError(f"dtype 'int8' works with the back end torch only: use that or one of {', '.join(known)}")
    if dtype not in known:
        raise InputError(f"dtype {dtype!r} is unknown: use one of {', '.join(known)}")


def check_trained(model: str, head: str, plan: LoadPlan | None) -> None:
    """Refuse inference with parameters that the checkpoint of ``model`` did not fill.

    The mask embedding may be among them: only training uses it.

    Raises:
        CheckpointError: there are such parameters.
    """
    new = [name for name in (plan.new if plan else ()) if not name.endswith("masked_spec_embed")]
    if new:
        raise CheckpointError(
            f"model {model!r} has no values for {new[0]} ({len(new)} such parameters): "
            f"its {head} part is not trained, fine-tune it or name a model that has it"
        )


def load_backend(name: str) -> Backend:
    """Import a back end.

    Raises:
        InputError: the name is unknown.
        BackendError: its framework is not installed or does not import; the message says how to install it.
    """
    if name not in BACKENDS:
        raise InputError(f"back end {name!r} is unknown: use one of {', '.join(BACKENDS)}")
    module, framework, extra = BACKENDS[name]
    try:
        return cast("Backend", importlib.import_module(module))
    except ModuleNotFoundError as error:
        raise BackendError(
            f"back end {name!r} needs {error.name or framework}, which is not installed: "
            f'pip install "wav2vec2-frameworks[{extra}]"'
        ) from error
    except (ImportError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise BackendError(
            f"back end {name!r} cannot import {framework} ({reason}): reinstall it with "
            f'pip install --force-reinstall "wav2vec2-frameworks[{extra}]"'
        ) from error
