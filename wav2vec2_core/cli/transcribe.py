"""``wav2vec2 transcribe``: recordings to text and captions."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wav2vec2_core.cli.options import (
    MODEL,
    OUTPUT,
    Alpha,
    AudioTrack,
    BackendName,
    BeamWidth,
    Beta,
    ChannelOrSplit,
    Damaged,
    DeviceName,
    DtypeName,
    HighlightWords,
    Hotwords,
    Language,
    LanguageModel,
    MaxLineCount,
    MaxLineWidth,
    MaxWordsPerLine,
    ModelName,
    Offline,
    OnDamage,
    Recursive,
    Resume,
    Window,
    listed_words,
    reading,
)

if TYPE_CHECKING:
    from wav2vec2_core.audio.selection import Source
    from wav2vec2_core.captions import Layout
    from wav2vec2_core.cli.progress import Quiet
    from wav2vec2_core.transcription import Result, Transcript


class OutputFormat(StrEnum):
    """Output formats."""

    txt = "txt"
    srt = "srt"
    vtt = "vtt"
    tsv = "tsv"
    json = "json"
    ctm = "ctm"
    textgrid = "textgrid"
    audacity = "audacity"
    all = "all"


#: What ``all`` stands for, as in whisper.
_ALL = ("txt", "srt", "vtt", "tsv", "json")
#: Formats in which one stream can hold several recordings.
_STREAMABLE = ("txt", "json")


def transcribe(
    files: Annotated[
        list[str],
        typer.Argument(metavar="PATH...", help="Recordings and videos of any length, folders, patterns, - for stdin."),
    ],
    model: ModelName = None,
    backend: BackendName = "torch",
    device: DeviceName = "auto",
    dtype: DtypeName = "float32",
    batch_seconds: Annotated[
        float, typer.Option(rich_help_panel=MODEL, help="Audio that goes through the model at a time.")
    ] = 60.0,
    output_dir: Annotated[
        Path | None,
        typer.Option(
            "--output-dir", "-o", rich_help_panel=OUTPUT, help="Write <stem>.<format> there instead of to stdout."
        ),
    ] = None,
    output_format: Annotated[
        OutputFormat,
        typer.Option("--output-format", "-f", rich_help_panel=OUTPUT, help="all: txt, srt, vtt, tsv and json."),
    ] = OutputFormat.txt,
    word_timestamps: Annotated[
        bool, typer.Option(rich_help_panel=OUTPUT, help="Times and probabilities of words in json.")
    ] = True,
    max_line_width: MaxLineWidth = None,
    max_line_count: MaxLineCount = None,
    max_words_per_line: MaxWordsPerLine = None,
    highlight_words: HighlightWords = False,
    language: Language = None,
    lm: LanguageModel = "auto",
    hotwords: Hotwords = None,
    beam_width: BeamWidth = None,
    alpha: Alpha = None,
    beta: Beta = None,
    channel: ChannelOrSplit = "mix",
    audio_track: AudioTrack = None,
    on_damage: Damaged = OnDamage.error,
    recursive: Recursive = False,
    resume: Resume = False,
    jobs: Annotated[
        int, typer.Option(min=1, rich_help_panel=MODEL, help="Threads that decode while the model runs.")
    ] = 1,
    window: Window = "auto",
    offline: Offline = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", rich_help_panel=OUTPUT, help="Say on stderr what ran where.")
    ] = False,
) -> None:
    """Transcribe recordings. A file that cannot be read does not stop the others; the exit code is then 1."""
    from wav2vec2_core.cli.console import note_embedded_model, stoppable

    remedy = "finished files are kept, --resume goes on with the others" if output_dir else ""
    with stoppable(remedy):
        from wav2vec2_core.audio.selection import find_sources
        from wav2vec2_core.captions import Layout
        from wav2vec2_core.channels import transcribe_channels
        from wav2vec2_core.cli.progress import audio_progress
        from wav2vec2_core.decoding.choice import DecoderOptions
        from wav2vec2_core.long_form.windows import Window
        from wav2vec2_core.transcription import EMBEDDED_MODEL, Transcriber

        layout = Layout(word_timestamps, max_line_width, max_line_count, max_words_per_line, highlight_words)
        cut = Window.parse(window)
        decoding = DecoderOptions(lm, listed_words(hotwords), beam_width, alpha, beta)
        split = channel == "split"
        options = reading("mix" if split else channel, audio_track, on_damage.value)
        sources = find_sources(files, recursive=recursive)
        delivery = _Delivery.plan(sources, output_dir, output_format.value, layout, split)
        if resume:
            sources = delivery.missing(sources)
        if model is None:
            note_embedded_model()
        transcriber = Transcriber(
            model or EMBEDDED_MODEL,
            backend=backend,
            device=device,
            dtype=dtype,
            language=language,
            local_files_only=offline,
            decoding=decoding,
            window=cut,
            batch_seconds=batch_seconds,
        )
        openings = [partial(source.recording, **options) for source in sources]
        with audio_progress("Transcribing", openings, split=split) as bar:
            run = partial(transcribe_channels, transcriber) if split else transcriber.transcribe_all
            failed = delivery.deliver_all(sources, run(openings, jobs=jobs, progress=bar.advance), bar)
        if verbose:
            print(f"note: {transcriber.model.summary()}", file=sys.stderr)
    if failed:
        raise typer.Exit(1)


@dataclass(frozen=True)
class _Delivery:
    """Destination of the results: stdout, or files for each recording.

    targets: recording -> its files in the order of ``formats``; empty for stdout.
    """

    formats: tuple[str, ...]
    layout: Layout
    targets: dict[Path, list[Path]]
    several: bool

    @classmethod
    def plan(
        cls, sources: Sequence[Source], folder: Path | None, output_format: str, layout: Layout, split: bool
    ) -> _Delivery:
        """Check before any work that every result can be written. Raises ``InputError`` and ``OutputError``."""
        from wav2vec2_core.audio.selection import output_paths
        from wav2vec2_core.captions import FORMATS, check_speakers
        from wav2vec2_core.errors import InputError
        from wav2vec2_core.files import make_folder

        formats = _ALL if output_format == "all" else (output_format,)
        for name in formats:
            check_speakers(name, ["left"] if split else [])
        if folder is None:
            if len(formats) > 1 or (len(sources) > 1 and output_format not in _STREAMABLE):
                raise InputError(
                    f"results of {len(sources)} recordings as {output_format} are several files: "
                    "name a folder with --output-dir"
                )
            return cls(formats, layout, {}, len(sources) > 1)
        targets = output_paths(sources, folder, [FORMATS[name] for name in formats])
        make_folder(folder)
        return cls(formats, layout, targets, len(sources) > 1)

    def missing(self, sources: Sequence[Source]) -> list[Source]:
        """The recordings whose files are incomplete. Raises ``InputError`` for stdout."""
        from wav2vec2_core.errors import InputError

        if not self.targets:
            raise InputError("--resume looks for files that are there already: name their folder with --output-dir")
        return [source for source in sources if not all(path.is_file() for path in self.targets[source.path])]

    def deliver_all(self, sources: Sequence[Source], results: Iterable[Result], bar: Quiet) -> int:
        """Write or print results as they arrive; returns the number of recordings that failed."""
        from wav2vec2_core.errors import Wav2Vec2Error

        failed = 0
        for source, result in zip(sources, results, strict=True):
            bar.note(result.notes)
            try:
                self.deliver(source, result.unwrap(), bar)
            except Wav2Vec2Error as error:
                failed += 1
                bar.complain(error, (str(source.path), source.name))
        return failed

    def deliver(self, source: Source, transcript: Transcript, bar: Quiet) -> None:
        """Write or print one transcript. Raises ``OutputError``."""
        from wav2vec2_core.cli.console import printable, shown
        from wav2vec2_core.files import make_folder, write_text

        name = shown(source.relative.name)
        if self.targets:
            for path, output_format in zip(self.targets[source.path], self.formats, strict=True):
                content = transcript.render(output_format, self.layout, name=name)
                if not path.parent.is_dir():
                    make_folder(path.parent)
                write_text(path, content)
        elif self.formats == ("json",):
            entry = {"file": source.name, **json.loads(transcript.render("json", self.layout))}
            bar.say(printable(json.dumps(entry, ensure_ascii=False)))
        elif self.formats == ("txt",):
            for line in transcript.lines:
                bar.say(printable(f"{shown(source.name)}\t{line}" if self.several else line))
        else:
            bar.say(printable(transcript.render(self.formats[0], self.layout, name=name)).rstrip("\n"))
