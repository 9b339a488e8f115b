"""The loop of fine-tuning with a trainer that is a number: order, resume, freezing, refusals, notes, early stopping."""

import math
from dataclasses import replace

import pytest
from loop_cases import BODY_TOO, HEAD_ALONE, NumberTrainer, Steps, kinds, loop

from wav2vec2_core.errors import CheckpointError, InputError
from wav2vec2_core.training.loop import Evaluated, Note, Update


def test_updates_evaluations_and_checkpoints_come_in_order(tmp_path):
    trainer = NumberTrainer()
    one = loop(tmp_path / "run", trainer)
    events = list(one.events())
    updates = [(Update, step) for step in range(1, 11)]
    assert kinds(events) == [*updates[:4], (Evaluated, 4), *updates[4:8], (Evaluated, 8), *updates[8:], (Evaluated, 10)]
    assert trainer.rates == [one.recipe.schedule.rate(step) for step in range(10)]
    assert [checkpoint.step for checkpoint in one.folder.checkpoints()] == [10, 9, 4]  # two of the last and the best
    records = one.folder.records()
    assert [record["step"] for record in records if "loss" in record] == list(range(1, 11))
    assert [record["scores"] for record in records if "scores" in record] == [{"wer": 0.5, "cer": 0.2}] * 3


def test_the_head_is_trained_alone_first(tmp_path):
    trainer = NumberTrainer()
    list(loop(tmp_path / "run", trainer).events())
    assert trainer.trained == [HEAD_ALONE, BODY_TOO]
    never = NumberTrainer()
    list(loop(tmp_path / "other", never, "schedule.frozen=0").events())
    assert never.trained == [BODY_TOO]


@pytest.mark.parametrize("stop", [1, 4, 5, 7, 8, 11])
def test_a_run_that_was_cut_off_goes_on_as_if_nothing_had_been(tmp_path, stop):
    whole = NumberTrainer()
    uninterrupted = loop(tmp_path / "whole", whole)
    list(uninterrupted.events())
    first = NumberTrainer()
    events = loop(tmp_path / "cut", first).events()
    for _ in range(stop):
        next(events)
    del events
    second = NumberTrainer()
    resumed = loop(tmp_path / "cut", second)
    list(resumed.events())
    assert second.value == whole.value
    assert resumed.folder.records() == uninterrupted.folder.records()
    assert second.trained[-1] == BODY_TOO
    again = NumberTrainer()
    assert kinds(loop(tmp_path / "cut", again).events()) == []  # it is over


def test_a_resume_begins_with_what_was_trained_at_its_checkpoint(tmp_path):
    events = loop(tmp_path / "run", NumberTrainer()).events()
    for _ in range(5):  # the fourth update, and its evaluation: the checkpoint of step 4 comes with the next
        next(events)
    next(events)
    events.close()
    trainer = NumberTrainer()
    list(loop(tmp_path / "run", trainer).events())
    assert trainer.trained == [HEAD_ALONE, BODY_TOO]  # of step 3 to load, of step 4 to go on


def test_a_checkpoint_keeps_the_position_in_its_data_and_no_other_data_takes_it(tmp_path):
    events = loop(tmp_path / "run", NumberTrainer()).events()
    next(event for event in events if isinstance(event, Evaluated))
    next(events)
    events.close()
    data, trainer = Steps(), NumberTrainer()
    next(loop(tmp_path / "run", trainer, data=data).events())
    assert data.taken == 4
    with pytest.raises(InputError, match="the position is one in other data"):
        next(loop(tmp_path / "run", NumberTrainer(), data=Steps("others")).events())


def test_updates_without_a_finite_gradient_are_named_and_after_too_many_the_run_stops(tmp_path):
    trainer = NumberTrainer(lambda number: math.nan if number in (1, 2) else 0.5)
    one = loop(tmp_path / "run", trainer)
    events = list(one.events())
    notes = [event.text for event in events if isinstance(event, Note)]
    assert sum("changed nothing" in note for note in notes) == 2
    assert "update 2 changed nothing" in notes[0]
    assert "a1.wav, b1.wav" in notes[0]
    refused = [record for record in one.folder.records() if record.get("refused")]
    assert [(record["step"], record["loss"], record["refused"]) for record in refused] == [
        (2, None, ["a1.wav", "b1.wav"]),
        (3, None, ["a2.wav", "b2.wav"]),
    ]
    with pytest.raises(InputError, match=r"3 updates had no finite gradient, health\.most_refused is 2"):
        list(loop(tmp_path / "other", NumberTrainer(lambda number: math.nan)).events())


def test_refusals_before_a_resume_count(tmp_path):
    losses = {1: math.nan, 2: math.nan}
    events = loop(tmp_path / "run", NumberTrainer(lambda number: losses.get(number, 0.5))).events()
    next(event for event in events if isinstance(event, Evaluated))
    next(events)
    events.close()
    with pytest.raises(InputError, match="3 updates had no finite gradient"):
        list(loop(tmp_path / "run", NumberTrainer(lambda number: math.nan if number == 5 else 0.5)).events())


def test_what_the_model_does_not_learn_is_said_with_the_cause(tmp_path):
    flat = NumberTrainer(lambda number: 3.0)
    events = list(loop(tmp_path / "run", flat, rates=lambda: (1.0, 1.0), stuck="writes nothing").events())
    notes = [event.text for event in events if isinstance(event, Note)]
    assert "after 4 updates the model writes nothing" in notes[0]
    assert "only the head is trained so far" in notes[0]
    assert any("the loss is flat: 3.000 before, 3.000 since" in note for note in notes)
    assert "raise the learning rate" in notes[-1]
    assert "(wav2vec2 data check)" in notes[-1]
    falling = list(loop(tmp_path / "other", NumberTrainer(), rates=lambda: (1.0, 1.0)).events())
    good = list(loop(tmp_path / "third", NumberTrainer(lambda number: 3.0)).events())
    assert not [event for event in (*falling, *good) if isinstance(event, Note)]


def test_patience_ends_a_run_and_a_resume_does_not_go_on_with_it(tmp_path):
    def run():
        rates = iter([(0.5, 0.2), (0.4, 0.2), (0.4, 0.2), (0.45, 0.2), (0.1, 0.1)])
        trainer = NumberTrainer()
        one = loop(tmp_path / "run", trainer, "evaluation.every=1", "evaluation.patience=2", rates=lambda: next(rates))
        return list(one.events()), one, trainer

    events, one, _ = run()
    assert kinds(events)[-1] == (Evaluated, 4)
    assert [event.best for event in events if isinstance(event, Evaluated)] == [True, True, False, False]
    assert "stopping early: 2 evaluations" in events[-1].text
    again, _, trainer = run()
    assert kinds(again) == []
    assert "ended early" in again[-1].text
    one.trainer = trainer
    one.load_best()
    assert trainer.value == float((one.folder.path / "checkpoints" / "step-2" / "state" / "value").read_text())


def test_a_checkpoint_that_cannot_be_loaded_is_an_error(tmp_path):
    list(loop(tmp_path / "run", NumberTrainer()).events())

    class Refusing(NumberTrainer):
        def load_state(self, folder):
            raise CheckpointError(f"{folder} is of another model")

    with pytest.raises(CheckpointError, match="step-10/state is of another model"):
        list(loop(tmp_path / "run", Refusing()).events())


def test_recordings_that_become_unreadable_are_named_once(tmp_path):
    class Spoilt(Steps):
        def steps(self, first, end):
            whys = {2: ("b2.wav is gone",), 5: ("b2.wav is gone",), 7: ("a7.wav is damaged",)}
            return (replace(data, unreadable=whys.get(data.number, ())) for data in super().steps(first, end))

    notes = [
        event.text
        for event in loop(tmp_path / "run", NumberTrainer(), data=Spoilt()).events()
        if isinstance(event, Note)
    ]
    assert [note for note in notes if "goes without" in note] == [
        "update 3 goes without a recording, one of 1 by now: b2.wav is gone",
        "update 8 goes without a recording, one of 2 by now: a7.wav is damaged",
    ]
