"""Names used throughout the core: of the heads, and of the body within a head's parameters."""

#: Head name (the class name without framework prefix and ``Wav2Vec2``) in the order of the documentation.
HEADS = ("Model", "ForPreTraining", "ForCTC", "ForSequenceClassification", "ForAudioFrameClassification", "ForXVector")
#: Prefix of the body's parameters in every head; the bare ``Model`` has none.
BODY_PREFIX = "wav2vec2."
#: Name of the body's parameter that replaces masked frames.
MASK_EMBEDDING = "masked_spec_embed"
