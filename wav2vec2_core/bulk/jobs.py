"""A job: what is computed of every recording, and the files that its results are, shard by shard."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from wav2vec2_core.audio import Recording
from wav2vec2_core.bulk.inputs import Item
from wav2vec2_core.bulk.store import Place, library
from wav2vec2_core.decoding.choice import DecoderOptions
from wav2vec2_core.embedding import Embedder
from wav2vec2_core.errors import InputError, Wav2Vec2Error, brief
from wav2vec2_core.transcription import Transcriber, Transcript

TASKS = ("transcribe", "embed")
#: Each is the end of a file's name.
FORMATS = ("jsonl", "parquet")
RESULTS, FAILED, PLAN = "results", "failed", "bulk.json"


@dataclass(frozen=True)
class Job:
    """What is computed, with which model, and where the results go.

    output: address of a folder; task: of ``TASKS``; result_format: of ``FORMATS``; model, backend, device, dtype,
    language, batch_seconds: as ``Transcriber`` takes them, lm: as ``DecoderOptions``; layer: of embeddings;
    shard_size: recordings whose results are one file.
    """

    output: str
    model: str
    task: str = "transcribe"
    result_format: str = "jsonl"
    backend: str = "torch"
    device: str = "auto"
    dtype: str = "float32"
    language: str | None = None
    lm: str = "auto"
    layer: int = -1
    batch_seconds: float = 60.0
    shard_size: int = 100
    local_files_only: bool = False

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise InputError(f"task {brief(self.task)} is none: use {' or '.join(TASKS)}")
        if self.result_format not in FORMATS:
            raise InputError(f"format {brief(self.result_format)} is none: use {' or '.join(FORMATS)}")
        if self.task == "embed" and self.result_format != "parquet":
            raise InputError("embeddings are arrays, which JSON Lines would write as text: use the format parquet")
        if self.shard_size < 1:
            raise InputError(f"shard_size={self.shard_size} must be 1 or more")

    def shards(self, items: Sequence[Item]) -> list[tuple[int, list[Item]]]:
        """Number and recordings of each shard."""
        size = self.shard_size
        return [(first // size, list(items[first : first + size])) for first in range(0, len(items), size)]

    def begin(self, items: Sequence[Item]) -> set[int]:
        """Write down what this job is, unless that has been done; the shards that are finished.

        Raises:
            InputError: the folder holds another job, or something else.
            OutputError: nothing can be written there.
        """
        folder = Place.of(self.output)
        plan, stored = self._plan(items), (folder / PLAN).read()
        if stored is None:
            if folder.names():
                raise InputError(f"{brief(self.output)} holds other files: name a new folder")
            (folder / PLAN).write((json.dumps(plan, indent=2) + "\n").encode())
            return set()
        other = _object(stored)
        different = [name for name in plan if plan[name] != other.get(name)]
        if different:
            name = different[0]
            raise InputError(
                f"{brief(self.output)} holds results of another job ({name} was {brief(other.get(name))}, is "
                f"{brief(plan[name])}): name another folder"
            )
        names = (folder / RESULTS).names()
        return {number for number, _ in self.shards(items) if _part(number, self.result_format) in names}

    def write(self, number: int, results: list[dict[str, Any]], failed: list[dict[str, Any]]) -> None:
        """Write the results of a shard, which is finished then. Raises ``OutputError``."""
        folder = Place.of(self.output)
        place = folder / FAILED / _part(number, "jsonl")
        if failed:
            place.write(_lines(failed))
        else:
            place.remove()  # of a worker that died before its results were there
        # Last: a shard whose results are there is finished.
        content = _lines(results) if self.result_format == "jsonl" else _table(results, self.task)
        (folder / RESULTS / _part(number, self.result_format)).write(content)

    def _plan(self, items: Sequence[Item]) -> dict[str, Any]:
        # Where it runs and how much at a time changes no result.
        free = ("output", "device", "batch_seconds", "local_files_only")
        fields = {name: value for name, value in asdict(self).items() if name not in free}
        digest = hashlib.sha256("".join(f"{asdict(item)}\n" for item in items).encode("utf-8", "surrogateescape"))
        return {**fields, "recordings": len(items), "inputs": digest.hexdigest()}


@dataclass(frozen=True)
class Outcome:
    """A finished shard. number: which; recordings, failed: how many; seconds: of audio."""

    number: int
    recordings: int
    failed: int
    seconds: float


class Worker:
    """A model in memory, and shard after shard through it."""

    def __init__(self, job: Job) -> None:
        """Load the model. Raises as ``Transcriber`` and ``Embedder``."""
        self.job = job
        model = {
            "backend": job.backend,
            "device": job.device,
            "dtype": job.dtype,
            "local_files_only": job.local_files_only,
        }
        if job.task == "embed":
            self._embedder = Embedder(job.model, layers=(job.layer,), **model)
            self._rows = self._embedded
        else:
            self._transcriber = Transcriber(
                job.model,
                language=job.language,
                decoding=DecoderOptions(job.lm),
                batch_seconds=job.batch_seconds,
                **model,
            )
            self._rows = self._transcribed

    def run(self, number: int, items: Sequence[Item]) -> Outcome:
        """Work on one shard and write its files; what concerns one recording is a line of the failed ones.

        Raises:
            OutputError: a file cannot be written.
        """
        results: list[dict[str, Any]] = []
        failed: list[dict[str, Any]] = []
        for item, found in self._rows(items):
            about = {"audio": item.audio, "offset": item.offset}
            if isinstance(found, Wav2Vec2Error):
                failed.append({**about, "error": str(found).splitlines()[0]})
            else:
                results.append({**about, **found})
        self.job.write(number, results, failed)
        return Outcome(number, len(items), len(failed), sum(row["seconds"] for row in results))

    def _transcribed(self, items: Sequence[Item]) -> Iterator[tuple[Item, dict[str, Any] | Wav2Vec2Error]]:
        held = [ExitStack() for _ in items]  # of each recording, until its result is there
        try:
            openings = [partial(_entered, hold, item) for hold, item in zip(held, items, strict=True)]
            results = self._transcriber.transcribe_all(openings)
            for item, hold, result in zip(items, held, results, strict=True):
                hold.close()
                yield item, result.error or _said(result.unwrap())
        finally:
            for hold in held:
                hold.close()

    def _embedded(self, items: Sequence[Item]) -> Iterator[tuple[Item, dict[str, Any] | Wav2Vec2Error]]:
        for item in items:
            try:
                with item.recording() as recording:
                    opened = self._embedder.open(recording)
                    states = self._embedder.embed(opened)[0]
                    yield item, {"seconds": opened.duration, "embedding": states}
            except Wav2Vec2Error as error:
                yield item, error


def _part(number: int, suffix: str) -> str:
    return f"part-{number:05d}.{suffix}"


def _entered(hold: ExitStack, item: Item) -> Recording:
    return hold.enter_context(item.recording())


def _said(transcript: Transcript) -> dict[str, Any]:
    words = [
        {"word": word.text, "start": word.start, "end": word.end, "probability": word.probability}
        for word in transcript.timed_words
    ]
    return {"seconds": transcript.duration, "text": transcript.text, "language": transcript.language, "words": words}


def _lines(rows: Sequence[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode("utf-8", "backslashreplace")


def arrow() -> Any:
    """pyarrow with its Parquet part. Raises ``BackendError``."""
    return library("pyarrow.parquet", "Parquet is written by pyarrow")


def _table(rows: Sequence[dict[str, Any]], task: str) -> bytes:
    """Rows as a Parquet file. Raises ``BackendError``."""
    pa = arrow()
    columns = {"audio": pa.string(), "offset": pa.float64(), "seconds": pa.float64()}
    if task == "embed":
        columns["embedding"] = pa.list_(pa.list_(pa.float32()))
        rows = [{**row, "embedding": list(row["embedding"])} for row in rows]
    else:
        word = {"word": pa.string(), "start": pa.float64(), "end": pa.float64(), "probability": pa.float64()}
        columns |= {"text": pa.string(), "language": pa.string(), "words": pa.list_(pa.struct(list(word.items())))}
    content = io.BytesIO()
    pa.parquet.write_table(pa.Table.from_pylist(list(rows), pa.schema(list(columns.items()))), content)
    return content.getvalue()


def _object(content: bytes) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {}
