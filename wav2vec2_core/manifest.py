"""The former place of ``wav2vec2_core.data.manifest``, kept for code that imports from here."""

from wav2vec2_core.data.manifest import KINDS, Utterance, read_manifest, write_manifest

__all__ = ["KINDS", "Utterance", "read_manifest", "write_manifest"]
