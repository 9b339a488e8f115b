"""Damaged copies of weight files: bits, bytes, lengths and pieces changed at seeded random places."""

import numpy as np
from fairseq_writers import checkpoint
from model_cases import TINY
from random_models import FAMILIES, random_tensors
from torch_writers import described, write_legacy, write_zip

from wav2vec2_core.checkpoint import write_checkpoint, write_tf_checkpoint
from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.weight_files.dialects import TORCHAUDIO
from wav2vec2_core.weight_files.flax_msgpack import flax_params, write_flax_file

SMALL = {
    **TINY, **FAMILIES["large"], "hidden_size": 4, "num_attention_heads": 2, "num_conv_pos_embedding_groups": 2,
    "num_hidden_layers": 1, "intermediate_size": 3, "conv_dim": (4, 4), "conv_kernel": (3, 2), "conv_stride": (2, 2),
    "num_conv_pos_embeddings": 4, "vocab_size": 5,
}  # fmt: skip
INTERESTING = (0, 1, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 40, (1 << 63) - 1, (1 << 64) - 1)


def write_samples(folder, *, with_h5=True):
    """One small whole file of every kind; returns their paths by kind."""
    config = Wav2Vec2Config(**SMALL)
    tensors = random_tensors(config, "ForCTC")
    write_checkpoint(folder, tensors)
    paths = {"safetensors": folder / "model.safetensors"}
    plain, numbers = described(tensors)
    for kind, write in (("torch zip", write_zip), ("torch legacy", write_legacy)):
        paths[kind] = folder / f"{kind}.bin"
        write(paths[kind], plain, numbers)
        paths[f"fairseq {kind}"] = folder / f"{kind}.pt"
        write(paths[f"fairseq {kind}"], *checkpoint(tensors, config, "ForCTC", "omegaconf"))
    names = {TORCHAUDIO.stored(name.removeprefix("wav2vec2.")) or "aux": value for name, value in plain.items()}
    names.pop("aux")
    paths["torchaudio"] = folder / "torchaudio.pth"
    write_zip(paths["torchaudio"], names, numbers)
    paths["flax"] = folder / "flax_model.msgpack"
    write_flax_file(paths["flax"], flax_params(tensors))
    paths["adapter"] = folder / "adapter.bin"
    write_zip(paths["adapter"], *described({"lm_head.weight": np.ones((3, 4), np.float32)}))
    paths["index"] = folder / "model.safetensors.index.json"
    shards = write_checkpoint(folder / "shards", tensors, max_shard_size=500)
    paths["index"].write_bytes(shards[-1].read_bytes())
    if not with_h5:
        return paths
    few = {name: array for name, array in tensors.items() if "feature_projection" in name or "lm_head" in name}
    paths["tf"] = write_tf_checkpoint(folder / "tf", few, "ForCTC")
    return paths


def mutated(content, generator):
    """A copy with one to three changes; small files are changed in their structure more often than in their numbers."""
    data = bytearray(content)
    for _ in range(generator.integers(1, 4)):
        if not data:
            break
        place = int(generator.integers(len(data)))
        match int(generator.integers(7)):
            case 0:
                data[place] ^= 1 << int(generator.integers(8))
            case 1:
                data[place] = int(generator.integers(256))
            case 2:
                del data[place:]
            case 3:
                size = int(generator.choice([1, 2, 4, 8]))
                value = int(generator.choice(len(INTERESTING)))
                value = INTERESTING[value] & ((1 << 8 * size) - 1)
                order = "little" if generator.integers(2) else "big"
                data[place : place + size] = value.to_bytes(size, order)
            case 4:
                other = int(generator.integers(len(data)))
                length = int(generator.integers(1, 64))
                data[place : place + length] = data[other : other + length]
            case 5:
                del data[place : place + int(generator.integers(1, 32))]
            case 6:
                data[place:place] = data[place : place + int(generator.integers(1, 64))]
    return bytes(data)
