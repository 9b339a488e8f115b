"""Faults of parameters and code, and which check sees them. ``python -m conformance.faults`` prints the table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from conformance.backends import BackendModel
from conformance.bench import Bench, Expected, training_call
from conformance.cases import find
from conformance.checks import limits
from conformance.harness import Laboratory
from conformance.plan import tasks
from conformance.results import FAIL, StageError, compare

#: Parameters whose faults no number shows, by the end of their name, and why. ``parameters`` compares them bit for bit.
INVISIBLE: dict[str, str] = {
    "k_proj.bias": "adds the same to all scores of a query, which the softmax over keys does not see",
    "conv_layers.0.conv.bias": "is removed by the group norm that follows; visible behind a layer norm",
}


@dataclass(frozen=True)
class Fault:
    """A parameter with another value. kind: ``dropped``, ``swapped with ...`` or ``perturbed``."""

    parameter: str
    kind: str
    value: np.ndarray


def parameter_faults(expected: Expected) -> Iterator[Fault]:
    """Each parameter at its first value (not loaded), in the place of the next of its shape, and off by one percent."""
    arrays = expected.parameters
    generator = np.random.default_rng(0)
    names = list(arrays)
    for name, array in arrays.items():
        dropped = np.full_like(array, float(name.endswith("norm.weight")))
        yield Fault(name, "dropped", dropped)
        following = names[names.index(name) + 1 :] + names[: names.index(name)]
        twin = next((other for other in following if arrays[other].shape == array.shape), None)
        if twin is not None:
            yield Fault(name, f"swapped with {twin}", arrays[twin])
        signs = generator.choice([-1.0, 1.0], array.shape)
        yield Fault(name, "perturbed", (array + 0.01 * np.abs(array).mean() * signs).astype(np.float32))


def invisible(expected: Expected, name: str) -> str | None:
    """The reason why no result shows a fault of this parameter, or None."""
    unseen = expected.case.unseen()
    return next((reason for end, reason in INVISIBLE.items() if name in unseen and name.endswith(end)), None)


def first_wrong_stage(model: BackendModel, expected: Expected, fault: Fault) -> StageError | None:
    """The first stage of a training step that shows the fault; the model has its right parameters afterwards."""
    swapped = {fault.parameter: fault.value}
    if fault.kind.startswith("swapped with "):
        other = fault.kind.removeprefix("swapped with ")
        swapped[other] = expected.parameters[fault.parameter]
    model.fill(swapped)
    found = model.forward(training_call(expected.case), train=True)
    model.fill({name: expected.parameters[name] for name in swapped})
    stages = expected.training
    return next((stage for stage in compare(stages, found, limits(expected.case, stages)) if stage.wrong), None)


@dataclass(frozen=True)
class Caught:
    """The checks that detected a mutation. seen: check -> first wrong stage, of every check that failed."""

    mutation: str
    seen: dict[str, str]


def catch(mutation: object, laboratory: Laboratory) -> Caught:
    """Run all tasks of the mutation's cases on the mutated back end."""
    from conformance.mutations import Mutation

    assert isinstance(mutation, Mutation)
    torch = laboratory.backends["torch"]
    seen: dict[str, str] = {}
    with mutation.patch():
        laboratory.benches["torch"] = Bench(torch)
        planned = tasks([find(name) for name in mutation.cases], [torch])
        for task in planned:
            if task.check in torch.modes:  # compiled, the same again
                continue
            found = laboratory.run(task)
            if found.verdict == FAIL:
                seen.setdefault(task.check, found.telling.name if found.stages else found.note)
    laboratory.benches["torch"] = Bench(torch)
    return Caught(mutation.name, seen)


def table(caught: list[Caught]) -> str:
    """Markdown."""
    rows = [
        f"| {one.mutation} | {', '.join(one.seen) or '**nothing**'} | `{next(iter(one.seen.values()), '')}` |"
        for one in caught
    ]
    return "\n".join(["| mistake | seen by | first wrong stage |", "|---|---|---|", *rows]) + "\n"


def main() -> None:
    """Print which check sees which mistake."""
    from conformance.mutations import MUTATIONS

    laboratory = Laboratory.of(["torch"])
    print(table([catch(mutation, laboratory) for mutation in MUTATIONS]), end="")


if __name__ == "__main__":
    main()
