"""Batches of pretraining as functions of seed, step and process."""

import numpy as np
import pytest
from tone_speech import write_tones

from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.data.bucketing import equal_steps, previous_of_few
from wav2vec2_core.data.checking import check_rows
from wav2vec2_core.data.manifest import read_manifest
from wav2vec2_core.data.pretraining import TOO_SHORT_TO_MASK, LongEnough, PretrainingLoader
from wav2vec2_core.errors import AudioError, InputError
from wav2vec2_core.feature_extraction import Wav2Vec2FeatureExtractor

CONFIG = Wav2Vec2Config(
    mask_time_prob=0.65, mask_feature_prob=0.3, mask_feature_length=8, layerdrop=0.5, num_negatives=9
)
EXTRACTOR = Wav2Vec2FeatureExtractor(do_normalize=False)
LONGEST = 20_000


@pytest.fixture(scope="module")
def checked(tmp_path_factory):
    manifest = write_tones(tmp_path_factory.mktemp("tones"), 23)
    return check_rows(read_manifest(manifest), LongEnough(CONFIG, 0), CONFIG, 16_000)


@pytest.fixture(scope="module")
def rows(checked):
    return checked.rows


def loader(rows, config=CONFIG, **options):
    settings = {"batch_seconds": 8, "micro_batch_seconds": 4, "seed": 1, "longest_samples": LONGEST} | options
    return PretrainingLoader(rows, EXTRACTOR, config, **settings)


def same(one, other):
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


def test_a_step_is_the_same_whenever_it_is_asked_for(rows):
    in_order = list(loader(rows).steps(0, 9))
    late = loader(rows).at(8)
    assert (late.epoch, late.names, late.targets) == (in_order[8].epoch, in_order[8].names, in_order[8].targets)
    assert all(same(one, other) for one, other in zip(late.micro, in_order[8].micro, strict=True))
    assert not all(map(same, late.micro, loader(rows, seed=2).at(8).micro))


def test_every_micro_batch_is_whole(rows):
    """No padding, one length, as many masked frames in each row, distractors among those alone."""
    for step in loader(rows).steps(0, 12):
        assert step.seconds <= 8
        assert step.targets == sum(batch["mask_time_indices"].sum() for batch in step.micro)
        assert step.frames == sum(batch["mask_time_indices"].size for batch in step.micro)
        for batch in step.micro:
            assert "attention_mask" not in batch
            mask, counts, samples = (
                batch[name] for name in ("mask_time_indices", "sampled_negative_counts", "input_values")
            )
            assert samples.shape[1] <= LONGEST
            assert samples.size <= 4 * 16_000
            assert mask.shape == (len(samples), CONFIG.num_frames(samples.shape[1]))
            assert len(set(mask.sum(1))) == 1
            assert mask.any()
            assert counts.dtype == np.uint8
            assert (counts[mask].sum(-1) == 9).all()
            for row, marked in enumerate(mask):
                assert not counts[row][marked][:, ~marked].any()
                assert not counts[row][marked, marked].any()
            assert batch["mask_feature_indices"].shape == (len(samples), CONFIG.hidden_size)


def test_masked_shares_are_those_of_the_configuration(rows):
    steps = list(loader(rows).steps(0, 40))
    share = sum(step.targets for step in steps) / sum(step.frames for step in steps)
    assert 0.35 < share < 0.5  # 49 % of long utterances; short ones have few starts, and rows are cut to the fewest


def test_crops_are_drawn_anew_in_every_epoch(rows):
    whole = {}
    for step in loader(rows).steps(0, 30):
        crops = [crop for batch in step.micro for crop in batch["input_values"]]
        for name, crop in zip(step.names, crops, strict=True):
            whole.setdefault(name, {})[step.epoch] = crop
    lengths = {str(row.utterance.path): row.samples for row in rows}
    moved = 0
    for name, crops in whole.items():
        for crop in crops.values():
            assert len(crop) == previous_of_few(min(lengths[name], LONGEST))
        if len(crops) > 1 and lengths[name] > len(crops[0]):
            moved += not np.array_equal(crops[0], crops[1])
    assert len(whole) == len(rows)
    assert moved > len(rows) / 2


def test_processes_share_every_micro_batch(rows):
    whole = loader(rows)
    shares = [loader(rows, process=(index, 2)) for index in range(2)]
    for number in range(6):
        step, parts = whole.at(number), [share.at(number) for share in shares]
        assert {part.targets for part in parts} == {step.targets}
        for batch, one, other in zip(step.micro, *(part.micro for part in parts), strict=True):
            assert one["input_values"].shape == other["input_values"].shape
            for name in ("input_values", "mask_time_indices", "sampled_negative_counts"):
                count = len(batch[name])
                assert np.array_equal(batch[name][::2], one[name][: -(-count // 2)])
                assert np.array_equal(batch[name][1::2], other[name][: count // 2])
                assert not other[name][count // 2 :].any()


def test_few_shapes(rows):
    shapes = {}
    for step in loader(rows, few_shapes=True).steps(0, 20):
        for batch in step.micro:
            count, length = batch["input_values"].shape
            shapes.setdefault(length, set()).add(count)
    assert all(counts == {max(1, 64_000 // length)} for length, counts in shapes.items())


def test_rows_without_room_for_a_span(checked, tmp_path):
    config = CONFIG.replace(mask_time_length=60)
    found = check_rows(read_manifest(write_tones(tmp_path, 23)), LongEnough(config, 0), config, 16_000)
    assert 0 < len(found.rows) < 23
    assert set(found.reasons) == {TOO_SHORT_TO_MASK}
    assert "frames are too few to mask a span of 60 (model.mask_time_length)" in found.findings[0].detail
    assert all(CONFIG.num_frames(previous_of_few(row.samples)) > 60 for row in found.rows)
    with pytest.raises(InputError, match="crops of 20000 samples have 57 frames, too few to mask a span of 60"):
        loader(found.rows, config)
    for step in loader(found.rows, config, longest_samples=40_000).steps(0, 9):
        assert step.targets >= 60 * len(step.names)
    shortest = LongEnough(CONFIG, 24_000)
    found = check_rows([row.utterance for row in checked.rows], shortest, CONFIG, 16_000)
    assert {row.samples for row in found.rows} == {24_000}
    assert "samples of at least 24000 (data.shortest_seconds)" in found.findings[0].detail


def test_masks_must_be_certain(rows):
    with pytest.raises(InputError, match="mask_time_min_masks=0 may leave an utterance without a masked frame"):
        loader(rows, CONFIG.replace(mask_time_min_masks=0))


def test_steps_of_equal_lengths():
    lengths = [5, 7, 5, 5, 7, 5, 5, 30]
    steps = equal_steps(lengths, 24, 12, seed=0, epoch=0)
    assert sorted(index for step in steps for bucket in step for index in bucket) == list(range(8))
    assert all(len({lengths[index] for index in bucket}) == 1 for step in steps for bucket in step)
    assert all(len(bucket) <= 2 for step in steps for bucket in step)
    assert all(sum(lengths[i] for bucket in step for i in bucket) <= 24 or len(step) == 1 for step in steps)
    assert steps != equal_steps(lengths, 24, 12, seed=0, epoch=1)


def test_lengths_lose_an_eighth_at_most():
    for length in range(1, 3000):
        assert 7 / 8 * length <= previous_of_few(length) <= length
    assert len({previous_of_few(length) for length in range(16_000, 256_000)}) <= 40


def test_a_row_that_cannot_be_read_any_more_is_silence_without_masks(tmp_path):
    found = check_rows(read_manifest(write_tones(tmp_path, 8)), LongEnough(CONFIG, 0), CONFIG, 16_000)
    gone = found.rows[3].utterance.path
    gone.unlink()
    with pytest.raises(AudioError, match=gone.name):
        list(loader(found.rows).steps(0, 3))
    batches = [
        (batch, step.unreadable) for step in loader(found.rows, most_unreadable=1).steps(0, 2) for batch in step.micro
    ]
    silent = [
        row for batch, _ in batches for row in range(len(batch["input_values"])) if not batch["input_values"][row].any()
    ]
    assert silent
    for batch, why in batches:
        for row, values in enumerate(batch["input_values"]):
            assert values.any() == batch["mask_time_indices"][row].any()
            assert values.any() or gone.name in why[0]
            assert (
                values.any()
                or not batch["sampled_negative_counts"][row].any()
                or not batch["mask_time_indices"][row].any()
            )
