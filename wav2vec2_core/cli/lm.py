"""``wav2vec2 lm``: builds, inspects, attaches and tunes n-gram language models."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from wav2vec2_core.cli.options import (
    AudioTrack,
    BackendName,
    Channel,
    Damaged,
    DeviceName,
    Language,
    LowerCase,
    Offline,
    OnDamage,
    RemovePunctuation,
    reading,
)

if TYPE_CHECKING:
    from wav2vec2_core.language_model.ngram import NgramModel

app = typer.Typer(
    name="lm", help="n-gram language models: estimate, look into, attach to a model, tune.", no_args_is_help=True
)
#: Options that take several numbers, as in lmplz, and their value without a number, if that is allowed.
_SEVERAL = {"--prune": None, "--discount-fallback": "0.5 1 1.5"}
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


class _SeveralNumbers(TyperCommand):
    """Accepts several separate numbers after an option of ``_SEVERAL``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        joined: list[str] = []
        rest = list(args)
        while rest:
            joined.append(rest.pop(0))
            if joined[-1] in _SEVERAL:
                numbers = []
                while rest and re.fullmatch(r"[\d., ]+", rest[0]):
                    numbers.append(rest.pop(0))
                value = " ".join(numbers) or _SEVERAL[joined[-1]]
                joined += [] if value is None else [value]
        return super().parse_args(ctx, joined)


@app.command(cls=_SeveralNumbers)
def build(
    texts: Annotated[
        list[Path],
        typer.Argument(metavar="TEXT...", help="UTF-8, one sentence a line; .gz, .bz2 and .xz too; - is stdin."),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="ARPA file, .gz to compress it; .bin or .binary: KenLM binary.")
    ],
    order: Annotated[int, typer.Option("--order", help="Longest n-gram.")] = 3,
    prune: Annotated[
        str, typer.Option("--prune", metavar="0 0 1", help="Per order, leave out n-grams that occur no more often.")
    ] = "0",
    vocabulary: Annotated[
        Path | None, typer.Option("--vocabulary", help="File of words; n-grams with others are left out.")
    ] = None,
    skip_symbols: Annotated[
        bool, typer.Option("--skip-symbols", help="Read <s>, </s>, <unk> in the text as white space.")
    ] = False,
    discount_fallback: Annotated[
        str | None,
        typer.Option(
            "--discount-fallback", metavar="0.5 1 1.5", help="Discounts for orders where the text gives none."
        ),
    ] = None,
    memory: Annotated[str, typer.Option("--memory", help="Working memory besides the vocabulary: 500M, 2G ...")] = "2G",
    temporary: Annotated[
        Path | None, typer.Option("--temp-dir", help="Folder for temporary files; the system's by default.")
    ] = None,
) -> None:
    """Estimate a language model from text, with interpolated modified Kneser-Ney smoothing."""
    from wav2vec2_core.language_model.estimation import estimate

    fallback = None if discount_fallback is None else _numbers(discount_fallback, "--discount-fallback", float)
    if fallback is not None and len(fallback) != 3:
        raise typer.BadParameter(f"--discount-fallback is {discount_fallback!r:.100}: give three numbers")
    discounts = None if fallback is None else (fallback[0], fallback[1], fallback[2])
    with _steps() as progress:
        made = estimate(
            [sys.stdin.buffer if str(text) == "-" else text for text in texts],
            output,
            order=order,
            prune=_numbers(prune, "--prune", int),
            vocabulary=vocabulary,
            skip_symbols=skip_symbols,
            discount_fallback=discounts,
            memory=_bytes(memory),
            temporary=temporary,
            progress=progress,
        )
    print(f"{output}: {made.words:,} words in {made.sentences:,} sentences")
    for size, (number, taken) in enumerate(zip(made.sizes, made.discounts, strict=True), 1):
        print(f"{size}-grams  {number:,}  discounts " + " ".join(f"{value:.4f}" for value in taken[1:]))


@app.command()
def info(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="ARPA file, also .gz, .bz2 or .xz, or KenLM binary.")],
) -> None:
    """Describe a language model: order, sizes, words."""
    from wav2vec2_core.language_model.ngram import UNKNOWN

    model = _open(file)
    sizes = model.layout.counts
    rows = [("file", f"{file}, {_size(file.stat().st_size)}"), ("order", str(model.order))]
    rows += [(f"{size}-grams", f"{number:,}") for size, number in enumerate(sizes, 1)]
    rows.append(("tables", _size(4 * model.layout.end)))
    words = model.unigrams
    rows.append(("words", "not in the file" if words is None else " ".join(words[:12]) + (" ..." * (len(words) > 12))))
    rows.append((f"log10 p({UNKNOWN})", f"{model.score([UNKNOWN], bos=False, eos=False):.4f}"))
    for name, value in rows:
        print(f"{name:<15}  {value}")


@app.command()
def query(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="ARPA file, also .gz, .bz2 or .xz, or KenLM binary.")],
    texts: Annotated[
        list[Path] | None, typer.Argument(metavar="[TEXT...]", help="One sentence a line; stdin by default.")
    ] = None,
    sentences: Annotated[
        bool, typer.Option("--sentences", help="Print the log10 probability of each sentence.")
    ] = False,
) -> None:
    """Score text: perplexity with and without unknown words."""
    from wav2vec2_core.language_model.scoring import score_texts

    opened = [sys.stdin.buffer if str(text) == "-" else text for text in texts or [Path("-")]]
    total = score_texts(
        _open(file), opened, print_sentence=(lambda score: print(f"{score:.4f}")) if sentences else None
    )
    print(f"sentences                    {total.sentences:,}")
    print(f"words                        {total.words:,}")
    print(f"unknown words                {total.unknown:,}")
    print(f"perplexity                   {total.perplexity:.4f}")
    print(f"perplexity without unknowns  {total.known_perplexity:.4f}")


@app.command()
def attach(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Model folder or hub id with a CTC vocabulary.")],
    language_model: Annotated[
        Path, typer.Argument(metavar="LM", help="ARPA file, also .gz, .bz2 or .xz, or KenLM binary.")
    ],
    unigrams: Annotated[
        Path | None, typer.Option("--unigrams", help="Words that count as known, one a line; by default the model's.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder for model and language model; by default MODEL itself."),
    ] = None,
    language: Language = None,
    offline: Offline = False,
) -> None:
    """Attach a language model to a speech model: alphabet.json and the folder language_model."""
    from wav2vec2_core.attaching import attach_to_model

    folder, notes = attach_to_model(
        model, language_model, unigrams=unigrams, output=output, language=language, local_files_only=offline
    )
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    print(folder)


@app.command()
def tune(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Model folder with a language model (lm attach).")],
    manifest: Annotated[
        Path, typer.Argument(metavar="DATA", help="Recordings with texts: a manifest, a folder, or tar shards.")
    ],
    trials: Annotated[int, typer.Option("--trials", help="Pairs of weights to try.")] = 128,
    threads: Annotated[int, typer.Option("--threads", help="Recordings decoded at once; 0: one per core.")] = 0,
    backend: BackendName = "torch",
    device: DeviceName = "auto",
    language: Language = None,
    channel: Channel = "mix",
    audio_track: AudioTrack = None,
    on_damage: Damaged = OnDamage.error,
    lower_case: LowerCase = False,
    remove_punctuation: RemovePunctuation = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the best weights without saving them.")] = False,
) -> None:
    """Find the weights alpha and beta with the fewest word errors on a development set, and save them in attrs.json."""
    from wav2vec2_core.language_model.folder import ATTRIBUTES, FOLDER
    from wav2vec2_core.tuning import tune_model

    with _steps() as progress:
        found = tune_model(
            model,
            manifest,
            trials=trials,
            threads=threads,
            backend=backend,
            device=device,
            language=language,
            lower_case=lower_case,
            remove_punctuation=remove_punctuation,
            save=not dry_run,
            reading=reading(channel, audio_track, on_damage.value),
            progress=progress,
        )
    print("  alpha     beta     WER  errors")
    for trial in found.trials[:10]:
        print(f"{trial.alpha:7.4f}  {trial.beta:7.4f}  {trial.wer:6.2%}  {trial.errors:6,}")
    print(f"greedy decoding {found.greedy_wer:.2%}, the weights before {found.before.wer:.2%}")
    if not dry_run:
        best = found.trials[0]
        print(f"note: {model / FOLDER / ATTRIBUTES} has alpha={best.alpha} and beta={best.beta} now", file=sys.stderr)


def _open(file: Path) -> NgramModel:
    from wav2vec2_core.language_model.ngram import NgramModel

    with _steps() as progress:
        return NgramModel.open(file, lambda part: progress("reading", part))


def _numbers(text: str, option: str, kind: Callable[[str], Any]) -> list[Any]:
    try:
        return [kind(part) for part in text.replace(",", " ").split()]
    except ValueError as error:
        raise typer.BadParameter(f"{option} is {text!r:.100}: give numbers") from error


def _bytes(text: str) -> int:
    matched = re.fullmatch(r"(\d+(?:\.\d+)?)([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    if not matched:
        raise typer.BadParameter(f"--memory is {text!r:.100}: give bytes, or a number with K, M, G or T")
    return int(float(matched[1]) * _UNITS[matched[2].upper()])


def _size(count: int) -> str:
    return f"{count / 1e6:,.1f} MB" if count >= 1e6 else f"{count / 1e3:,.1f} kB"


@contextmanager
def _steps() -> Iterator[Callable[[str, float], None]]:
    """A progress bar on stderr for each step, if stderr is a terminal."""
    if not sys.stderr.isatty():
        yield lambda step, part: None
        return
    from rich.console import Console
    from rich.progress import Progress, TaskID

    with Progress(console=Console(stderr=True), transient=True) as bars:
        tasks: dict[str, TaskID] = {}

        def report(step: str, part: float) -> None:
            if step not in tasks:
                tasks[step] = bars.add_task(step, total=1.0)
            bars.update(tasks[step], completed=part)

        yield report
