"""A small model as MMS has them: a vocabulary and an adapter for each of two languages."""

import json

import torch

from wav2vec2_core import Wav2Vec2Config, Wav2Vec2CTCTokenizer, Wav2Vec2FeatureExtractor, Wav2Vec2Processor
from wav2vec2_torch import Wav2Vec2ForCTC

LANGUAGES = {"eng": ["<pad>", "|", "a", "b"], "fra": ["<pad>", "|", "é", "à", "ç"]}


def write_mms(folder):
    """Write it, with no language chosen; every parameter random."""
    torch.manual_seed(0)
    nested = {language: {token: i for i, token in enumerate(tokens)} for language, tokens in LANGUAGES.items()}
    (folder / "vocab.json").write_text(json.dumps(nested), encoding="utf-8")
    none = {"bos_token": None, "eos_token": None, "unk_token": None}
    tokenizer = Wav2Vec2CTCTokenizer(folder / "vocab.json", target_lang="eng", **none)
    Wav2Vec2Processor(Wav2Vec2FeatureExtractor(), tokenizer).save_pretrained(folder)
    settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    settings["target_lang"] = None
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    for language, tokens in reversed(LANGUAGES.items()):
        config = Wav2Vec2Config(
            vocab_size=len(tokens), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
            conv_dim=(16,) * 3, conv_stride=(10, 8, 4), conv_kernel=(10, 8, 4), num_conv_pos_embeddings=8,
            num_conv_pos_embedding_groups=4, do_stable_layer_norm=True, adapter_attn_dim=4, mask_time_prob=0.0,
        )  # fmt: skip
        model = Wav2Vec2ForCTC(config)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.normal_(0, 0.3)
            model.lm_head.bias[0] = -30  # no blanks: random weights say something
        model.save_adapter(folder, language)
        model.save_pretrained(folder)
    return folder
