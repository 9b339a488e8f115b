"""Run by test_flax_distributed.py as one of several processes, or alone: what a trainer makes of its share of batches.

Arguments: a folder for results, fsdp, and "restore" with the name of a state there to take over, or "pretrain" with
what `go_on` takes. The devices of each process come from XLA_FLAGS, the processes from the environment.
"""

import resource
import signal
import sys
from pathlib import Path

import jax
import numpy as np
import optax
import trainer_cases as cases
from flax_models import tiny
from pretraining_cases import run
from safetensors.numpy import save_file

from wav2vec2_core.errors import OutputError
from wav2vec2_core.parameters import trainable_names
from wav2vec2_core.training.steps import StepValues, filled_batch
from wav2vec2_flax import distributed
from wav2vec2_flax.train import Trainer, make_mesh

#: Of a run of pretraining whose updates no dropout makes depend on its devices. Adam divides by the gradient's own
#: size: where there is hardly any, rounding would decide the update, but for a large epsilon.
PRETRAINING = ("schedule.steps=6", "model.hidden_dropout=0", "data.micro_batch_seconds=4", "optimizer.epsilon=1e-3")
#: Bytes of a file, where a disk is full: less than the parameters have, more than records.
LARGEST_FILE = 30_000
FIELDS = {**cases.STILL, "layerdrop": 0.0}
VALUES = StepValues(0.01, cases.ROWS + 1, clip=5.0)


def make(fsdp, head="ForCTC", **fields):
    model = tiny(head, **{**FIELDS, **fields})
    return Trainer(model, optax.sgd(1.0, momentum=0.5), mesh=make_mesh(fsdp=fsdp))


def shares(batches, process):
    """Of each batch the rows of a process, filled up so that all have as many."""
    index, count = process
    own = [cases.rows_of(batch, slice(index, None, count)) for batch in batches]
    return [filled_batch(share, -(-len(whole["labels"]) // count)) for share, whole in zip(own, batches, strict=True)]


def batches_of(number):
    """Two micro-batches, the second of one row; one in every second step."""
    both = [cases.batch(seed=number), cases.rows_of(cases.batch(seed=number + 50), slice(0, 1))]
    return both[: 1 + number % 2]


def steps(trainer, numbers):
    """The first of all steps trains the head alone, as the first of a run do."""
    found = []
    for number in numbers:
        frozen = "feature_encoder" if number else "base_model"
        trainer.set_trainable(trainable_names(trainer.config, "ForCTC", frozen=frozen))
        found.append(trainer.fetch(trainer.step(shares(batches_of(number), trainer.process), number, VALUES)))
    return found


def weights(trainer):
    params, _ = trainer._own()
    return {name: np.asarray(array) for name, array in params.items()}


def pretrain(fsdp):
    """Measures of updates of pretraining, and the parameters after them."""
    trainer = make(fsdp, "ForPreTraining", **{"apply_spec_augment": True, **cases.PRETRAINING})
    found = {**cases.pretrain(trainer), **weights(trainer)}
    return {f"pretraining/{name}": array for name, array in found.items()}


def main(folder, fsdp):
    index, count = distributed.join_processes()
    trainer = make(fsdp)
    assert trainer.process == (index, count)
    found = steps(trainer, range(3))
    leaf = trainer.params["wav2vec2.encoder.layers.0.feed_forward.intermediate_dense.weight"]
    assert leaf.addressable_shards[0].data.size * fsdp == leaf.size
    written = trainer.save_state(folder / "state")
    found += steps(trainer, [3])
    written()
    given = cases.rows_of(cases.batch(), slice(index, None, count))
    evaluation = trainer.add_up(trainer.evaluate(given)["loss"])
    logits = trainer.logits({"input_values": given["input_values"]})
    bad = shares(batches_of(4), trainer.process)
    before = weights(trainer)
    if index == 0:
        bad[0]["input_values"][0, 0] = np.nan
    assert trainer.fetch(trainer.step(bad, 4, VALUES))["refused"] == 1  # in all, though one process alone has met it
    assert all(np.array_equal(before[name], array) for name, array in weights(trainer).items())
    save_file(
        {
            **before,
            "losses": np.array([one["loss"] for one in found]),
            "norms": np.array([one["gradient_norm"] for one in found]),
            "counts": np.array([one["count"] for one in found]),
            "evaluation": np.array(evaluation),
            "logits": np.stack(logits),
            **pretrain(fsdp),
        },
        folder / f"result-{index}.safetensors",
    )
    trainer.save_pretrained(folder / ("model" if index == 0 else "model-of-another"))
    trainer.load_state(folder / "state")
    again = steps(trainer, [3])
    assert again == found[3:], "a state restores everything"
    assert all(np.array_equal(before[name], array) for name, array in weights(trainer).items())
    trainer.close()


def restore(folder, fsdp, state):
    """Take over the state of other devices and write it from these; what it holds, as it was written."""
    trainer = make(fsdp)
    trainer.set_trainable(trainable_names(trainer.config, "ForCTC", frozen="feature_encoder"))
    trainer.load_state(folder / state)
    devices = len(jax.devices())
    trainer.save_state(folder / f"state-of-{devices}")()
    arrays = {name: np.asarray(array) for name, array in trainer._named().items()}
    save_file(arrays, folder / f"restored-{devices}.safetensors")


def go_on(folder, fsdp, data, stop_after, full=""):
    """Go on with a run of pretraining; where ``full``, until its disk is full at its next checkpoint."""
    if full:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST_FILE, LARGEST_FILE))
    try:
        run("flax", data, folder / "run", *PRETRAINING, f"flax.fsdp={fsdp}", stop_after=int(stop_after) or None)
    except OutputError as error:
        (folder / "full.txt").write_text(str(error))


ACTIONS = {"restore": restore, "pretrain": go_on}

if __name__ == "__main__":
    action = ACTIONS[sys.argv[3]] if sys.argv[3:] else main
    action(Path(sys.argv[1]), int(sys.argv[2]), *sys.argv[4:])
