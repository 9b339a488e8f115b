"""What a trainer must do in every back end. ``make(head, optimizer arguments, **fields)`` gives (trainer, weights).

``weights()``: copies of all parameters by checkpoint name. Optimizers are gradient descent with ``momentum``.
"""

import numpy as np
import pytest
from ml_dtypes import bfloat16
from model_cases import QUIET, SAMPLES

from wav2vec2_core import masking
from wav2vec2_core.errors import CheckpointError, InputError, OutputError, ParameterMismatchError
from wav2vec2_core.parameters import trainable_names
from wav2vec2_core.training.steps import StepValues, checked_batch, filled_batch, noise_seeds

#: No draw of any kind, and every row by itself.
STILL = {**QUIET, "apply_spec_augment": False, "feat_extract_norm": "layer", "ctc_loss_reduction": "mean"}
ROWS = 4
HEADS = ("ForCTC", "ForSequenceClassification", "ForAudioFrameClassification", "ForXVector")


def batch(head="ForCTC", rows=ROWS, seed=0, config=None):
    """Waveforms without padding, and labels as the head wants them."""
    generator = np.random.default_rng(seed)
    values = generator.standard_normal((rows, SAMPLES)).astype(np.float32)
    labels = generator.integers(1, 5, (rows, 4))
    if head == "ForCTC":
        labels[0, 2:] = -100
    elif head == "ForAudioFrameClassification":
        labels = np.eye(5, dtype=np.int64)[generator.integers(0, 5, (rows, config.num_frames(SAMPLES)))]
    else:
        labels = labels[:, 0]
    return {"input_values": values, "labels": labels}


def rows_of(given, rows):
    return {name: array[rows] for name, array in given.items()}


def changes(before, after):
    return {name: after[name] - before[name] for name in before}


def norm_of(arrays):
    return float(np.sqrt(sum(np.square(array.astype(np.float64)).sum() for array in arrays)))


def check_micro_batches(make):
    """Two micro-batches give the update of one batch, with one divisor for both."""
    results = []
    for micro in ([batch()], [rows_of(batch(), slice(0, 1)), rows_of(batch(), slice(1, ROWS))]):
        trainer, weights = make("ForCTC", **STILL)
        before = weights()
        results.append((trainer.fetch(trainer.step(micro, 0, StepValues(0.01, ROWS))), changes(before, weights())))
    (whole, moved), (parts, moved_by_parts) = results
    assert whole["count"] == parts["count"] == ROWS
    assert whole["refused"] == parts["refused"] == 0
    assert parts["loss"] == pytest.approx(whole["loss"], rel=1e-5)
    assert parts["gradient_norm"] == pytest.approx(whole["gradient_norm"], rel=1e-4)
    scale = max(np.abs(array).max() for array in moved.values())
    assert all(np.abs(moved[name] - moved_by_parts[name]).max() <= 1e-4 * scale for name in moved)
    assert norm_of(moved.values()) == pytest.approx(0.01 * whole["gradient_norm"], rel=1e-3)


def check_targets_divide(make):
    """The divisor is what the step is told, and nothing is averaged besides."""
    found = []
    for targets in (1, 8):
        trainer, _ = make("ForCTC", **STILL)
        found.append(trainer.fetch(trainer.step([batch()], 0, StepValues(0.0, targets))))
    assert found[0]["loss"] == pytest.approx(8 * found[1]["loss"], rel=1e-5)
    assert found[0]["gradient_norm"] == pytest.approx(8 * found[1]["gradient_norm"], rel=1e-5)
    letters, _ = make("ForCTC", **{**STILL, "ctc_loss_reduction": "sum"})
    assert letters.fetch(letters.step([batch()], 0, StepValues(0.0, 1)))["count"] == 4 * ROWS - 2


def check_clipping(make):
    trainer, weights = make("ForCTC", **STILL)
    before = weights()
    found = trainer.fetch(trainer.step([batch()], 0, StepValues(0.1, ROWS, clip=0.5)))
    assert found["gradient_norm"] > 1  # before clipping
    assert norm_of(changes(before, weights()).values()) == pytest.approx(0.1 * 0.5, rel=1e-3)
    small, weights = make("ForCTC", **STILL)
    before = weights()
    norm = small.fetch(small.step([batch()], 0, StepValues(1e-3, ROWS, clip=1e6)))["gradient_norm"]
    assert norm_of(changes(before, weights()).values()) == pytest.approx(1e-3 * norm, rel=1e-3)


def check_frozen(make):
    """What is frozen neither moves nor counts for the norm; momenta of what is frozen later are kept."""
    trainer, weights = make("ForCTC", **STILL)
    names = trainable_names(trainer.config, "ForCTC", frozen="base_model")
    trainer.set_trainable(names)
    before = weights()
    found = trainer.fetch(trainer.step([batch()], 0, StepValues(0.01, ROWS)))
    moved = changes(before, weights())
    assert {name for name, change in moved.items() if change.any()} == names == {"lm_head.weight", "lm_head.bias"}
    assert norm_of(moved.values()) == pytest.approx(0.01 * found["gradient_norm"], rel=1e-3)
    trainer.set_trainable(trainable_names(trainer.config, "ForCTC", frozen="feature_encoder"))
    before = weights()
    trainer.step([batch()], 1, StepValues(0.01, ROWS))
    moved = changes(before, weights())
    assert moved["wav2vec2.encoder.layers.0.attention.v_proj.weight"].any()
    assert not moved["wav2vec2.feature_extractor.conv_layers.0.conv.weight"].any()
    trainer.set_trainable(frozenset())
    with pytest.raises(InputError, match="no parameter is trained: name some in set_trainable"):
        trainer.step([batch()], 2, StepValues(0.01, ROWS))


def check_refusal(make):
    """A step whose gradient is no number leaves parameters and momenta as they were, and says so."""
    bad = batch(seed=1)
    bad["input_values"][1, 70] = np.nan
    ends = []
    for second in (None, bad):
        trainer, weights = make("ForCTC", momentum=0.9, **STILL)
        trainer.step([batch()], 0, StepValues(0.01, ROWS))
        if second is not None:
            before = weights()
            found = trainer.fetch(trainer.step([second], 1, StepValues(0.01, ROWS, clip=1.0)))
            assert found["refused"] == 1
            assert not np.isfinite(found["gradient_norm"])
            assert all(np.array_equal(before[name], array) for name, array in weights().items())
        assert trainer.fetch(trainer.step([batch()], 2, StepValues(0.01, ROWS)))["refused"] == 0
        ends.append(weights())
    assert all(np.array_equal(ends[0][name], ends[1][name]) for name in ends[0])


def check_noise(make, head="ForCTC", given=None):
    """Dropout is a function of seed, step and micro-batch, and of nothing else."""
    quiet = {**STILL, "hidden_dropout": 0.2, "attention_dropout": 0.2}
    given = batch() if given is None else given

    def losses(numbers, **options):
        trainer, _ = make(head, **options, **quiet)
        values = StepValues(0.0, ROWS)
        return [trainer.fetch(trainer.step([given] * count, number, values))["loss"] for number, count in numbers]

    first = losses([(3, 1), (4, 1), (3, 1), (3, 2)])
    assert first[0] == first[2]  # and no step in between changes that
    assert first[0] != first[1]
    assert first[3] != pytest.approx(2 * first[0], rel=1e-6)  # the second micro-batch drops others
    assert losses([(3, 1)]) == first[:1]
    assert losses([(3, 1)], seed=1) != first[:1]


def check_losses(make, head, model_loss):
    """Sum by count is the loss that a call returns; evaluation neither drops nor changes anything."""
    trainer, weights = make(head, **{**STILL, "hidden_dropout": 0.3})
    given, before = batch(head, config=trainer.config), weights()
    sums = trainer.evaluate(given)
    total, count = sums["loss"]
    assert count == (ROWS * trainer.config.num_frames(SAMPLES) if head == "ForAudioFrameClassification" else ROWS)
    assert total / count == pytest.approx(model_loss(trainer.model, given), rel=1e-5)
    assert all(np.array_equal(before[name], array) for name, array in weights().items())
    logits = trainer.logits({"input_values": given["input_values"]})
    assert len(logits) == ROWS
    assert all(row.dtype == np.float32 for row in logits)
    moved = trainer.fetch(trainer.step([given], 0, StepValues(1e-3, count)))
    assert moved["count"] == count
    assert np.isfinite(moved["loss"])


def check_frames_without_labels(make):
    """A frame whose one-hot row is negative does not count."""
    head = "ForAudioFrameClassification"
    trainer, _ = make(head, **STILL)
    given = batch(head, config=trainer.config)
    whole, alone = trainer.evaluate(given)["loss"], trainer.evaluate(rows_of(given, slice(1, ROWS)))["loss"]
    given["labels"][0] = -100
    total, count = trainer.evaluate(given)["loss"]
    assert count == alone[1] < whole[1]
    assert total == pytest.approx(alone[0], rel=1e-5)


def check_filling(make):
    """Rows that fill up a batch have no loss, no count and no gradient, whatever the head."""
    for reduction in ("mean", "sum"):
        found = []
        for rows in (ROWS, ROWS + 2):
            trainer, weights = make("ForCTC", **{**STILL, "ctc_loss_reduction": reduction})
            before, given = weights(), filled_batch(batch(), rows)
            assert len(given["labels"]) == rows
            step = trainer.fetch(trainer.step([given], 0, StepValues(0.01, ROWS)))
            found.append((step, changes(before, weights())))
        (alone, moved), (filled, moved_filled) = found
        assert filled["count"] == alone["count"] > 0
        assert filled["loss"] == pytest.approx(alone["loss"], rel=1e-5)
        assert filled["gradient_norm"] == pytest.approx(alone["gradient_norm"], rel=1e-4)
        scale = max(np.abs(array).max() for array in moved.values())
        assert all(np.abs(moved[name] - moved_filled[name]).max() <= 1e-4 * scale for name in moved)
    nothing = filled_batch({**batch(), "labels": np.full((ROWS, 4), -100)}, ROWS + 2)
    only = trainer.fetch(trainer.step([nothing], 1, StepValues(0.01, ROWS)))
    assert (only["count"], only["loss"], only["gradient_norm"], only["refused"]) == (0, 0, 0, 0)
    for head in HEADS[1:]:
        trainer, _ = make(head, **STILL)
        given = batch(head, config=trainer.config)
        alone, filled = (trainer.evaluate(filled_batch(given, rows))["loss"] for rows in (ROWS, ROWS + 2))
        assert filled[1] == alone[1] > 0
        assert filled[0] == pytest.approx(alone[0], rel=1e-5)


def check_padding_of_logits(make):
    trainer, _ = make("ForCTC", **STILL)
    mask = np.ones((ROWS, SAMPLES), np.int32)
    mask[1, 700:] = 0
    lengths = [len(row) for row in trainer.logits({**batch(), "attention_mask": mask})]
    assert lengths == [trainer.config.num_frames(n) for n in (SAMPLES, 700, SAMPLES, SAMPLES)]


def pretraining_batch(config, rows=2, seed=0):
    generator = np.random.default_rng(seed)
    frames = config.num_frames(SAMPLES)
    mask = masking.time_mask([frames] * rows, frames, prob=0.5, length=4, min_masks=2, generator=generator)
    return {
        "input_values": generator.standard_normal((rows, SAMPLES)).astype(np.float32),
        "mask_time_indices": mask,
        "sampled_negative_indices": masking.negative_indices(mask, 7, generator),
    }


def check_pretraining(make):
    """Gumbel noise too is a function of the step, the temperature that of the step, the divisor masked frames."""
    fields = {**QUIET, "feat_extract_norm": "layer"}
    trainer, weights = make("ForPreTraining", **fields)
    given = pretraining_batch(trainer.config)
    frames = int(given["mask_time_indices"].sum())
    before, found = weights(), []
    for number, temperature in ((0, 2.0), (1, 2.0), (0, 2.0), (0, 0.5)):
        values = StepValues(0.0, frames, gumbel_temperature=temperature)
        found.append(trainer.fetch(trainer.step([given], number, values)))
    assert found[0] == found[2]
    assert found[0]["loss"] != found[1]["loss"]
    assert found[0]["gradient_norm"] != found[3]["gradient_norm"]
    assert found[0]["count"] == frames
    weighted = found[0]["contrastive_loss"] + trainer.config.diversity_loss_weight * found[0]["diversity_loss"]
    assert found[0]["loss"] == pytest.approx(weighted, rel=1e-5)
    assert all(np.array_equal(before[name], array) for name, array in weights().items())
    entries = trainer.config.num_codevectors_per_group
    for kind in ("soft", "hard"):
        each = [found[0][f"{kind}_perplexity_{group}"] for group in range(2)]
        assert all(1 <= one <= entries for one in each)
        if kind == "soft":
            assert found[0]["codevector_perplexity"] == pytest.approx(sum(each), rel=1e-5)
    right = found[0]["contrastive_accuracy"] * frames
    assert right == pytest.approx(round(right), abs=1e-3)
    with pytest.raises(InputError, match=r"a batch has no sampled_negative_indices: Wav2Vec2ForPreTraining computes"):
        trainer.evaluate({name: array for name, array in given.items() if name != "sampled_negative_indices"})


#: Of models that pretrain in several processes: every term of the loss depends on the rows of all.
PRETRAINING = {
    **QUIET, "layerdrop": 0.0, "feat_extract_norm": "layer", "feature_penalty_weight": 5.0,
    "feature_gradient_scale": 0.5, "diversity_loss_weight": 10.0,
}  # fmt: skip


def pretrain(trainer, steps=3):
    """What was found in updates of a share of two micro-batches, which have 3 and 2 rows and masks of any size."""
    (index, count), found = trainer.process, []
    frames = trainer.config.num_frames(SAMPLES)
    for number in range(steps):
        generator, micro, targets = np.random.default_rng(number), [], 0
        for rows in (3, 2):
            mask = masking.time_mask([frames] * rows, frames, prob=0.3, length=4, min_masks=1, generator=generator)
            mask[0, :8] = True  # not as many in each row
            drawn = masking.negative_indices(mask, 7, generator)
            whole = {
                "input_values": generator.standard_normal((rows, SAMPLES)).astype(np.float32),
                "mask_time_indices": mask,
                "sampled_negative_counts": masking.count_negatives(drawn),
            }
            targets += int(mask.sum())
            micro.append(filled_batch(rows_of(whole, slice(index, None, count)), -(-rows // count)))
        values = StepValues(0.01, targets, clip=5.0, gumbel_temperature=1.5)
        found.append(trainer.fetch(trainer.step(micro, number, values)))
    assert [one["refused"] for one in found] == [0] * steps
    return {f"found/{name}": np.array([one[name] for one in found]) for name in found[0]}


def check_feature_penalty(make):
    """The penalty counts once for each masked frame, and every gradient of the feature encoder is scaled, its too."""
    fields, name = {**QUIET, "feat_extract_norm": "layer"}, "wav2vec2.feature_extractor.conv_layers.2.conv.weight"
    given, found, moved = None, [], []
    for penalty, scale in ((0.0, 1.0), (0.0, 0.25), (20.0, 1.0), (20.0, 0.25)):
        trainer, weights = make(
            "ForPreTraining", feature_penalty_weight=penalty, feature_gradient_scale=scale, **fields
        )
        given = pretraining_batch(trainer.config) if given is None else given
        frames, before = int(given["mask_time_indices"].sum()), weights()
        found.append(trainer.fetch(trainer.step([given], 0, StepValues(1.0, frames))))
        change = changes(before, weights())
        moved.append((change[name].astype(np.float64), change["project_hid.weight"]))
    plain, scaled, penalised, both = found
    assert scaled["loss"] == pytest.approx(plain["loss"], rel=1e-6)
    assert plain["feature_penalty"] > 0
    assert penalised["loss"] == pytest.approx(plain["loss"] + 20 * plain["feature_penalty"], rel=1e-5)
    assert both["loss"] == pytest.approx(penalised["loss"], rel=1e-6)
    for whole, part in ((0, 1), (2, 3)):
        largest = np.abs(moved[whole][0]).max()
        assert np.abs(0.25 * moved[whole][0] - moved[part][0]).max() <= 1e-4 * largest
        assert np.abs(moved[whole][1] - moved[part][1]).max() <= 1e-5 * np.abs(moved[whole][1]).max()
    assert np.abs(moved[2][0] - moved[0][0]).max() > 0.1 * np.abs(moved[0][0]).max()


def check_no_masked_frame(make):
    """A micro-batch without a masked frame adds nothing: no loss, no count, no gradient."""
    trainer, _ = make("ForPreTraining", **{**QUIET, "feat_extract_norm": "layer"})
    given = pretraining_batch(trainer.config)
    frames = int(given["mask_time_indices"].sum())
    empty = {**given, "mask_time_indices": np.zeros_like(given["mask_time_indices"])}
    alone = trainer.fetch(trainer.step([given], 0, StepValues(0.0, frames)))
    with_another = trainer.fetch(trainer.step([given, empty], 0, StepValues(0.0, frames)))
    assert with_another["refused"] == 0
    assert with_another == pytest.approx(alone, rel=1e-5)
    assert trainer.evaluate(empty)["loss"] == (0.0, 0.0)
    row = {name: array[:1] for name, array in given.items()}
    found, alone = trainer.evaluate(filled_batch(row, 2)), trainer.evaluate(row)
    assert all(found[name] == pytest.approx(alone[name], rel=1e-5) for name in alone)


def check_counted_distractors(make):
    """Distractors as counts are the same as by their indices, whatever those of frames that are not masked are."""
    trainer, _ = make("ForPreTraining", **{**QUIET, "feat_extract_norm": "layer"})
    given = pretraining_batch(trainer.config)
    counts = masking.count_negatives(given["sampled_negative_indices"])
    counts[~given["mask_time_indices"]] = 3
    counted = {name: array for name, array in given.items() if name != "sampled_negative_indices"}
    assert trainer.evaluate({**counted, "sampled_negative_counts": counts}) == trainer.evaluate(given)


def check_bad_steps(make):
    """Nothing changes where a batch breaks a rule."""
    trainer, weights = make("ForCTC", **STILL)
    before, values = weights(), StepValues(0.01, ROWS)
    good = batch()
    wrong = {
        "a step has no micro-batch: give at least one": [],
        "a batch has no labels: Wav2Vec2ForCTC computes its loss from labels": [{"input_values": good["input_values"]}],
        "a batch holds input_values, speaker: training Wav2Vec2ForCTC takes": [
            good,
            {"input_values": good["input_values"], "speaker": good["labels"]},
        ],
        "labels hold the value 11, the limit is 10": [good, {**good, "labels": good["labels"] + 7}],
        "labels have 3 rows, input_values 4": [{**good, "labels": good["labels"][:3]}],
        r"attention_mask has shape \(4, 3\)": [{**good, "attention_mask": np.ones((4, 3), int)}],
        "attention_mask has a row with 0 samples": [{**good, "attention_mask": np.zeros((ROWS, SAMPLES), int)}],
    }
    for message, micro in wrong.items():
        with pytest.raises(InputError, match=message):
            trainer.step(micro, 0, values)
    assert all(np.array_equal(before[name], array) for name, array in weights().items())


def check_bad_pretraining_steps(make):
    """What the losses must not see is found on the host, in the same words as by a call."""
    fields = {**QUIET, "feat_extract_norm": "layer"}
    trainer, _ = make("ForPreTraining", **fields)
    good, values = pretraining_batch(trainer.config), StepValues(0.0, 1)
    frames, mask = trainer.config.num_frames(SAMPLES), np.ones((2, SAMPLES), np.int32)
    everywhere = np.ones_like(good["mask_time_indices"])
    mask[1, 700:] = 0
    wrong = {
        r"mask_time_indices has shape \(1, 74\), it must be \(2, 74\)": {"mask_time_indices": everywhere[:1]},
        "mask_time_indices masks frame 34 of utterance 1": {"attention_mask": mask, "mask_time_indices": everywhere},
        "sampled_negative_indices holds .* for frame .* of utterance 0, whose frames are 0 to 73": {
            "sampled_negative_indices": good["sampled_negative_indices"] + frames
        },
        r"sampled_negative_indices has shape \(74,\)": {"sampled_negative_indices": np.zeros(frames)},
        r"sampled_negative_counts say the same": {"sampled_negative_counts": np.zeros((2, frames, frames))},
    }
    for message, given in wrong.items():
        with pytest.raises(InputError, match=message):
            trainer.step([{**good, **given}], 0, values)
    unmasked, _ = make("ForPreTraining", **fields, apply_spec_augment=False)
    with pytest.raises(InputError, match="apply_spec_augment=False leaves masked frames as they are"):
        unmasked.step([good], 0, values)


def check_resume(make, tmp_path, limit=0.0):
    """A run that starts from a state goes on as the one that wrote it, whatever was in its model before."""
    options = {**STILL, "hidden_dropout": 0.1, "momentum": 0.9}
    first, weights = make("ForCTC", **options)
    folder, values = tmp_path / "state", StepValues(0.01, ROWS)
    first.step([batch()], 0, values)
    first.save_state(folder)()  # to be replaced
    first.step([batch()], 1, values)
    written = first.save_state(folder)
    for number in (2, 3):
        first.step([batch(seed=number)], number, values)
    written()
    second, resumed = make("ForCTC", **options)
    second.step([batch(seed=9)], 7, values)
    second.load_state(folder)
    for number in (2, 3):
        second.step([batch(seed=number)], number, values)
    for name, array in weights().items():
        assert np.abs(resumed()[name] - array).max() <= limit * np.abs(array).max(), name
    before = resumed()
    other, _ = make("ForCTC", **{**options, "vocab_size": 12})
    other.step([batch()], 0, values)
    other.save_state(tmp_path / "other")()
    with pytest.raises(ParameterMismatchError, match=r"has 'lm_head\.(weight|bias)' as \(\(12,"):
        second.load_state(tmp_path / "other")
    with pytest.raises(CheckpointError, match="is not readable JSON"):
        second.load_state(tmp_path / "none")
    assert all(np.array_equal(before[name], array) for name, array in resumed().items())
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="file"):
        second.save_state(tmp_path / "file")()


def check_half_precision(make):
    """A model in bfloat16 is trained, and its norm has the digits of float32."""
    trainer, weights = make("ForCTC", dtype="bfloat16", **STILL)
    before = weights()
    found = trainer.fetch(trainer.step([batch()], 0, StepValues(0.1, ROWS, clip=1.0)))
    assert found["refused"] == 0
    assert found["gradient_norm"] != float(bfloat16(found["gradient_norm"]))
    assert {array.dtype.name for array in before.values()} == {"bfloat16"}
    assert not np.array_equal(before["lm_head.bias"], weights()["lm_head.bias"])


def check_computing_in_half_precision(make):
    """Matrix products in bfloat16 change a run a little; parameters, optimizer and results stay float32.

    ``make`` takes ``computing``: ``float32`` or ``bfloat16``.
    """
    runs = []
    for computing in ("float32", "bfloat16"):
        trainer, weights = make("ForCTC", momentum=0.9, computing=computing, **STILL)
        losses = [
            trainer.fetch(trainer.step([batch()], number, StepValues(0.01, ROWS, clip=1.0)))["loss"]
            for number in range(4)
        ]
        runs.append((losses, trainer.logits({"input_values": batch()["input_values"]})))
        assert {array.dtype.name for array in weights().values()} == {"float32"}
    (exact, scores), (rounded, near) = runs
    assert rounded != exact
    np.testing.assert_allclose(rounded, exact, rtol=2e-2)
    assert all(row.dtype == np.float32 for row in near)
    assert not np.array_equal(near[0], near[0].astype(bfloat16)), "the head computes in float32"
    scale = max(np.abs(row).max() for row in scores)
    assert all(np.abs(one - other).max() <= 5e-2 * scale for one, other in zip(scores, near, strict=True))


def check_saving(make, tmp_path, load):
    """What is written is what training made."""
    trainer, weights = make("ForCTC", **STILL)
    trainer.step([batch()], 0, StepValues(0.01, ROWS))
    trainer.save_pretrained(tmp_path)
    loaded = load(tmp_path)
    assert all(np.array_equal(loaded[name], array) for name, array in weights().items())


__all__ = [name for name in dir() if name.startswith("check_")] + ["HEADS", "checked_batch", "noise_seeds"]


#: What the steps of every back end's trainer must satisfy; each takes the back end's ``make``.
STEPS = (
    check_micro_batches,
    check_targets_divide,
    check_clipping,
    check_frozen,
    check_refusal,
    check_noise,
    check_half_precision,
    check_frames_without_labels,
    check_filling,
    check_padding_of_logits,
    check_pretraining,
    check_feature_penalty,
    check_no_masked_frame,
    check_counted_distractors,
    check_bad_pretraining_steps,
    check_bad_steps,
)
