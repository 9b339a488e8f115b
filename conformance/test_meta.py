"""The suite itself can fail: helpers that compare, verdicts, plans, reports."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conformance import xfails
from conformance.backends import ABILITIES, named_like, open_backend
from conformance.bench import Expected
from conformance.cases import find, full_size_cases, tiny_cases
from conformance.checks import hidden_states
from conformance.conftest import backend_names
from conformance.faults import INVISIBLE, invisible
from conformance.harness import Laboratory
from conformance.html_report import page
from conformance.plan import COMPILED, DROPPED, LOW_PRECISION, PLAIN, TRAVELLING, Task, tasks
from conformance.report import Run
from conformance.results import FAIL, PASS, XFAIL, Result, StageError, compare, equal
from wav2vec2_core.errors import InputError
from wav2vec2_core.parameters import HEADS

RIGHT = StageError("logits", 1e-7, 1e-5)
WRONG = StageError("encoder", 3e-3, 1e-5)


def results(*stages: StageError, note: str = "") -> Result:
    return Result("torch", "stages", "ForCTC-base-padded", stages, note)


# ---- comparing ----------------------------------------------------------------------------------------------------


def test_one_wrong_value_in_many() -> None:
    expected = {"a": np.ones((3, 4)), "b": np.linspace(-2, 2, 5000)}
    found = {name: array.copy() for name, array in expected.items()}
    assert not any(stage.wrong for stage in compare(expected, found, 1e-5))
    found["b"][4321] += 1e-4
    assert [stage.name for stage in compare(expected, found, 1e-5) if stage.wrong] == ["b"]


def test_errors_do_not_cancel() -> None:
    error = np.array([1e-3, -1e-3] * 10)
    assert compare({"a": np.ones(20)}, {"a": 1 + error}, 1e-5)[0].wrong


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_wrong(value: float) -> None:
    assert compare({"a": np.ones(3)}, {"a": np.array([1.0, value, 1.0])}, 1e30)[0].wrong


@pytest.mark.parametrize("found", [{}, {"a": np.ones((3, 1))}, {"a": np.ones(4)}, {"b": np.ones(3)}])
def test_missing_and_misshapen_arrays_are_wrong(found: dict[str, Any]) -> None:
    stage = compare({"a": np.ones(3)}, found, 1e30)[0]
    assert stage.wrong
    assert stage.note


@pytest.mark.parametrize(
    "found",
    [
        {"a": np.array([1, 2.0000002], np.float32)},
        {"a": np.array([1, 2], np.float64)},
        {},
        {"a": np.array([1, 2], np.float32), "b": np.array([1], np.float32)},
        {"a": np.array([[1, 2]], np.float32)},
        {"a": np.array([1, np.nan], np.float32)},
    ],
)
def test_equal_means_every_bit_and_name(found: dict[str, Any]) -> None:
    expected = {"a": np.array([1, 2], np.float32)}
    assert not any(stage.wrong for stage in equal(expected, {"a": np.array([1, 2], np.float32)}))
    assert any(stage.wrong for stage in equal(expected, found))


def test_without_a_limit_there_is_still_a_number() -> None:
    assert not StageError("a", 0.3, float("inf")).wrong
    assert StageError("a", float("inf"), float("inf"), "missing").wrong
    assert StageError("a", float("nan"), float("inf")).wrong


# ---- verdicts -----------------------------------------------------------------------------------------------------


def test_verdicts(monkeypatch: pytest.MonkeyPatch) -> None:
    assert results(RIGHT).verdict == PASS
    assert results(RIGHT, WRONG).verdict == FAIL
    assert results(RIGHT, note="RuntimeError: no memory").verdict == FAIL
    assert results().verdict == FAIL, "nothing was compared"
    monkeypatch.setitem(xfails.XFAILS, results().id, "a reason")
    assert results(WRONG).verdict == XFAIL
    assert results(RIGHT).verdict == FAIL, "an expected failure that passes"


def test_the_first_wrong_stage_is_named() -> None:
    worse = StageError("logits", 1.0, 1e-5)
    assert results(RIGHT, WRONG, worse).telling is WRONG
    assert results(StageError("a", 1e-6, 1e-5), StageError("b", 5e-6, 1e-4)).telling.name == "a"


def test_an_expected_failure_names_a_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(xfails.XFAILS, "torch/stages/nothing", "a reason")
    with pytest.raises(InputError, match="no check"):
        xfails.check_known({"torch/stages/ForCTC-base-padded"})


# ---- plans --------------------------------------------------------------------------------------------------------


def test_names_in_plans_exist() -> None:
    names = [case.name for case in tiny_cases()]
    assert len(set(names)) == len(names)
    assert {*COMPILED, *TRAVELLING, *LOW_PRECISION, *DROPPED} <= set(names)


def test_every_head_of_the_trained_families_gets_every_check() -> None:
    planned = {task.id for task in tasks(tiny_cases(), named_like(["torch"]))}
    for head in HEADS:
        for family in ("base", "large", "mms"):
            checks = {f"torch/{name}/{head}-{family}-padded" for name in ("parameters", "stages", "gradients", "steps")}
            assert checks <= planned
            assert f"torch/inference/{head}-{family}-even" in planned


def test_every_pair_exchanges_every_kind_of_file() -> None:
    planned = {task.id for task in tasks([find(TRAVELLING[0])], named_like(list(ABILITIES)))}
    kinds = {(one, other, kind) for one, (_, kinds) in ABILITIES.items() for other in ABILITIES for kind in kinds}
    assert {f"{one}-{other}/{kind}/{TRAVELLING[0]}" for one, other, kind in kinds} <= planned


def test_ids_are_unique() -> None:
    ids = [task.id for task in tasks([*tiny_cases(), *full_size_cases()], named_like(list(ABILITIES)))]
    assert len(set(ids)) == len(ids)
    assert {task.split("/")[1] for task in ids} >= set(PLAIN)


# ---- running ------------------------------------------------------------------------------------------------------


def test_a_missing_back_end_is_an_error() -> None:
    with pytest.raises(InputError, match="back end 'mxnet' is unknown"):
        open_backend("mxnet")
    with pytest.raises(InputError, match="device 'npu' is unknown"):
        open_backend("torch", "npu")


class Broken:
    """A back end that raises an exception or returns wrong results."""

    name, modes, file_kinds = "broken", ("eager",), ("safetensors",)

    def __init__(self, values: dict[str, Any] | None = None) -> None:
        self.values = values

    def build(self, config: Any, head: str, values: Any, **options: Any) -> Any:
        if self.values is None:
            raise RuntimeError("first line\nsecond line")
        return self

    def forward(self, call: Any, **options: Any) -> Any:
        return self.values


def test_what_throws_and_what_is_wrong_has_failed() -> None:
    case = find("ForCTC-base-padded")
    task = Task(("broken",), "stages", case)
    thrown = Laboratory([Broken()]).run(task)  # pyright: ignore[reportArgumentType]
    assert (thrown.verdict, thrown.explanation) == (FAIL, "RuntimeError: first line")
    right = {**Expected(case).training, **hidden_states(case, Expected(case).training)}
    assert Laboratory([Broken(right)]).run(task).verdict == PASS  # pyright: ignore[reportArgumentType]
    for name in right:
        wrong = {**right, name: right[name] + 1e-3 * np.abs(right[name]).max()}
        found = Laboratory([Broken(wrong)]).run(task)  # pyright: ignore[reportArgumentType]
        assert (found.verdict, found.telling.name) == (FAIL, name)


def test_reasons_for_what_is_invisible() -> None:
    base, large = (Expected(find(f"ForCTC-{family}-padded")) for family in ("base", "large"))
    name = "wav2vec2.feature_extractor.conv_layers.0.conv.bias"
    assert invisible(large, name) is None
    assert all(INVISIBLE.values())
    assert invisible(base, "wav2vec2.encoder.layers.0.attention.k_proj.bias")
    assert invisible(base, "wav2vec2.encoder.layers.0.attention.q_proj.bias") is None


# ---- reports --------------------------------------------------------------------------------------------------------


def test_reports_show_the_first_wrong_stage(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    from conformance.report import print_run

    wrong = Result("torch", "stages", "a<b", (RIGHT, WRONG, StageError("loss", float("inf"), 1e-5, "missing")))
    run = Run([results(RIGHT), wrong], {"python": "3"}, False, 1.0)
    assert not run.passed
    text = page(run)
    assert text.count("first wrong stage</span>") == 2, "among the failures and in its group"
    assert "a&lt;b" in text
    assert "a<b" not in text
    assert "http" not in text
    assert "<script" not in text
    data = json.loads(json.dumps(run.to_dict(), allow_nan=False))
    assert data["results"][1]["stage"] == "encoder"
    assert data["results"][1]["stages"][2]["error"] is None
    print_run(run)
    assert "FAIL: 1 of 2 checks" in capsys.readouterr().out
    assert not dataclasses.replace(run, results=[]).passed, "a run without checks has not passed"


def test_a_notebook_gets_lines_of_any_length(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It asks for colours and is no terminal: of a table in 80 columns, names of stages would be cut."""
    from conformance.report import print_run

    monkeypatch.setenv("FORCE_COLOR", "1")
    stage = StageError("encoder.layers.10.final_layer_norm", 1e-7, 1e-5)
    print_run(Run([Result("torch", "stages", "samples/three-one-four.flac", (stage,))], {}, True, 1.0))
    printed = capsys.readouterr().out
    assert stage.name in printed
    assert "samples/three-one-four.flac" in printed


def test_the_option_names_back_ends(request: pytest.FixtureRequest) -> None:
    assert set(backend_names(request.config)) <= set(ABILITIES)
