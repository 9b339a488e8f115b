"""Wav2Vec2ProcessorWithLM: a processor whose predictions become text by beam search with an n-gram language model."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Self

import numpy as np

from wav2vec2_core.decoding import BeamSearchDecoder, Hypothesis
from wav2vec2_core.decoding.alphabet import BLANK, DELIMITER, UNKNOWN, WORD_START, label_of
from wav2vec2_core.errors import CheckpointError, InputError
from wav2vec2_core.feature_extraction import Wav2Vec2FeatureExtractor
from wav2vec2_core.outputs import ModelOutput
from wav2vec2_core.processing import Wav2Vec2Processor
from wav2vec2_core.source import ModelSource
from wav2vec2_core.tokenization import Wav2Vec2CTCTokenizer

#: Rows of a batch of logits that hold this are padding, as transformers' Trainer writes it.
PADDING = -100.0
_WEIGHTS = ("alpha", "beta", "unk_score_offset", "score_boundary")


class Wav2Vec2DecoderWithLMOutput(ModelOutput):
    """Of ``decode``; of ``batch_decode`` every field is a list, and with ``n_best`` above 1 a list of each.

    text: the transcript. logit_score: natural log probability under the speech model. lm_score: the same with language
    model and hotwords, by which readings are ranked. word_offsets: ``{"word", "start_offset", "end_offset"}`` for each
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
        _check_alphabet(decoder, tokenizer)
        self.decoder = decoder

    @staticmethod
    def get_missing_alphabet_tokens(decoder: BeamSearchDecoder, tokenizer: Wav2Vec2CTCTokenizer) -> set[str]:
        """Tokens of the vocabulary, as labels, that the decoder's alphabet does not have."""
        return {_labels(token, tokenizer)[0] for token in tokenizer.get_vocab() if not _places(token, tokenizer, decoder)}

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
        options = _options(locals())
        found = _readings(self.decoder, options, n_best, output_word_offsets, _array(logits))
        return _output(found if n_best > 1 else {name: values[0] for name, values in found.items()})

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
        options = _options(locals())
        arrays = [_without_padding(_array(one)) for one in logits]
        job = partial(_readings, self.decoder, options, n_best, output_word_offsets)
        found = _mapped(job, arrays, pool, num_processes)
        names = found[0] if found else ("text", "logit_score", "lm_score", *(["word_offsets"] * output_word_offsets))
        return _output({name: [one[name] if n_best > 1 else one[name][0] for one in found] for name in names})

    # ---- files --------------------------------------------------------------------------------------------------

    @classmethod
    def from_source(cls, source: ModelSource, **overrides: Any) -> Self:
        """Read the files of a model that is open already.

        ``overrides`` are ``alpha``, ``beta``, ``unk_score_offset`` and ``score_boundary`` of the decoder, and arguments of
        the constructors of the feature extractor and the tokenizer.
        """
        from wav2vec2_core.decoding.decoder_folder import load_decoder

        weights = {name: overrides.pop(name) for name in _WEIGHTS if name in overrides}
        parts = Wav2Vec2Processor.from_source(source, **overrides)
        decoder = load_decoder(source, **weights)
        try:
            return cls(parts.feature_extractor, parts.tokenizer, decoder)
        except InputError as error:
            raise CheckpointError(f"model {source.name!r}: {error}") from error

    def save_pretrained(self, save_directory: str | os.PathLike[str]) -> None:
        """Write the files of all parts into a folder: for transformers 4 and 5, and for pyctcdecode.

        Raises:
            InputError: the decoder has no language model. OutputError: the folder or a file cannot be written.
        """
        from wav2vec2_core.decoding.decoder_folder import save_decoder

        save_decoder(self.decoder, save_directory)
        super().save_pretrained(save_directory)


def _check_count(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise InputError(f"{name}={value!r} must be an integer of at least 1")


def _options(arguments: dict[str, Any]) -> dict[str, Any]:
    """The options of the search among the arguments of a call."""
    named = ("beam_width", "beam_prune_logp", "token_min_logp", "hotwords", "hotword_weight", "alpha", "beta",
             "unk_score_offset", "lm_score_boundary")  # fmt: skip
    return {name: arguments[name] for name in named}
