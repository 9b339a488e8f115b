"""Who works on the shards of a job: this process, or a Ray cluster."""

from __future__ import annotations

import json
import logging
import re
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from wav2vec2_core import errors
from wav2vec2_core.bulk.inputs import Item
from wav2vec2_core.bulk.jobs import Job, Outcome, Worker, arrow
from wav2vec2_core.bulk.store import Place, library
from wav2vec2_core.errors import BackendError, InputError, Wav2Vec2Error, brief
from wav2vec2_core.source import open_model

#: An error of ours at the end of a traceback.
_OURS = re.compile(rf"^{re.escape(errors.__name__)}\.(\w+): (.+)$", re.MULTILINE)
_PATIENCE = 10.0  # seconds for an answer
Shards = Sequence[tuple[int, list[Item]]]


def run_bulk(
    job: Job, items: Sequence[Item], *, engine: str = "local", address: str | None = None, workers: int | None = None
) -> Iterator[Outcome]:
    """Work on the shards that are not finished yet; each is yielded as soon as its files are there.

    Args:
        job: what is computed.
        items: of what.
        engine: of ``ENGINES``.
        address: of a Ray cluster; by default one is started on this machine.
        workers: processes, each with a model in its memory; by default as many as there are GPUs, or processors.

    Raises:
        InputError: an argument is wrong, or the output holds another job.
        CheckpointError: there is no such model.
        BackendError: what the engine needs is not installed, or the cluster cannot be reached.
        OutputError: a result cannot be written.
    """
    if engine not in ENGINES:
        raise InputError(f"engine {engine!r:.100} is none: use {' or '.join(ENGINES)}")
    if engine == "local" and (address is not None or (workers or 1) > 1):
        raise InputError("the engine local is this process alone: leave out address and workers, or use the engine ray")
    if workers is not None and workers < 1:
        raise InputError(f"workers={workers} must be 1 or more")
    # Before anything is written or started.
    open_model(job.model, local_files_only=job.local_files_only)
    if job.result_format == "parquet":
        arrow()
    if engine == "ray":
        _ray()
    # Workers run in other folders.
    model = str(Path(job.model).resolve()) if Path(job.model).exists() else job.model
    job = replace(job, output=str(Place.of(job.output)), model=model)
    finished = job.begin(items)
    left = [(number, shard) for number, shard in job.shards(items) if number not in finished]
    if left:
        yield from ENGINES[engine](job, left, address, workers)


def _locally(job: Job, shards: Shards, address: str | None, workers: int | None) -> Iterator[Outcome]:
    worker = Worker(job)
    for number, items in shards:
        yield worker.run(number, items)


def _on_ray(job: Job, shards: Shards, address: str | None, workers: int | None) -> Iterator[Outcome]:
    ray = _ray()
    if address is not None:
        _check_address(address)
    started = not ray.is_initialized()
    try:
        ray.init(address=address, log_to_driver=False, logging_level="error", ignore_reinit_error=True)
    except (ConnectionError, RuntimeError, ValueError) as error:
        where = f"the Ray cluster {address or 'here'}"
        raise BackendError(f"{where} cannot be used ({error}): check its address") from error
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    try:
        ray.data.DataContext.get_current().enable_progress_bars = False
        gpus = int(ray.cluster_resources().get("GPU", 0)) if job.device != "cpu" else 0
        processors = max(1, int(ray.cluster_resources().get("CPU", 1)))
        count = min(workers or gpus or processors, len(shards))
        # A block for each shard: what a worker that dies held is given to another, whole.
        rows = [{"number": number, "items": json.dumps([asdict(item) for item in items])} for number, items in shards]
        data = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
            _RayWorker,
            batch_size=1,
            fn_constructor_args=(asdict(job),),
            compute=ray.data.ActorPoolStrategy(size=count),
            num_cpus=1,
            num_gpus=1 if gpus else 0,
        )
        for row in data.iter_rows():
            yield Outcome(**row)
    except ray.exceptions.RayError as error:
        raise _cause(error) from error
    finally:
        if started:
            ray.shutdown()


def _ray() -> Any:
    """Ray with its data part. Raises ``BackendError``."""
    return library("ray.data", "the engine ray needs Ray")


class _RayWorker:
    """A worker of a Ray cluster: batches of one shard."""

    def __init__(self, job: dict[str, Any]) -> None:
        self._worker = Worker(Job(**job))

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        items = [Item(**fields) for fields in json.loads(str(batch["items"][0]))]
        outcome = self._worker.run(int(batch["number"][0]), items)
        return {name: [value] for name, value in asdict(outcome).items()}


def _check_address(address: str) -> None:
    """Whether anybody answers there: Ray itself tries for minutes. Raises ``BackendError``."""
    host, mark, port = address.removeprefix("ray://").rpartition(":")
    if not mark or not port.isdigit():
        return  # ``auto`` and the like
    try:
        socket.create_connection((host, int(port)), timeout=_PATIENCE).close()
    except (OSError, OverflowError) as error:
        raise BackendError(f"the Ray cluster {brief(address)} does not answer ({error}): check its address") from error


def _cause(error: BaseException) -> Wav2Vec2Error:
    """Our error behind one of Ray's, which has it among its causes or, of a worker's start, in its text."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, Wav2Vec2Error):
            return cause
        cause = getattr(cause, "cause", None) or cause.__cause__
    for name, message in reversed(_OURS.findall(str(error))):
        kind = getattr(errors, name, None)
        if isinstance(kind, type) and issubclass(kind, Wav2Vec2Error):
            return kind(message)
    return BackendError(f"the Ray cluster ended the job ({' '.join(str(error).split())[-200:]}): run it again to go on")


#: Name -> who works on shards.
ENGINES: dict[str, Callable[[Job, Shards, str | None, int | None], Iterator[Outcome]]] = {
    "local": _locally,
    "ray": _on_ray,
}
