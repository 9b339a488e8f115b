"""Beam search: lexicon tries, compiled kernels, and the prefixes and word histories of the beams."""
