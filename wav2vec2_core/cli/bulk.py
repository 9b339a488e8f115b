"""``wav2vec2 bulk``: more recordings than one machine transcribes, results in shards."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from typing import Annotated

import typer

from wav2vec2_core.cli.options import (
    DATA,
    OUTPUT,
    RUN,
    BackendName,
    DeviceName,
    DtypeName,
    Language,
    LanguageModel,
    ModelName,
    Offline,
)


def bulk(
    inputs: Annotated[
        str,
        typer.Argument(metavar="MANIFEST|FOLDER", help="A path or an address: s3://bucket/audio, gs://..., file://..."),
    ],
    output: Annotated[
        str,
        typer.Option("--output", "-o", rich_help_panel=OUTPUT, help="Folder for the results: a path or an address."),
    ],
    task: Annotated[str, typer.Option(rich_help_panel=OUTPUT, help="transcribe or embed.")] = "transcribe",
    output_format: Annotated[
        str, typer.Option("--output-format", "-f", rich_help_panel=OUTPUT, help="jsonl or parquet.")
    ] = "jsonl",
    engine: Annotated[
        str, typer.Option(rich_help_panel=RUN, help="local: this process; ray: a Ray cluster.")
    ] = "local",
    address: Annotated[
        str | None, typer.Option(rich_help_panel=RUN, help="Of the Ray cluster; without it one starts here.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(rich_help_panel=RUN, help="Models at work; as many as the cluster has devices.")
    ] = None,
    shard_size: Annotated[int, typer.Option(rich_help_panel=DATA, help="Recordings of a file of results.")] = 100,
    layer: Annotated[int, typer.Option(rich_help_panel=OUTPUT, help="Layer of embeddings; -1 is the last.")] = -1,
    model: ModelName = None,
    backend: BackendName = "torch",
    device: DeviceName = "auto",
    dtype: DtypeName = "float32",
    language: Language = None,
    lm: LanguageModel = "auto",
    offline: Offline = False,
) -> None:
    """Transcribe or embed recordings of any number; repeat the command to go on. The exit code is 1 if one fails."""
    from wav2vec2_core.bulk import Job, find_items, run_bulk
    from wav2vec2_core.cli.console import note_embedded_model, printable, spoken, stoppable
    from wav2vec2_core.cli.progress import row_progress
    from wav2vec2_core.transcription import EMBEDDED_MODEL

    job = Job(
        output,
        model or str(EMBEDDED_MODEL),
        task,
        output_format,
        backend,
        device,
        dtype,
        language,
        lm,
        layer,
        shard_size=shard_size,
        local_files_only=offline,
    )
    with stoppable("finished shards are kept, the same command goes on with the others"):
        items = find_items(inputs)
        if model is None:
            note_embedded_model()
        done, failed, seconds = 0, 0, 0.0
        # Ray prints news of its workers.
        with redirect_stdout(sys.stderr), row_progress("Working", len(items)) as advance:
            for shard in run_bulk(job, items, engine=engine, address=address, workers=workers):
                done, failed, seconds = done + shard.recordings, failed + shard.failed, seconds + shard.seconds
                if advance is not None:
                    advance(shard.recordings)
    earlier = "" if done == len(items) else f", {len(items) - done} were finished before"
    print(printable(f"{done} recordings, {spoken(seconds)}, {failed} failed{earlier}: {output}"))
    if failed:
        raise typer.Exit(1)
