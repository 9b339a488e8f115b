"""Names used throughout the core: of the heads, and of the body within a head's parameters."""

#: Head name (the class name without framework prefix and ``Wav2Vec2``) in the order of the documentation.
HEADS = ("Model", "ForPreTraining", "ForCTC", "ForSequenceClassification", "ForAudioFrameClassification", "ForXVector")
#: Heads whose scores are of a recording as a whole; those of the others are of its frames.
WHOLE_HEADS = ("ForSequenceClassification", "ForXVector")
#: Prefix of the body's parameters in every head; the bare ``Model`` has none.
BODY_PREFIX = "wav2vec2."
#: Name of the body's parameter that replaces masked frames.
MASK_EMBEDDING = "masked_spec_embed"


def scores_field(head: str) -> str:
    """The field of a model's output that holds what ``InferenceModel.logits`` returns for this head."""
    return {"Model": "last_hidden_state", "ForPreTraining": "projected_states"}.get(head, "logits")
