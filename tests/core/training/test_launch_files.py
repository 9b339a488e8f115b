"""Commands of pretraining in the launchers' files and in SCALING.md name recipes and settings that there are."""

import re
from pathlib import Path

import pytest

from wav2vec2_core.training.pretraining_recipe import PretrainingRecipe

ROOT = Path(__file__).parents[3]
LAUNCHERS = ["gke-jobset.yaml", "xpk.sh", "skypilot.yaml"]


def commands(text):
    """(preset, settings) of each command."""
    for found in re.finditer(r"--preset[= ](\S+)", text):
        until = text.find("--preset", found.end())
        following = text[found.end() : None if until < 0 else until].split("\n```")[0]
        yield found[1], re.findall(r"--set[= ]([\w.]+=\S+?)[\"'`]*(?=\s|$)", following)


@pytest.mark.parametrize("name", LAUNCHERS)
def test_launchers_start_a_run_that_there_is(name):
    (found,) = commands((ROOT / "examples" / "launch" / name).read_text(encoding="utf-8"))
    preset, settings = found
    recipe = PretrainingRecipe.read(preset).changed(settings)
    assert settings
    assert recipe.data.micro_batch_seconds == recipe.data.batch_seconds  # 64 chips compute an update at once


def test_commands_of_the_document_are_recipes():
    found = list(commands((ROOT / "SCALING.md").read_text(encoding="utf-8")))
    assert len(found) > 4
    for preset, settings in found:
        PretrainingRecipe.read(preset).changed(settings)
