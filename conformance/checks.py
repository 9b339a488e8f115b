"""The checks of one back end against the reference. Each returns all compared arrays, in the order of computation.

A check that finds nothing to compare fails; limits come from ``tolerances.py`` alone.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from tempfile import TemporaryDirectory
from unittest.mock import patch

import numpy as np

from conformance import reference
from conformance.backends import Arrays
from conformance.bench import STEPS, Bench, Expected, inference_call, training_call
from conformance.cases import Case
from conformance.results import INFINITE, StageError, compare, equal
from conformance.tolerances import tolerance
from wav2vec2_core.backend import load_backend
from wav2vec2_core.window_statistics import WindowStatistics

#: Frames of the recording that is computed in parts.
TILED_FRAMES = 150

Compared = tuple[StageError, ...]
Check = Callable[[Bench, Expected], Compared]
#: Results among the stages of the reference, and among the outputs of models.
RESULTS = ("logits", "embeddings", "project_hid", "project_q")
FINALS = ("logits", "embeddings", "last_hidden_state", "projected_states", "projected_quantized_states")
#: Stages, called as the outputs are, that are losses or summed over frames as losses are.
LOSSES = (
    "loss", "contrastive_loss", "diversity_loss", "codevector_perplexity", "contrastive_accuracy", "feature_penalty",
    "soft_codevector_perplexity", "hard_codevector_perplexity",
)  # fmt: skip


def limits(case: Case, expected: Mapping[str, np.ndarray], dtype: str = "float32") -> dict[str, float]:
    """The tolerance of each stage. In lower precision that is promised of results; stages on the way have none."""
    stages = tolerance("stages", _size(case), dtype).limit
    if dtype == "float32":
        loss = tolerance("loss", _size(case)).limit
        return {name: loss if name in LOSSES else stages for name in expected}
    last = list(expected)[-1]
    return {name: stages if name in (last, *RESULTS, *FINALS, *LOSSES) else INFINITE for name in expected}


def _size(case: Case) -> str:
    return "full" if case.full_size else "tiny"


# ---- what a model is and computes -------------------------------------------------------------------------------


def check_parameters(bench: Bench, expected: Expected) -> Compared:
    """Names, shapes and values of all parameters are, bit for bit, those the model was filled with."""
    return equal(expected.parameters, bench.model(expected).weights())


def check_stages(bench: Bench, expected: Expected) -> Compared:
    """Every stage and the losses of a training step, and the hidden states that it returns."""
    wanted = {**expected.training, **hidden_states(expected.case, expected.training)}
    return compare(wanted, bench.training(expected), limits(expected.case, wanted))


def check_inference(bench: Bench, expected: Expected) -> Compared:
    """Every stage of inference, with a configuration whose dropouts must stay off; attention weights add up to 1."""
    case = expected.case
    found = bench.model(expected, loud=True).forward(inference_call(case), attentions=True)
    compared = compare(expected.inference, found, limits(case, expected.inference))
    weights = [found[f"attentions.{layer}"] for layer in range(case.config.num_hidden_layers)]
    sums = {f"attentions.{index}": array.sum(-1) for index, array in enumerate(weights)}
    return compared + compare({name: np.ones_like(array) for name, array in sums.items()}, sums, 1e-5)


def check_bfloat16(bench: Bench, expected: Expected) -> Compared:
    """Every stage of inference in bfloat16. The reference has the rounded parameters too."""
    case = expected.case
    found = bench.model(expected, dtype="bfloat16").forward(inference_call(case))
    return compare(expected.rounded, found, limits(case, expected.rounded, "bfloat16"))


def check_mode(mode: str) -> Check:
    """The stages of a training step run in another way: compiled, in a graph, layers in a loop."""

    def check(bench: Bench, expected: Expected) -> Compared:
        found = bench.training(expected, mode=mode)
        wanted = expected.training
        if "masked" not in found:  # a compiler shows the outputs only
            outputs = hidden_states(expected.case, wanted)
            wanted = {**outputs, **{name: array for name, array in wanted.items() if name in found}}
        elif mode == "scan":
            inside = [name for name in wanted if name.startswith("encoder.layers.")]
            kept = {name: array for name, array in wanted.items() if name not in inside}
            wanted = {**kept, **hidden_states(expected.case, wanted)}
        return compare(wanted, found, limits(expected.case, wanted))

    return check


def hidden_states(case: Case, stages: Arrays) -> Arrays:
    """The stages that a model returns as hidden states."""
    inner = [stages[f"encoder.layers.{index}"] for index in range(case.config.num_hidden_layers - 1)]
    states = [stages["encoder.dropout"], *inner, stages["encoder"]]
    return {f"hidden_states.{index}": array for index, array in enumerate(states)}


# ---- training -----------------------------------------------------------------------------------------------------


def check_gradients(bench: Bench, expected: Expected) -> Compared:
    """The gradient of every parameter; one that is zero in exact arithmetic is small beside its weight's."""
    case, exact = expected.case, expected.gradients
    _, found = bench.gradients(expected)
    limit = tolerance("gradients", _size(case)).limit
    unseen = set(case.unseen())
    compared = compare({name: array for name, array in exact.items() if name not in unseen}, found, limit)
    return compared + tuple(_beside(name, exact, found, limit) for name in exact if name in unseen)


def _beside(name: str, exact: Arrays, found: Arrays, limit: float) -> StageError:
    if name not in found or found[name].shape != exact[name].shape:
        return StageError(name, INFINITE, limit, "missing")
    scale = float(np.abs(exact[name.removesuffix("bias") + "weight"]).max())
    error = float(np.abs(found[name] - exact[name]).max())
    return StageError(name, error / scale if scale else error, limit)


def check_steps(bench: Bench, expected: Expected) -> Compared:
    """Five steps of the framework's own gradient descent: objectives on the way, and the parameters in the end."""
    case = expected.case
    objectives, after = expected.descent
    found, arrived = bench.model(expected).steps(training_call(case), STEPS, expected.learning_rate)
    curve = compare({"objectives": objectives}, {"objectives": np.array(found)}, tolerance("loss").limit)
    seen = {name: array for name, array in after.items() if name not in case.unseen()}
    return curve + compare(seen, arrived, tolerance("steps").limit)


# ---- invariances ----------------------------------------------------------------------------------------------------


def check_batch(bench: Bench, expected: Expected) -> Compared:
    """Each utterance of a padded batch has the same result as alone: logits, or the head's output."""
    case = expected.case
    model = bench.model(expected)
    together = model.forward(inference_call(case))
    field = next(name for name in ("embeddings", "logits", "last_hidden_state", "projected_states") if name in together)
    values = case.inputs()["input_values"]
    alone, cut = {}, {}
    for index, samples in enumerate(case.lengths):
        single = {"input_values": values[index : index + 1, :samples]}
        alone[f"{field} of utterance {index}"] = model.forward(single)[field][0].astype(np.float64)
        frames = len(alone[f"{field} of utterance {index}"]) if together[field].ndim == 3 else None
        cut[f"{field} of utterance {index}"] = together[field][index][:frames]
    return compare(alone, cut, tolerance("stages").limit)


def check_tiles(bench: Bench, expected: Expected) -> Compared:
    """The inference engine: features in tiles, those of a stretch of a recording, and logits at once and from features.

    A stretch gets the window statistics of the whole recording. Tiles are made small, so that there are several.
    """
    case, name = expected.case, bench.backend.name
    config, hop, context = case.config, case.config.inputs_to_logits_ratio, case.config.receptive_field
    recording = np.random.default_rng(0).standard_normal(TILED_FRAMES * hop + context).astype(np.float32)
    stages = reference.forward(config, case.head, expected.parameters, recording[None])
    features = stages[f"feature_extractor.conv_layers.{len(config.conv_dim) - 1}"][0]
    first, last = TILED_FRAMES // 3, TILED_FRAMES // 2
    stretch = recording[first * hop : (last - 1) * hop + context]
    tiling = importlib.import_module(f"wav2vec2_{name}.tiled_encoder")
    with TemporaryDirectory() as folder, patch.object(tiling, "TILE_SAMPLES", TILED_FRAMES * hop // 5):
        bench.model(expected).save(folder, "safetensors")
        model = load_backend(name).load_model(folder, head=case.head, device=bench.backend.place)
        whole = model.encode([recording])
        found = {
            "features": whole[0],
            "features of a stretch": model.encode([stretch], [WindowStatistics.of(config, recording)])[0],
            "logits": model.logits([recording])[0],
            "logits from features": model.contextualize(whole)[0],
        }
    logits = stages["logits"][0]
    exact = dict(zip(found, (features, features[first:last], logits, logits), strict=True))
    return compare(exact, found, tolerance("stages").limit)


def check_agreement(one: Bench, other: Bench, expected: Expected) -> Compared:
    """Two back ends return the same losses, results and, if computed, gradients."""
    case = expected.case
    first, second = one.training(expected), other.training(expected)
    finals = {name: array.astype(np.float64) for name, array in first.items() if name in FINALS or name in LOSSES}
    compared = compare(finals, second, limits(case, finals))
    if not (one.has_gradients(expected) and other.has_gradients(expected)):
        return compared
    (_, exact), (_, found) = one.gradients(expected), other.gradients(expected)
    exact = {name: array.astype(np.float64) for name, array in exact.items() if name not in case.unseen()}
    return compared + compare(exact, found, tolerance("gradients", _size(case)).limit)


def batch_invariant(case: Case) -> bool:
    """Whether padding must not change the numbers of a case: nothing in it looks beyond a frame's own utterance."""
    config = case.config
    if not case.padded or case.full_size:
        return False
    layer_only = config.feat_extract_norm == "layer" and not config.add_adapter and case.head != "ForXVector"
    return config.masked_group_norm or layer_only
