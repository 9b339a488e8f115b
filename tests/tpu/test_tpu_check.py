"""Training steps compiled for TPUs that are not here."""

import math

import pytest

from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.errors import BackendError
from wav2vec2_core.parameters import parameter_table
from wav2vec2_flax import tpu_check
from wav2vec2_flax.hlo import BETWEEN_SLICES
from wav2vec2_flax.tpu_check import Plan, check_step

CONFIG = Wav2Vec2Config(
    conv_dim=(128,) * 7, hidden_size=128, num_hidden_layers=4, num_attention_heads=2, intermediate_size=256,
    num_codevectors_per_group=32, codevector_dim=64, proj_codevector_dim=64, num_conv_pos_embeddings=16, layerdrop=0.05,
)  # fmt: skip
BYTES = 4 * sum(math.prod(row.shape) for row in parameter_table(CONFIG, "ForPreTraining").values())


def plan(topology="v5e:2x2", **changes):
    return Plan(CONFIG, "ForPreTraining", topology, **{"rows": 2, "samples": 32_000, "quick": True, **changes})


def traffic(verdict, *kinds):
    return sum(verdict.sent[kind][1] for kind in kinds if kind in verdict.sent)


def test_copies_of_a_model_send_their_gradients_and_nothing_of_a_batch():
    verdict = check_step(plan())
    assert verdict.fits
    assert (verdict.chips, verdict.data) == (4, 4)
    assert verdict.memory["parameters"] == BYTES
    assert 2 * BYTES < verdict.memory["optimizer"] < 2.01 * BYTES
    assert verdict.peak < verdict.total < verdict.limit
    # Gradients in bfloat16 or float32, around a ring: 2 x 3/4 of their bytes.
    assert 0.5 * 1.5 * BYTES < traffic(verdict, *verdict.sent) < 1.2 * 1.5 * BYTES
    assert BETWEEN_SLICES not in verdict.sent


def test_a_model_in_parts_takes_less_room_and_sends_its_parameters():
    whole, parts = check_step(plan()), check_step(plan(fsdp=4))
    assert parts.memory["parameters"] < 0.3 * whole.memory["parameters"]
    assert parts.memory["optimizer"] < 0.3 * whole.memory["optimizer"]
    # Gathered forwards and backwards, gradients scattered: nothing that grows with the batch.
    assert traffic(parts, *parts.sent) < 4 * BYTES
    more = check_step(plan(fsdp=4, rows=4))
    assert traffic(more, *more.sent) < 1.1 * traffic(parts, *parts.sent)


def test_slices_send_gradients_to_each_other():
    verdict = check_step(plan(slices=2))
    assert (verdict.chips, verdict.data) == (8, 8)
    assert verdict.sent[BETWEEN_SLICES][1] > 0.1 * BYTES
    assert "network between slices" in verdict.seconds


def test_what_does_not_fit_is_refused_with_the_compilers_words():
    verdict = check_step(plan("v5e:1x1", rows=600, samples=320_000))
    assert not verdict.fits
    assert "exceeds available HBM (15.75G)" in verdict.refusal
    assert verdict.limit == tpu_check.CHIPS["v5e"].memory


CRASHES = pytest.mark.xfail(raises=BackendError, strict=True, reason="libtpu 0.0.42 crashes on this step for v6e")


@pytest.mark.parametrize("topology", ["v4:2x2x1", "v5p:2x2x1", pytest.param("v6e:2x2", marks=CRASHES)])
def test_every_kind_of_chip(topology):
    verdict = tpu_check.apart(check_step, plan(topology))
    assert verdict.fits
    assert verdict.chips == 4
