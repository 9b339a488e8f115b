"""``wav2vec2 convert``: a model from one format into another, with a receipt."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wav2vec2_core.cli.options import Offline

if TYPE_CHECKING:
    from wav2vec2_core.conversion import Receipt


class Format(StrEnum):
    """Target formats."""

    safetensors = "safetensors"
    torch = "torch"
    tf = "tf"
    flax = "flax"
    fairseq = "fairseq"


def convert(
    source: Annotated[
        str, typer.Argument(metavar="SRC", help="Model folder, hub id, or a file of fairseq, fairseq2 or torchaudio.")
    ],
    target: Annotated[Path, typer.Argument(metavar="DST", help="Folder for the result; an earlier one is replaced.")],
    to: Annotated[Format, typer.Option("--to", help="What to write.")] = Format.safetensors,
    head: Annotated[
        str | None, typer.Option(help="ForCTC, ForPreTraining, Model ...; without it the source's own.")
    ] = None,
    dtype: Annotated[str | None, typer.Option(help="float32, bfloat16 or float16; without it as stored.")] = None,
    max_shard_size: Annotated[
        str | None, typer.Option(help="Such as 2GB; safetensors and torch. [default: 5GB]")
    ] = None,
    verify: Annotated[bool, typer.Option(help="Read the result back and run both models on a test signal.")] = True,
    config: Annotated[Path | None, typer.Option(help="A config.json, for a file that does not tell enough.")] = None,
    vocabulary: Annotated[
        Path | None, typer.Option(help="dict.ltr.txt or vocab.json of a file; without it that beside the file.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The receipt as JSON.")] = False,
    offline: Offline = False,
) -> None:
    """Convert a model. DST appears when it is complete, with the receipt in conversion.json; SRC is not changed."""
    from wav2vec2_core.conversion import convert as convert_model

    receipt = convert_model(
        source,
        target,
        to.value,
        head=head,
        dtype=dtype,
        max_shard_size=max_shard_size,
        verify=verify,
        config=config,
        vocabulary=vocabulary,
        local_files_only=offline,
    )
    if as_json:
        print(json.dumps(receipt.to_dict(), ensure_ascii=False))
        return
    rows = _rows(receipt)
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name:<{width}}  {value}")


def _rows(receipt: Receipt) -> list[tuple[str, str]]:
    rows = [
        ("from", f"{receipt.source} ({receipt.source_format}, {receipt.source_bytes / 1e6:,.1f} MB)"),
        ("to", f"{receipt.target} ({receipt.target_format}, {receipt.target_bytes / 1e6:,.1f} MB)"),
        ("head", f"Wav2Vec2{receipt.head}"),
        ("parameters", f"{receipt.parameters:,}, {', '.join(receipt.dtypes)}"),
        ("files", ", ".join(receipt.files)),
    ]
    if receipt.renamed:
        ours, theirs = next(iter(receipt.renamed.items()))
        rows.append(("renamed", f"{len(receipt.renamed)} parameters, such as {theirs} -> {ours}"))
    for title, values in (
        ("carried", receipt.carried),
        ("dropped", receipt.dropped),
        ("guessed", receipt.guessed),
    ):
        if values:
            more = f" ... ({len(values) - 8} more)" if len(values) > 8 else ""
            rows.append((title, ", ".join(values[:8]) + more))
    if receipt.arrays_equal is not None:
        rows.append(("arrays", f"{receipt.arrays_equal} read back, all bit for bit as written"))
    if receipt.largest_difference is None:
        rows.append(("outputs", receipt.compared))
    else:
        difference = f"largest difference {receipt.largest_difference:.2e} of {receipt.output_scale:.2e}"
        rows.append(("outputs", f"{difference}, {receipt.compared}"))
    return rows + [("note", note) for note in receipt.notes]
