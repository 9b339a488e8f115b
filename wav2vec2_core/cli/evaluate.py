"""``wav2vec2 evaluate``: error rates of a model, or of existing hypotheses."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wav2vec2_core.cli.options import (
    Alpha,
    AudioTrack,
    BackendName,
    BeamWidth,
    Beta,
    Channel,
    Damaged,
    DeviceName,
    DtypeName,
    Hotwords,
    Language,
    LanguageModel,
    LowerCase,
    ModelName,
    Offline,
    OnDamage,
    RemovePunctuation,
    listed_words,
    reading,
)

if TYPE_CHECKING:
    from wav2vec2_core.data.manifest import Utterance
    from wav2vec2_core.evaluation import Evaluation, Scored
    from wav2vec2_core.metrics import Errors
    from wav2vec2_core.transcription import Transcriber


def evaluate(
    manifest: Annotated[
        Path,
        typer.Argument(
            metavar="DATA",
            help="Recordings with their texts: a manifest (.jsonl, .csv, .tsv), a folder, or tar shards.",
        ),
    ],
    model: ModelName = None,
    lm: LanguageModel = "auto",
    hotwords: Hotwords = None,
    beam_width: BeamWidth = None,
    alpha: Alpha = None,
    beta: Beta = None,
    hypotheses: Annotated[
        Path | None,
        typer.Option(help="Score these instead: a manifest with the same paths, or .txt with a line each."),
    ] = None,
    backend: BackendName = "torch",
    device: DeviceName = "auto",
    dtype: DtypeName = "float32",
    language: Language = None,
    channel: Channel = "mix",
    audio_track: AudioTrack = None,
    on_damage: Damaged = OnDamage.error,
    lower_case: LowerCase = False,
    remove_punctuation: RemovePunctuation = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write a row for each utterance there: .tsv or .json.")
    ] = None,
    worst: Annotated[int, typer.Option(min=0, help="Print so many utterances with the highest error rates.")] = 5,
    offline: Offline = False,
) -> None:
    """Word and character error rates with 95 % confidence intervals.

    A recording that cannot be read does not stop the others; it counts as failed, and the exit code is then 1.
    """
    from wav2vec2_core.cli.console import note_embedded_model, stoppable
    from wav2vec2_core.decoding.choice import DecoderOptions
    from wav2vec2_core.errors import InputError
    from wav2vec2_core.evaluation import read_hypotheses, score
    from wav2vec2_core.files import make_folder
    from wav2vec2_core.transcription import EMBEDDED_MODEL, Transcriber

    if output is not None and output.suffix not in (".tsv", ".json"):
        raise InputError(f"output {output} is neither .tsv nor .json: name it so")
    decoding = DecoderOptions(lm, listed_words(hotwords), beam_width, alpha, beta)
    if hypotheses is not None and (model is not None or decoding != DecoderOptions()):
        raise InputError("--hypotheses are scored without a model: leave out --model, --lm and the rest of decoding")
    options = reading(channel, audio_track, on_damage.value)
    utterances = _with_texts(manifest)
    if output is not None:
        make_folder(output.parent)
    with stoppable():
        if hypotheses is not None:
            pairs = iter(zip(utterances, read_hypotheses(hypotheses, utterances), strict=True))
        else:
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
            )
            pairs = _hypotheses(transcriber, utterances, options)
        evaluation = score(pairs, lower_case=lower_case, remove_punctuation=remove_punctuation)
    if output is not None:
        _write(evaluation, output)
    for line in _report(evaluation, worst):
        print(line)
    if evaluation.failed:
        raise typer.Exit(1)


def _with_texts(manifest: Path) -> list[Utterance]:
    """The utterances of the data. Raises ``InputError`` where one has no text."""
    from wav2vec2_core.data.opening import open_rows
    from wav2vec2_core.errors import InputError

    utterances = open_rows(manifest)
    without = next((utterance for utterance in utterances if utterance.text is None), None)
    if without is not None:
        raise InputError(f"{manifest} has no text for {without.path}: add what is said in it")
    return utterances


def _write(evaluation: Evaluation, output: Path) -> None:
    """Write a row for each utterance, in the format of the file's suffix. Raises ``OutputError``."""
    from wav2vec2_core.cli.console import printable, readable
    from wav2vec2_core.files import write_text

    json_text = json.dumps(evaluation.to_dict(), ensure_ascii=False, indent=2) + "\n"
    write_text(output, readable(evaluation.to_tsv()) if output.suffix == ".tsv" else printable(json_text, "utf-8"))


def _hypotheses(
    transcriber: Transcriber, utterances: Sequence[Utterance], options: Mapping[str, Any]
) -> Iterator[tuple[Utterance, str | None]]:
    """Yield the transcript of each utterance; ``None``, after a line on stderr, if it cannot be transcribed."""
    from wav2vec2_core.cli.progress import audio_progress
    from wav2vec2_core.evaluation import transcribe_utterances

    with audio_progress("Transcribing", [partial(one.recording, **options) for one in utterances]) as bar:
        results = transcribe_utterances(transcriber, utterances, progress=bar.advance, **options)
        for utterance, result in zip(utterances, results, strict=True):
            bar.note(result.notes)
            if result.error is not None:
                bar.complain(result.error, (str(utterance.path), str(utterance.path)))
            yield utterance, None if result.transcript is None else result.transcript.text


def _report(evaluation: Evaluation, worst: int) -> Iterator[str]:
    failed = f", {evaluation.failed} failed" if evaluation.failed else ""
    yield f"{len(evaluation.scored):,} utterances{failed}, {evaluation.words.length:,} words"
    yield _rate("WER", evaluation.words, evaluation.word_interval)
    yield _rate("CER", evaluation.characters, evaluation.character_interval)
    for item in evaluation.worst(worst):
        yield from _shown(item)


def _rate(name: str, errors: Errors, interval: tuple[float, float] | None) -> str:
    rate = "undefined (no words in the references)" if errors.rate is None else f"{errors.rate:.2%}"
    between = "" if interval is None else f" (95 % of resamples: {interval[0]:.2%} to {interval[1]:.2%})"
    return (
        f"{name} {rate}{between}: {errors.substitutions:,} substitutions, {errors.deletions:,} deletions, "
        f"{errors.insertions:,} insertions"
    )


def _shown(item: Scored) -> Iterator[str]:
    from wav2vec2_core.cli.console import shown

    rate = "" if item.words.rate is None else f"{item.words.rate:.0%} "
    stretch = f" at {item.utterance.offset:g} s" if item.utterance.offset else ""
    yield f"\n{rate}{shown(item.utterance.path)}{stretch}"
    yield f"  reference   {item.reference}"
    yield f"  hypothesis  {item.hypothesis}"
