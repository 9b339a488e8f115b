"""The choice of decoder for a transcription: greedy, or beam search with or without a language model."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from wav2vec2_core.decoding.alphabet import Alphabet
from wav2vec2_core.decoding.decoder import Decoder
from wav2vec2_core.decoding.greedy import GreedyDecoder
from wav2vec2_core.errors import CheckpointError, InputError
from wav2vec2_core.source import ModelSource, open_model

if TYPE_CHECKING:
    from wav2vec2_core.decoding.beam_decoder import BeamSearchDecoder
    from wav2vec2_core.tokenization import Wav2Vec2CTCTokenizer


@dataclass(frozen=True)
class DecoderOptions:
    """How logits become text.

    lm: ``auto`` uses the language model in the model's folder ``language_model``, if there is one; ``none`` uses none;
    otherwise the path of an ARPA file, of a KenLM binary, or of a folder made by ``wav2vec2 lm attach``.
    hotwords: words to prefer.
    beam_width, alpha, beta: options of the search; the defaults are those stored beside the language model, else
    pyctcdecode's.

    Decoding is greedy if there is no language model and no other option is set.
    """

    lm: str | os.PathLike[str] = "auto"
    hotwords: Sequence[str] = ()
    beam_width: int | None = None
    alpha: float | None = None
    beta: float | None = None

    def decoder(self, source: ModelSource, tokenizer: Wav2Vec2CTCTokenizer) -> Decoder:
        """The decoder for a model that is already open.

        Raises:
            CheckpointError: the language model cannot be read.
            InputError: an option is out of its range, or weights are set without a language model.
        """
        search = self._with_model(source, tokenizer)
        if search is None:
            if self.alpha is not None or self.beta is not None:
                raise InputError("alpha and beta weigh a language model and there is none: name one with lm")
            if not self.hotwords and self.beam_width is None:
                return GreedyDecoder(tokenizer)
            from wav2vec2_core.decoding.beam_decoder import BeamSearchDecoder

            search = BeamSearchDecoder(Alphabet.of(tokenizer))
        from wav2vec2_core.decoding.best_times import BestTimesDecoder

        search = search.changed(
            hotwords=tuple(self.hotwords) or None, beam_width=self.beam_width, alpha=self.alpha, beta=self.beta
        )
        return BestTimesDecoder(search, tokenizer)

    def _with_model(self, source: ModelSource, tokenizer: Wav2Vec2CTCTokenizer) -> BeamSearchDecoder | None:
        if self.lm == "none":
            return None
        if self.lm == "auto":
            return _attached(source, tokenizer) if source.file_names("language_model") else None
        path = Path(self.lm)
        if not path.exists():
            raise InputError(f"language model {str(path)!r} does not exist: name a file, a folder, auto or none")
        if path.is_dir():
            return _attached(open_model(path.parent if path.name == "language_model" else path), tokenizer)
        from wav2vec2_core.decoding.beam_decoder import build_ctcdecoder

        return build_ctcdecoder(Alphabet.of(tokenizer).labels, path)


def with_hotwords(decoder: Decoder, tokenizer: Wav2Vec2CTCTokenizer, hotwords: Sequence[str]) -> Decoder:
    """The decoder of a transcription with words to prefer; a search without a language model in place of greedy.

    Args:
        decoder: as ``DecoderOptions.decoder`` made it; a language model in it is shared.
        tokenizer: of the model.
        hotwords: words; none leaves the decoder as it is.

    Raises:
        InputError: the vocabulary has no blank.
    """
    if not hotwords:
        return decoder
    from wav2vec2_core.decoding.beam_decoder import BeamSearchDecoder
    from wav2vec2_core.decoding.best_times import BestTimesDecoder

    found = decoder.decoder if isinstance(decoder, BestTimesDecoder) else None
    search = found if isinstance(found, BeamSearchDecoder) else BeamSearchDecoder(Alphabet.of(tokenizer))
    return BestTimesDecoder(search.changed(hotwords=tuple(hotwords)), tokenizer)


#: The former name, kept for existing imports.
DecoderChoice = DecoderOptions


def _attached(source: ModelSource, tokenizer: Wav2Vec2CTCTokenizer) -> BeamSearchDecoder:
    """The decoder in a model's folder. Raises ``CheckpointError`` if it cannot be read or has another vocabulary."""
    from wav2vec2_core.decoding.beam_decoder import BeamSearchDecoder

    decoder = BeamSearchDecoder.from_source(source)
    if decoder.model is None:
        raise CheckpointError(
            f"{source.name!r} has no folder language_model: attach a language model to the model (wav2vec2 lm attach)"
        )
    difference = decoder.alphabet.difference(tokenizer)
    if difference:
        raise CheckpointError(
            f"the language model of {source.name!r} was attached for another vocabulary ({difference}): attach it for "
            "this one (wav2vec2 lm attach), or use its file alone, or none"
        )
    return decoder
