"""The estimate of memory beside what a process takes that makes updates, by the system's count of its highest."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

_UPDATES = """
import json, sys
import numpy as np, torch
from dataclasses import asdict
from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.parameters import trainable_names
from wav2vec2_core.training.estimates import memory_of
from wav2vec2_core.training.recipe import read_recipe
from wav2vec2_core.training.steps import StepValues
from wav2vec2_core.transcription import EMBEDDED_MODEL
from wav2vec2_torch import Wav2Vec2ForCTC
from wav2vec2_torch.train import Trainer

torch.set_num_threads(1)


def memory(line):
    with open("/proc/self/status") as status:
        return next(int(row.split()[1]) * 1024 for row in status if row.startswith(line))


def updates(config, rows, samples):
    model = Wav2Vec2ForCTC(config)
    trainer = Trainer(model, torch.optim.Adam(model.parameters(), fused=True), seed=0)
    trainer.set_trainable(trainable_names(config, "ForCTC", frozen="feature_encoder"))
    batch = {
        "input_values": np.random.default_rng(0).standard_normal((rows, samples), np.float32),
        "labels": np.full((rows, 8), 3, np.int32),
    }
    for number in range(2):
        trainer.fetch(trainer.step([batch], number, StepValues(1e-4, rows)))


which, rows, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
own = Wav2Vec2Config(vocab_size=32) if which == "base" else Wav2Vec2Config.from_pretrained(EMBEDDED_MODEL)
drawn = {"mask_time_prob": 0.0, "mask_feature_prob": 0.0, "layerdrop": 0.0}
config = own.replace(**(asdict(read_recipe("10min").model) | drawn), ctc_loss_reduction="mean", masked_group_norm=True)
small = config.replace(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
                       num_conv_pos_embedding_groups=4)
updates(small, 1, 4000)  # what a framework keeps for itself
samples = int(16_000 * seconds)
before = memory("VmRSS")
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")  # the highest so far is forgotten
updates(config, rows, samples)
trained = trainable_names(config, "ForCTC", frozen="feature_encoder")
estimate = memory_of(config, "ForCTC", trained, rows * samples, samples, keeps_attention=False)
print(json.dumps([memory("VmHWM") - before, estimate.total]))
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the system does not count a process's memory")
@pytest.mark.parametrize(
    ("which", "rows", "seconds"), [("embedded", 8, 3.5), pytest.param("base", 1, 5.0, marks=pytest.mark.rare)]
)
def test_the_estimate_is_within_a_factor_of_two(which, rows, seconds):
    done = subprocess.run(
        [sys.executable, "-c", _UPDATES, which, str(rows), str(seconds)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    measured, estimated = json.loads(done.stdout)
    assert 0.5 < measured / estimated < 2
