"""What the pipelines share: a recording in, a result out; many in, a list or a generator out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from wav2vec2_core.audio import Recording
from wav2vec2_core.errors import InputError, brief
from wav2vec2_core.pipeline import LoadedModel
from wav2vec2_core.pipelines.inputs import Given, read_input

#: From recordings, and how many go together at most, to their results.
Runner = Callable[[Sequence[Given], int], Sequence[Any]]


class KeyDataset:
    """One column of a data set, for a pipeline. dataset: rows are mappings; key: of the column."""

    def __init__(self, dataset: Any, key: str) -> None:
        self.dataset = dataset
        self.key = key

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, i: int) -> Any:
        return self.dataset[i][self.key]


class Pipeline(ABC):
    """A model with all it takes from a recording to a result, called as a function.

    Attributes:
        task: its name.
        model: the model, ready for inference; ``model.config`` is its configuration.
        feature_extractor: of the model.
        framework: ``pt``, ``tf`` or ``flax``.
    """

    task: str

    def __init__(self, loaded: LoadedModel, framework: str, batch_size: int = 1, **options: Any) -> None:
        """``batch_size`` and ``options``: those of a call, which hold where a call says nothing else.

        Raises:
            InputError: an option is invalid.
        """
        self._loaded = loaded
        self.model, self.feature_extractor = loaded.model, loaded.extractor
        self.framework, self._batch_size, self._options = framework, _checked_size(batch_size), options
        self._runner(**options)

    def __call__(
        self, inputs: Any, *, batch_size: int | None = None, num_workers: int | None = None, **options: Any
    ) -> Any:
        """Process recordings.

        Args:
            inputs: one recording, as ``inputs.read_input`` takes it; a list of them; or a generator or a data set
                (anything else that can be iterated), whose recordings are read as results are asked for.
            batch_size: recordings that go through the model together. Results do not depend on it.
            num_workers: changes nothing.
            options: see the pipeline of the task.

        Returns:
            A result, a list of results, or a generator of them.

        Raises:
            AudioError: a recording cannot be used.
            InputError: an input or an option is invalid.
        """
        run = self._runner(**{**self._options, **options})
        size = self._batch_size if batch_size is None else _checked_size(batch_size)
        if isinstance(inputs, list):
            return list(self._results(inputs, size, run))
        if _is_collection(inputs):
            return self._results(_items(inputs), size, run)
        return next(self._results([inputs], size, run))

    @abstractmethod
    def _runner(self, **options: Any) -> Runner:
        """Check the options of a call; what is returned makes results. Raises ``InputError``."""

    def _results(self, inputs: Iterable[Any], size: int, run: Runner) -> Iterator[Any]:
        waiting = iter(inputs)
        while group := list(islice(waiting, size)):
            yield from run([read_input(one, self.feature_extractor.sampling_rate) for one in group], size)


def unknown_option(task: str, options: Mapping[str, Any]) -> InputError:
    """The error about options that a pipeline does not have."""
    return InputError(f"{task} has no option {next(iter(options))!r:.100}: leave it out")


def _checked_size(size: Any) -> int:
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise InputError(f"batch_size={brief(size)} must be an integer of at least 1")
    return size


def _is_collection(inputs: Any) -> bool:
    """Whether this is a generator or a data set, and not one recording."""
    if isinstance(inputs, str | bytes | bytearray | memoryview | tuple | Mapping | Recording):
        return False
    if hasattr(inputs, "shape") and not hasattr(inputs, "features"):  # an array; a data set has a shape and features
        return False
    return hasattr(inputs, "__iter__") or (hasattr(inputs, "__getitem__") and hasattr(inputs, "__len__"))


def _items(inputs: Any) -> Iterator[Any]:
    return iter(inputs) if hasattr(inputs, "__iter__") else (inputs[index] for index in range(len(inputs)))
