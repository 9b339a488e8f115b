"""Models as programs that other runtimes run, each proved by its own runtime against the plain model.

receipt = export("my-model", "for-onnx", "onnx")
print(receipt.largest_difference, receipt.same_text)
"""

from __future__ import annotations

import copy
import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from wav2vec2_core.audio import Recording
from wav2vec2_core.backend import ExportedProgram, InferenceModel, load_backend
from wav2vec2_core.checkpoint import open_model
from wav2vec2_core.checkpoint.opening import EXPORT_RECEIPT as RECEIPT
from wav2vec2_core.classification import head_of_source
from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.errors import AudioError, InputError, OutputError
from wav2vec2_core.feature_extraction import Wav2Vec2FeatureExtractor
from wav2vec2_core.files import atomic_folder, write_json
from wav2vec2_core.inputs import shortest_waveform
from wav2vec2_core.long_form.windows import too_short
from wav2vec2_core.metrics import Errors, word_errors
from wav2vec2_core.names import HEADS, WHOLE_HEADS
from wav2vec2_core.processing import Wav2Vec2Processor
from wav2vec2_core.runtime_files import write_runtime_files
from wav2vec2_core.tokenization import Wav2Vec2CTCTokenizer
from wav2vec2_core.transcription import processor_of

#: Format -> the back end that writes it.
FORMATS = {
    "onnx": "torch",
    "openvino": "torch",
    "torch-export": "torch",
    "saved-model": "tf",
    "litert": "tf",
    "stablehlo": "flax",
}
#: Precision -> the formats whose runtime holds it.
PRECISIONS = {
    "float32": tuple(FORMATS),
    "float16": ("onnx", "openvino", "torch-export"),
    "bfloat16": ("torch-export",),
    "int8": ("onnx",),
}
#: Precision -> largest difference of a program from its float32 model, relative to the model's largest output; what 8
#: bits change depends on the model, so it is stated and not limited.
LIMITS = {"float32": 1e-4, "float16": 2e-2, "bfloat16": 2e-2, "int8": None}
#: Frames that a row must have where one is not enough: ``torch.export`` traces a size of 1 as another program.
_FRAMES = {"torch-export": 2}
_LONGEST = 60.0  # seconds of a recording that are compared: attention in one piece takes memory
_TEST_SIGNAL = "test signal"
_TEST_FRAMES = (50, 135)  # of noise with a tone, 1 s and 2.7 s mostly, beside the shortest that the model takes


@dataclass(frozen=True)
class Comparison:
    """One waveform through the program and through the model.

    name: of the recording, or "test signal"; samples: its length; difference: the largest, relative to the model's
    largest output; text, expected: the program's and the model's text, or label; None where a head has neither.
    """

    name: str
    samples: int
    difference: float
    text: str | None = None
    expected: str | None = None


@dataclass(kw_only=True)
class ExportReceipt:
    """The result of an export.

    Attributes:
        source, target, format, precision, head: what was exported, and where to.
        normalisation: who scales waveforms to zero mean and unit variance: ``in the program``, ``by the caller``, or
            ``none`` for a model that takes them as they are.
        sampling_rate: of the waveforms, in hertz.
        shortest: samples that a row must have.
        inputs, outputs: name -> type, shape and meaning.
        language: of an MMS model, the one that the program speaks; None where there is no choice.
        about: what else describes the program, such as its opset and the version of its runtime.
        files: names of what was written.
        compared: each waveform alone and, where the format has batches, the lengths of a recording in one batch.
        largest_difference: of ``compared``.
        limit: the largest that is accepted; None for 8 bits.
        same_text: whether every text or label is that of the model; None where the head has neither.
        word_error_rate: of the program's texts of recordings, the model's being right; None where there are none.
    """

    source: str
    target: str
    format: str
    head: str
    normalisation: str
    sampling_rate: int
    shortest: int
    inputs: dict[str, str] = field(default_factory=dict)
    outputs: dict[str, str] = field(default_factory=dict)
    precision: str = "float32"
    language: str | None = None
    about: dict[str, Any] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)
    compared: list[Comparison] = field(default_factory=list)

    @property
    def limit(self) -> float | None:
        """The largest difference that is accepted; None where it is only stated."""
        return LIMITS[self.precision]

    @property
    def largest_difference(self) -> float:
        """Of all comparisons."""
        return max(one.difference for one in self.compared)

    @property
    def same_text(self) -> bool | None:
        """Whether every text or label is that of the model."""
        told = [one for one in self.compared if one.expected is not None]
        return all(one.text == one.expected for one in told) if told else None

    @property
    def word_error_rate(self) -> float | None:
        """Of the program's texts of recordings, the model's being right. Raises ``BackendError`` without jiwer."""
        told = [one for one in self.compared if one.expected is not None and not one.name.startswith(_TEST_SIGNAL)]
        if self.head != "ForCTC" or not told:
            return None
        return sum((_word_errors(one) for one in told), Errors()).rate

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            **dataclasses.asdict(self),
            "limit": self.limit,
            "largest_difference": self.largest_difference,
            "same_text": self.same_text,
            "word_error_rate": self.word_error_rate,
        }


def _word_errors(one: Comparison) -> Errors:
    expected = one.expected or ""
    return Errors(length=len(expected.split())) if one.text == expected else word_errors(expected, one.text or "")


def export(
    model: str | os.PathLike[str],
    target: str | os.PathLike[str],
    to: str = "onnx",
    *,
    head: str | None = None,
    precision: str = "float32",
    fold_normalisation: bool = False,
    language: str | None = None,
    verify: Sequence[str | os.PathLike[str] | Recording] = (),
    local_files_only: bool = False,
) -> ExportReceipt:
    """Export a model and prove it.

    Args:
        model: folder or hub id.
        target: folder that appears when everything is done, with ``export.json``, ``config.json`` and the files of the
            feature extractor and the tokenizer in it. It must not exist, or be empty.
        to: ``onnx``, ``openvino``, ``torch-export``, ``saved-model``, ``litert`` or ``stablehlo``.
        head: one of ``wav2vec2_core.parameters.HEADS``; the model's own where None.
        precision: ``float32``, which must have the model's numbers (1e-4) and text; ``float16`` or ``bfloat16`` (2e-2),
            or ``int8`` of weights and activations, whose differences and changed words the receipt states.
        fold_normalisation: the program itself scales waveforms as the feature extractor would.
        language: of an MMS model; the one that its tokenizer names where None. The files are those of this one alone.
        verify: recordings that are compared beside a test signal, up to their first minute, each at three lengths.
        local_files_only: do not ask the hub.

    Raises:
        CheckpointError: the model is missing or damaged, or has a head that no class here computes.
        InputError: an argument is unknown, or the format cannot hold the model.
        AudioError: a recording cannot be read, or is shorter than one frame.
        BackendError: the framework, or what writes and runs the format, is not installed.
        OutputError: the target exists or cannot be written, or the program is not the model: nothing is kept.
    """
    if to not in FORMATS:
        raise InputError(f"format {to!r:.100} is unknown: use one of {', '.join(FORMATS)}")
    if head is not None and head not in HEADS:
        raise InputError(f"head {head!r:.100} is unknown: use one of {', '.join(HEADS)}")
    _check_precision(precision, to)
    target = Path(target)
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise OutputError(f"{str(target)[:100]} exists already: name a new or an empty folder")
    backend = load_backend(FORMATS[to])
    backend.export.check_format(to)
    source = open_model(model, local_files_only=local_files_only)
    own = head_of_source(source)
    head = head or own
    config = Wav2Vec2Config.from_source(source)
    extractor = Wav2Vec2FeatureExtractor.from_source(source)
    has_text = head == "ForCTC" and source.find("vocab.json") is not None
    tokenizer = processor_of(source, language).tokenizer if has_text else None
    if has_text and verify and precision != "float32":
        word_errors("before", "anything is written")  # counts words that differ, which needs a library
    shortest = shortest_waveform(config, head, _FRAMES.get(to, 1))
    waveforms = _test_signals(shortest, config.inputs_to_logits_ratio) + _recorded(verify, shortest, config, extractor)
    folded = extractor.do_normalize and fold_normalisation
    with atomic_folder(target, mark=RECEIPT) as folder:
        program: ExportedProgram = backend.export.write_program(
            source, folder, to, head=head, do_normalize=folded, language=language, precision=precision
        )
        _write_companions(folder, program, extractor, tokenizer, folded=folded)
        if to == "onnx" and tokenizer is not None:
            write_runtime_files(folder, tokenizer)
        receipt = ExportReceipt(
            source=source.name,
            target=str(target),
            format=to,
            precision=precision,
            language=None if tokenizer is None else tokenizer.target_lang,
            head=head,
            normalisation=_normalisation(extractor, folded=folded),
            sampling_rate=extractor.sampling_rate,
            shortest=shortest,
            inputs=program.inputs,
            outputs=program.outputs,
            about=program.about,
        )
        plain = backend.inference.load_model(source, head=head, device="cpu", language=language)
        receipt.compared = _compared(
            program, plain, waveforms, extractor, _Reader(program.config, head, tokenizer), folded=folded
        )
        _check(receipt)
        receipt.files = sorted([*(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()), RECEIPT])
        write_json(folder / RECEIPT, receipt.to_dict())
    return receipt


def _check_precision(precision: str, to: str) -> None:
    if precision not in PRECISIONS:
        raise InputError(f"precision {precision!r:.100} is unknown: use one of {', '.join(PRECISIONS)}")
    if to not in PRECISIONS[precision]:
        able = ", ".join(PRECISIONS[precision])
        raise InputError(f"{to} programs are not written in {precision}: leave the precision out, or use {able}")


def _normalisation(extractor: Wav2Vec2FeatureExtractor, *, folded: bool) -> str:
    if not extractor.do_normalize:
        return "none"
    return "in the program" if folded else "by the caller"


def _write_companions(
    folder: Path,
    program: ExportedProgram,
    extractor: Wav2Vec2FeatureExtractor,
    tokenizer: Wav2Vec2CTCTokenizer | None,
    *,
    folded: bool,
) -> None:
    """The configuration, the vocabulary, and a feature extractor that does what is left to the caller."""
    program.config.save_pretrained(folder)
    changed = {**extractor.to_dict(), "do_normalize": extractor.do_normalize and not folded}
    left: Wav2Vec2FeatureExtractor = Wav2Vec2FeatureExtractor.from_dict({**changed, "return_attention_mask": True})
    if tokenizer is None:
        left.save_pretrained(folder)
    else:
        Wav2Vec2Processor(left, _of_one_language(tokenizer)).save_pretrained(folder)


def _of_one_language(tokenizer: Wav2Vec2CTCTokenizer) -> Wav2Vec2CTCTokenizer:
    """The same with a flat vocabulary: a program has the adapter of one language, and writes its letters."""
    flat = copy.copy(tokenizer)
    flat.vocab, flat.target_lang = dict(tokenizer.encoder), None
    return flat


# ---- proof ----------------------------------------------------------------------------------------------------------


class _Reader:
    """What the scores of one waveform say: text of a CTC model, the label of a classifier; nothing of a regression."""

    def __init__(self, config: Wav2Vec2Config, head: str, tokenizer: Wav2Vec2CTCTokenizer | None) -> None:
        labelled = head in WHOLE_HEADS and config.problem_type != "regression"
        self._labels = config.id2label or {} if labelled else {}
        self._tokenizer = tokenizer

    def __call__(self, scores: np.ndarray) -> str | None:
        if self._tokenizer is not None:
            return str(self._tokenizer.decode(scores.argmax(-1)))
        return self._labels.get(int(scores.argmax())) if self._labels else None


def _test_signals(shortest: int, hop: int) -> list[tuple[str, np.ndarray]]:
    """Noise with a falling tone, its mean off zero: at the shortest length that the model takes, and longer."""
    signals = []
    for number, samples in enumerate([shortest, *(shortest + hop * frames + frames % hop for frames in _TEST_FRAMES)]):
        noise = np.random.default_rng(number).standard_normal(samples)
        tone = np.sin(np.linspace(0, 300, samples) ** 1.2)
        signals.append((_TEST_SIGNAL, (0.1 * (noise + tone) + 0.02).astype(np.float32)))
    return signals


def _recorded(
    recordings: Sequence[str | os.PathLike[str] | Recording],
    shortest: int,
    config: Wav2Vec2Config,
    extractor: Wav2Vec2FeatureExtractor,
) -> list[tuple[str, np.ndarray]]:
    """Each recording whole, its first half, and its beginning of the shortest length."""
    found = []
    for thing in recordings:
        recording = Recording.wrap(thing).at(extractor.sampling_rate)
        samples = recording.until(recording.start + _LONGEST).read()
        if len(samples) < config.receptive_field:
            raise too_short(recording.name, len(samples), config, extractor.sampling_rate)
        if len(samples) < shortest:
            raise AudioError(
                f"{recording.name} has {len(samples)} samples, this head needs {shortest}: use a longer one"
            )
        lengths = sorted({shortest, max(shortest, len(samples) // 2), len(samples)})
        found += [(recording.name, samples[:length]) for length in lengths]
    return found


def _compared(
    program: ExportedProgram,
    plain: InferenceModel,
    waveforms: Sequence[tuple[str, np.ndarray]],
    extractor: Wav2Vec2FeatureExtractor,
    read: _Reader,
    *,
    folded: bool,
) -> list[Comparison]:
    """Each waveform alone, and the lengths of each recording in one batch."""
    found = []
    for name, lengths in groupby(waveforms, key=lambda one: one[0]):
        samples = [waveform for _, waveform in lengths]
        normalised = [
            extractor(waveform, sampling_rate=extractor.sampling_rate, return_tensors="np")["input_values"][0]
            for waveform in samples
        ]
        given, expected = samples if folded else normalised, plain.logits(normalised)
        runs = [(name, [program.run([one])[0] for one in given])]
        if program.has_batches:
            runs.append((f"{name}, in a batch", program.run(given)))
        found += [
            Comparison(called, len(waveform), _difference(ours, theirs), read(ours), read(theirs))
            for called, results in runs
            for waveform, ours, theirs in zip(given, results, expected, strict=True)
        ]
    return found


def _difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The largest, relative to the largest value; infinite where a value is no number or a shape is another."""
    if ours.shape != theirs.shape or not np.isfinite(ours).all():
        return float("inf")
    return float(np.abs(ours - theirs).max() / max(float(np.abs(theirs).max()), 1e-30))


def _check(receipt: ExportReceipt) -> None:
    worst = max(receipt.compared, key=lambda one: one.difference)
    if receipt.limit is None:
        if worst.difference == float("inf"):
            raise OutputError(
                f"the {receipt.format} program in {receipt.precision} returns no numbers ({worst.name[:100]}, "
                f"{worst.samples} samples): nothing is kept, export it in float32"
            )
        return
    if worst.difference > receipt.limit:
        raise OutputError(
            f"the {receipt.format} program differs from the model by {worst.difference:.1e} ({worst.name[:100]}, "
            f"{worst.samples} samples), more than {receipt.limit:.0e}: nothing is kept, try "
            + ("another version of its runtime" if receipt.precision == "float32" else "float32")
        )
    if receipt.precision != "float32":
        return
    other = next((one for one in receipt.compared if one.text != one.expected), None)
    if other is not None:
        raise OutputError(
            f"the {receipt.format} program says {other.text!r:.60} where the model says {other.expected!r:.60} "
            f"({other.name[:100]}): nothing is kept, try another version of its runtime"
        )
