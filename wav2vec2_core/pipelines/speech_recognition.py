"""The pipeline "automatic-speech-recognition"."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from wav2vec2_core.decoding.beam_decoder import BeamSearchDecoder
from wav2vec2_core.errors import InputError, brief
from wav2vec2_core.long_form.windows import Window
from wav2vec2_core.pipeline import LoadedModel
from wav2vec2_core.pipelines.base import Pipeline, Runner, unknown_option
from wav2vec2_core.pipelines.inputs import Given
from wav2vec2_core.tokenization import Wav2Vec2CTCTokenizer

_GENERATION = ("generate_kwargs", "max_new_tokens", "generation_config", "return_language", "assistant_model")


class AutomaticSpeechRecognitionPipeline(Pipeline):
    """Text of recordings, with times where they are asked for.

    Recordings of any length can be transcribed without ``chunk_length_s``: those of more than 36 seconds go through
    the transformer in windows. With it the numbers are those of transformers' chunks.

    Options of a call:
        chunk_length_s: seconds of a chunk of transformers' kind; 0: none.
        stride_length_s: seconds of a chunk that count for nothing, on either side or (before, after); a sixth of the
            chunk where ``None``.
        return_timestamps: ``"word"``, or without language model ``"char"``: adds ``"chunks"`` to the result.
        decoder_kwargs: options of the beam search.
        ignore_warning: changes nothing.

    Attributes:
        tokenizer: of the model.
        decoder: the beam search with the model's language model, or ``None``.
    """

    task = "automatic-speech-recognition"

    def __init__(
        self,
        loaded: LoadedModel,
        framework: str,
        tokenizer: Wav2Vec2CTCTokenizer,
        decoder: BeamSearchDecoder | None,
        batch_size: int = 1,
        **options: Any,
    ) -> None:
        """``options``: those of a call, which hold where a call says nothing else. Raises ``InputError``."""
        self.tokenizer, self.decoder = tokenizer, decoder
        super().__init__(loaded, framework, batch_size, **options)

    def _runner(
        self,
        chunk_length_s: float = 0,
        stride_length_s: float | Sequence[float] | None = None,
        return_timestamps: str | bool | None = None,
        decoder_kwargs: Mapping[str, Any] | None = None,
        ignore_warning: bool | None = None,
        **others: Any,
    ) -> Runner:
        others = {name: value for name, value in others.items() if not (name in _GENERATION and not value)}
        if others:
            name = next(iter(others))
            if name in _GENERATION:
                raise InputError(f"{name}={brief(others[name])} is for models that generate text, CTC does not")
            raise unknown_option(self.task, others)
        if return_timestamps not in (None, False, "word", "char"):
            raise InputError(
                f"return_timestamps={brief(return_timestamps)} is nothing a CTC model has: use 'word' or 'char'"
            )
        if return_timestamps == "char" and self.decoder is not None:
            raise InputError(
                "return_timestamps='char' does not go with a language model, which times words: use 'word', or "
                "decoder=None"
            )
        decoder = self.decoder
        if decoder_kwargs:
            if decoder is None:
                raise InputError("decoder_kwargs are options of a beam search and the model has none: leave them out")
            decoder = decoder.changed(**decoder_kwargs)
        window = _window(chunk_length_s, stride_length_s)
        return partial(self._run, window=window, unit=return_timestamps or None, decoder=decoder)

    def _run(
        self, given: Sequence[Given], size: int, window: Window, unit: str | None, decoder: BeamSearchDecoder | None
    ) -> list[dict[str, Any]]:
        prepared = [self._loaded.prepare(one.recording, window) for one in given]
        logits = self._loaded.logits(prepared, window, size * window.longest)
        return [
            self._result(one, self._without(one.stride, read.samples, scores), unit, decoder)
            for one, read, scores in zip(given, prepared, logits, strict=True)
        ]

    def _without(self, stride: tuple[int, int], samples: int, logits: np.ndarray) -> np.ndarray:
        """The frames of (frames, vocab) that are left between the samples of a stride. Raises ``InputError``."""
        if stride == (0, 0):
            return logits
        if sum(stride) >= samples:
            raise InputError(f"stride={stride} leaves nothing of {samples} samples: use a shorter one")
        whole = round(samples / self._loaded.timeline.hop)  # frames as transformers counts them, one too many
        before, after = (round(part / samples * whole) for part in stride)
        return logits[before : whole - after]

    def _result(
        self, given: Given, logits: np.ndarray, unit: str | None, decoder: BeamSearchDecoder | None
    ) -> dict[str, Any]:
        timeline = self._loaded.timeline.starting_at(given.recording.start)
        text, spans = self._decoded(logits, unit, decoder)
        result: dict[str, Any] = {"text": text}
        if unit is not None:
            result["chunks"] = [
                {"text": what, "timestamp": (timeline.seconds(start), timeline.seconds(end))}
                for what, start, end in spans
            ]
        return {**result, **{name: [value] for name, value in given.extra.items()}}

    def _decoded(
        self, logits: np.ndarray, unit: str | None, decoder: BeamSearchDecoder | None
    ) -> tuple[str, list[tuple[str, int, int]]]:
        """Text of (frames, vocab), and its words or characters with their frames."""
        if decoder is not None:
            best = decoder.decode_beams(logits)[0]
            return best.text, [(word, start, end) for word, (start, end) in best.word_frames]
        tokens = logits.argmax(-1)
        if unit is None:
            return self.tokenizer.decode(tokens), []
        decoded = self.tokenizer.decode(tokens, output_char_offsets=unit == "char", output_word_offsets=unit == "word")
        offsets = decoded[f"{unit}_offsets"]
        return decoded["text"], [(one[unit], one["start_offset"], one["end_offset"]) for one in offsets]


def _window(chunk: Any, stride: Any) -> Window:
    """Raises ``InputError``."""
    if not chunk:
        return Window()
    both: Any = stride if isinstance(stride, list | tuple) and len(stride) == 2 else (stride, stride)
    try:
        sides = [float(chunk) / 6 if side is None else float(side) for side in both]
        keep = float(chunk) - sum(sides)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"chunk_length_s={brief(chunk)} and stride_length_s={brief(stride)} must be seconds, the latter one number "
            "or two"
        ) from error
    if not (keep > 0 and min(sides) >= 0):
        raise InputError(
            f"stride_length_s={brief(stride)} leaves nothing of chunks of {brief(chunk)} s: use longer chunks or "
            "shorter strides"
        )
    return Window(keep, sides[0], legacy=True, after=sides[1])
