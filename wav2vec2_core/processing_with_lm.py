"""Wav2Vec2ProcessorWithLM: a processor whose predictions become text by beam search with an n-gram language model."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Self

import numpy as np

from wav2vec2_core.decoding import BeamSearchDecoder, Hypothesis
from wav2vec2_core.errors import CheckpointError, InputError
from wav2vec2_core.feature_extraction import Wav2Vec2FeatureExtractor
from wav2vec2_core.outputs import ModelOutput
from wav2vec2_core.processing import Wav2Vec2Processor
from wav2vec2_core.source import ModelSource
from wav2vec2_core.tokenization import Wav2Vec2CTCTokenizer

#: Rows of a batch of logits that hold this are padding, as transformers' Trainer writes it.
PADDING = -100.0
#: Options of a search among the arguments of ``decode`` and ``batch_decode``, in their order.
_OPTIONS = (
    "beam_width",
    "beam_prune_logp",
    "token_min_logp",
    "hotwords",
    "hotword_weight",
    "alpha",
    "beta",
    "unk_score_offset",
    "lm_score_boundary",
)
#: What ``from_pretrained`` may change of a decoder.
_WEIGHTS = ("alpha", "beta", "unk_score_offset", "score_boundary")


class Wav2Vec2DecoderWithLMOutput(ModelOutput):
    """Of ``decode``; of ``batch_decode`` every field is a list, and with ``n_best`` above 1 a list of each.

    text: the transcript. logit_score: natural log probability under the acoustic model. lm_score: with language model
    and hotwords, by which hypotheses are ranked. word_offsets: ``{"word", "start_offset", "end_offset"}`` for each
    word, in frames of the logits, the end exclusive.
    """

    text: Any
    logit_score: Any
    lm_score: Any
    word_offsets: Any


class Wav2Vec2ProcessorWithLM(Wav2Vec2Processor):
    """Turns audio into model inputs, text into labels, and logits into text with a language model.

    Args:
        feature_extractor: for ``audio``.
        tokenizer: for ``text``; its vocabulary is that of the logits.
        decoder: for ``decode`` and ``batch_decode``.

    Raises:
        InputError: the alphabet of the decoder is not the vocabulary of the tokenizer; the message names a token.
    """

    def __init__(
        self,
        feature_extractor: Wav2Vec2FeatureExtractor,
        tokenizer: Wav2Vec2CTCTokenizer,
        decoder: BeamSearchDecoder,
    ) -> None:
        if not isinstance(decoder, BeamSearchDecoder):
            raise InputError(
                f"decoder is a {type(decoder).__name__}: make a BeamSearchDecoder, for example by "
                "wav2vec2_core.decoding.build_ctcdecoder"
            )
        super().__init__(feature_extractor, tokenizer)
        difference = decoder.alphabet.difference(tokenizer)
        if difference:
            raise InputError(
                f"{difference}: make the alphabet from the tokenizer's vocabulary, in the order of the ids"
            )
        self.decoder = decoder

    @staticmethod
    def get_missing_alphabet_tokens(decoder: BeamSearchDecoder, tokenizer: Wav2Vec2CTCTokenizer) -> set[str]:
        """Tokens of the vocabulary, as labels, that the decoder's alphabet does not have."""
        return decoder.alphabet.missing(tokenizer)

    # ---- decoding -----------------------------------------------------------------------------------------------

    def decode(
        self,
        logits: Any,
        beam_width: int | None = None,
        beam_prune_logp: float | None = None,
        token_min_logp: float | None = None,
        hotwords: Iterable[str] | None = None,
        hotword_weight: float | None = None,
        alpha: float | None = None,
        beta: float | None = None,
        unk_score_offset: float | None = None,
        lm_score_boundary: bool | None = None,
        output_word_offsets: bool = False,
        n_best: int = 1,
    ) -> Wav2Vec2DecoderWithLMOutput:
        """Text of one recording.

        Args:
            logits: (frames, vocab), an array or a tensor on the CPU, before the softmax.
            beam_width, beam_prune_logp, token_min_logp, hotwords, hotword_weight, alpha, beta, unk_score_offset,
                lm_score_boundary: see ``SearchOptions``; ``None`` is the decoder's own. They hold for this call.
            output_word_offsets: also return ``word_offsets``.
            n_best: readings to return; above 1 every field is a list, best first, of as many as there are.

        Raises:
            InputError: ``logits`` is of another shape or not finite, or an option is out of its range.
        """
        _check_count("n_best", n_best)
        decoder = self._decoder(beam_width, beam_prune_logp, token_min_logp, hotwords, hotword_weight, alpha, beta,
                                unk_score_offset, lm_score_boundary)  # fmt: skip
        found = _readings(decoder, n_best, output_word_offsets, _array(logits))
        return Wav2Vec2DecoderWithLMOutput(found if n_best > 1 else {name: values[0] for name, values in found.items()})

    def batch_decode(
        self,
        logits: Any,
        pool: Any = None,
        num_processes: int | None = None,
        beam_width: int | None = None,
        beam_prune_logp: float | None = None,
        token_min_logp: float | None = None,
        hotwords: Iterable[str] | None = None,
        hotword_weight: float | None = None,
        alpha: float | None = None,
        beta: float | None = None,
        unk_score_offset: float | None = None,
        lm_score_boundary: bool | None = None,
        output_word_offsets: bool = False,
        n_best: int = 1,
    ) -> Wav2Vec2DecoderWithLMOutput:
        """Text of several recordings, decoded in threads.

        Args:
            logits: (batch, frames, vocab), or a list of (frames, vocab); frames of nothing but -100 are padding.
            pool: a ``multiprocessing`` pool (or an executor) to use instead of threads; whether it was made before or
                after this processor and how it starts its processes does not matter.
            num_processes: threads; by default one for each core.
            beam_width, beam_prune_logp, token_min_logp, hotwords, hotword_weight, alpha, beta, unk_score_offset,
                lm_score_boundary, output_word_offsets, n_best: as in ``decode``.

        Raises:
            InputError: as ``decode``.
        """
        _check_count("n_best", n_best)
        if num_processes is not None:
            _check_count("num_processes", num_processes)
        decoder = self._decoder(beam_width, beam_prune_logp, token_min_logp, hotwords, hotword_weight, alpha, beta,
                                unk_score_offset, lm_score_boundary)  # fmt: skip
        if not hasattr(logits, "__iter__"):
            raise InputError(
                f"logits are a {type(logits).__name__}: (batch, frames, vocab) or a list of arrays is needed"
            )
        arrays = [_without_padding(_array(one)) for one in logits]
        job = partial(_readings, decoder, n_best, output_word_offsets)
        found = _mapped(job, arrays, pool, num_processes)
        return Wav2Vec2DecoderWithLMOutput(
            (name, [one[name] if n_best > 1 else one[name][0] for one in found])
            for name in Wav2Vec2DecoderWithLMOutput.field_names[: 4 if output_word_offsets else 3]
        )

    def _decoder(self, *options: Any) -> BeamSearchDecoder:
        """The decoder with the options of a call, in the order of both methods' arguments. Raises ``InputError``."""
        return self.decoder.changed(**dict(zip(_OPTIONS, options, strict=True)))

    # ---- files --------------------------------------------------------------------------------------------------

    @classmethod
    def from_source(cls, source: ModelSource, **overrides: Any) -> Self:
        """Read the files of a model that is already open.

        ``overrides`` are ``alpha``, ``beta``, ``unk_score_offset`` and ``score_boundary`` of the decoder, and arguments
        of the constructors of the feature extractor and the tokenizer.
        """
        weights = {name: overrides.pop(name) for name in _WEIGHTS if name in overrides}
        parts = Wav2Vec2Processor.from_source(source, **overrides)
        decoder = BeamSearchDecoder.from_source(source, **weights)
        if decoder.model is None:
            warnings.warn(
                f"{source.name!r} has no folder language_model, its text is decoded without: attach a language model "
                "(wav2vec2 lm attach), or download the folder",
                stacklevel=3,
            )
        try:
            return cls(parts.feature_extractor, parts.tokenizer, decoder)
        except InputError as error:
            raise CheckpointError(f"model {source.name!r}: {error}") from error

    def save_pretrained(self, save_directory: str | os.PathLike[str], **options: Any) -> None:
        """Write the files of all parts into a folder: for transformers 4 and 5, and for pyctcdecode.

        ``options``: see ``Pretrained``.

        Raises:
            InputError: an option is unknown or refused. OutputError: the folder or a file cannot be written.
        """
        with self.saving(save_directory, options):
            self.decoder.save_to_dir(save_directory)
            super().save_pretrained(save_directory)

    @property
    def language_model(self) -> Any:
        """The language model of the decoder, if it has one."""
        return self.decoder.model


def _check_count(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise InputError(f"{name}={value!r:.100} must be an integer of at least 1")


def _array(logits: Any) -> np.ndarray:
    """An array, or a tensor of any framework as one. Raises ``InputError``."""
    if hasattr(logits, "detach"):  # a torch tensor may need gradients or lie on another device
        logits = logits.detach().cpu()
        logits = logits.float() if logits.is_floating_point() else logits
    try:
        return np.asarray(logits)
    except (TypeError, ValueError) as error:
        raise InputError(f"logits are a {type(logits).__name__} that is no array: {error}") from error


def _without_padding(logits: np.ndarray) -> np.ndarray:
    return logits[~(logits == PADDING).all(-1)] if logits.ndim == 2 and logits.size else logits


def _readings(decoder: BeamSearchDecoder, n_best: int, word_offsets: bool, logits: np.ndarray) -> dict[str, list[Any]]:
    """The fields of the output for one recording, with one entry for each reading."""
    beams = decoder.decode_beams(logits, n_best)
    found: dict[str, list[Any]] = {
        "text": [beam.text for beam in beams],
        "logit_score": [beam.logit_score for beam in beams],
        "lm_score": [beam.lm_score for beam in beams],
    }
    if word_offsets:
        found["word_offsets"] = [_offsets(beam) for beam in beams]
    return found


def _offsets(beam: Hypothesis) -> list[dict[str, Any]]:
    return [{"word": word, "start_offset": start, "end_offset": end} for word, (start, end) in beam.word_frames]


def _mapped(
    job: Callable[[np.ndarray], Any], arrays: Sequence[np.ndarray], pool: Any, threads: int | None
) -> list[Any]:
    if pool is not None:
        if not callable(getattr(pool, "map", None)):
            raise InputError(f"pool is a {type(pool).__name__} without map(): pass a multiprocessing pool, or none")
        return list(pool.map(job, arrays))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = min(threads or cores, len(arrays))
    if threads <= 1:
        return [job(array) for array in arrays]
    with ThreadPoolExecutor(threads) as executor:
        return list(executor.map(job, arrays))
