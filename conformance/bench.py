"""Results of a back end and of the reference for a case, each computed once for all checks."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import cached_property
from typing import Any, TypeVar

import numpy as np

from conformance import reference
from conformance.backends import MOMENTUM, Arrays, BackendModel, Opened
from conformance.cases import Case
from conformance.reference_body import Randomness

T = TypeVar("T")

#: Steps of gradient descent that are compared, and the largest change of a value in the first of them.
STEPS = 5
FIRST_CHANGE = 0.02
#: Dropout, layer drop and masks that a model must leave alone in inference.
LOUD = {
    "hidden_dropout": 0.3, "activation_dropout": 0.3, "attention_dropout": 0.3, "feat_proj_dropout": 0.3,
    "feat_quantizer_dropout": 0.3, "final_dropout": 0.3, "layerdrop": 0.5,
}  # fmt: skip


def training_call(case: Case) -> dict[str, Any]:
    """Arguments of a training step, every draw among them."""
    draws = case.randomness()
    given = {item.name: getattr(draws, item.name) for item in dataclasses.fields(draws) if item.name != "dropout"}
    if case.head != "ForPreTraining":
        given.pop("gumbel_temperature")
    return {**inference_call(case), **{name: value for name, value in given.items() if value is not None}}


def inference_call(case: Case) -> dict[str, Any]:
    """Arguments of a call without randomness; labels, where the head has them, give a loss."""
    labels = case.labels()
    return {**case.inputs(), **({} if labels is None else {"labels": labels})}


class Expected:
    """Results of the reference for a case, each computed on first use."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.parameters = case.parameters()

    @cached_property
    def training(self) -> Arrays:
        """Stages of a training step."""
        return self._forward(self.case.randomness())

    @cached_property
    def inference(self) -> Arrays:
        """Stages without any randomness."""
        return self._forward(reference.NO_RANDOMNESS)

    @cached_property
    def rounded(self) -> Arrays:
        """``inference`` with the parameters rounded to bfloat16, as a bfloat16 model has them."""
        from ml_dtypes import bfloat16

        rounded = {name: array.astype(bfloat16).astype(np.float32) for name, array in self.parameters.items()}
        return reference.forward(*self._arguments(rounded))

    @cached_property
    def gradients(self) -> Arrays:
        """Of a training step, by every parameter."""
        return self._differentiate(self.parameters)[1]

    @cached_property
    def learning_rate(self) -> float:
        """So that the first step changes no value by more than ``FIRST_CHANGE``; two digits."""
        largest = max(float(np.abs(gradient).max()) for gradient in self.gradients.values())
        return float(f"{FIRST_CHANGE / largest:.1e}")

    @cached_property
    def descent(self) -> tuple[np.ndarray, Arrays]:
        """Objectives (STEPS,) before each step of gradient descent with momentum, and the parameters after the last."""
        values = {name: array.astype(np.float64) for name, array in self.parameters.items()}
        speed = {name: np.zeros_like(array) for name, array in values.items()}
        objectives = []
        for _ in range(STEPS):
            stages, gradients = self._differentiate(values)
            objectives.append(self.objective(stages))
            for name, gradient in gradients.items():
                speed[name] = MOMENTUM * speed[name] + gradient
                values[name] = values[name] - self.learning_rate * speed[name]
        return np.array(objectives), values

    def objective(self, stages: Arrays) -> float:
        """What ``reference.gradients`` differentiates, from its stages."""
        case = self.case
        if case.has_loss:
            return float(stages["loss"].sum())
        if case.head == "Model":
            last = f"adapter.layers.{case.config.num_adapter_layers - 1}" if case.config.add_adapter else "encoder"
            return _probed(stages[last])
        return _probed(stages["project_hid"]) + _probed(stages["project_q"]) + float(stages["codevector_perplexity"])

    def _forward(self, draws: Randomness) -> Arrays:
        return reference.forward(*self._arguments(self.parameters), randomness=draws)

    def _differentiate(self, parameters: Arrays) -> tuple[Arrays, Arrays]:
        return reference.gradients(*self._arguments(parameters), randomness=self.case.randomness())

    def _arguments(self, parameters: Arrays) -> tuple[Any, ...]:
        case, values = self.case, self.case.inputs()
        values, mask = values["input_values"], values.get("attention_mask")
        return case.config, case.head, parameters, values, mask, case.labels()


def _probed(state: np.ndarray) -> float:
    return float((state * reference.probe(state.shape)).sum())


class Bench:
    """One back end. Models and results of the latest case are kept, so checks of one case should follow each other."""

    def __init__(self, backend: Opened) -> None:
        self.backend = backend
        self._case: Case | None = None
        self._kept: dict[Any, Any] = {}

    def model(
        self, expected: Expected, *, mode: str | None = None, dtype: str = "float32", loud: bool = False
    ) -> BackendModel:
        """A model of the case; ``loud``: with the dropouts that inference must not use."""
        case = expected.case

        def build() -> BackendModel:
            config = case.config.replace(**LOUD) if loud else case.config
            return self.backend.build(config, case.head, expected.parameters, dtype=dtype, mode=mode)

        if case.full_size:  # one at a time fits into memory
            return build()
        return self._once(case, ("model", mode or self.backend.modes[0], dtype, loud), build)

    def training(self, expected: Expected, *, mode: str | None = None) -> Arrays:
        """Stages of a training step."""
        mode = mode or self.backend.modes[0]
        call = training_call(expected.case)
        run = lambda: self.model(expected, mode=mode).forward(call, train=True)  # noqa: E731
        return self._once(expected.case, ("training", mode), run)

    def gradients(self, expected: Expected) -> tuple[float, Arrays]:
        """Objective and gradients of a training step."""
        run = lambda: self.model(expected).gradients(training_call(expected.case))  # noqa: E731
        return self._once(expected.case, "gradients", run)

    def has_gradients(self, expected: Expected) -> bool:
        """Whether a check of this case has asked for gradients."""
        return expected.case == self._case and "gradients" in self._kept

    def _once(self, case: Case, key: Any, compute: Callable[[], T]) -> T:
        """``compute()``, or its cached result for this case."""
        if case is not self._case and case != self._case:
            self._case, self._kept = case, {}
        if key not in self._kept:
            self._kept[key] = compute()
        return self._kept[key]
