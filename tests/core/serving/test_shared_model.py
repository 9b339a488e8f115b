"""One model for many threads: order, batches, languages, failures."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numpy_model import NumpyModel

from wav2vec2_core.errors import InputError
from wav2vec2_core.serving.languages import language_of
from wav2vec2_core.serving.shared_model import SharedModel
from wav2vec2_core.window_statistics import WindowStatistics

RATE = 1000


class Watched(NumpyModel):
    """Remembers its calls; waits in the first one until it is told to go on."""

    def __init__(self, **options):
        super().__init__(**options)
        self.calls, self.begun, self.go_on = [], threading.Event(), threading.Event()

    def _note(self, name, inputs):
        self.calls.append((name, [len(one) for one in inputs]))
        self.begun.set()
        assert self.go_on.wait(10)

    def logits(self, waveforms):
        self._note("logits", waveforms)
        if any(np.isnan(one).any() for one in waveforms):
            raise InputError("not a number")
        return super().logits(waveforms)

    def contextualize(self, features):
        if len(features[0]) == 50:  # of the test that asks for it, not those of ``logits``
            self._note("contextualize", features)
        return super().contextualize(features)

    def use_language(self, language):
        self.calls.append(("language", language))


def wave(seconds, seed=0):
    return np.random.default_rng(seed).normal(0, 1, round(seconds * RATE)).astype(np.float32)


@pytest.fixture
def model():
    return Watched()


def logits_calls(model):
    return [lengths for name, lengths in model.calls if name == "logits"]


def line_up(pool, shared, calls):
    """Submit calls in this order, each once the one before stands in the line."""
    futures = []
    for number, call in enumerate(calls):
        futures.append(pool.submit(call))
        while len(shared._line) < number + 1:
            time.sleep(0.001)
    return futures


def test_calls_that_wait_run_together_up_to_the_seconds_of_a_batch_and_give_the_numbers_of_a_run_alone(model):
    shared = SharedModel(model, RATE, batch_seconds=5.0, batch_wait=0.0)
    view, waves = shared.view(), [wave(2, seed) for seed in range(5)]
    with ThreadPoolExecutor(6) as pool:
        first = pool.submit(view.logits, [wave(1)])
        model.begun.wait(10)
        futures = line_up(pool, shared, [lambda one=one: view.logits([one]) for one in waves])
        model.go_on.set()
        found = [future.result(10)[0] for future in futures]
        first.result(10)
    shared.stop()
    assert logits_calls(model) == [[1000], [2000, 2000], [2000, 2000], [2000]]
    alone = NumpyModel()
    for one, logits in zip(waves, found, strict=True):
        np.testing.assert_array_equal(logits, alone.logits([one])[0])


def test_another_kind_of_call_keeps_its_turn_between_batches(model):
    shared = SharedModel(model, RATE, batch_seconds=4.0, batch_wait=0.0)
    view, features = shared.view(), np.ones((50, 6), np.float32)
    with ThreadPoolExecutor(6) as pool:
        first = pool.submit(view.logits, [wave(1)])
        model.begun.wait(10)
        short = [lambda: view.logits([wave(2)])] * 2
        futures = line_up(pool, shared, [*short, lambda: view.contextualize([features]), *short])
        model.go_on.set()
        for future in [first, *futures]:
            future.result(10)
    shared.stop()
    assert model.calls == [
        ("logits", [1000]),
        ("logits", [2000, 2000]),
        ("contextualize", [50]),
        ("logits", [2000, 2000]),
    ]


def test_a_call_that_fails_fails_alone(model):
    model.go_on.set()
    shared = SharedModel(model, RATE, batch_wait=0.0)
    view, bad = shared.view(), np.full(2000, np.nan, np.float32)
    model.go_on.clear()
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(view.logits, [wave(1)])
        model.begun.wait(10)
        futures = line_up(pool, shared, [lambda: view.logits([wave(2)]), lambda: view.logits([bad])])
        model.go_on.set()
        first.result(10)
        assert len(futures[0].result(10)[0])
        with pytest.raises(InputError, match="not a number"):
            futures[1].result(10)
    shared.stop()


def test_calls_of_one_language_run_together_and_the_adapter_is_switched_once(model):
    shared = SharedModel(model, RATE, language="eng", batch_wait=0.0)
    english, french = shared.view("eng"), shared.view("fra")
    with ThreadPoolExecutor(6) as pool:
        first = pool.submit(english.logits, [wave(1)])
        model.begun.wait(10)
        calls = [lambda view=view: view.logits([wave(2)]) for view in (french, english, french, english)]
        futures = line_up(pool, shared, calls)
        model.go_on.set()
        for future in [first, *futures]:
            future.result(10)
    shared.stop()
    assert model.calls == [
        ("logits", [1000]),
        ("language", "fra"),
        ("logits", [2000, 2000]),
        ("language", "eng"),
        ("logits", [2000, 2000]),
    ]


def test_a_batch_waits_for_a_request_on_its_way_and_not_for_nobody(model):
    model.go_on.set()
    shared = SharedModel(model, RATE, batch_wait=5.0)
    view = shared.view()
    started = time.monotonic()
    with shared.taking_part():
        view.logits([wave(1)])
    assert time.monotonic() - started < 2.5  # nobody else is coming
    with ThreadPoolExecutor(2) as pool, shared.taking_part(), shared.taking_part():
        one = pool.submit(view.logits, [wave(1)])
        time.sleep(0.05)
        other = pool.submit(view.logits, [wave(1)])
        one.result(10), other.result(10)
    shared.stop()
    assert logits_calls(model) == [[1000], [1000, 1000]]


def test_statistics_stay_with_their_waveforms(model):
    shared = SharedModel(model, RATE, batch_wait=0.0)
    whole = wave(4)
    known = WindowStatistics.of(model.config, whole)
    stretch = shared.view().encode([whole[:2000]], [known])[0]
    shared.stop()
    np.testing.assert_array_equal(stretch, NumpyModel().encode([whole[:2000]], [known])[0])
    assert not np.array_equal(stretch, NumpyModel().encode([whole[:2000]])[0])


def test_a_stopped_model_takes_no_calls_and_finishes_those_it_has(model):
    shared = SharedModel(model, RATE, batch_wait=0.0)
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(shared.view().logits, [wave(1)])
        model.begun.wait(10)
        second = pool.submit(shared.view().logits, [wave(1)])
        while not shared._line:
            time.sleep(0.001)
        stopping = pool.submit(shared.stop)
        model.go_on.set()
        stopping.result(10)
        assert len(first.result(10)) == len(second.result(10)) == 1
    with pytest.raises(RuntimeError, match="stopped"):
        shared.view().logits([wave(1)])


@pytest.mark.parametrize("options", [{"batch_seconds": 0}, {"batch_seconds": float("nan")}, {"batch_wait": -1.0}])
def test_impossible_numbers_are_refused(options):
    with pytest.raises(InputError, match=next(iter(options))):
        SharedModel(NumpyModel(), RATE, **options)


@pytest.mark.parametrize(
    ("code", "known", "found"),
    [
        ("fra", ["eng", "fra"], "fra"),
        ("fr", ["eng", "fra"], "fra"),
        ("uz", ["eng", "uzb-script_latin"], "uzb-script_latin"),
        ("uz", ["uzb-script_cyrillic", "uzb-script_latin"], "uz"),
        ("xx", ["eng"], "xx"),
    ],
)
def test_codes_of_two_letters_find_the_models_own(code, known, found):
    assert language_of(code, known) == found
