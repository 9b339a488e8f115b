"""Three updates of a tiny model under a strategy of TensorFlow, in a process of its own: see the end.

TensorFlow's devices and workers are set once in a process, before its first computation.
"""

import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
import trainer_cases as cases
from tf_models import tiny

from wav2vec2_core.training.steps import StepValues, filled_batch
from wav2vec2_tf.distributed import open_strategy
from wav2vec2_tf.optimizers import Adam
from wav2vec2_tf.train import Trainer
from wav2vec2_tf.weights import export_weights

#: Updates after which a state is written, and all of them.
SAVED, STEPS = 2, 3


def make_trainer(strategy, head="ForCTC", **fields):
    with strategy.scope():
        model = tiny(head, **{**cases.STILL, "masked_group_norm": True, **fields})
        return Trainer(model, Adam(epsilon=1e-3))


def micro_batches(number):
    """Of 3 and 2 rows: neither two devices nor two processes get as many rows as each other."""
    found = []
    for rows in (3, 2):
        given = cases.batch(rows=rows, seed=10 * number + rows)
        mask = np.ones_like(given["input_values"], np.int32)
        mask[0, 900:] = 0
        found.append({**given, "attention_mask": mask})
    return found


def train(trainer, first, end):
    """Losses, norms and counts of updates."""
    index, count = trainer.process
    found = []
    for number in range(first, end):
        whole = micro_batches(number)
        shares = [cases.rows_of(given, slice(index, None, count)) for given in whole]
        rows = [-(-len(given["labels"]) // count) for given in whole]
        micro = [filled_batch(share, size) for share, size in zip(shares, rows, strict=True)]
        result = trainer.fetch(trainer.step(micro, number, StepValues(1e-3, 5, clip=2.0)))
        found.append([result["loss"], result["gradient_norm"], result["count"]])
    return found


def run(trainer, folder):
    """Train, with a state on the way, and score; ``results.npz`` has everything."""
    results = train(trainer, 0, SAVED)
    trainer.save_state(folder / "state")()
    results += train(trainer, SAVED, STEPS)
    given = micro_batches(9)[0]
    logits = trainer.logits(given)
    np.savez(
        folder / "results.npz",
        results=results,
        sums=trainer.evaluate(given)["loss"],
        lengths=[len(row) for row in logits],
        scores=np.concatenate(logits),
        added=trainer.add_up([1.5, trainer.process[0]]),
        **export_weights(trainer.model),
    )


def go_on(trainer, state, folder):
    """The last updates from a state that others wrote."""
    trainer.load_state(state)
    train(trainer, SAVED, STEPS)
    np.savez(folder / "resumed.npz", **export_weights(trainer.model))


def pretrain(strategy, folder):
    """Updates of pretraining: what was measured, and the parameters after them."""
    trainer = make_trainer(strategy, "ForPreTraining", **{"apply_spec_augment": True, **cases.PRETRAINING})
    np.savez(folder / "pretrained.npz", **cases.pretrain(trainer), **export_weights(trainer.model))


def main(name, folder, state=None):
    strategy = open_strategy(name)
    trainer = make_trainer(strategy)
    run(trainer, folder)
    pretrain(strategy, folder)
    if state is not None:
        go_on(trainer, state, folder)


if __name__ == "__main__":
    if sys.argv[1] == "mirrored":
        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    main(sys.argv[1], *map(Path, sys.argv[2:]))
