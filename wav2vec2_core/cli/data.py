"""``wav2vec2 data``: checks training data, and writes it to shards."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wav2vec2_core.cli.options import ModelName, Offline

app = typer.Typer(name="data", help="Check training data, write it to shards.", no_args_is_help=True)
_Data = Annotated[
    str,
    typer.Argument(
        metavar="DATA",
        help="Recordings with their texts: a manifest (.jsonl, .csv, .tsv, fairseq's .tsv), a folder, or tar shards "
        "(a path, {00..12} or *).",
    ),
]


@app.command()
def check(
    data: _Data,
    model: ModelName = None,
    offline: Offline = False,
) -> None:
    """Find the rows that fine-tuning would skip, and say why.

    Every recording is decoded, and every text is compared with the model's vocabulary and frames. The exit code is 1 if
    a row would be skipped.
    """
    from wav2vec2_core.cli.console import note_embedded_model, printable, spoken, stoppable
    from wav2vec2_core.cli.progress import row_progress
    from wav2vec2_core.config import Wav2Vec2Config
    from wav2vec2_core.data.checking import check_rows
    from wav2vec2_core.data.labels import TextLabels
    from wav2vec2_core.data.opening import open_rows
    from wav2vec2_core.processing import Wav2Vec2Processor
    from wav2vec2_core.source import open_model
    from wav2vec2_core.transcription import EMBEDDED_MODEL

    if model is None:
        note_embedded_model()
    source = open_model(model or EMBEDDED_MODEL, local_files_only=offline)
    processor, config = Wav2Vec2Processor.from_source(source), Wav2Vec2Config.from_source(source)
    rate = processor.feature_extractor.sampling_rate
    with stoppable(), row_progress("reading") as progress:
        labels = TextLabels(processor.tokenizer, config)
        checked = check_rows(open_rows(data), labels, config, rate, progress=progress)
    total = len(checked.rows) + len(checked.findings)
    print(f"{total} rows, {len(checked.rows)} to train on, {spoken(checked.seconds)}")
    for line in checked.lines():
        print(printable(line))
    if checked.findings:
        raise typer.Exit(1)


@app.command()
def shard(
    data: _Data,
    output: Annotated[Path, typer.Option(help="Folder of the shards.")],
    shard_seconds: Annotated[float, typer.Option(help="Audio in a shard, at most.")] = 3600.0,
    shard_mb: Annotated[float | None, typer.Option(help="Megabytes in a shard, at most.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where this was stopped.")] = False,
) -> None:
    """Write recordings to tar shards of FLAC (16 kHz, mono) with their texts and columns, in WebDataset's layout.

    Rows keep their order. A file shards.json beside the shards says where everything is. The exit code is 1 if a
    recording cannot be read and is left out.
    """
    from wav2vec2_core.cli.console import print_notes, printable, spoken, stoppable
    from wav2vec2_core.cli.progress import row_progress
    from wav2vec2_core.data.opening import open_rows
    from wav2vec2_core.data.sharding import write_shards

    rows = open_rows(data)
    with stoppable("go on with --resume"), row_progress("writing", len(rows)) as progress:
        written = write_shards(
            rows, output, shard_seconds=shard_seconds, shard_mb=shard_mb, resume=resume, progress=progress
        )
    print_notes(f"left out: {why}" for _, why in written.left_out)
    shards = "1 shard" if written.shards == 1 else f"{written.shards} shards"
    print(printable(f"{written.utterances} rows, {spoken(written.seconds)}, in {shards}: {output}"))
    if written.left_out:
        raise typer.Exit(1)
