"""Models as files that run without this library: TensorFlow SavedModel and LiteRT (TFLite).

Both take plain waveforms: the normalisation of the feature extractor is folded in. Each export is loaded again and
compared with the live model, and its report says how far they are apart.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

import wav2vec2_tf
from wav2vec2_core.backend import ExportedProgram, check_head_and_dtype, check_trained
from wav2vec2_core.checkpoint import ModelSource
from wav2vec2_core.data import pad_batch
from wav2vec2_core.errors import InputError, OutputError
from wav2vec2_core.files import atomic_folder, atomic_path, make_folder
from wav2vec2_core.names import WHOLE_HEADS, scores_field
from wav2vec2_tf import layers
from wav2vec2_tf.layers import Tensor
from wav2vec2_tf.pretrained import TFWav2Vec2PreTrainedModel

#: Below this a waveform is not amplified any more, as in the feature extractor.
_SMALLEST_VARIANCE = 1e-7
_FIELDS = ("logits", "last_hidden_state", "projected_states")


#: Names of what ``write_program`` writes.
SAVED_MODEL, LITERT = "saved_model", "model.tflite"
#: Waveforms (samples,) each -> their scores, without padding.
Run = Callable[[Sequence[np.ndarray]], list[np.ndarray]]


@dataclass(frozen=True)
class ExportReport:
    """What was written and how well it agrees.

    path: the file or folder; lengths: samples of the waveforms tried; error: largest difference from the live model,
    relative to its largest output.
    """

    path: Path
    lengths: tuple[int, ...]
    error: float


def export_saved_model(
    model: TFWav2Vec2PreTrainedModel, folder: str | os.PathLike[str], *, do_normalize: bool = True
) -> ExportReport:
    """Write a SavedModel whose signature ``serving_default`` takes any batch and length.

    Inputs: ``waveforms`` (batch, samples) float32, and ``lengths`` (batch,) int32, the samples before the padding.
    Output: ``logits`` (batch, frames, vocab) or (batch, labels), and with frames their number, ``frames`` (batch,);
    ``last_hidden_state`` or ``projected_states`` of models without logits. Load the model with
    ``masked_group_norm=True`` if padding must not change results.

    Args:
        model: any head.
        folder: appears complete or not at all; an earlier SavedModel there is replaced.
        do_normalize: whether waveforms are normalised, as ``preprocessor_config.json`` says.

    Raises:
        OutputError: the folder cannot be written, or holds other files.
    """
    serving = _Serving(model, do_normalize)
    with atomic_folder(folder, mark="saved_model.pb") as temporary:
        try:
            tf.saved_model.save(serving, str(temporary), signatures={"serving_default": serving.serve})
        except tf.errors.OpError as error:
            raise OutputError(f"cannot write a SavedModel into {folder} ({error.message}): check the disk") from error
        return _report(Path(folder), model, do_normalize, _saved(temporary))


def export_litert(
    model: TFWav2Vec2PreTrainedModel, path: str | os.PathLike[str], *, do_normalize: bool = True
) -> ExportReport:
    """Write a ``.tflite`` file that takes one waveform of any length.

    Input: (1, samples) float32; call ``resize_tensor_input`` with the length and ``allocate_tensors`` before use.
    Output: (1, frames, vocab) logits.

    Args:
        model: a CTC model in float32.
        path: file to write; its folder is created where missing.
        do_normalize: whether waveforms are normalised, as ``preprocessor_config.json`` says.

    Raises:
        InputError: the model has another head or type.
        OutputError: the file cannot be written.
    """
    if model.head != "ForCTC" or model.compute_dtype != "float32":
        raise InputError(
            f"{type(model).__name__} in {model.compute_dtype} cannot become a LiteRT file: load the checkpoint as "
            "TFWav2Vec2ForCTC with dtype='float32'"
        )
    path = Path(path)
    make_folder(path.parent)
    serving = _Serving(model, do_normalize)
    # The converter turns variables into resources that nothing gives values: every output would be NaN. As constants
    # they are weights, and dynamic lengths work.
    graph: Any = serving.transcribe_one
    frozen = convert_variables_to_constants_v2(graph.get_concrete_function())
    content = tf.lite.TFLiteConverter.from_concrete_functions([frozen]).convert()
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)
    return _report(path, model, do_normalize, _lite(path))


def check_format(to: str) -> None:
    """Check that ``to`` is ``saved-model`` or ``litert``. Raises ``InputError`` for another format."""
    if to not in ("saved-model", "litert"):
        raise InputError(f"format {to!r:.100} is not written by TensorFlow: use saved-model or litert")


def write_program(
    source: ModelSource,
    folder: Path,
    to: str,
    *,
    head: str,
    do_normalize: bool,
    language: str | None = None,
    precision: str = "float32",
) -> ExportedProgram:
    """Write the folder ``saved_model`` or the file ``model.tflite`` into ``folder``, and load it again.

    Raises:
        CheckpointError: the model is damaged, or its head is not trained.
        InputError: the head, format or language is unknown, or LiteRT cannot hold the model.
        OutputError: the folder cannot be written.
    """
    check_format(to)
    check_head_and_dtype(head, precision)
    model_class: type[TFWav2Vec2PreTrainedModel] = getattr(wav2vec2_tf, f"TFWav2Vec2{head}")
    model = model_class.from_source(source, dtype=precision, target_lang=language, masked_group_norm=True)
    check_trained(source.name, head, model.loading)
    level = "of any level" if do_normalize else "as the feature extractor returns them"
    about = {"tensorflow": tf.__version__}
    if to == "litert":
        export_litert(model, folder / LITERT, do_normalize=do_normalize)
        inputs = {"waveform": f"float32 (1, samples): a waveform, {level}; resize the input to its length"}
        outputs = {"logits": "float32 (1, frames, scores)"}
        return ExportedProgram(model.config, inputs, outputs, about, _lite(folder / LITERT), has_batches=False)
    export_saved_model(model, folder / SAVED_MODEL, do_normalize=do_normalize)
    inputs = {
        "waveforms": f"float32 (batch, samples): waveforms, {level}",
        "lengths": "int32 (batch,): samples of each row; what follows them is padding",
    }
    whole = head in WHOLE_HEADS
    outputs = {scores_field(head): "float32 (batch, scores)" if whole else "float32 (batch, frames, scores)"}
    if not whole:
        outputs["frames"] = "int32 (batch,): frames of each row; what follows them is padding"
    return ExportedProgram(model.config, inputs, outputs, about, _saved(folder / SAVED_MODEL), has_batches=True)


class _Serving(tf.Module):
    """A model behind its normalisation, with the signatures that are exported."""

    def __init__(self, model: TFWav2Vec2PreTrainedModel, do_normalize: bool) -> None:
        super().__init__()
        self.model, self.do_normalize = model, do_normalize

    @tf.function(
        input_signature=[
            tf.TensorSpec((None, None), tf.float32, "waveforms"),
            tf.TensorSpec((None,), tf.int32, "lengths"),
        ],
        autograph=False,
    )
    def serve(self, waveforms: Tensor, lengths: Tensor) -> dict[str, Tensor]:
        mask = layers.frame_mask(lengths, tf.shape(waveforms)[1])
        if self.do_normalize:
            waveforms = _normalised(waveforms, mask)
        field, value = self._scores(waveforms, tf.cast(mask, tf.int32))
        frames = {"frames": self.model.config.num_frames(lengths)} if value.shape.rank == 3 else {}
        return {field: value, **frames}

    @tf.function(input_signature=[tf.TensorSpec((1, None), tf.float32, "waveform")], autograph=False)
    def transcribe_one(self, waveform: Tensor) -> Tensor:
        if self.do_normalize:
            waveform = _normalised(waveform, None)
        return self._scores(waveform, None)[1]

    def _scores(self, waveforms: Tensor, mask: Tensor | None) -> tuple[str, Tensor]:
        output = self.model(waveforms, mask, return_dict=True, training=False)
        field = next(name for name in _FIELDS if name in output)
        return field, tf.cast(output[field], tf.float32)


def _normalised(waveforms: Tensor, mask: Tensor | None) -> Tensor:
    """Zero mean and unit variance for each waveform's own samples, zeros after them."""
    valid = tf.ones_like(waveforms) if mask is None else tf.cast(mask, waveforms.dtype)
    count = tf.reduce_sum(valid, axis=1, keepdims=True)
    centred = (waveforms - tf.reduce_sum(waveforms * valid, axis=1, keepdims=True) / count) * valid
    variance = tf.reduce_sum(tf.square(centred), axis=1, keepdims=True) / count
    return centred / tf.sqrt(variance + _SMALLEST_VARIANCE)


def _saved(folder: Path) -> Run:
    """A SavedModel, loaded."""
    loaded: Any = tf.saved_model.load(str(folder))

    def run(waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
        lengths = [len(waveform) for waveform in waveforms]
        values, _ = pad_batch(waveforms, len(waveforms), max(lengths))
        # Through the module, not its signature alone: it owns the variables.
        output = loaded.signatures["serving_default"](waveforms=tf.constant(values), lengths=tf.constant(lengths))
        scores = next(output[field] for field in _FIELDS if field in output).numpy()
        if "frames" not in output:
            return list(scores)
        return [row[:count] for row, count in zip(scores, output["frames"].numpy(), strict=True)]

    return run


def _lite(path: Path) -> Run:
    """A LiteRT file, loaded: one waveform at a time."""
    interpreter = tf.lite.Interpreter(model_content=path.read_bytes())
    place = interpreter.get_input_details()[0]["index"]

    def run(waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
        (waveform,) = waveforms
        interpreter.resize_tensor_input(place, (1, len(waveform)))
        interpreter.allocate_tensors()
        interpreter.set_tensor(place, waveform[None])
        interpreter.invoke()
        return [interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0]]

    return run


def _report(path: Path, model: TFWav2Vec2PreTrainedModel, do_normalize: bool, reloaded: Run) -> ExportReport:
    """Compare on noise of three lengths, the x-vector network's longest context included."""
    shortest = 16 * model.config.receptive_field
    lengths = (shortest, 2 * shortest + 7, shortest + 1)
    live: Any = _Serving(model, do_normalize)
    errors = [_difference(live, reloaded, length) for length in lengths]
    return ExportReport(path, lengths, max(errors))


def _difference(live: _Serving, reloaded: Run, length: int) -> float:
    waveform = np.random.default_rng(length).normal(0, 0.1, (1, length)).astype(np.float32)
    values = tf.constant(waveform)
    expected = live._scores(_normalised(values, None) if live.do_normalize else values, None)[1].numpy()
    return float(np.abs(reloaded([waveform[0]])[0] - expected[0]).max() / np.abs(expected).max())
