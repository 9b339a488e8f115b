"""``wav2vec2 data``: checks training data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wav2vec2_core.cli.options import ModelName, Offline

app = typer.Typer(name="data", help="Look at training data before it is used.", no_args_is_help=True)


@app.callback()
def _options() -> None:
    """Keeps ``check`` a subcommand: typer would drop the name of a single command."""


@app.command()
def check(
    manifest: Annotated[
        Path,
        typer.Argument(metavar="MANIFEST", help="Recordings with their texts: .jsonl, .csv, .tsv, fairseq's .tsv."),
    ],
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
    from wav2vec2_core.data.manifest import read_manifest
    from wav2vec2_core.processing import Wav2Vec2Processor
    from wav2vec2_core.source import open_model
    from wav2vec2_core.transcription import EMBEDDED_MODEL

    if model is None:
        note_embedded_model()
    source = open_model(model or EMBEDDED_MODEL, local_files_only=offline)
    processor, config = Wav2Vec2Processor.from_source(source), Wav2Vec2Config.from_source(source)
    rate = processor.feature_extractor.sampling_rate
    with stoppable(), row_progress("reading") as progress:
        checked = check_rows(read_manifest(manifest), processor.tokenizer, config, rate, progress=progress)
    total = len(checked.rows) + len(checked.findings)
    print(f"{total} rows, {len(checked.rows)} to train on, {spoken(checked.seconds)}")
    for line in checked.lines():
        print(printable(line))
    if checked.findings:
        raise typer.Exit(1)
