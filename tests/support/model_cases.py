"""Small configurations for the tests of every back end: norms, variants and the heads that go with them."""

import itertools

from wav2vec2_core.parameters import HEADS

TINY = {
    "vocab_size": 11, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 40,
    "conv_dim": (16, 20, 24), "conv_kernel": (10, 3, 2), "conv_stride": (5, 2, 2), "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4, "num_codevectors_per_group": 8, "codevector_dim": 16, "proj_codevector_dim": 12,
    "classifier_proj_size": 14, "num_labels": 5, "tdnn_dim": (18, 18, 20), "tdnn_kernel": (3, 2, 1),
    "tdnn_dilation": (1, 2, 1), "xvector_output_dim": 10, "mask_time_length": 4,
}  # fmt: skip
QUIET = {
    "hidden_dropout": 0.0, "activation_dropout": 0.0, "attention_dropout": 0.0, "feat_proj_dropout": 0.0,
    "feat_quantizer_dropout": 0.0, "final_dropout": 0.0, "layerdrop": 0.0,
}  # fmt: skip
NORMS = {
    f"{feature}-{'pre' if stable else 'post'}": {"feat_extract_norm": feature, "do_stable_layer_norm": stable}
    for feature, stable in itertools.product(("group", "layer"), (False, True))
}
VARIANTS = {
    "plain": {"conv_bias": True},
    "adapter": {"add_adapter": True, "num_adapter_layers": 2},
    "wide-adapter": {"add_adapter": True, "num_adapter_layers": 1, "adapter_stride": 3, "adapter_kernel_size": 4,
                     "output_hidden_size": 28},
    "attention-adapters": {"adapter_attn_dim": 6},
    "weighted-sum": {"use_weighted_layer_sum": True},
}  # fmt: skip
#: Fields of outputs that transformers lacks; they come last.
MEASURES = {
    "contrastive_accuracy", "feature_penalty", "soft_codevector_perplexity", "hard_codevector_perplexity",
}  # fmt: skip
FRAMES = 74
SAMPLES = 1500
LENGTHS = (1500, 1203, 700)


def legal_cases():
    """(head, norm, variant) of every combination whose numbers differ from a simpler one's."""
    for head, norm, variant in itertools.product(HEADS, NORMS, VARIANTS):
        if variant.endswith("adapter") and head in {"ForSequenceClassification", "ForAudioFrameClassification"}:
            continue
        if variant == "wide-adapter" and head in {"ForPreTraining", "ForXVector"}:
            continue
        if variant == "attention-adapters" and not norm.endswith("pre"):
            continue
        if variant == "weighted-sum" and head in {"Model", "ForPreTraining", "ForCTC"}:
            continue
        yield head, norm, variant
