"""Batches of a training run as functions of seed, step and process."""

import numpy as np
import pytest
from tone_speech import write_tones

from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.data.checking import check_rows
from wav2vec2_core.data.labels import TextLabels
from wav2vec2_core.data.loader import Loader, evaluation_batches
from wav2vec2_core.data.manifest import read_manifest
from wav2vec2_core.errors import InputError
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
