"""Batches of a training run as functions of seed, step and process."""

import json
import threading
import time
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from tone_speech import write_tones

from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.data.checking import check_rows
from wav2vec2_core.data.labels import TextLabels
from wav2vec2_core.data.loader import Loader, evaluation_batches
from wav2vec2_core.data.manifest import read_manifest
from wav2vec2_core.errors import AudioError, InputError
from wav2vec2_core.processing import Wav2Vec2Processor
from wav2vec2_core.transcription import EMBEDDED_MODEL

CONFIG = Wav2Vec2Config.from_pretrained(EMBEDDED_MODEL).replace(
    mask_time_prob=0.3, mask_feature_prob=0.3, layerdrop=0.5
)
PROCESSOR = Wav2Vec2Processor.from_pretrained(EMBEDDED_MODEL)
LABELS = TextLabels(PROCESSOR.tokenizer, CONFIG)


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    manifest = write_tones(tmp_path_factory.mktemp("tones"), 23)
    return check_rows(read_manifest(manifest), LABELS, CONFIG, 16_000).rows


def loader(rows, **options):
    settings = {"batch_seconds": 6, "micro_batch_seconds": 3, "seed": 1} | options
    return Loader(rows, PROCESSOR.feature_extractor, CONFIG, LABELS, **settings)


def same(one, other):
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


def by_row(step):
    """Every row of a step without padding: samples, labels, masks."""
    found = {}
    names = iter(step.names)
    for batch in step.micro:
        for index, mask in enumerate(batch["attention_mask"]):
            samples, frames = int(mask.sum()), int(CONFIG.num_frames(mask.sum()))
            labels = batch["labels"][index]
            assert not batch["mask_time_indices"][index, frames:].any()
            found[next(names)] = (
                batch["input_values"][index, :samples].tobytes(),
                labels[labels >= 0].tobytes(),
                batch["mask_time_indices"][index, :frames].tobytes(),
                batch["mask_feature_indices"][index].tobytes(),
            )
    return found


def test_a_step_is_the_same_whenever_it_is_asked_for(rows):
    first, again = loader(rows), loader(rows)
    in_order = list(first.steps(0, 12))
    assert [step.number for step in in_order] == list(range(12))
    assert in_order[-1].epoch > 0
    late = again.at(11)  # without the steps before
    assert (late.epoch, late.names, late.targets) == (in_order[11].epoch, in_order[11].names, in_order[11].targets)
    assert all(same(one, other) for one, other in zip(late.micro, in_order[11].micro, strict=True))
    other = loader(rows, seed=2).at(11)
    assert other.names != late.names


def test_an_epoch_has_every_row_once_and_other_masks_than_the_one_before(rows):
    one = loader(rows)
    epochs = {}
    for step in one.steps(0, 30):
        epochs.setdefault(step.epoch, {}).update(by_row(step))
        assert step.targets == len(step.names)
        assert step.seconds <= 6
    assert len(epochs[0]) == len(epochs[1]) == 23
    for name, row in epochs[0].items():
        assert row[:2] == epochs[1][name][:2]
        assert row[2:] != epochs[1][name][2:]


@pytest.mark.parametrize("count", [2, 3, 20])
def test_processes_share_every_step_and_draw_what_one_would(rows, count):
    """In batches of the same shape: a process that has fewer rows, or none, is given silence without labels."""
    alone, shares = loader(rows), [loader(rows, process=(index, count)) for index in range(count)]
    filled = 0
    for number in range(8):
        whole, parts = alone.at(number), [share.at(number) for share in shares]
        for part in parts:
            assert (part.targets, part.seconds, part.names) == (whole.targets, whole.seconds, whole.names)
            assert len(part.micro) == len(whole.micro)
        for micro, batch in enumerate(whole.micro):
            for name, array in batch.items():
                dealt = [part.micro[micro][name] for part in parts]
                assert len({(one.shape, one.dtype) for one in dealt}) == 1, name
                if name == "layer_keep":
                    assert all(np.array_equal(one, array) for one in dealt)
                    continue
                joined = np.stack(dealt, axis=1).reshape(-1, *array.shape[1:])  # row r is in process r % count
                assert np.array_equal(joined[: len(array)], array), name
                filling = joined[len(array) :]
                filled += len(filling)
                assert (filling == {"labels": -100, "attention_mask": 1}.get(name, 0)).all()
    assert filled > 0


def test_few_shapes_change_padding_alone(rows):
    exact, few = loader(rows), loader(rows, few_shapes=True)
    for number in range(4):
        assert by_row(exact.at(number)) == by_row(few.at(number))
    lengths = {batch["input_values"].shape[1] for step in few.steps(0, 8) for batch in step.micro}
    assert all(length % 1024 == 0 for length in lengths)  # half a second and more have at least 8,192 samples
    assert {batch["labels"].shape[1] for step in few.steps(0, 8) for batch in step.micro} <= {16, 32, 64}


def test_evaluation_has_every_row_once(rows):
    seen = []
    for chosen, batch in evaluation_batches(rows, PROCESSOR.feature_extractor, 4):
        assert batch["attention_mask"].sum(1).tolist() == [row.samples for row in chosen]
        assert batch["input_values"].size <= 64_000
        seen += chosen
    assert sorted(row.utterance.path for row in seen) == sorted(row.utterance.path for row in rows)


def test_processes_share_an_evaluation_in_batches_of_one_shape(rows):
    parts = [list(evaluation_batches(rows, PROCESSOR.feature_extractor, 4, process=(index, 3))) for index in range(3)]
    seen = []
    for together in zip(*parts, strict=True):
        assert len({batch["input_values"].shape for _, batch in together}) == 1
        for chosen, batch in together:
            lengths = batch["attention_mask"].sum(1)
            assert lengths[: len(chosen)].tolist() == [row.samples for row in chosen]
            assert not batch["input_values"][len(chosen) :].any()
            assert (lengths[len(chosen) :] == batch["input_values"].shape[1]).all()
            seen += chosen
    assert sorted(row.utterance.path for row in seen) == sorted(row.utterance.path for row in rows)


def test_no_rows_and_no_process_are_refused(rows):
    with pytest.raises(InputError, match="no rows"):
        loader([])
    with pytest.raises(InputError, match=r"process=\(2, 2\)"):
        loader(rows, process=(2, 2))


def test_a_state_names_the_position_and_the_data_it_is_one_in(rows):
    whole = loader(rows)
    taken = list(islice(whole, 5))
    state = json.loads(json.dumps(whole.get_state()))
    assert state["step"] == 5
    later = loader(rows)
    later.set_state(state)
    step = next(iter(later))
    assert (step.number, step.names) == (5, whole.at(5).names)
    assert [one.number for one in taken] == list(range(5))
    assert later.get_state()["step"] == 6  # and whoever goes on goes on there
    assert next(iter(later)).number == 6


def test_data_that_moved_are_the_same_data(rows):
    moved = [replace(row, utterance=replace(row.utterance, path=Path("/new", row.utterance.path.name))) for row in rows]
    loader(moved).set_state(loader(rows).get_state())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 2}, "seed was 1 and is 2"),
        ({"batch_seconds": 5}, r"batch_samples was \[96000, 48000\] and is \[80000, 48000\]"),
        ({"rows": slice(1, None)}, "data was '[0-9a-f]{64}' and is"),
    ],
)
def test_a_state_of_other_data_is_refused(rows, change, message):
    own = loader(rows)
    other = loader(rows[change.pop("rows", slice(None))], **change)
    with pytest.raises(InputError, match=message):
        other.set_state(own.get_state())
    assert other.get_state()["step"] == 0


@pytest.mark.parametrize("step", [None, -1, 1.5, True, "3"])
def test_a_position_that_is_none(rows, step):
    own = loader(rows)
    with pytest.raises(InputError, match="it must be a number of steps"):
        own.set_state(own.get_state() | {"step": step})


def with_content(row, content):
    return replace(row, utterance=replace(row.utterance, content=content))


def test_rows_are_decoded_by_several_threads(rows):
    """Each of two rows waits for the other to be read at the same time."""
    together = threading.Barrier(2, timeout=30)

    def content():
        together.wait()
        return rows[0].utterance.path

    pair = [with_content(rows[0], content)] * 2
    assert len(loader(pair, micro_batch_seconds=6).at(0).names) == 2
    ((_, batch),) = evaluation_batches(pair, PROCESSOR.feature_extractor, 6)
    assert len(batch["input_values"]) == 2


def test_no_more_steps_are_read_than_are_needed_soon(rows):
    read = []

    def counted(row):
        def content():
            read.append(row)
            return row.utterance.path

        return with_content(row, content)

    steps = loader([counted(row) for row in rows]).steps(0)
    first = next(steps)
    time.sleep(0.5)
    steps.close()
    longest = max(len(step.names) for step in loader(rows).steps(0, 10))
    assert len(first.names) <= len(read) <= 5 * longest  # taken, two waiting, one made, one begun
    assert not [thread for thread in threading.enumerate() if thread.name == "wav2vec2-reader"]


def gone():
    raise AudioError("7.wav is gone: restore it")


def test_a_recording_that_becomes_unreadable_ends_the_run_by_name(rows):
    spoilt = [with_content(rows[0], gone), *rows[1:]]
    with pytest.raises(AudioError, match=r"7.wav is gone: restore it \(it could be read when the data were checked\)"):
        list(loader(spoilt).steps(0, 8))


def test_a_recording_that_changed_ends_the_run_by_name(rows):
    other = next(row for row in rows if row.samples != rows[0].samples)
    spoilt = with_content(rows[0], lambda: other.utterance.path)
    with pytest.raises(AudioError, match=r"0.wav has \d+ samples at 16000 Hz and had \d+: restore the file"):
        list(loader([spoilt]).steps(0, 1))
    with pytest.raises(AudioError, match=r"0.wav has \d+ samples"):
        list(evaluation_batches([spoilt], PROCESSOR.feature_extractor, 4))


@pytest.mark.parametrize("count", [1, 2])
def test_so_many_unreadable_recordings_are_silence_without_labels(rows, count):
    spoilt = [with_content(row, gone) if number in (0, 3) else row for number, row in enumerate(rows)]
    whole = [loader(rows, process=(index, count)) for index in range(count)]
    parts = [loader(spoilt, process=(index, count), most_unreadable=2) for index in range(count)]
    silent = 0
    for number in range(14):
        for good, bad in zip(whole, parts, strict=True):
            one, other = good.at(number), bad.at(number)
            assert (one.targets, one.names) == (other.targets, other.names)
            for left, right in zip(one.micro, other.micro, strict=True):
                assert np.array_equal(left["attention_mask"], right["attention_mask"])
                lost = (left["input_values"] != right["input_values"]).any(1)
                assert not right["input_values"][lost].any()
                assert (right["labels"][lost] == -100).all()
                assert np.array_equal(left["labels"][~lost], right["labels"][~lost])
                silent += lost.sum()
            assert all(why == "7.wav is gone: restore it" for why in other.unreadable)
    assert silent > 2  # in more than one epoch
    assert silent == sum(len(part.at(number).unreadable) for part in parts for number in range(14))
    assert set().union(*(part.unreadable for part in parts)) == {0, 3}
    with pytest.raises(AudioError, match="2 rows are so by now"):
        list(loader(spoilt, most_unreadable=1).steps(0, 8))
