"""The former place of ``wav2vec2_core.language_model.ngram``, kept for code that imports from here."""

from wav2vec2_core.language_model.ngram import NgramModel

__all__ = ["NgramModel"]
