"""Run by test_flax_train.py: gradients on meshes beside those of one device in float64, as an optimizer sees them.

Without arguments on the 8 devices of one process; with RANK and PORT as one of two processes with 2 devices each.
Prints NAME=ERROR, relative to the largest gradient of each parameter.
"""

import sys

import jax
import numpy as np
import optax
from flax_models import doubled, gradient_error, tiny
from jax.experimental import multihost_utils

from wav2vec2_core import masking
from wav2vec2_flax import train

SAMPLES = 900
KEY = 1


def make_batch(model, head):
    generator = np.random.default_rng(0)
    mask = np.ones((8, SAMPLES), np.int32)
    mask[3, 500:] = 0
    batch = {"input_values": generator.standard_normal((8, SAMPLES)).astype(np.float32), "attention_mask": mask}
    if head == "ForCTC":
        return {**batch, "labels": generator.integers(1, 11, (8, 5))}
    frames = model.config.num_frames(mask.sum(1))
    masked = masking.time_mask(frames, frames.max(), prob=0.5, length=4, min_masks=2, generator=generator)
    negatives = masking.negative_indices(masked, 7, generator)
    return {**batch, "mask_time_indices": masked, "sampled_negative_indices": negatives,
            "gumbel_temperature": np.float32(1.5)}  # fmt: skip


def compare(head, data, fsdp, rows):
    model = tiny(head, scan_layers=fsdp > 1)
    batch, optimizer = make_batch(model, head), optax.trace(decay=0.0)  # its state is the gradient
    step = train.train_step(model, optimizer)
    with jax.default_device(jax.local_devices()[0]), doubled(model) as exact:
        alone = jax.jit(train.train_step(exact, optimizer))
        one, _ = alone(train.init_state(exact, optimizer), batch, jax.random.key(KEY))
        expected = jax.device_get(one.opt_state.trace)
    mesh = train.make_mesh(data=data, fsdp=fsdp)
    state = train.place_state(train.init_state(model, optimizer), mesh)
    own = {name: array[rows] if np.ndim(array) else array for name, array in batch.items()}
    state, _ = train.on_mesh(step, state, mesh)(state, train.place_batch(own, mesh), jax.random.key(KEY))
    if fsdp > 1:
        layer = state.opt_state.trace["wav2vec2"]["encoder"]["layers"]["0"]
        leaf = layer["feed_forward"]["intermediate_dense"]["kernel"]
        assert leaf.addressable_shards[0].data.size * fsdp == leaf.size, "not split"
    found = multihost_utils.process_allgather(state.opt_state.trace, tiled=True)
    print(f"{head}-{data}x{fsdp}={gradient_error(found, expected):.2e}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        rank, port = int(sys.argv[1]), sys.argv[2]
        jax.distributed.initialize(f"127.0.0.1:{port}", num_processes=2, process_id=rank)
        compare("ForCTC", 2, 2, slice(4 * rank, 4 * rank + 4))
    else:
        compare("ForCTC", 8, 1, slice(None))
        compare("ForCTC", 1, 8, slice(None))
        compare("ForPreTraining", 2, 4, slice(None))
