"""Recipes of pretraining: the presets' numbers, and the configuration that a recipe makes."""

import pytest

from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.errors import InputError
from wav2vec2_core.parameters import parameter_table
from wav2vec2_core.training.pretraining_recipe import PretrainingRecipe

NAMES = ["tiny", "base-librispeech", "large-librispeech", "large-librivox", "xls-r-300m", "xls-r-1b"]


def parameters(config):
    total = 0
    for row in parameter_table(config, "ForPreTraining").values():
        size = 1
        for length in row.shape:
            size *= length
        total += size
    return total


@pytest.mark.parametrize("name", NAMES)
def test_presets_are_whole_and_come_back(name, tmp_path):
    recipe = PretrainingRecipe.read(name)
    assert set(PretrainingRecipe.preset_names()) == set(NAMES)
    (tmp_path / "recipe.toml").write_text(recipe.to_toml())
    assert PretrainingRecipe.read(tmp_path / "recipe.toml") == recipe
    config = recipe.config()
    assert config.apply_spec_augment
    assert config.mask_time_min_masks >= 1
    assert recipe.objective.temperature(0) == 2.0
    assert recipe.objective.temperature(10**7) == recipe.objective.gumbel_last


def test_numbers_of_the_paper():
    base, large, librivox = (PretrainingRecipe.read(name) for name in NAMES[1:4])
    assert parameters(base.config()) == 95_044_608
    assert parameters(large.config()) == 317_380_864
    assert parameters(librivox.config()) == 317_390_592
    assert [recipe.schedule.steps for recipe in (base, large, librivox)] == [400_000, 250_000, 600_000]
    assert [recipe.schedule.learning_rate for recipe in (base, large, librivox)] == [5e-4, 3e-4, 3e-4]
    assert [recipe.objective.feature_penalty_weight for recipe in (base, large, librivox)] == [10, 10, 0]
    assert [recipe.objective.feature_gradient_scale for recipe in (base, large, librivox)] == [0.1, 0.1, 1]
    assert [recipe.objective.gumbel_last for recipe in (base, large, librivox)] == [0.5, 0.1, 0.1]
    assert [recipe.model.layerdrop for recipe in (base, large, librivox)] == [0.05, 0.2, 0]
    assert base.schedule.rate(32_000) == 5e-4  # 8 % of warm-up
    assert base.data.longest_seconds * 16_000 == 250_000
    assert librivox.architecture.normalize
    assert not base.architecture.normalize


def test_a_billion_parameters():
    recipe = PretrainingRecipe.read("xls-r-1b")
    assert parameters(recipe.config()) == 965_514_752  # 965 million in the paper
    assert recipe.schedule.steps == 1_000_000
    assert recipe.schedule.rate(32_000) == recipe.schedule.learning_rate
    assert recipe.data.batch_seconds == 200 * recipe.data.micro_batch_seconds


def test_sizes_replace_those_of_the_preset():
    tiny = PretrainingRecipe.read("tiny").changed(["architecture.layers=3", "objective.num_negatives=17"])
    config = tiny.config()
    assert isinstance(config, Wav2Vec2Config)
    assert (config.hidden_size, config.num_hidden_layers, config.conv_dim) == (128, 3, (64,) * 7)
    assert (config.num_codevectors_per_group, config.codevector_dim, config.num_negatives) == (32, 64, 17)
    assert config.conv_kernel == Wav2Vec2Config().conv_kernel


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("model.mask_time_min_masks=0", "model.mask_time_min_masks is 0, it must be a whole number of at least 1"),
        ("architecture.preset=huge", "architecture.preset is 'huge', it must be one of base, large"),
        ("objective.gumbel_last=0", "objective.gumbel_last is 0, it must be a number of at least 0.001"),
        ("model.final_dropout=0", "model.final_dropout of --set is unknown"),
        ("optimizer.weight_decay=2", "optimizer.weight_decay is 2, it must be a number between 0 and 1"),
    ],
)
def test_bad_values(setting, message):
    with pytest.raises(InputError, match=message):
        PretrainingRecipe.read("tiny").changed([setting])


def test_an_unknown_preset():
    with pytest.raises(InputError, match="preset '10min' is unknown: use one of tiny, xls-r-1b, xls-r-300m"):
        PretrainingRecipe.read("10min")
