"""``wav2vec2 export``: a model as a program that another runtime runs, with a receipt."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wav2vec2_core.cli.options import Language, Offline

if TYPE_CHECKING:
    from wav2vec2_core.exporting import ExportReceipt


class Precision(StrEnum):
    """Types of a program's weights and computations."""

    float32 = "float32"
    float16 = "float16"
    bfloat16 = "bfloat16"
    int8 = "int8"


class Program(StrEnum):
    """Formats of programs."""

    onnx = "onnx"
    openvino = "openvino"
    torch_export = "torch-export"
    saved_model = "saved-model"
    litert = "litert"
    stablehlo = "stablehlo"


def export(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Model folder or hub id.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="Folder for the result; a new or an empty one.")],
    to: Annotated[
        Program, typer.Option("--to", help="What to write. Extras: torch with onnx, openvino or nothing; tf; tf; flax.")
    ] = Program.onnx,
    precision: Annotated[
        Precision,
        typer.Option(
            help="float16: onnx, openvino, torch-export; bfloat16: torch-export; int8: onnx, its changes are stated."
        ),
    ] = Precision.float32,
    head: Annotated[
        str | None, typer.Option(help="ForCTC, ForPreTraining, Model ...; without it the model's own.")
    ] = None,
    fold_normalisation: Annotated[
        bool,
        typer.Option(
            "--fold-normalisation",
            help="The program scales waveforms itself, not the caller; not with stablehlo.",
        ),
    ] = False,
    verify: Annotated[
        list[Path] | None,
        typer.Option(metavar="AUDIO", help="A recording to compare, beside a test signal; may be repeated."),
    ] = None,
    language: Language = None,
    as_json: Annotated[bool, typer.Option("--json", help="The receipt as JSON.")] = False,
    offline: Offline = False,
) -> None:
    """Export a model. OUT appears when its program has been run beside the model and has its numbers."""
    from wav2vec2_core.cli.console import printable, stoppable
    from wav2vec2_core.exporting import export as export_model

    with stoppable():
        receipt = export_model(
            model,
            target,
            to.value,
            head=head,
            precision=precision.value,
            fold_normalisation=fold_normalisation,
            language=language,
            verify=verify or (),
            local_files_only=offline,
        )
    if as_json:
        print(json.dumps(receipt.to_dict(), ensure_ascii=False))
        return
    rows = _rows(receipt)
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(printable(f"{name:<{width}}  {value}"))


#: What ``export.json`` says about the program in whole sentences.
_REMARKS = ("too_short", "reading", "computing")
#: Those that a user of the program must know at once.
_WARNINGS = ("reading", "computing")
_NORMALISATION = {
    "in the program": "in the program: it takes waveforms of any level",
    "by the caller": "by the caller, as preprocessor_config.json says: zero mean and unit variance for each waveform",
    "none": "none: the model takes waveforms as they are",
}


def _rows(receipt: ExportReceipt) -> list[tuple[str, str]]:
    rows = [
        ("from", receipt.source),
        ("to", f"{receipt.target} ({receipt.format}, {receipt.precision})"),
        ("head", f"Wav2Vec2{receipt.head}"),
        *([("language", receipt.language)] if receipt.language else []),
        ("files", ", ".join(receipt.files)),
        *((f"input {name}", meaning) for name, meaning in receipt.inputs.items()),
        *((f"output {name}", meaning) for name, meaning in receipt.outputs.items()),
        ("normalisation", _NORMALISATION[receipt.normalisation]),
        ("waveforms", f"{receipt.sampling_rate} Hz, {receipt.shortest} samples or more"),
        ("about", ", ".join(f"{name} {value}" for name, value in receipt.about.items() if name not in _REMARKS)),
        *((name, receipt.about[name]) for name in _WARNINGS if name in receipt.about),
        ("difference", f"{receipt.largest_difference:.1e} at most, of {len(receipt.compared)} runs"),
    ]
    if receipt.same_text is not None:
        rows.append(("text", _text(receipt)))
    return rows


def _text(receipt: ExportReceipt) -> str:
    if receipt.same_text:
        return "the same in every run"
    other = sum(one.text != one.expected for one in receipt.compared)
    rate = receipt.word_error_rate
    return f"another in {other} of {len(receipt.compared)} runs" + (
        "" if rate is None else f"; {100 * rate:.2f}% of the words of the recordings"
    )
