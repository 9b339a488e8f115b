"""The former place of ``wav2vec2_core.decoding.forced_alignment``, kept for code that imports from here."""

from wav2vec2_core.decoding.forced_alignment import UNTRANSCRIBED, align_words

__all__ = ["UNTRANSCRIBED", "align_words"]
