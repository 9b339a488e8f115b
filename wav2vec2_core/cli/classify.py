"""``wav2vec2 classify``: labels of recordings or of their frames, and speaker vectors."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

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
    reading,
)

if TYPE_CHECKING:
    from wav2vec2_core.audio import Recording
    from wav2vec2_core.classification import Classifier


def classify(
    files: Annotated[
        list[str], typer.Argument(metavar="PATH...", help="Recordings and videos, folders, patterns, - for stdin.")
    ],
    model: Annotated[str, typer.Option(help="Model folder or hub id, with a classification or x-vector head.")],
    top: Annotated[int, typer.Option(min=1, help="Labels of a recording.")] = 5,
    compare: Annotated[
        bool, typer.Option("--compare", help="Cosine similarity of the speakers of two recordings (x-vector models).")
    ] = False,
    backend: BackendName = "torch",
    device: DeviceName = "auto",
    dtype: DtypeName = "float32",
    channel: Channel = "mix",
    audio_track: AudioTrack = None,
    on_damage: Damaged = OnDamage.error,
    recursive: Recursive = False,
    window: Annotated[str, typer.Option(help="How long recordings are cut: auto or SECONDS[:CONTEXT].")] = "auto",
    offline: Offline = False,
) -> None:
    """Classify recordings: one line of JSON each. The exit code is 1 if a file fails.

    Utterance heads return the most probable labels, or the values of a regression; frame heads spans of time, x-vector
    heads a speaker vector.
    """
    from wav2vec2_core.cli.console import stoppable

    failed = 0
    with stoppable():
        from wav2vec2_core.audio.selection import find_sources
        from wav2vec2_core.classification import Classifier
        from wav2vec2_core.cli.console import printable
        from wav2vec2_core.cli.progress import audio_progress
        from wav2vec2_core.errors import InputError, Wav2Vec2Error
        from wav2vec2_core.long_form.windows import Window

        cut = Window.parse(window)
        options = reading(channel, audio_track, on_damage.value)
        sources = find_sources(files, recursive=recursive)
        if compare and len(sources) != 2:
            raise InputError(f"--compare takes two recordings and {len(sources)} are named: name two")
        classifier = Classifier(
            model, backend=backend, device=device, dtype=dtype, local_files_only=offline, window=cut
        )
        openings = [partial(source.recording, **options) for source in sources]
        if compare:
            typer.echo(f"{_similarity(classifier, *openings):.4f}")
            return
        with audio_progress("Classifying", openings) as bar:
            for source, open_recording in zip(sources, openings, strict=True):
                try:
                    recording = classifier.open(open_recording())
                    found = {"file": source.name, **_answer(classifier, recording, top, bar.advance)}
                    bar.note(recording.notes)
                    if recording.damage is not None:
                        found["damage"] = asdict(recording.damage)
                    bar.say(printable(json.dumps(found, ensure_ascii=False)))
                except Wav2Vec2Error as error:
                    failed += 1
                    bar.complain(error, (str(source.path), source.name))
    if failed:
        raise typer.Exit(1)


def _similarity(classifier: Classifier, *openings: Callable[[], Recording]) -> float:
    """Cosine similarity of two speakers."""
    from wav2vec2_core.classification import similarity
    from wav2vec2_core.cli.console import print_notes

    vectors = []
    for open_recording in openings:
        recording = classifier.open(open_recording())
        vectors.append(classifier.speaker(recording))
        print_notes(recording.notes)
    return similarity(*vectors)


def _answer(classifier: Classifier, recording: Recording, top: int, progress: Any) -> dict[str, Any]:
    from wav2vec2_core.classification import FRAMES, UTTERANCES

    if classifier.head == UTTERANCES:
        labels = classifier.classify(recording, top, progress)
        what = "value" if classifier.is_regression else "probability"
        return {"labels": [{"label": one.name, what: round(one.probability, 6)} for one in labels]}
    if classifier.head == FRAMES:
        return {
            "spans": [
                {
                    "label": span.name,
                    "start": round(span.start, 3),
                    "end": round(span.end, 3),
                    "probability": round(span.probability, 4),
                }
                for span in classifier.spans(recording, progress)
            ]
        }
    return {"embedding": [round(float(number), 7) for number in classifier.speaker(recording, progress)]}
