"""Names that several parts of the core agree on: of heads, and of the body within them."""

#: Head name (the class name without framework prefix and ``Wav2Vec2``) in the order of the documentation.
HEADS = ("Model", "ForPreTraining", "ForCTC", "ForSequenceClassification", "ForAudioFrameClassification", "ForXVector")
#: What heads put before the names of the body; the bare ``Model`` has none.
BODY_PREFIX = "wav2vec2."
#: Name of what takes the place of masked frames, in the body.
MASK_EMBEDDING = "masked_spec_embed"
