"""``wav2vec2 listen``: transcribes raw samples from standard input as they arrive."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from wav2vec2_core.cli.options import BackendName, DeviceName, DtypeName, Language, ModelName, Offline

if TYPE_CHECKING:
    from wav2vec2_core.decoding import Timeline, Word
    from wav2vec2_core.streaming import StreamUpdate


def listen(
    model: ModelName = None,
    backend: BackendName = "torch",
    device: DeviceName = "auto",
    dtype: DtypeName = "float32",
    language: Language = None,
    sample_format: Annotated[str, typer.Option("--format", help="Of the samples: s16le or f32le.")] = "s16le",
    rate: Annotated[int, typer.Option(help="Of the samples, in hertz.")] = 16_000,
    channels: Annotated[int, typer.Option(min=1, help="Of the samples; they are averaged.")] = 1,
    offline: Offline = False,
) -> None:
    """Transcribe raw samples from standard input as they arrive: arecord -f S16_LE -r 16000 | wav2vec2 listen

    Prints a line for each stretch of speech between pauses; on a terminal the current line grows as it is spoken.
    """
    from wav2vec2_core.audio import resample_blocks
    from wav2vec2_core.audio.raw import PcmReader
    from wav2vec2_core.errors import InputError
    from wav2vec2_core.streaming import StreamingTranscriber
    from wav2vec2_core.transcription import EMBEDDED_MODEL, Transcriber

    if sys.stdin.isatty():
        raise InputError("standard input is a terminal: pipe raw samples into it, as arecord or ffmpeg write them")
    reader = PcmReader(sys.stdin.buffer, sample_format, channels)
    transcriber = Transcriber(
        model or EMBEDDED_MODEL,
        backend=backend,
        device=device,
        dtype=dtype,
        language=language,
        local_files_only=offline,
    )
    stream = StreamingTranscriber(transcriber)
    lines = Lines(transcriber.timeline)
    stopped = False
    try:
        for block in resample_blocks(reader, rate, transcriber.timeline.sampling_rate):
            lines.show(stream.feed(block), stream.seconds)
    except KeyboardInterrupt:  # the usual end of a recording from a microphone
        stopped = True
    lines.show(stream.finish(), float("inf"))
    if reader.leftover:
        print(f"note: the stream stops inside a sample: its last {reader.leftover} bytes are left out", file=sys.stderr)
    if stopped:
        raise typer.Exit(130)


class Lines:
    """Text on stdout: a line once a pause ends it, and on a terminal also the current line."""

    def __init__(self, timeline: Timeline) -> None:
        self._timeline, self._live = timeline, sys.stdout.isatty()
        self._words: list[Word] = []

    def show(self, heard: StreamUpdate, seconds: float) -> None:
        """Show an update; ``seconds``: the end of the final part of the stream."""
        from wav2vec2_core.captions import PAUSE, segments_of

        self._words += heard.words
        segments = segments_of(self._words, self._timeline)
        is_open = bool(segments) and (bool(heard.partial) or seconds - segments[-1].end < PAUSE)
        for segment in segments[:-1] if is_open else segments:
            self._finish(segment.text)
            del self._words[: len(segment.words)]
        if self._live:
            self._replace(" ".join(filter(None, [*(word.text for word in self._words), heard.partial])))

    def _finish(self, text: str) -> None:
        print(f"\r\x1b[K{text}" if self._live else text, flush=True)

    def _replace(self, text: str) -> None:
        """Redraw the current line, cut at the left if it is wider than the terminal."""
        from shutil import get_terminal_size

        width = get_terminal_size().columns - 1
        print(f"\r\x1b[K{text[-width:]}", end="", flush=True)
