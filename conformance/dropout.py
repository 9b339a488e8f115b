"""Dropout in every place, at its rate and scale: a back end's draws are recorded and passed to the reference.

A back end's own primitive drops from ones; what it leaves is what the input is multiplied with, and goes into the
reference under the name of the place where it belongs. A dropout that is missing, moved or scaled wrongly changes the
stages after it, and every option has a rate of its own, so that none can stand in for another.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence

import numpy as np

from conformance import reference
from conformance.backends import Arrays
from conformance.bench import Bench, Expected, training_call
from conformance.checks import Compared, limits
from conformance.results import INFINITE, StageError, compare
from conformance.tolerances import tolerance
from wav2vec2_core.config import Wav2Vec2Config

RATES = {
    "feat_proj_dropout": 0.12, "hidden_dropout": 0.2, "attention_dropout": 0.31, "activation_dropout": 0.4,
    "feat_quantizer_dropout": 0.52, "final_dropout": 0.61,
}  # fmt: skip
#: Standard deviations that a share of many draws may be off. The draws are seeded: none is off by chance twice.
DEVIATIONS = 6.0


def places(config: Wav2Vec2Config, head: str) -> Iterator[tuple[str, str]]:
    """The reference's name and the option of every dropout of a training step, in the order of computation."""
    yield "feature_projection.dropout", "feat_proj_dropout"
    yield "encoder.dropout", "hidden_dropout"
    for index in range(config.num_hidden_layers):
        layer = f"encoder.layers.{index}"
        yield f"{layer}.attention.dropout", "attention_dropout"
        yield f"{layer}.dropout", "hidden_dropout"
        yield f"{layer}.feed_forward.intermediate_dropout", "activation_dropout"
        yield f"{layer}.feed_forward.output_dropout", "hidden_dropout"
    if head == "ForPreTraining":
        yield "dropout_features", "feat_quantizer_dropout"
    if head == "ForCTC":
        yield "dropout", "final_dropout"


def check_dropout(bench: Bench, expected: Expected) -> Compared:
    """Every stage of a training step with dropout, and what was dropped; with attention weights returned, and without.

    No frame is padded: what attention drops of a weight that is 0 could not be seen.
    """
    case = expected.case
    model = bench.backend.build(case.config.replace(**RATES), case.head, expected.parameters)
    compared: Compared = ()
    for attentions in (False, True):
        found, drawn = model.dropped(training_call(case), attentions=attentions)
        named = dict(zip((name for name, _ in places(case.config, case.head)), drawn, strict=False))
        compared += _drops(case.config, case.head, drawn)
        draws = dataclasses.replace(case.randomness(), dropout=named)
        inputs = case.inputs()["input_values"], None, case.labels()
        stages = reference.forward(case.config, case.head, expected.parameters, *inputs, randomness=draws)
        compared += compare(stages, found, limits(case, stages))
    return compared


def _drops(config: Wav2Vec2Config, head: str, drawn: Sequence[np.ndarray]) -> Compared:
    """Each place's values are 0 or 1 / (1 - rate), its share of zeros is the rate, and no two places draw alike."""
    wanted = list(places(config, head))
    if len(drawn) != len(wanted):
        return (StageError("dropouts", INFINITE, 0.0, f"{len(drawn)} took place instead of {len(wanted)}"),)
    scales: Arrays = {}
    compared: list[StageError] = []
    for (name, option), kept in zip(wanted, drawn, strict=True):
        rate = RATES[option]
        scales[name] = np.where(kept == 0, 0.0, 1 / (1 - rate))
        chance = DEVIATIONS * math.sqrt(rate * (1 - rate) / kept.size)
        compared.append(StageError(f"share of {name}", abs(float((kept == 0).mean()) - rate), chance))
    compared += compare(scales, dict(zip(scales, drawn, strict=True)), tolerance("stages").limit)
    for index, (name, _) in enumerate(wanted):
        for earlier in range(index):
            # A key that is used twice draws the same numbers in the order of memory, whatever the shapes.
            count = min(drawn[earlier].size, drawn[index].size)
            one, other = (kept.reshape(-1)[:count] != 0 for kept in (drawn[earlier], drawn[index]))
            both, chance = float((one & other).mean()), float(one.mean() * other.mean())
            limit = DEVIATIONS * math.sqrt(chance * (1 - chance) / count)
            compared.append(StageError(f"{name} beside {wanted[earlier][0]}", abs(both - chance), limit))
    return tuple(compared)
