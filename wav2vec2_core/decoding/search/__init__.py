"""Beam search: labels, words and partial words of beams, compiled kernels, histories."""
