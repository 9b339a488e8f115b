"""Which checks run on which cases: all on every head and family, slow ones on fewer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from conformance import checks, dropout
from conformance.backends import Named, Opened
from conformance.cases import Case
from conformance.checks import Check

#: Families whose heads are also trained, padded; of the others one head is.
TRAINED_FAMILIES = ("base", "large", "adapter", "mms")
#: Cases run in every mode; the compilers take long, so there are few.
COMPILED = ("ForCTC-base-padded", "ForPreTraining-large-padded")
#: Cases whose models travel between back ends as files: every kind of parameter is in one of them.
TRAVELLING = (
    "ForPreTraining-base-padded",
    "ForCTC-mms-padded",
    "ForXVector-weighted-sum-padded",
    "ForCTC-wide-adapter-padded",
)
#: Cases computed in bfloat16 too.
LOW_PRECISION = (
    "ForCTC-base-padded",
    "ForCTC-mms-padded",
    "ForSequenceClassification-large-padded",
    "ForCTC-adapter-padded",
    "Model-adapter-even",
)
#: Cases that the inference engine computes in parts: group norm needs statistics of the whole, layer norm does not.
TILED = ("ForCTC-base-even", "ForCTC-large-even")
#: Cases trained with dropout: every place of both orders of norms, before the head of CTC and before the quantizer.
DROPPED = ("ForCTC-base-even", "ForCTC-mms-even", "ForPreTraining-large-even")

PLAIN: dict[str, Check] = {
    "parameters": checks.check_parameters,
    "stages": checks.check_stages,
    "inference": checks.check_inference,
    "gradients": checks.check_gradients,
    "steps": checks.check_steps,
    "batch": checks.check_batch,
    "bfloat16": checks.check_bfloat16,
    "tiles": checks.check_tiles,
    "dropout": dropout.check_dropout,
}


@dataclass(frozen=True)
class Task:
    """One check of one case by one back end, or by two.

    check: what it is called in reports: a key of ``PLAIN``, a mode, ``agreement`` or a kind of file.
    """

    backends: tuple[str, ...]
    check: str
    case: Case

    @property
    def id(self) -> str:
        """As ``Result.id``."""
        return f"{'-'.join(self.backends)}/{self.check}/{self.case.name}"


def tasks(cases: Iterable[Case], backends: Sequence[Opened | Named], dtype: str = "float32") -> Iterator[Task]:
    """Every task for these cases, case after case; in bfloat16 that is one check per case."""
    for case in cases:
        for backend in backends:
            names = _plain(case) if dtype == "float32" else ["bfloat16"]
            yield from (Task((backend.name,), name, case) for name in names)
            if case.name in COMPILED and dtype == "float32":
                yield from (Task((backend.name,), mode, case) for mode in backend.modes[1:])
        if dtype != "float32":
            continue
        for index, one in enumerate(backends):
            yield from (Task((one.name, other.name), "agreement", case) for other in backends[index + 1 :])
        if case.name in TRAVELLING:
            for saver in backends:
                for loader in backends:
                    yield from (Task((saver.name, loader.name), kind, case) for kind in saver.file_kinds)


def _plain(case: Case) -> list[str]:
    wanted: dict[str, Callable[[Case], bool]] = {
        "parameters": lambda case: True,
        "stages": lambda case: True,
        "inference": is_run,
        "gradients": is_differentiated,
        "steps": is_trained,
        "batch": checks.batch_invariant,
        "bfloat16": lambda case: case.full_size or case.name in LOW_PRECISION,
        "tiles": lambda case: case.name in TILED,
        "dropout": lambda case: case.name in DROPPED,
    }
    return [name for name, wants in wanted.items() if wants(case)]


def is_run(case: Case) -> bool:
    """Whether inference is checked: beside training, and with other inputs."""
    return case.full_size or (case.family in (*TRAINED_FAMILIES, "weighted-sum") and not case.padded)


def is_differentiated(case: Case) -> bool:
    """Whether gradients are compared: of padded batches, of other families for one head."""
    if case.full_size:  # those of LARGE in float64 took more than 20 GB
        return "-base-" in case.name
    if case.family == "options":
        return True
    return case.padded and (case.family in TRAINED_FAMILIES or case.head in {"ForCTC", "ForXVector"})


def is_trained(case: Case) -> bool:
    """Whether steps of gradient descent are compared."""
    return case.padded and case.family in TRAINED_FAMILIES
