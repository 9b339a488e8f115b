"""``wav2vec2 data``: checks training data, and writes it to shards."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wav2vec2_core.cli.options import Case, ModelName, Offline, Vocabulary

if TYPE_CHECKING:
    from wav2vec2_core.config import Wav2Vec2Config
    from wav2vec2_core.data.checking import Checked, Checker
    from wav2vec2_core.data.labels import TextLabels
    from wav2vec2_core.data.manifest import Utterance
    from wav2vec2_core.source import ModelSource

app = typer.Typer(name="data", help="Check training data, write it to shards.", no_args_is_help=True)
_Data = Annotated[
    str,
    typer.Argument(
        metavar="DATA",
        help="Recordings with their texts: a manifest (.jsonl, .csv, .tsv, fairseq's .tsv), a folder, or tar shards "
        "(a path, {00..12} or *).",
    ),
]


class _Task(StrEnum):
    ctc = "ctc"
    classify = "classify"
    frames = "frames"
    xvector = "xvector"
    pretrain = "pretrain"


@app.command()
def check(
    data: _Data,
    model: ModelName = None,
    task: Annotated[
        _Task, typer.Option(help="What the data are to train; pretrain needs no more than sound long enough to mask.")
    ] = _Task.ctc,
    column: Annotated[
        str | None, typer.Option(help="Of classes (label), stretches (segments) or speakers (speaker).")
    ] = None,
    vocabulary: Vocabulary = None,
    case: Case = "keep",
    as_json: Annotated[bool, typer.Option("--json", help="All of it as JSON.")] = False,
    offline: Offline = False,
) -> None:
    """Find the rows that training would skip, say why, and warn of what is odd.

    Every recording is decoded; every text is compared with the model's vocabulary and frames, every label with what the
    task needs. Silence, clipping, low rates and duplicates are warnings. The exit code is 1 if a row would be skipped.
    """
    from wav2vec2_core.cli.console import note_embedded_model, stoppable
    from wav2vec2_core.cli.progress import row_progress
    from wav2vec2_core.config import Wav2Vec2Config
    from wav2vec2_core.data.checking import check_rows
    from wav2vec2_core.data.opening import open_rows
    from wav2vec2_core.errors import InputError
    from wav2vec2_core.feature_extraction import Wav2Vec2FeatureExtractor
    from wav2vec2_core.source import open_model
    from wav2vec2_core.transcription import EMBEDDED_MODEL

    if model is None and task == _Task.ctc:
        note_embedded_model()
    source = open_model(model or EMBEDDED_MODEL, local_files_only=offline)
    config = Wav2Vec2Config.from_source(source)
    rate = Wav2Vec2FeatureExtractor.from_source(source).sampling_rate
    rows = open_rows(data)
    if task == _Task.ctc and column is None:
        checker = _letters(source, config, rows, vocabulary, case)
    elif vocabulary is None and case == "keep":
        checker = _checker(task, column, source, config, rows)
    else:
        raise InputError(f"--vocabulary and --case mean nothing to --task {task.value}: leave them out")
    with stoppable(), row_progress("reading", len(rows)) as progress:
        checked = check_rows(rows, checker, config, rate, progress=progress)
    if as_json:
        print(json.dumps(checked.to_dict(), indent=2))
    else:
        _print_checked(checked)
    if checked.findings:
        raise typer.Exit(1)


def _checker(
    task: _Task, column: str | None, source: ModelSource, config: Wav2Vec2Config, rows: list[Utterance]
) -> Checker:
    """What the rows must have besides sound, where that is no text. Raises ``InputError``."""
    from wav2vec2_core.checkpoint import open_checkpoint
    from wav2vec2_core.data.pretraining import LongEnough
    from wav2vec2_core.errors import InputError
    from wav2vec2_core.training.tasks import Classification, FrameClassification, OpenedModel, SpeakerRecognition

    if task in (_Task.ctc, _Task.pretrain):
        if column is not None:
            raise InputError(f"--column {column[:100]!r} means nothing to --task {task.value}: leave it out")
        return LongEnough(config, 0)
    kinds = {_Task.classify: Classification, _Task.frames: FrameClassification, _Task.xvector: SpeakerRecognition}
    kind = kinds[task]
    opened = OpenedModel(source, config, open_checkpoint(source))
    return (kind() if column is None else kind(column)).prepare(opened, rows).labels


def _letters(
    source: ModelSource, config: Wav2Vec2Config, rows: list[Utterance], vocabulary: str | None, case: str
) -> TextLabels:
    """What texts must be; says on stderr what there is to say of their letters. Raises ``InputError``."""
    from wav2vec2_core.checkpoint.head_resizing import for_vocabulary
    from wav2vec2_core.cli.console import print_notes
    from wav2vec2_core.data.labels import TextLabels
    from wav2vec2_core.training.tasks.ctc_start import choose_tokenizer

    texts = (row.text or "" for row in rows)
    own, tokenizer, notes = choose_tokenizer(source, texts, vocabulary=vocabulary, case=case)
    print_notes(notes)
    return TextLabels(tokenizer, config if tokenizer is own else for_vocabulary(config, tokenizer), case)


def _print_checked(checked: Checked) -> None:
    from wav2vec2_core.cli.console import printable, spoken

    print(f"{checked.total} rows, {len(checked.rows)} to train on, {spoken(checked.seconds)}")
    for line in checked.lines():
        print(printable(line))
    for line in checked.warning_lines():
        print(printable(line if line.startswith(" ") else f"warning: {line}"))
    if checked.rates:
        rates = (f"{rate} Hz ({count})" for rate, count in checked.rates.items())
        print(f"recorded at {', '.join(rates)}")
    for line in _bars(checked.durations):
        print(line)


def _bars(durations: Sequence[float]) -> Iterator[str]:
    """How many recordings last how long: a line with a bar for each stretch of seconds."""
    from wav2vec2_core.cli.console import printable
    from wav2vec2_core.data.checking import histogram

    bins = histogram(durations)
    names, counts = [f"{low:g}-{high:g} s" for low, high, _ in bins], [count for _, _, count in bins]
    columns = max(map(len, names), default=0), len(str(max(counts, default=0)))
    room = max(10, min(60, shutil.get_terminal_size().columns - sum(columns) - 2))
    mark = "#" if printable("\u2588") != "\u2588" else "\u2588"
    for name, count in zip(names, counts, strict=True):
        bar = mark * -(-count * room // max(counts))
        yield f"{name:>{columns[0]}} {count:>{columns[1]}} {bar}".rstrip()


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
