"""The former place of ``wav2vec2_core.long_form.windows``, kept for code that imports from here."""

from wav2vec2_core.long_form.windows import Window, logit_blocks, recording_logits

__all__ = ["Window", "logit_blocks", "recording_logits"]
