"""Recipes: presets, files, changes, and what is said of mistakes."""

import re

import pytest

from wav2vec2_core.errors import InputError
from wav2vec2_core.training import recipe as recipes
from wav2vec2_core.training.recipe import Recipe, preset_names, read_recipe


def test_presets_are_named_by_the_size_of_the_data():
    assert preset_names() == ["10min", "1h", "10h", "100h", "960h"]


@pytest.mark.parametrize(
    ("name", "rate", "steps", "frozen", "time", "features", "layerdrop"),
    [
        ("10min", 5e-5, 13_000, 10_000, 0.65, 0.25, 0.1),
        ("1h", 5e-5, 13_000, 10_000, 0.65, 0.25, 0.1),
        ("10h", 5e-5, 20_000, 10_000, 0.65, 0.5, 0.05),
        ("100h", 3e-5, 80_000, 0, 0.65, 0.5, 0.1),
        ("960h", 1e-4, 320_000, 0, 0.5, 0.1, 0.1),
    ],
)
def test_presets_are_fairseqs_for_base(name, rate, steps, frozen, time, features, layerdrop):
    recipe = read_recipe(name)
    assert (recipe.schedule.learning_rate, recipe.schedule.steps) == (rate, steps)
    assert recipe.schedule.frozen_steps == frozen
    assert (recipe.model.mask_time_prob, recipe.model.mask_feature_prob) == (time, features)
    assert recipe.model.layerdrop == layerdrop
    assert recipe.data.batch_seconds == 1600
    assert recipe.schedule.rate(steps // 4) == rate


@pytest.mark.parametrize("name", ["10min", "1h", "10h", "100h", "960h"])
def test_a_preset_opens_with_its_command_its_source_and_its_expected_score(name):
    comment = (recipes._PRESETS / f"{name}.toml").read_text().partition("\nseed")[0]
    assert f"wav2vec2 finetune ctc --preset {name} --model " in comment
    assert "# Source: fairseq" in comment
    assert re.search(r"# Expected: .*WER", comment)


def test_a_recipe_survives_being_written(tmp_path):
    recipe = read_recipe("10h").changed(["seed=7", "schedule.learning_rate=3e-4", "data.batch_seconds=12"])
    (tmp_path / "own.toml").write_text(recipe.to_toml())
    assert read_recipe(tmp_path / "own.toml") == recipe
    assert Recipe.from_dict(recipe.to_dict(), "itself") == recipe
    assert (recipe.seed, recipe.schedule.learning_rate, recipe.data.batch_seconds) == (7, 3e-4, 12)


def test_words_need_no_quotes():
    for text in ("flax.remat=dots_no_batch", 'flax.remat="dots_no_batch"'):
        assert read_recipe("1h").changed([text]).flax.remat == "dots_no_batch"


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("steps=5", "write section.key=value"),
        ("schedule.steps", "write section.key=value"),
        ("schedule.stepz=5", "schedule.stepz of --set is unknown: did you mean schedule.steps?"),
        ("shedule.steps=5", "shedule of --set is unknown: did you mean schedule?"),
        ("schedule.steps=five", "schedule.steps is 'five', it must be a whole number"),
        ("schedule.steps=[5", "write a number, true, false, or a word"),
        ("compute.dtype=float16", "compute.dtype is 'float16', it must be one of float32, bfloat16"),
        ("flax.scan_layers=1", "flax.scan_layers is 1, it must be true or false"),
        ("schedule.steps=0", "schedule.steps is 0, it must be a whole number of at least 1"),
        ("schedule.steps=2.5", "schedule.steps is 2.5, it must be a whole number"),
        ("schedule.steps=true", "schedule.steps is True, it must be a whole number"),
        ("schedule.warm_up=0.7", "more than the whole run"),
        ("schedule.learning_rate=nan", "schedule.learning_rate is nan"),
        ("model.layerdrop=1.5", "model.layerdrop is 1.5, it must be a number between 0 and 1"),
        ("seed=-1", "seed is -1"),
        ("seed=4294967296", "seed is 4294967296"),
    ],
)
def test_mistakes_in_settings_are_named(setting, message):
    with pytest.raises(InputError, match=re.escape(message)):
        read_recipe("1h").changed([setting])


def test_mistakes_in_files_are_named(tmp_path):
    text, path = read_recipe("1h").to_toml(), tmp_path / "own.toml"
    for old, new, message in (
        ("layerdrop", "layer_drop", "model.layer_drop of .* is unknown: did you mean model.layerdrop"),
        ("[health]", "[wealth]", "wealth of .* is unknown: did you mean health"),
        ("keep = 2\n", "", "has no checkpoints.keep: a recipe names everything"),
        ("[health]", "[health", "is not TOML"),
        ("seed = 0", "seed = 0\ndata = 3\n#", "data|TOML"),
    ):
        assert old in text
        path.write_text(text.replace(old, new))
        with pytest.raises(InputError, match=message):
            read_recipe(path)
    with pytest.raises(InputError, match=r"gone.toml cannot be read"):
        read_recipe(tmp_path / "gone.toml")
    with pytest.raises(InputError, match=r"preset '2h' is unknown: use one of 10min, 1h, 10h, 100h, 960h, or a .toml"):
        read_recipe("2h")


def test_a_run_is_the_same_wherever_it_is_computed():
    recipe = read_recipe("1h")
    elsewhere = recipe.changed(["torch.sharding=fsdp", "tf.strategy=mirrored", "flax.fsdp=2"])
    assert elsewhere.identity() == recipe.identity()
    assert recipe.changed(["compute.dtype=bfloat16"]).identity() != recipe.identity()
