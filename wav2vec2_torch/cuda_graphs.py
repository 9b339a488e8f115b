"""Packs of recurring shapes, replayed as CUDA graphs: one launch instead of about two hundred.

Windows of a long recording and of a stream have one shape, and a transformer over half a minute in half precision takes
a GPU about as long as a processor takes to launch its kernels one by one. A graph holds the launches of one shape.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

#: Frames of the largest pack that is captured: 40 s, so that windows of the default length, 36 s, are. With more rows
#: a GPU computes for longer than the launches take.
LONGEST = 2000
#: Shapes kept: streams beside each other, windows of a few lengths.
GRAPHS = 8
#: Plain runs before a capture. It takes about as long as so many: warming up, recording, and filling the memory again
#: that recording makes torch give back. So a shape that never comes again costs at most twice its plain runs.
SIGHTINGS = 8

logger = logging.getLogger("wav2vec2_torch")

#: (frames, features) -> (frames, hidden), of one shape.
Run = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Recorded:
    """What was recorded: ``replay`` computes ``output`` from what ``features`` holds.

    run: kept because the recording reads tensors that belong to it.
    """

    features: Tensor
    output: Tensor
    replay: Callable[[], None]
    run: Run


class Recorder(Protocol):
    """What ``Replayed`` needs of a device."""

    def record(self, run: Run, features: Tensor) -> Recorded:
        """Record ``run``; what ``features`` holds does not matter. Raises ``RuntimeError`` where that is impossible."""
        ...

    def turn(self) -> AbstractContextManager[None]:
        """One caller at a time, and its work behind that of the last: recordings share memory."""
        ...


class Replayed:
    """Runs packs of utterances; those whose lengths come again, and are few, from recordings."""

    def __init__(self, prepare: Callable[[Sequence[int]], Run], recorder: Recorder | None) -> None:
        """``prepare``: utterances' lengths -> what runs a pack of them; ``recorder``: None for plain runs only.

        Whatever a run needs beside its argument has to be on the device once it is prepared.
        """
        self._prepare, self._recorder = prepare, recorder
        self._recorded: OrderedDict[tuple[int, ...], Recorded] = OrderedDict()
        self._sightings: OrderedDict[tuple[int, ...], int] = OrderedDict()  # of the last shapes not recorded

    def __call__(self, features: Tensor, lengths: Sequence[int]) -> Tensor:
        """(frames, features) of utterances with these lengths -> (frames, hidden), a tensor of its own."""
        recorder = self._recorder
        if recorder is not None and len(features) <= LONGEST:
            with recorder.turn():
                recorded = self._of_shape(recorder, features, tuple(lengths))
                if recorded is not None:
                    recorded.features.copy_(features)
                    recorded.replay()
                    return recorded.output.clone()
        return self._prepare(lengths)(features)

    def __len__(self) -> int:
        """Shapes that are replayed at present."""
        return len(self._recorded)

    def _of_shape(self, recorder: Recorder, features: Tensor, lengths: tuple[int, ...]) -> Recorded | None:
        """The recording for these lengths, made if it is time; ``None`` for a plain run."""
        if self._recorder is None:  # given up while this thread waited for its turn
            return None
        if lengths in self._recorded:
            self._recorded.move_to_end(lengths)
            return self._recorded[lengths]
        seen = self._sightings.pop(lengths, 0)
        if seen < SIGHTINGS:
            self._sightings[lengths] = seen + 1
            if len(self._sightings) > GRAPHS:
                self._sightings.popitem(last=False)
            return None
        if len(self._recorded) >= GRAPHS:
            self._recorded.popitem(last=False)
        try:
            self._recorded[lengths] = recorder.record(self._prepare(lengths), features)
        except RuntimeError as error:
            self._recorder = None
            self._recorded.clear()
            reason = str(error).partition("\n")[0]
            logger.warning("CUDA graphs do not work here (%s): going on without them, small packs are slower", reason)
            return None
        return self._recorded[lengths]


class CudaRecorder:
    """Records CUDA graphs on one device; they share one pool of memory."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.pool = device, torch.cuda.graph_pool_handle()
        # One stream for everything: libraries keep a workspace for each, and must have it before a recording.
        self.stream = torch.cuda.Stream(device)
        self._lock, self._done = threading.Lock(), torch.cuda.Event()

    def record(self, run: Run, features: Tensor) -> Recorded:
        """Record ``run`` over (frames, features) as a CUDA graph."""
        current = torch.cuda.current_stream(self.device)
        graph = torch.cuda.CUDAGraph()
        # The outer stream is set again at the end even where a failed recording leaves another.
        with torch.cuda.device(self.device), torch.cuda.stream(current):
            static = features.clone()
            self.stream.wait_stream(current)
            with torch.cuda.stream(self.stream):
                run(static)
            current.wait_stream(self.stream)
            # Other threads may go on using the GPU meanwhile.
            with torch.cuda.graph(graph, self.pool, self.stream, capture_error_mode="thread_local"):
                output = run(static)
        return Recorded(static, output, graph.replay, run)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Hold a lock; what is launched waits for what the last caller launched, on whichever stream."""
        with self._lock:
            stream = torch.cuda.current_stream(self.device)
            stream.wait_event(self._done)
            try:
                yield
            finally:
                self._done.record(stream)


def recorder_for(device: torch.device) -> Recorder | None:
    """The recorder for ``device``; ``None`` if it is not a CUDA device."""
    return CudaRecorder(device) if device.type == "cuda" else None
