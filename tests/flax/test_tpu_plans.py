"""What is decided about a training step for TPUs without compiling it."""

import os
from dataclasses import replace

import pytest

from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.errors import BackendError, InputError
from wav2vec2_flax import tpu_check
from wav2vec2_flax.tpu_check import Plan, Verdict

PLAN = Plan(Wav2Vec2Config(num_hidden_layers=1), "ForPreTraining", "v5e:2x2", 8, 32_000)


def verdict(rows, *, limit=100.0, refused_from=1000):
    """A program of 10 bytes and 9 for each row."""
    refusal = "more than there is" if rows >= refused_from else ""
    memory = {"parameters": 6.0, "optimizer": 4.0}
    memory |= {} if refusal else {"program": 0.0, "intermediate": 9.0 * rows}
    return Verdict(4, 4, memory, limit, None, refusal, 1.0, 0.0, 1.0, {}, {"operations": 1.0}, 0.0)


@pytest.mark.parametrize(("first", "refused_from"), [(1, 1000), (10, 1000), (11, 1000), (40, 1000), (40, 20), (1, 7)])
def test_the_most_rows_are_those_after_which_one_more_does_not_fit(monkeypatch, first, refused_from):
    compiled = []

    def check(plan):
        compiled.append(plan.rows)
        return verdict(plan.rows, refused_from=refused_from)

    monkeypatch.setattr(tpu_check, "check_step", check)
    start = replace(PLAN, rows=first)
    plan, found = tpu_check.largest_that_fits(start, verdict(first, refused_from=refused_from))
    assert plan.rows == min(10, refused_from - 1)
    assert found.fits
    assert found.total == 10 + 9 * plan.rows
    assert len(compiled) <= 6


def test_a_model_without_room_for_a_row_is_refused(monkeypatch):
    monkeypatch.setattr(tpu_check, "check_step", lambda plan: verdict(plan.rows, limit=12.0))
    with pytest.raises(InputError, match=r"not even one row of 32000 samples fits: .*flax\.fsdp"):
        tpu_check.largest_that_fits(PLAN, verdict(8, limit=12.0))


def test_all_parts_must_have_room_together_even_where_the_compiler_agrees():
    assert verdict(10).fits
    assert not verdict(11).fits
    assert not verdict(1, refused_from=1).fits


@pytest.mark.parametrize("name", ["v5e:3x3", "v5litepod-16", "v7x:2x2", "v5p:16x16", ""])
def test_an_unknown_topology_is_named_with_those_that_there_are(name):
    with pytest.raises(InputError, match=r"is unknown: use one of v4:2x2x1, .*; v5e:1x1, 2x2, .*; v6e:"):
        tpu_check.topology(name)


def test_a_step_is_as_slow_as_what_takes_longest():
    one = replace(verdict(1), seconds={"operations": 0.2, "memory": 0.5})
    assert (one.step_seconds, one.limited_by) == (0.5, "memory")


def test_operations_that_are_computed_again_are_counted_apart():
    once, again = tpu_check.operations(replace(PLAN, remat="none"))
    assert again == 0
    same, whole = tpu_check.operations(replace(PLAN, remat="full"))
    assert same == once
    _, attention = tpu_check.operations(replace(PLAN, remat="dots_no_batch"))
    assert 0 < attention < whole < once / 3
    _, double = tpu_check.operations(replace(PLAN, remat="full", rows=16))
    assert double == 2 * whole


def test_a_crash_of_the_compiler_is_an_error_of_one_line(capfd):
    with pytest.raises(BackendError, match=r"\(libtpu\) crashed on this step: try another kind of chip, --quick, or"):
        tpu_check.apart(_crash)
    assert tpu_check.apart(divmod, 7, 3) == (2, 1)
    with pytest.raises(InputError, match="topology 'v7:2x2' is unknown"):
        tpu_check.apart(tpu_check.topology, "v7:2x2")
    assert capfd.readouterr() == ("", "")


def _crash():
    os.write(2, b"pages of a trace")
    os.abort()
