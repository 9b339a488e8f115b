"""Copies of a model on the devices of one process, and the processes of a run, over ``tf.distribute``."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from wav2vec2_core.devices import Devices
from wav2vec2_core.errors import BackendError, InputError
from wav2vec2_core.training.steps import filled_batch

Tensor = Any


def join_processes() -> tuple[int, int]:
    """Connect the processes that the variable TF_CONFIG describes, before anything is computed with TensorFlow.

    Returns:
        The index of this process and their number: (0, 1) where TF_CONFIG is not set or names one worker alone.

    Raises:
        InputError: TF_CONFIG does not say who the workers are, or TensorFlow is in use already.
    """
    strategy = _joined_workers()
    return (0, 1) if strategy is None else _process_of(strategy)


def open_strategy(name: str) -> tf.distribute.Strategy:
    """The strategy of this name; make model and optimizer in its ``scope()``.

    Args:
        name: ``"none"``: one device, the first GPU where there is one; ``"mirrored"``: all GPUs of this machine, all
            (virtual) processors where there is none; ``"multi-worker"``: those of all processes of ``join_processes``.

    Raises:
        InputError: the name is another one, or it does not fit TF_CONFIG.
    """
    if name not in ("none", "mirrored", "multi-worker"):
        raise InputError(f"tf.strategy is {name!r:.100}, it must be none, mirrored or multi-worker")
    workers = _joined_workers()
    if (workers is not None) != (name == "multi-worker"):
        there = "no workers" if workers is None else "several workers"
        raise InputError(
            f'tf.strategy is {name} and the variable TF_CONFIG names {there}: use "multi-worker" with TF_CONFIG, and '
            "the others without it"
        )
    if workers is not None:
        return workers
    if name == "none":
        return tf.distribute.get_strategy()
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    return tf.distribute.MirroredStrategy([device.name for device in devices])


class Copies:
    """The copies of a model in this process, one on each of its devices.

    Attributes:
        strategy: in whose scope the model was made.
        process: index of this process and number of all.
        numbers: of the copies that are here, among those of all processes.
        device: of the only copy; None where there are more, each on a device of the strategy.
    """

    def __init__(self, strategy: tf.distribute.Strategy, device: str | None = None) -> None:
        """``device``: where the model is, used if there is one copy of it alone."""
        self.strategy = strategy
        self.device = device if strategy.num_replicas_in_sync == 1 else None
        self.process = _process_of(strategy)
        index, count = self.process
        here = strategy.num_replicas_in_sync // count
        self.numbers = range(index * here, (index + 1) * here)

    @property
    def devices(self) -> Devices:
        """What computes, of all processes together."""
        count = self.strategy.num_replicas_in_sync
        place = self.device or self.strategy.extended.worker_devices[0]
        if "GPU" not in place:
            return Devices("cpu", count)
        details = tf.config.experimental.get_device_details(tf.config.list_physical_devices("GPU")[0])
        return Devices(details.get("device_name", "GPU"), count)

    def deal(self, batch: Mapping[str, np.ndarray]) -> list[dict[str, np.ndarray]]:
        """A share of the rows for each copy, in their order and all of the same size: see ``filled_batch``.

        Raises:
            InputError: a regression whose rows cannot be dealt evenly.
        """
        copies, rows = len(self.numbers), len(batch["input_values"])
        filled = filled_batch(batch, rows + -rows % copies)
        parts = {
            name: [array] * copies if name == "layer_keep" else np.split(array, copies)
            for name, array in filled.items()
        }
        return [{name: arrays[copy] for name, arrays in parts.items()} for copy in range(copies)]

    def graph(self, function: Callable[..., Any], finish: Callable[[list[Any]], Any] | None = None) -> Graph:
        """``function`` on every copy at once: see ``Graph``."""
        return Graph(self, function, finish)

    def add_up(self, values: Any) -> Any:
        """Sums of tensors over the copies of all processes; for a ``function`` of ``graph``."""
        context = tf.distribute.get_replica_context()
        # What comes into a graph lies on no device yet, and TensorFlow adds up what lies on the copy's.
        given = [tf.identity(value) for value in tf.nest.flatten(values)]
        # A mirrored strategy does not add up several int32 at once.
        flat = [tf.cast(value, tf.int64) if value.dtype == tf.int32 else value for value in given]
        for dtype in {value.dtype: None for value in flat}:  # one message for each type
            places = [place for place, value in enumerate(flat) if value.dtype == dtype]
            summed = context.all_reduce(tf.distribute.ReduceOp.SUM, [flat[place] for place in places])
            for place, value in zip(places, summed, strict=True):
                flat[place] = value
        typed = [tf.cast(total, value.dtype) for total, value in zip(flat, given, strict=True)]
        return tf.nest.pack_sequence_as(values, typed)


class Graph:
    """A function of arrays that runs on every copy at once, from graphs that serve arrays of any size.

    A call takes a tuple of arguments for each copy and returns a list with the result of each, or what ``finish``
    makes of that list on the first device, in the same graph. There is one graph for each set of names and types of
    numpy arrays, so nothing is traced again for another length; tensors keep their shapes.
    """

    def __init__(
        self, copies: Copies, function: Callable[..., Any], finish: Callable[[list[Any]], Any] | None = None
    ) -> None:
        self._copies, self._function, self._finish = copies, function, finish
        self._graphs: dict[str, Any] = {}

    def __call__(self, arguments: Sequence[tuple[Any, ...]]) -> Any:
        given = list(arguments)
        kind = repr(tf.nest.map_structure(_kind, given))
        if kind not in self._graphs:
            signature = tf.nest.map_structure(_specification, given)
            graph = tf.function(self._traced, autograph=False)
            self._graphs[kind] = graph.get_concrete_function(signature)
        try:
            return self._graphs[kind](given)
        except (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError) as error:
            raise BackendError(
                "another process of this run has ended: its own message says why; start all of them again with --resume"
            ) from error

    def _traced(self, arguments: Any) -> Any:
        with tf.device(self._copies.device):
            return self._computed(arguments)

    def _computed(self, arguments: Any) -> Any:
        strategy, first = self._copies.strategy, self._copies.numbers.start
        dealt = strategy.experimental_distribute_values_from_function(
            lambda context: arguments[context.replica_id_in_sync_group - first]
        )
        found = strategy.run(self._function, dealt)
        results = _local(strategy, found, len(self._copies.numbers))
        return results if self._finish is None else self._finish(results)


def _local(strategy: tf.distribute.Strategy, found: Any, copies: int) -> list[Any]:
    """The results of each copy in this process, of a structure of distributed values."""
    flat = [strategy.experimental_local_results(value) for value in tf.nest.flatten(found)]
    return [tf.nest.pack_sequence_as(found, [values[copy] for values in flat]) for copy in range(copies)]


def _kind(array: Any) -> Any:
    return None if tf.is_tensor(array) else (np.ndim(array), np.asarray(array).dtype.name)


def _specification(array: Any) -> tf.TensorSpec:
    if tf.is_tensor(array):
        return tf.TensorSpec(array.shape, array.dtype)
    return tf.TensorSpec([None] * np.ndim(array), np.asarray(array).dtype)


def _process_of(strategy: tf.distribute.Strategy) -> tuple[int, int]:
    """Index of this process among those of the strategy, the chief first, and their number."""
    resolver = strategy.cluster_resolver
    jobs: Any = {} if resolver is None else resolver.cluster_spec().as_dict()
    if resolver is None or not jobs:
        return 0, 1
    chiefs, workers = len(jobs.get("chief", ())), len(jobs.get("worker", ()))
    return resolver.task_id + (chiefs if resolver.task_type == "worker" else 0), chiefs + workers


@functools.cache
def _joined_workers() -> tf.distribute.Strategy | None:
    """The strategy of all processes; None where this one is alone."""
    text = os.environ.get("TF_CONFIG", "")
    if not text or _number_of_workers(text) == 1:
        return None
    try:
        return tf.distribute.MultiWorkerMirroredStrategy()
    except RuntimeError as error:
        raise InputError(
            f"TensorFlow cannot join the workers of TF_CONFIG ({error!s:.100}): call join_processes before anything is "
            "computed with TensorFlow in this process"
        ) from error


def _number_of_workers(text: str) -> int:
    """Workers, the chief among them, in a value of TF_CONFIG. Raises ``InputError``."""
    try:
        found = json.loads(text)
        cluster, task = found["cluster"], found["task"]
        jobs = {name: len(cluster[name]) for name in ("chief", "worker") if name in cluster}
        known = 0 <= int(task["index"]) < jobs[task["type"]]
    except (ValueError, KeyError, TypeError):
        known, jobs = False, {}
    if not known:
        raise InputError(
            f"the variable TF_CONFIG is {text!r:.100}, which names no worker that this process is: set it to "
            '{"cluster": {"worker": ["host:port", ...]}, "task": {"type": "worker", "index": N}}'
        )
    return sum(jobs.values())
