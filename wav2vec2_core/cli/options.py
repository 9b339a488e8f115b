"""Options shared by several commands."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer


class OnDamage(StrEnum):
    """How to treat a recording of which a part cannot be read."""

    error = "error"
    keep = "keep"


# What options are for: the headings of a command's help.
MODEL = "Model and device"
READING = "Reading recordings"
TEXT = "Letters and language model"
OUTPUT = "Results"
DATA = "Data"
TRAINING = "Training"
RUN = "The run"

ModelName = Annotated[
    str | None,
    typer.Option(
        help="Model folder or hub id. Without it: a small embedded model that hears digits.", rich_help_panel=MODEL
    ),
]
BackendName = Annotated[
    str, typer.Option(help="Framework that runs the model: torch, tf or flax.", rich_help_panel=MODEL)
]
DeviceName = Annotated[str, typer.Option(help="cpu, cuda, cuda:1 ...; auto takes the best one.", rich_help_panel=MODEL)]
DtypeName = Annotated[
    str, typer.Option(help="float32, bfloat16, float16, or int8 (torch, on the CPU).", rich_help_panel=MODEL)
]
Language = Annotated[str | None, typer.Option(help="Language of an MMS model, such as fra.", rich_help_panel=MODEL)]
LanguageModel = Annotated[
    str,
    typer.Option(
        metavar="auto|none|PATH",
        help="Language model: auto takes the model's own, if it has one; or a file (ARPA, KenLM) or folder.",
        rich_help_panel=TEXT,
    ),
]
Hotwords = Annotated[str | None, typer.Option(help="Words to prefer, with commas.", rich_help_panel=TEXT)]
BeamWidth = Annotated[
    int | None, typer.Option(help="Beams of the search; greedy without it and an lm.", rich_help_panel=TEXT)
]
Alpha = Annotated[float | None, typer.Option(help="Weight of the language model.", rich_help_panel=TEXT)]
Beta = Annotated[float | None, typer.Option(help="Score for each word, with a language model.", rich_help_panel=TEXT)]
Offline = Annotated[bool, typer.Option("--offline", help="Use local files only, never the hub.", rich_help_panel=MODEL)]
Channel = Annotated[
    str,
    typer.Option(
        metavar="mix|left|right|N", help="Channel that is read, N from 0; mix averages them.", rich_help_panel=READING
    ),
]
ChannelOrSplit = Annotated[
    str,
    typer.Option(
        metavar="mix|left|right|N|split",
        help="Channel that is read, N from 0; mix averages them; split: each is a speaker of its own.",
        rich_help_panel=READING,
    ),
]
AudioTrack = Annotated[
    str | None,
    typer.Option(
        metavar="N|LANGUAGE",
        help="Track of a file with several, N from 0; by default the file's own.",
        rich_help_panel=READING,
    ),
]
Damaged = Annotated[
    OnDamage,
    typer.Option(
        "--on-damage", help="Of a damaged recording: refuse it, or keep what can be read.", rich_help_panel=READING
    ),
]
Recursive = Annotated[bool, typer.Option("--recursive", "-r", help="Folders in folders too.", rich_help_panel=READING)]
Resume = Annotated[
    bool, typer.Option("--resume", help="Skip recordings whose files are there already.", rich_help_panel=OUTPUT)
]
Window = Annotated[
    str,
    typer.Option(
        help="How long recordings are cut: auto; SECONDS[:CONTEXT], a window and what is dropped on either side; "
        "legacy[:SECONDS[:CONTEXT]], as transformers' pipeline does.",
        rich_help_panel=READING,
    ),
]
LowerCase = Annotated[bool, typer.Option("--lower-case", help="Compare without regard to case.", rich_help_panel=TEXT)]
RemovePunctuation = Annotated[
    bool,
    typer.Option(
        "--remove-punctuation", help="Compare without punctuation, apostrophes in words excepted.", rich_help_panel=TEXT
    ),
]
Vocabulary = Annotated[
    str | None,
    typer.Option(
        metavar="model|text|FILE",
        help="The model's own letters, those of the training texts, or those of a vocab.json; by default the model's "
        "own where it has some. Letters that the model knows keep their outputs.",
        rich_help_panel=TEXT,
    ),
]
Case = Annotated[
    str,
    typer.Option(metavar="keep|lower|upper", help="Case of the texts, to learn and to score.", rich_help_panel=TEXT),
]
MaxLineWidth = Annotated[int | None, typer.Option(help="Characters of a line of srt and vtt.", rich_help_panel=OUTPUT)]
MaxLineCount = Annotated[int | None, typer.Option(help="Lines of a caption.", rich_help_panel=OUTPUT)]
MaxWordsPerLine = Annotated[int | None, typer.Option(help="Words of a caption.", rich_help_panel=OUTPUT)]
HighlightWords = Annotated[
    bool,
    typer.Option(
        "--highlight-words", help="Underline each word while it is spoken, in srt and vtt.", rich_help_panel=OUTPUT
    ),
]


def listed_words(hotwords: str | None) -> tuple[str, ...]:
    """The words of ``Hotwords``."""
    return tuple(word for word in (part.strip() for part in (hotwords or "").split(",")) if word)


def reading(channel: str, audio_track: str | None, on_damage: str) -> dict[str, Any]:
    """Options of ``Recording.open`` from those of a command. Raises ``InputError``."""
    from wav2vec2_core.errors import InputError

    if channel not in ("mix", "left", "right") and not channel.isdecimal():
        raise InputError(f"channel {channel[:100]!r} is not possible here: use mix, left, right or a number from 0")
    return {
        "channel": int(channel) if channel.isdecimal() else channel,
        "track": int(audio_track) if audio_track is not None and audio_track.isdecimal() else audio_track,
        "on_damage": str(on_damage),
    }
