"""The framework-free core: configuration, audio, feature extraction, tokenization, decoding and checkpoint files."""
