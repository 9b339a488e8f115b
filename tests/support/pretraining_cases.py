"""What pretraining must do in every back end, on utterances of tones."""

import json

import numpy as np
from tone_speech import write_tones

from wav2vec2_core.training.loop import Note, Update
from wav2vec2_core.training.pretraining import Pretraining
from wav2vec2_core.training.pretraining_recipe import PretrainingRecipe
from wav2vec2_core.training.run_folder import RunFolder

SMALL = (
    "data.batch_seconds=4", "data.micro_batch_seconds=2", "data.longest_seconds=0.5", "data.shortest_seconds=0.3",
    "architecture.channels=16", "architecture.hidden_size=32", "architecture.intermediate_size=32",
    "architecture.layers=2", "architecture.codevectors=8", "architecture.codevector_size=16",
    "model.mask_time_length=4", "objective.num_negatives=7", "objective.feature_penalty_weight=1",
    "objective.feature_gradient_scale=0.5", "optimizer.weight_decay=0.1", "schedule.steps=4", "checkpoints.every=2",
    "health.window=2", "model.layerdrop=0.2", "model.hidden_dropout=0.1",
)  # fmt: skip


def recipe(*settings):
    return PretrainingRecipe.read("tiny").changed([*SMALL, *settings])


def updates_of(events):
    return [event for event in events if isinstance(event, Update)]


def run(backend, data, folder, *settings, stop_after=None):
    """The updates and the notes of a run; ``stop_after`` leaves it after so many updates."""
    events = []
    pretraining = Pretraining(data, recipe(*settings), backend=backend, device="cpu")
    with_folder = RunFolder.resume(folder, pretraining.configuration())
    for event in pretraining.run(with_folder):
        events.append(event)
        if stop_after is not None and len(updates_of(events)) == stop_after:
            break
    return updates_of(events), [event.text for event in events if isinstance(event, Note)]


def check_run(backend, tmp_path, load):
    """A run measures what it must, a resumed one ends with the same model, and the model is one of the family."""
    data = write_tones(tmp_path, 12)
    updates, _ = run(backend, data, tmp_path / "whole")
    assert [update.step for update in updates] == [1, 2, 3, 4]
    measures = dict(updates[-1].measures)
    assert set(measures) == {
        "contrastive_loss", "contrastive_accuracy", "feature_penalty", "soft_perplexity_0", "soft_perplexity_1",
        "hard_perplexity_0", "hard_perplexity_1", "masked_share", "chance_accuracy",
    }  # fmt: skip
    assert 0.2 < measures["masked_share"] < 0.6
    assert abs(measures["contrastive_loss"] - np.log(8)) < 1
    for kind in ("soft", "hard"):
        assert all(1 <= measures[f"{kind}_perplexity_{group}"] <= 8 for group in range(2))
    total = measures["contrastive_loss"] + measures["feature_penalty"]
    assert total < updates[-1].loss < total + 0.1  # and the diversity loss, a tenth of a share
    records = [json.loads(line) for line in (tmp_path / "whole" / "train.jsonl").read_text().splitlines()]
    assert [record["hard_perplexity_0"] for record in records] == [one.measures["hard_perplexity_0"] for one in updates]

    run(backend, data, tmp_path / "parts", stop_after=3)
    rest, notes = run(backend, data, tmp_path / "parts")
    assert "going on after 2 updates" in notes
    assert [update.loss for update in rest] == [update.loss for update in updates[2:]]
    whole, parts = (load(tmp_path / name / "model") for name in ("whole", "parts"))
    assert whole.keys() == parts.keys()
    assert all(np.array_equal(whole[name], parts[name]) for name in whole)
    fresh = dict(first_values())
    assert all(not np.array_equal(whole[name], fresh[name]) for name in fresh if not name.endswith("k_proj.bias"))


def first_values():
    from wav2vec2_core.parameters import initial_values, parameter_table

    return initial_values(parameter_table(recipe().config(), "ForPreTraining"), 0)
