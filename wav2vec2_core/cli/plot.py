"""``wav2vec2 plot``: a recording as a picture, with the words that are heard in it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wav2vec2_core.cli.align import read_text
from wav2vec2_core.cli.options import (
    OUTPUT,
    READING,
    AudioTrack,
    BackendName,
    Channel,
    Damaged,
    DeviceName,
    DtypeName,
    Language,
    LanguageModel,
    ModelName,
    Offline,
    OnDamage,
    reading,
)


def plot(
    audio: Annotated[Path, typer.Argument(metavar="AUDIO", help="A recording of any format.")],
    text: Annotated[
        str | None, typer.Argument(metavar="[TEXT]", help="A file with what is said, - for stdin; heard without it.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="PNG|SVG", rich_help_panel=OUTPUT, help="The picture; AUDIO's name with .png."
        ),
    ] = None,
    model: ModelName = None,
    backend: BackendName = "torch",
    device: DeviceName = "auto",
    dtype: DtypeName = "float32",
    language: Language = None,
    lm: LanguageModel = "auto",
    start: Annotated[float, typer.Option(rich_help_panel=READING, help="Second to begin at.")] = 0.0,
    end: Annotated[float | None, typer.Option(rich_help_panel=READING, help="Second to end at.")] = None,
    channel: Channel = "mix",
    audio_track: AudioTrack = None,
    on_damage: Damaged = OnDamage.error,
    offline: Offline = False,
) -> None:
    """Draw waveform and spectrogram of a recording with its words, characters and their confidences."""
    from wav2vec2_core.alignment import Aligner
    from wav2vec2_core.audio import Recording
    from wav2vec2_core.cli.console import note_embedded_model, print_notes, printable, stoppable
    from wav2vec2_core.decoding.choice import DecoderOptions
    from wav2vec2_core.plotting import check_plot, save_plot
    from wav2vec2_core.plotting import plot as draw
    from wav2vec2_core.transcription import EMBEDDED_MODEL, Transcriber

    target = Path(f"{audio.stem}.png") if output is None else output
    recording = Recording.open(audio, start, end, **reading(channel, audio_track, on_damage.value))
    said = None if text is None else read_text(text, audio)
    check_plot(recording, target)
    if model is None:
        note_embedded_model()
    with stoppable():
        transcriber = Transcriber(
            model or EMBEDDED_MODEL,
            backend=backend,
            device=device,
            dtype=dtype,
            language=language,
            local_files_only=offline,
            decoding=DecoderOptions(lm if said is None else "none"),
        )
        if said is None:
            words = list(transcriber.transcribe(recording).timed_words)
        else:
            segments = Aligner.of(transcriber).align(recording, said).segments
            words = [word for segment in segments for word in segment.words]
        print_notes([*save_plot(draw(recording, words), target), *recording.notes])
    print(printable(str(target)))
