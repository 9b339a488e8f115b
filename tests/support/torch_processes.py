"""Run by test_torch_distributed.py as one of several processes: what a trainer makes of its share of every batch.

Arguments: none|fsdp, a folder for results, and dies where one shall. The environment is as torchrun makes it.
"""

import os
import sys
from pathlib import Path

import numpy as np
import torch
import trainer_cases as cases
from safetensors.numpy import save_file
from torch_models import tiny

from wav2vec2_core.errors import BackendError
from wav2vec2_core.parameters import trainable_names
from wav2vec2_core.training.steps import StepValues, filled_batch
from wav2vec2_torch import distributed
from wav2vec2_torch.train import Trainer
from wav2vec2_torch.weights import to_array

FIELDS = {**cases.STILL, "layerdrop": 0.0}
VALUES = StepValues(0.05, cases.ROWS + 1, clip=5.0)


def make(sharding, seed=0, head="ForCTC", fields=FIELDS):
    model = tiny(head, seed=seed, **fields)
    if sharding == "fsdp":
        distributed.shard(model)
    return Trainer(model, torch.optim.Adam(model.parameters(), lr=1.0, eps=1e-3))


def micro_batches(number, process=(0, 1)):
    """Two micro-batches of a step, the second with a row that fills up the last share."""
    index, count = process
    batches = [cases.batch(seed=number), cases.rows_of(cases.batch(seed=number + 50), slice(0, 1))]
    shares = [cases.rows_of(batch, slice(index, None, count)) for batch in batches]
    return [
        filled_batch(share, -(-len(whole["labels"]) // count)) for share, whole in zip(shares, batches, strict=True)
    ]


def steps(trainer, numbers):
    """The first of all steps trains the head alone, as the first of a run do."""
    found = []
    for number in numbers:
        frozen = "feature_encoder" if number else "base_model"
        trainer.set_trainable(trainable_names(trainer.config, "ForCTC", frozen=frozen))
        found.append(trainer.fetch(trainer.step(micro_batches(number, trainer.process), number, VALUES)))
    return found


def weights(trainer):
    whole = {name: distributed.whole(one.detach()) for name, one in trainer.model.named_parameters()}
    return {name: to_array(one).copy() for name, one in whole.items()}


def main(sharding, folder):
    index, count = distributed.join_processes()
    trainer = make(sharding, seed=index)  # the others take over the first one's parameters
    assert trainer.process == (index, count)
    found = steps(trainer, range(3))
    if sharding == "fsdp":
        parameter = trainer.model.wav2vec2.encoder.layers[0].attention.q_proj.weight
        assert distributed.local(parameter).numel() * count == parameter.numel()
    trainer.save_state(folder / "state")()
    given = cases.rows_of(cases.batch(), slice(index, None, count))
    total, rows = (trainer.add_up([value])[0] for value in trainer.evaluate(given)["loss"])
    logits = trainer.logits({"input_values": given["input_values"]})
    after = steps(trainer, [3])
    result = {
        **weights(trainer),
        "losses": np.array([one["loss"] for one in found + after]),
        "norms": np.array([one["gradient_norm"] for one in found + after]),
        "counts": np.array([one["count"] for one in found + after]),
        "evaluation": np.array([total, rows]),
        "logits": np.stack(logits),
    }
    save_file(result, folder / f"result-{index}.safetensors")
    trainer.save_pretrained(folder / "model")
    bad = micro_batches(4, trainer.process)
    if index == 1:
        bad[0]["input_values"][0, 0] = np.nan
    assert trainer.fetch(trainer.step(bad, 4, VALUES))["refused"] == 1  # in all, though one process alone has met it
    before = weights(trainer)
    assert all(np.array_equal(result[name], array) for name, array in before.items())
    trainer.load_state(folder / "from-one")
    resumed = {**weights(trainer), "losses": np.array([one["loss"] for one in steps(trainer, [3])])}
    save_file(
        {**resumed, **{f"after/{name}": array for name, array in weights(trainer).items()}},
        folder / f"resumed-{index}.safetensors",
    )
    save_file(pretrain(sharding), folder / f"pretrained-{index}.safetensors")
    trainer.close()


def pretrain(sharding):
    """Measures of updates of pretraining, and the parameters after them."""
    trainer = make(sharding, head="ForPreTraining", fields=cases.PRETRAINING)
    return {**cases.pretrain(trainer), **weights(trainer)}


def die(sharding, folder):
    """The second process ends in the middle of a run; the first says so."""
    index, _ = distributed.join_processes()
    trainer = make(sharding)
    steps(trainer, [0])
    if index == 1:
        os._exit(0)
    try:
        steps(trainer, [1])
        trainer.add_up(())
    except BackendError as error:
        (folder / f"{sharding}.txt").write_text(str(error))


if __name__ == "__main__":
    (die if sys.argv[3:] else main)(sys.argv[1], Path(sys.argv[2]))
