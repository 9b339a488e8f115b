"""Signs of a pretraining run that goes wrong, and none of one that does not."""

import numpy as np
import pytest

from wav2vec2_core.errors import InputError
from wav2vec2_core.training.health import Guard, chance_accuracy


def guard(**options):
    settings = {"window": 5, "most_collapsed": 0, "warm_up": 20} | options
    return Guard(groups=2, codevectors=64, **settings)


def looked(guard, steps, hard=20.0, accuracy=0.2, norm=1.0):
    """Signs of updates that all measure the same."""
    found = []
    for step in steps:
        measures = {"hard_perplexity_0": hard, "hard_perplexity_1": hard, "contrastive_accuracy": accuracy}
        measures["chance_accuracy"] = 1 / 101
        found += [(step, text) for text in guard.look(step, measures, norm)]
    return found


def test_a_healthy_run_is_left_alone():
    assert looked(guard(), range(1, 200)) == []
    assert looked(guard(), range(1, 20), accuracy=0.01) == []  # of the warm-up


def test_a_collapse_is_said_once_and_again_when_it_comes_back():
    watching = guard()
    (found,) = looked(watching, range(1, 50), hard=1.0, accuracy=0.0)
    assert found[0] == 5
    assert found[1].startswith("the codebook collapses: its hard perplexity is 2.00 of 64, and 2 is one code in each")
    assert "objective.diversity_loss_weight" in found[1]
    assert looked(watching, range(50, 60)) == []
    assert len(looked(watching, range(60, 70), hard=1.05, accuracy=0.0)) == 1
    assert looked(guard(), range(1, 50), hard=1.2) == []


def test_a_collapse_that_lasts_ends_the_run():
    with pytest.raises(InputError, match=r"collapsed for 11 updates, health.most_collapsed is 10: the codebook coll"):
        looked(guard(most_collapsed=10), range(1, 50), hard=1.0)
    assert len(looked(guard(most_collapsed=10), range(1, 15), hard=1.0)) == 1  # ten of them


def test_accuracy_at_chance():
    (found,) = looked(guard(), range(1, 50), accuracy=0.012)
    assert found == (21, found[1])
    assert found[1].startswith("the accuracy is 1.20% and chance is 0.99%: nothing is learned yet")
    assert looked(guard(), range(1, 50), accuracy=0.016) == []


@pytest.mark.parametrize(("norm", "words"), [(1e-5, "nothing is left to learn from"), (1e4, "optimizer.clip=1")])
def test_norms_of_the_gradient(norm, words):
    (found,) = looked(guard(), range(1, 50), norm=norm)
    assert words in found[1]
    assert f"norm is {norm:.3g}, 0.5 to 2 is usual" in found[1]


def test_updates_without_measures_are_left_out():
    watching = guard()
    assert list(watching.look(1, {}, None)) == []
    assert looked(watching, range(2, 6), hard=1.0) == []
    assert list(watching.look(6, {}, 1.0)) == []
    assert len(looked(watching, [7], hard=1.0)) == 1


def test_chance_is_one_of_the_different_distractors():
    generator = np.random.default_rng(0)
    for masked in (10, 50, 400):
        drawn = generator.integers(0, masked - 1, (2000, 100))
        different = np.mean([len(set(row)) for row in drawn])
        assert chance_accuracy(masked, 100) == pytest.approx(1 / (1 + different), rel=0.01)
    assert chance_accuracy(1, 100) == 0.5
    assert chance_accuracy(10**7, 100) == pytest.approx(1 / 101, rel=1e-3)
