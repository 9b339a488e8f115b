"""The losses of one pretraining run in each back end: same parameters, batches and draws, plain SGD with momentum.

    python -m conformance.pretraining_losses --steps 50

The preset ``tiny`` with the temperature of its schedule. Masks and distractors are in the loader's batches; the Gumbel
noise, which a device would draw, is added to them. SGD with a constant rate, for the reasons of ``training_losses``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from conformance.training_losses import RATE, SAMPLE, backends_and_steps, open_trainer, report
from wav2vec2_core.audio import Recording
from wav2vec2_core.checkpoint import Checkpoint
from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.data.checking import Row
from wav2vec2_core.data.manifest import Utterance
from wav2vec2_core.data.pretraining import PretrainingLoader
from wav2vec2_core.feature_extraction import Wav2Vec2FeatureExtractor
from wav2vec2_core.parameters import initial_values, parameter_table, trainable_names
from wav2vec2_core.training.pretraining_recipe import PretrainingRecipe
from wav2vec2_core.training.steps import Batch, StepValues

#: How far losses may be apart, relative.
TOLERANCE = 1e-4
_HEAD = "ForPreTraining"
_LEARNING_RATE = 0.03
_ROWS = 8
_SEED = 3


def losses(backend: str, steps: int) -> list[float]:
    """The loss of every step.

    Args:
        backend: ``torch``, ``tf`` or ``flax``.
        steps: how many.
    """
    recipe = PretrainingRecipe.read("tiny")
    config = recipe.config()
    values = initial_values(parameter_table(config, _HEAD), _SEED)
    trainer = open_trainer(backend, Checkpoint.of(dict(values)), config, _HEAD, _LEARNING_RATE)
    trainer.set_trainable(trainable_names(config, _HEAD))
    loader = PretrainingLoader(
        _rows(), Wav2Vec2FeatureExtractor(), config, longest_samples=round(recipe.data.longest_seconds * RATE),
        batch_seconds=recipe.data.batch_seconds, micro_batch_seconds=recipe.data.batch_seconds / 2, seed=_SEED,
        few_shapes=True,
    )  # fmt: skip
    found: list[float] = []
    for number in range(steps):
        data = loader.at(number)
        micro = [_with_noise(batch, config, (number, part)) for part, batch in enumerate(data.micro)]
        temperature = recipe.objective.temperature(number)
        values = StepValues(_LEARNING_RATE, data.targets, gumbel_temperature=temperature)
        found.append(trainer.fetch(trainer.step(micro, number, values))["loss"])
    return found


def _with_noise(batch: Batch, config: Wav2Vec2Config, place: tuple[int, int]) -> Batch:
    """A micro-batch with the Gumbel noise of its place: the step, and its number in it."""
    shape = (*batch["mask_time_indices"].shape, config.num_codevector_groups, config.num_codevectors_per_group)
    noise = np.random.default_rng((_SEED, *place)).gumbel(size=shape)
    return {**batch, "gumbel_noise": noise.astype(np.float32)}


def _rows() -> list[Row]:
    """The sample, eight times at other speeds and with a little noise: crops of one length, so a step compiles once."""
    samples = Recording.open(SAMPLE, sampling_rate=RATE).read()
    found: list[Row] = []
    for number in range(_ROWS):
        generator = np.random.default_rng(number)
        places = np.arange(0, len(samples) - 1, 0.8 + 0.02 * number)
        changed = np.interp(places, np.arange(len(samples)), samples)
        noisy = (changed + 0.1 * np.std(samples) * generator.standard_normal(len(changed))).astype(np.float32)
        utterance = Utterance(Path(f"{number}"), content=lambda noisy=noisy: (noisy, RATE))
        found.append(Row(utterance, len(noisy), ""))
    return found


def main() -> None:
    """Print how far the back ends are apart."""
    names, steps = backends_and_steps(__doc__, 50)
    report(lambda name: losses(name, steps), names, TOLERANCE)


if __name__ == "__main__":
    main()
