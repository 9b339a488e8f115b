"""The contract between a training loop and a back end's ``Trainer``: what a step is given, and what is checked of it.

A batch is the whole truth of a step: masks, distractors and layer drop are drawn before it (``wav2vec2_core.masking``).
What is left, dropout and Gumbel noise, the device draws from (seed, step, micro-batch). So a step is a function of its
number, and a run that is resumed needs no state of generators. Gumbel noise is also one of the row, and so the same
whatever the number of processes and devices; which activations dropout drops depends on that number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.data.collate import filled_batch as filled_batch
from wav2vec2_core.devices import Devices
from wav2vec2_core.errors import InputError, listed
from wav2vec2_core.inputs import (
    DISTRACTORS,
    check_draws,
    check_largest,
    check_letters,
    check_pretraining,
    check_shape,
    check_shortest,
    check_waveforms,
)
from wav2vec2_core.masking import count_negatives

#: Name of an argument -> array.
#:
#: ``input_values`` (rows, samples); ``attention_mask`` (rows, samples), 1 for samples and 0 for padding; ``labels``
#: (rows, letters) for CTC, negative for padding (a row without letters adds nothing), (rows,) classes or speakers, -100
#: for none, or (rows, frames, labels) one-hot, negative for none; ``mask_time_indices`` (rows, frames) bool;
#: ``mask_feature_indices`` (rows, hidden) bool; ``layer_keep`` (layers,) bool; ``sampled_negative_indices``
#: (rows, frames, negatives), or the same as ``sampled_negative_counts`` (rows, frames, frames); ``gumbel_noise``
#: (rows, frames, groups, entries), drawn on the device where left out.
Batch = Mapping[str, np.ndarray]

_FLOATS = ("input_values", "gumbel_noise")
_BOOLS = ("mask_time_indices", "mask_feature_indices", "layer_keep")
_INTEGERS = ("attention_mask", "labels", *DISTRACTORS)


@dataclass(frozen=True)
class StepValues:
    """Numbers of one optimizer update.

    learning_rate: of this step.
    targets: what the sum of losses is divided by: the count of all micro-batches and processes together. Utterances for
        CTC with ``ctc_loss_reduction="mean"``, letters for other reductions; labels that count for classification;
        masked frames for pretraining.
    clip: largest norm of the gradient of all trained parameters together; None for any.
    gumbel_temperature: of the straight-through choice in pretraining; as it was where None.
    """

    learning_rate: float
    targets: float
    clip: float | None = None
    gumbel_temperature: float | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.learning_rate) and self.learning_rate >= 0):
            raise InputError(f"learning_rate is {self.learning_rate}, it must be a number of at least 0")
        if not (math.isfinite(self.targets) and self.targets > 0):
            raise InputError(
                f"targets is {self.targets}, it must be a number above 0: leave out a step with nothing to learn from"
            )
        if self.clip is not None and not self.clip > 0:
            raise InputError(f"clip is {self.clip}, it must be above 0, or None for gradients of any size")


class Trainer(Protocol):
    """A model, its optimizer and the place where they are: ``wav2vec2_<name>.train.Trainer(model, optimizer)``.

    A launcher may have started several processes; ``join_processes()`` of a back end's ``distributed`` connects them.
    Each has a trainer, and each calls the same methods in the same order, with arrays of the same shapes
    (``filled_batch``): parameters may lie in parts in all of them, so that any method may wait for the others. What a
    method returns is equal in all of them unless it says otherwise.
    """

    @property
    def config(self) -> Wav2Vec2Config:
        """The model's configuration."""
        ...

    @property
    def process(self) -> tuple[int, int]:
        """Index and number of processes: which rows of a step this one is given."""
        ...

    @property
    def devices(self) -> Devices:
        """What computes, of all processes together."""
        ...

    def set_trainable(self, names: frozenset[str]) -> None:
        """Train these parameters from the next step on; ``wav2vec2_core.parameters.trainable_names`` computes them."""
        ...

    def step(self, micro: Sequence[Batch], number: int, values: StepValues) -> Any:
        """One optimizer update from the gradients of all micro-batches, without waiting for the device.

        With several processes ``micro`` holds this one's rows; the gradient is that of the rows of all processes, and
        so are its norm, clipping and refusal. A step whose gradient is not finite changes nothing: ``fetch`` says so.

        Raises:
            InputError: a batch breaks a rule.
            BackendError: another process has ended.
        """
        ...

    def fetch(self, handle: Any) -> dict[str, float]:
        """The results of a step; waits for it.

        ``loss`` and the other terms of the head: sums of the batches of all processes, divided by ``targets``;
        ``count``: what there was of targets in them; ``gradient_norm``: before clipping; ``refused``: 1 where nothing
        changed.
        """
        ...

    def evaluate(self, batch: Batch) -> dict[str, tuple[float, float]]:
        """Sum and count of every term of the loss, without dropout; of this process's batch."""
        ...

    def logits(self, batch: Batch, name: str = "logits") -> list[np.ndarray]:
        """The head's scores for each row of this process's batch, or the output of that name, such as ``embeddings``;
        without padding, float32.
        """
        ...

    def add_up(self, numbers: Sequence[float]) -> list[float]:
        """The sum over all processes of each number, in float64. Every process gives as many, and waits for all others.

        Raises:
            BackendError: another process has ended.
        """
        ...

    def save_state(self, folder: Path) -> Callable[[], None]:
        """Write parameters and optimizer while steps go on; the result waits until they are there.

        All processes name the same folder, on a disk that all of them see. What the result waits for are the files of
        this process: the state is whole when it has returned in all of them.
        """
        ...

    def load_state(self, folder: Path) -> None:
        """Take over what ``save_state`` wrote, also with another number of processes.

        Raises:
            CheckpointError: there is no such state, or it belongs to another run; nothing changes then.
        """
        ...

    def save_pretrained(self, folder: Path) -> None:
        """Write the model as it is now, in the common format: the first process does, with the parts of all."""
        ...

    def close(self) -> None:
        """Leave the other processes, and release what the trainer holds; no method may be called afterwards."""
        ...


def checked_batch(config: Wav2Vec2Config, head: str, batch: Batch) -> dict[str, np.ndarray]:
    """A batch with the types that models take, its shapes and values checked on the host, once for every back end.

    Raises:
        InputError: an argument is unknown, or its shape or a value breaks a rule.
    """
    known = {*_FLOATS, *_BOOLS, *_INTEGERS} - (
        {"labels"} if head == "ForPreTraining" else {*DISTRACTORS, "gumbel_noise"}
    )
    unknown = batch.keys() - known
    if unknown or "input_values" not in batch:
        raise InputError(
            f"a batch holds {listed(sorted(batch))}: training Wav2Vec2{head} takes input_values and, as there are, "
            f"{', '.join(sorted(known - {'input_values'}))}"
        )
    arrays = {name: np.ascontiguousarray(array, _type(name, array)) for name, array in batch.items()}
    values, mask = arrays["input_values"], arrays.get("attention_mask")
    check_waveforms(config, values.shape, None if mask is None else mask.shape)
    if mask is not None:
        check_shortest(config, int(mask.sum(1).min()))
    if "layer_keep" in arrays:
        check_shape("layer_keep", arrays["layer_keep"].shape, (config.num_hidden_layers,), "(layers,)")
    if check_pretraining(config, arrays):
        _count_distractors(config, arrays)
    labels = arrays.get("labels")
    if labels is not None and len(labels) != len(values):
        raise InputError(f"labels have {len(labels)} rows, input_values {len(values)}: give each utterance its own")
    if labels is not None and labels.size > 0:
        if head == "ForCTC":
            lengths = np.full(len(values), values.shape[1]) if mask is None else mask.sum(1)
            check_letters(config, labels, config.num_frames(lengths))
        elif labels.ndim == 1 and labels.dtype == np.int32:
            remedy = "set num_labels or id2label to the classes of the data"
            check_largest("labels", int(labels.max()), config.num_labels or 0, remedy)
    return arrays


def _count_distractors(config: Wav2Vec2Config, arrays: dict[str, np.ndarray]) -> None:
    """Check the masks and distractors of a batch, and replace indices by counts, which cost a device less."""
    batch, width = len(arrays["input_values"]), config.num_frames(arrays["input_values"].shape[1], add_adapter=False)
    check_shape("mask_time_indices", arrays["mask_time_indices"].shape, (batch, width), "(batch, frames)")
    indices, counts = (arrays.get(name) for name in DISTRACTORS)
    if indices is not None:
        expected = (batch, width, *indices.shape[-1:])
        check_shape("sampled_negative_indices", indices.shape, expected, "(batch, frames, negatives)")
    if counts is not None:
        check_shape("sampled_negative_counts", counts.shape, (batch, width, width), "(batch, frames, frames)")
    mask = arrays.get("attention_mask")
    check_draws(config, arrays, None if mask is None else mask.sum(1))
    if indices is not None:
        arrays["sampled_negative_counts"] = count_negatives(arrays.pop("sampled_negative_indices"))


def check_targets(head: str, names: Mapping[str, Any]) -> None:
    """Check that a batch has what the head computes its loss from. Raises ``InputError``."""
    needed = ("mask_time_indices", DISTRACTORS[0]) if head == "ForPreTraining" else ("labels",)
    counted = DISTRACTORS[1] in names
    missing = [name for name in needed if name not in names and not (counted and name == DISTRACTORS[0])]
    if head == "Model":
        raise InputError("a Wav2Vec2Model has no head and so no loss: train one of the other classes")
    if missing:
        raise InputError(
            f"a batch has no {' and no '.join(missing)}: Wav2Vec2{head} computes its loss from {' and '.join(needed)}"
        )


def noise_seeds(seed: int, step: int, micro: int, process: int, count: int) -> np.ndarray:
    """(count,) uint32 from which a device draws the noise of one micro-batch: other ones for each of the four."""
    return np.random.SeedSequence((seed, step, micro, process)).generate_state(count)


def noise_seeds_of_rows(seed: int, step: int, micro: int, process: tuple[int, int], rows: int) -> np.ndarray:
    """(rows, 2) uint32 from which a device draws the Gumbel noise of each row of this process's share of a micro-batch.

    They are a function of the row's place in the micro-batch of all processes, whose rows are dealt in turn, so the
    number of processes does not change the noise.
    """
    index, count = process
    places = range(index, index + rows * count, count)
    seeds = [np.random.SeedSequence((seed, step, micro, place, _ROW)).generate_state(2) for place in places]
    return np.array(seeds, np.uint32).reshape(rows, 2)


#: Tells seeds of a row from those of a process: the last number of their entropy.
_ROW = 1


def _type(name: str, array: np.ndarray) -> Any:
    if name in _BOOLS:
        return np.bool_
    soft = name == "labels" and np.issubdtype(np.asarray(array).dtype, np.floating)  # of a regression, or shares
    return np.float32 if soft or name in _FLOATS else np.int32
