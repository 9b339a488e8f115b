"""``wav2vec2 align``: the time of every word of a known text."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wav2vec2_core.cli.options import (
    AudioTrack,
    BackendName,
    Channel,
    Damaged,
    DeviceName,
    DtypeName,
    HighlightWords,
    Language,
    MaxLineCount,
    MaxLineWidth,
    MaxWordsPerLine,
    ModelName,
    Offline,
    OnDamage,
    reading,
)

if TYPE_CHECKING:
    from wav2vec2_core.alignment import Alignment
    from wav2vec2_core.captions import Layout
    from wav2vec2_core.cli.progress import Quiet
    from wav2vec2_core.data.manifest import Utterance


class AlignmentFormat(StrEnum):
    """Output formats of an alignment."""

    json = "json"
    tsv = "tsv"
    srt = "srt"
    vtt = "vtt"
    ctm = "ctm"
    textgrid = "textgrid"
    audacity = "audacity"
    all = "all"


class Untranscribed(StrEnum):
    """Where untranscribed speech may occur."""

    none = "none"
    lines = "lines"
    words = "words"


#: Formats of which several alignments fit into one stream.
_STREAMABLE = ("json", "ctm")


def align(
    audio: Annotated[Path | None, typer.Argument(metavar="AUDIO", help="A recording of any length and format.")] = None,
    text: Annotated[
        str | None, typer.Argument(metavar="TEXT", help="What is said, a line or SRT/VTT cue a segment; - for stdin.")
    ] = None,
    manifest: Annotated[
        Path | None, typer.Option(help="Recordings with their texts (.jsonl, .csv, .tsv) instead of AUDIO and TEXT.")
    ] = None,
    model: ModelName = None,
    backend: BackendName = "torch",
    device: DeviceName = "auto",
    dtype: DtypeName = "float32",
    language: Language = None,
    channel: Channel = "mix",
    audio_track: AudioTrack = None,
    on_damage: Damaged = OnDamage.error,
    untranscribed: Annotated[
        Untranscribed, typer.Option(help="Where speech may be that the text leaves out: around lines, around words.")
    ] = Untranscribed.lines,
    output_dir: Annotated[
        Path | None, typer.Option("--output-dir", "-o", help="Write <stem>.<format> there instead of to stdout.")
    ] = None,
    output_format: Annotated[AlignmentFormat, typer.Option("--output-format", "-f")] = AlignmentFormat.json,
    characters: Annotated[bool, typer.Option("--characters", help="Times of characters in json too.")] = False,
    max_line_width: MaxLineWidth = None,
    max_line_count: MaxLineCount = None,
    max_words_per_line: MaxWordsPerLine = None,
    highlight_words: HighlightWords = False,
    offline: Offline = False,
) -> None:
    """Find when each word of a known text is spoken.

    With a manifest, a recording that cannot be aligned does not stop the others; the exit code is then 1.
    """
    from wav2vec2_core.alignment import Aligner
    from wav2vec2_core.captions import Layout
    from wav2vec2_core.cli.console import note_embedded_model, stoppable
    from wav2vec2_core.cli.progress import audio_progress
    from wav2vec2_core.errors import Wav2Vec2Error
    from wav2vec2_core.transcription import EMBEDDED_MODEL

    layout = Layout(True, max_line_width, max_line_count, max_words_per_line, highlight_words, characters)
    options = reading(channel, audio_track, on_damage.value)
    utterances = _utterances(audio, text, manifest)
    formats = [name for name in AlignmentFormat if name != "all"] if output_format == "all" else [output_format]
    targets = _targets(utterances, output_dir, [name.value for name in formats])
    if model is None:
        note_embedded_model()
    failed = 0
    with stoppable():
        aligner = Aligner(
            model or EMBEDDED_MODEL,
            backend=backend,
            device=device,
            dtype=dtype,
            language=language,
            local_files_only=offline,
        )
        with audio_progress("Aligning", [partial(one.recording, **options) for one in utterances]) as bar:
            for utterance, files in zip(utterances, targets, strict=True):
                try:
                    found = aligner.align_utterance(
                        utterance, untranscribed=untranscribed.value, progress=bar.advance, **options
                    )
                    bar.note(found.notes)
                    _deliver(found, utterance, files, layout, output_format.value, len(utterances) > 1, bar)
                except Wav2Vec2Error as error:
                    failed += 1
                    bar.complain(error, (str(utterance.path), str(utterance.path)))
    if failed:
        raise typer.Exit(1)


def _utterances(audio: Path | None, text: str | None, manifest: Path | None) -> list[Utterance]:
    """The recordings and texts to align. Raises ``InputError``."""
    from wav2vec2_core.data.manifest import Utterance, read_manifest
    from wav2vec2_core.errors import InputError

    if manifest is not None:
        if audio is not None:
            raise InputError(f"both --manifest {manifest} and {audio} are given: name one of them")
        return list(read_manifest(manifest))
    if audio is None or text is None:
        raise InputError("a recording and its text are needed: wav2vec2 align AUDIO TEXT, or --manifest MANIFEST")
    return [Utterance(audio, read_text(text, audio))]


def read_text(text: str, audio: Path) -> str:
    """The content of the file ``text``, of stdin for ``-``, with what is said in ``audio``. Raises ``InputError``."""
    from wav2vec2_core.errors import InputError

    try:
        content = sys.stdin.buffer.read() if text == "-" else Path(text).read_bytes()
        return content.decode("utf-8-sig")
    except OSError as error:
        raise InputError(
            f"text {text} cannot be read ({error.strerror}): name a file with what is said in {audio}"
        ) from error
    except UnicodeDecodeError as error:
        raise InputError(f"text {text} is not UTF-8: save it as UTF-8") from error


def _targets(utterances: Sequence[Utterance], folder: Path | None, formats: Sequence[str]) -> list[dict[str, Path]]:
    """Format -> file for every utterance, none for stdout. Raises ``InputError`` and ``OutputError``."""
    from wav2vec2_core.captions import FORMATS
    from wav2vec2_core.errors import InputError
    from wav2vec2_core.files import make_folder

    if folder is None:
        if len(formats) > 1 or (len(utterances) > 1 and formats[0] not in _STREAMABLE):
            raise InputError(
                f"{', '.join(formats)} of {len(utterances)} recording{'s'[: len(utterances) > 1]} do not fit into one "
                "stream: name a folder with --output-dir"
            )
        return [{} for _ in utterances]
    taken: dict[str, Utterance] = {}
    for utterance in utterances:
        other = taken.setdefault(_name(utterance), utterance)
        if other is not utterance:
            raise InputError(
                f"{other.path} and {utterance.path} would both be written to {folder / _name(other)}.*: use two output "
                "folders"
            )
    make_folder(folder)
    return [{name: folder / f"{_name(utterance)}.{FORMATS[name]}" for name in formats} for utterance in utterances]


def _name(utterance: Utterance) -> str:
    """Base name of an utterance's results; stretches of one recording are distinguished by their
    start in milliseconds.
    """
    return f"{utterance.path.stem}-{round(1000 * utterance.offset)}" if utterance.offset else utterance.path.stem


def _deliver(
    found: Alignment,
    utterance: Utterance,
    files: Mapping[str, Path],
    layout: Layout,
    only: str,
    several: bool,
    bar: Quiet,
) -> None:
    """Write one alignment, or print it as ``only``. Raises ``InputError`` and ``OutputError``."""
    from wav2vec2_core.cli.console import printable, shown
    from wav2vec2_core.files import write_text

    name = shown(_name(utterance))
    contents = {output_format: found.render(output_format, layout, name=name) for output_format in files or [only]}
    for output_format, path in files.items():
        write_text(path, contents[output_format])
    if files:
        return
    content = contents[only]
    if several and only == "json":
        content = json.dumps({"file": str(utterance.path), **json.loads(content)}, ensure_ascii=False)
    bar.say(printable(content.removesuffix("\n")))
