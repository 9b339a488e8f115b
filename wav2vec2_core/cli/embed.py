"""``wav2vec2 embed``: hidden states of recordings to files."""

from __future__ import annotations

from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from wav2vec2_core.cli.options import (
    AudioTrack,
    BackendName,
    Channel,
    Damaged,
    DeviceName,
    DtypeName,
    Offline,
    OnDamage,
    Recursive,
    Resume,
    reading,
)


class EmbeddingFormat(StrEnum):
    """File formats."""

    npz = "npz"
    safetensors = "safetensors"


def embed(
    files: Annotated[
        list[str], typer.Argument(metavar="PATH...", help="Recordings and videos, folders, patterns, - for stdin.")
    ],
    output_dir: Annotated[Path, typer.Option("--output-dir", "-o", help="Folder for <stem>.<format>.")],
    model: Annotated[str | None, typer.Option(help="Model folder or hub id; by default the embedded one.")] = None,
    layers: Annotated[
        str, typer.Option(help="Layers, with commas: 0 is the transformer's input, -1 its last one.")
    ] = "-1",
    output_format: Annotated[EmbeddingFormat, typer.Option("--output-format", "-f")] = EmbeddingFormat.npz,
    backend: BackendName = "torch",
    device: DeviceName = "auto",
    dtype: DtypeName = "float32",
    channel: Channel = "mix",
    audio_track: AudioTrack = None,
    on_damage: Damaged = OnDamage.error,
    recursive: Recursive = False,
    resume: Resume = False,
    window: Annotated[str, typer.Option(help="How long recordings are cut: auto or SECONDS[:CONTEXT].")] = "auto",
    offline: Offline = False,
) -> None:
    """Write hidden states: an array layer_<n> (frames, hidden) for each layer. The exit code is 1 if a file fails."""
    from wav2vec2_core.cli.console import stoppable

    failed = 0
    with stoppable("finished files are kept, --resume goes on with the others"):
        from wav2vec2_core.audio.selection import find_sources, output_paths
        from wav2vec2_core.cli.progress import audio_progress
        from wav2vec2_core.embedding import Embedder
        from wav2vec2_core.errors import Wav2Vec2Error
        from wav2vec2_core.files import make_folder
        from wav2vec2_core.long_form.windows import Window
        from wav2vec2_core.transcription import EMBEDDED_MODEL

        numbers, cut = _numbers(layers), Window.parse(window)
        options = reading(channel, audio_track, on_damage.value)
        sources = find_sources(files, recursive=recursive)
        targets = output_paths(sources, output_dir, [output_format.value])
        make_folder(output_dir)
        if resume:
            sources = [source for source in sources if not targets[source.path][0].is_file()]
        embedder = Embedder(
            model or EMBEDDED_MODEL,
            layers=numbers,
            backend=backend,
            device=device,
            dtype=dtype,
            local_files_only=offline,
            window=cut,
        )
        openings = [partial(source.recording, **options) for source in sources]
        with audio_progress("Embedding", openings) as bar:
            for source, open_recording in zip(sources, openings, strict=True):
                target = targets[source.path][0]
                try:
                    recording = embedder.open(open_recording())
                    make_folder(target.parent)
                    embedder.write(recording, target, bar.advance)
                    bar.note(recording.notes)
                except Wav2Vec2Error as error:
                    failed += 1
                    bar.complain(error, (str(source.path), source.name))
    if failed:
        raise typer.Exit(1)


def _numbers(text: str) -> list[int]:
    """Layer numbers. Raises ``InputError``."""
    from wav2vec2_core.errors import InputError

    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise InputError(f"layers {text!r:.100} are no numbers: write them as 0,6,-1") from error
