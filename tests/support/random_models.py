"""Model folders with random weights, written without any framework."""

import json

import numpy as np
from model_cases import TINY

from wav2vec2_core.checkpoint import write_checkpoint
from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.parameters import parameter_table

LETTERS = ("<pad>", "<s>", "</s>", "<unk>", "|", "a", "b", "c", "d", "é", "ж")  # as many as TINY has rows
FAMILIES = {
    "base": {"feat_extract_norm": "group", "do_stable_layer_norm": False},
    "large": {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True},
    "mms": {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True, "adapter_attn_dim": 6},
    "group-pre": {"feat_extract_norm": "group", "do_stable_layer_norm": True},
}


def random_tensors(config, head, seed=0, dtype=np.float32):
    generator = np.random.default_rng(seed)
    return {
        name: generator.standard_normal(row.shape).astype(dtype) for name, row in parameter_table(config, head).items()
    }


def make_folder(folder, head="ForCTC", vocabulary=LETTERS, dtype=np.float32, **fields):
    """A folder as save_pretrained writes it; returns its configuration and arrays."""
    config = Wav2Vec2Config(**{**TINY, **fields, "architectures": (f"Wav2Vec2{head}",)})
    tensors = random_tensors(config, head, dtype=dtype)
    write_checkpoint(folder, tensors)
    config.save_pretrained(folder)
    if vocabulary is not None:
        (folder / "vocab.json").write_text(json.dumps({token: row for row, token in enumerate(vocabulary)}))
        (folder / "tokenizer_config.json").write_text(json.dumps({"pad_token": "<pad>", "unk_token": "<unk>"}))
    (folder / "preprocessor_config.json").write_text(json.dumps({"do_normalize": True, "sampling_rate": 16000}))
    return config, tensors
