"""Two thousand damaged files of every kind: each is read or refused, quickly and in little memory."""

import importlib.util
import resource
import sys
import time

import numpy as np
import pytest
from mutations import SMALL, mutated, write_samples

from wav2vec2_core.checkpoint import open_checkpoint, open_model
from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.errors import CheckpointError, ConfigError
from wav2vec2_core.weight_files.bare_file import open_bare_file
from wav2vec2_core.weight_files.checkpoint import Checkpoint, open_weight_file

COUNT = 2000
HAS_H5PY = importlib.util.find_spec("h5py") is not None
KINDS = (
    "safetensors", "index", "torch zip", "torch legacy", "fairseq torch zip", "fairseq torch legacy", "torchaudio",
    "flax", "adapter", "tf",
)  # fmt: skip
MEBIBYTE = 1 << 20


def read_everything(path, kind, config):
    if kind == "index":
        opened = open_checkpoint(open_model(path.parent))
    elif kind.startswith("fairseq") or kind == "torchaudio":
        opened = open_bare_file(path, config.to_dict() if kind == "torchaudio" else None).checkpoint
    else:
        opened = Checkpoint([open_weight_file(path)])
    return sum(opened.read(name).nbytes for name in opened.shapes)


def peak():
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    return write_samples(tmp_path_factory.mktemp("samples"), with_h5=HAS_H5PY)


@pytest.mark.parametrize("kind", KINDS)
def test_damaged(samples, tmp_path, kind):
    if kind not in samples:
        pytest.skip("h5py is not installed")
    whole, config = samples[kind].read_bytes(), Wav2Vec2Config(**SMALL)
    if kind == "index":
        for shard in (samples[kind].parent / "shards").glob("model-*.safetensors"):
            (tmp_path / shard.name).write_bytes(shard.read_bytes())
    path = tmp_path / samples[kind].name
    path.write_bytes(whole)
    assert read_everything(path, kind, config) > 0
    generator = np.random.default_rng(0)
    before, messages, slowest = peak(), [], 0.0
    for _ in range(COUNT):
        path.write_bytes(mutated(whole, generator))
        start = time.process_time()
        try:
            read_everything(path, kind, config)
        except (CheckpointError, ConfigError) as error:
            messages.append(str(error))
        slowest = max(slowest, time.process_time() - start)
    assert COUNT / 2 < len(messages) < COUNT  # some changes hit numbers, which no reader can know
    assert max(map(len, messages)) < 1500
    assert slowest < 2
    assert peak() - before < 64 * MEBIBYTE
    assert {item.suffix for item in tmp_path.iterdir()} <= {path.suffix, ".safetensors"}
