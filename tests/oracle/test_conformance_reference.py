"""The reference of the conformance suite against transformers 4.57.6 in double precision."""

import numpy as np
import pytest
import torch
import transformers

from conformance import cases, reference, transformers_model

pytestmark = pytest.mark.oracle

#: Largest difference relative to the largest value: both sides compute in float64.
STAGE = LOSS = 1e-10
GRADIENT = 1e-9
TINY = cases.tiny_cases()
#: What transformers computes too.
SHARED = [case for case in TINY if not case.config.masked_group_norm]
ALONE = [case for case in TINY if case.config.masked_group_norm]


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def relative(ours, theirs):
    assert ours.shape == theirs.shape
    return float(np.abs(ours - theirs).max() / max(np.abs(theirs).max(), 1e-30))


def compare(ours, theirs, limit):
    """Every stage that either side has, in the order of the computation, so that the first wrong one is named."""
    assert set(ours) == set(theirs)
    for name, value in ours.items():
        error = relative(value, theirs[name])
        assert error <= limit, f"{name}: {error:.2e}"


def test_version():
    assert transformers.__version__ == transformers_model.VERSION


@pytest.mark.parametrize("case", SHARED, ids=lambda case: case.name)
def test_inference(case):
    theirs, _ = transformers_model.run(case, training=False)
    ours = reference.forward(case.config, case.head, case.parameters(), **case.inputs())
    compare(ours, theirs, STAGE)


@pytest.mark.parametrize("case", SHARED, ids=lambda case: case.name)
def test_training_step(case):
    theirs, their_gradients = transformers_model.run(case, training=True)
    ours, gradients = reference.gradients(
        case.config, case.head, case.parameters(), **case.inputs(), labels=case.labels(), randomness=case.randomness()
    )
    skipped = [name for name in ours if name not in theirs]
    assert all("encoder.layers.0" in name for name in skipped)  # transformers does not call a layer that it drops
    compare({name: value for name, value in ours.items() if name in theirs}, theirs, STAGE)
    assert set(gradients) == set(their_gradients)
    for name in set(gradients) - set(case.unseen()):
        error = relative(gradients[name], their_gradients[name])
        assert error <= GRADIENT, f"{name}: {error:.2e}"
    for name in case.unseen():
        scale = np.abs(their_gradients[name.removesuffix("bias") + "weight"]).max()
        assert np.abs(gradients[name]).max() <= 1e-10 * max(scale, 1.0), name
