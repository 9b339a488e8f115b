"""The losses of one training run in each back end: same parameters, same batches, plain SGD with momentum.

    python -m conformance.training_losses --steps 100

Nothing is drawn on the device: dropout is off, masks are in the batches. SGD, not Adam, whose first steps follow the
sign of gradients that may be rounding alone. The rate is constant, as Keras' momentum has past rates in it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from wav2vec2_core.audio import Recording
from wav2vec2_core.backend import load_backend
from wav2vec2_core.checkpoint import Checkpoint, open_checkpoint, open_model
from wav2vec2_core.config import Wav2Vec2Config
from wav2vec2_core.data.checking import Row
from wav2vec2_core.data.labels import TextLabels
from wav2vec2_core.data.loader import Loader
from wav2vec2_core.data.manifest import Utterance
from wav2vec2_core.errors import AudioError
from wav2vec2_core.parameters import initial_values, parameter_table, trainable_names
from wav2vec2_core.processing import Wav2Vec2Processor
from wav2vec2_core.training.steps import StepValues, Trainer
from wav2vec2_core.transcription import EMBEDDED_MODEL

SAMPLE, TEXT = Path(__file__).parents[1] / "samples" / "two-seven-one-eight.flac", "two seven one eight"
#: What a run starts from -> how far losses may be apart, relative.
TOLERANCES = {"embedded": 1e-4, "fresh": 1e-3}
RATE = 16_000
_LEARNING_RATE, _MOMENTUM = 1e-3, 0.9
_ROWS = 8
_DROPOUTS = ("feat_proj_dropout", "hidden_dropout", "activation_dropout", "attention_dropout", "final_dropout")


def losses(backend: str, start: str, steps: int) -> list[float]:
    """The loss of every step.

    Args:
        backend: ``torch``, ``tf`` or ``flax``.
        start: ``embedded``: the model that the package holds; ``fresh``: its configuration, with random weights.
        steps: how many.
    """
    source = open_model(EMBEDDED_MODEL)
    processor = Wav2Vec2Processor.from_source(source)
    config = Wav2Vec2Config.from_source(source).replace(
        **dict.fromkeys(_DROPOUTS, 0.0), mask_time_prob=0.05, initializer_range=0.06
    )
    fresh = partial(initial_values, parameter_table(config, "ForCTC"))
    checkpoint = open_checkpoint(source) if start == "embedded" else Checkpoint.of(dict(fresh(seed=1)))
    trainer = open_trainer(backend, checkpoint, config, "ForCTC", _LEARNING_RATE)
    trainer.set_trainable(trainable_names(config, "ForCTC", frozen="feature_encoder"))
    labels = TextLabels(processor.tokenizer, config)
    loader = Loader(
        _rows(labels), processor.feature_extractor, config, labels,
        batch_seconds=11.0, micro_batch_seconds=11.0, seed=3, few_shapes=True,
    )  # fmt: skip
    found: list[float] = []
    for number in range(steps):
        data = loader.at(number)
        handle = trainer.step(data.micro, number, StepValues(_LEARNING_RATE, data.targets))
        found.append(trainer.fetch(handle)["loss"])
    return found


def open_trainer(
    backend: str, checkpoint: Checkpoint, config: Wav2Vec2Config, head: str, learning_rate: float
) -> Trainer:
    """A trainer of a model with this head and the back end's own SGD; every step must have this learning rate."""
    load_backend(backend)
    if backend == "torch":
        import torch

        import wav2vec2_torch as library
        from wav2vec2_torch import train

        model = getattr(library, f"Wav2Vec2{head}").from_source(None, config=config, checkpoint=checkpoint)
        return train.Trainer(model, torch.optim.SGD(model.parameters(), lr=1.0, momentum=_MOMENTUM))
    if backend == "tf":
        import keras

        import wav2vec2_tf as library
        from wav2vec2_tf import train

        kind = getattr(library, f"TFWav2Vec2{head}")
        model = kind.from_source(None, config=config, checkpoint=checkpoint, dtype="float32")
        return train.Trainer(model, keras.optimizers.SGD(learning_rate, momentum=_MOMENTUM))
    import optax

    import wav2vec2_flax as library
    from wav2vec2_flax import train

    model = getattr(library, f"FlaxWav2Vec2{head}").from_source(None, config=config, checkpoint=checkpoint)
    return train.Trainer(model, optax.sgd(1.0, momentum=_MOMENTUM))


def largest_difference(one: Sequence[float], other: Sequence[float]) -> float:
    """Of two runs' losses, relative to the first."""
    expected = np.asarray(one)
    return float(np.max(np.abs(np.asarray(other) - expected) / np.abs(expected)))


def _rows(labels: TextLabels) -> list[Row]:
    """The sample in as much noise, eight times: something to learn, of one shape, so that a step compiles once."""
    samples = Recording.open(SAMPLE, sampling_rate=RATE).read()
    found: list[Row] = []
    for number in range(_ROWS):
        noise = np.random.default_rng(number).standard_normal(len(samples), np.float32)
        noisy = samples + np.float32(np.std(samples)) * noise
        utterance = Utterance(Path(f"{number}"), TEXT, content=lambda noisy=noisy: (noisy, RATE))
        row, finding = labels.check(utterance, len(samples))
        if row is None or finding is not None:
            raise AudioError(f"{SAMPLE} cannot be learned from: {finding}")
        found.append(row)
    return found


def backends_and_steps(description: str | None, steps: int) -> tuple[list[str], int]:
    """The arguments of a program that compares losses; ``steps``: by default."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=steps)
    parser.add_argument("--backends", default="torch,tf,flax", help="names with commas; the first is compared with")
    options = parser.parse_args()
    return options.backends.split(","), options.steps


def report(losses_of: Callable[[str], list[float]], names: Sequence[str], tolerance: float, title: str = "") -> None:
    """Print how far the losses of back ends are from those of the first one."""
    first, *others = names
    expected = losses_of(first)
    print(f"{title}{len(expected)} losses of {first}, {expected[0]:.4f} to {expected[-1]:.4f}", flush=True)
    for other in others:
        apart = largest_difference(expected, losses_of(other))
        print(f"  {other}: {apart:.1e} apart, {tolerance:.0e} allowed", flush=True)


def main() -> None:
    """Print how far the back ends are apart."""
    names, steps = backends_and_steps(__doc__, 100)
    for start, tolerance in TOLERANCES.items():
        report(lambda name, start=start: losses(name, start, steps), names, tolerance, f"{start}: ")


if __name__ == "__main__":
    main()
