"""The document on scaling: its tables are those of the compiled steps, and the law behind them."""

import importlib
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "benchmarks" / "scaling.py"
pytestmark = pytest.mark.skipif(not PROGRAM.exists(), reason="the benchmarks are not in this copy of the sources")


@pytest.fixture(scope="module")
def scaling():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(PROGRAM.parent))
        yield importlib.import_module("scaling")
        for name in ("scaling", "scaling_law"):
            del sys.modules[name]


def test_tables_of_the_document_are_those_of_the_compiled_steps(scaling):
    text = (ROOT / "SCALING.md").read_text(encoding="utf-8")
    assert text.count("<!-- end -->") == len(scaling.TABLES)
    assert scaling.with_tables(text) == text
    emptied = scaling.with_tables(text).replace("| base-librispeech | v5p |", "| base | v5p |")
    assert scaling.with_tables(emptied) == text


def test_a_compiled_step_sends_what_the_law_says(scaling):
    found = scaling.record("base-v5e")
    sent = found["sent"]["all-reduce"]["bytes"]
    assert sent == pytest.approx(scaling.summed(95_044_608, 4), rel=1e-3)
    assert found["memory"]["parameters"] == 4 * 95_044_608


def test_sums_grow_to_twice_the_gradients(scaling):
    assert scaling.summed(10, 1) == 0
    assert scaling.summed(10, 2) == 20
    assert scaling.summed(10, 1000) == pytest.approx(40, rel=2e-3)
    assert scaling.summed(10, 1000, 4) == scaling.summed(10, 1000) / 4
    assert scaling.between_slices(1000, 10, 1) == 0
    assert scaling.between_slices(1000, 10, 2) == 200


def test_an_update_has_the_audio_of_the_recipe(scaling):
    base = scaling.RUNS[0]
    for chips in (4, 16, 64, 256):
        one = scaling.update(base, "v5e", chips)
        rows = one.rows * one.micro_batches * chips
        assert 369 <= rows < 369 + one.micro_batches * chips
        assert one.rows <= base.rows
    assert scaling.update(base, "v5e", 1024) is None


def test_fewer_rows_take_less_time_but_not_in_proportion(scaling):
    base = scaling.RUNS[0]
    one, eight = (scaling.bound(base, "v5e", 64, rows).seconds["memory"] for rows in (1, 8))
    assert eight / 8 < one < eight / 6


def test_the_estimate_of_base_is_base(scaling):
    found, compiled = sys.modules["scaling_law"].estimated(scaling.RUNS[0]), scaling.record("base-v5e")
    assert found["moved"] == pytest.approx(compiled["moved"])
    assert found["memory"]["intermediate"] == pytest.approx(compiled["memory"]["intermediate"])
    larger = sys.modules["scaling_law"].estimated(scaling.RUNS[4])
    assert larger["memory"]["parameters"] == 965_514_752
    assert larger["moved"] > 3 * compiled["moved"]
