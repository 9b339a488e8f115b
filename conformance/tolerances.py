"""Limits of the difference between a back end and the reference: ONE table, with reasons. Limits are never loosened.

Every error is the largest absolute difference divided by the largest absolute value of the reference array it is
compared with, so no error cancels another and no small value is excused. Parameters whose gradient is 0 in exact
arithmetic (``Case.unseen``) are compared relative to the gradient of the weight beside them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Tolerance:
    """One row.

    limit: the largest error allowed.
    reason: where the limit comes from.
    measured: the worst error seen, by back end, on the processors that BENCHMARKS.md names.
    """

    limit: float
    reason: str
    measured: dict[str, float] = field(default_factory=dict)


#: What is compared -> size of the model -> type computed with -> row. ``stages`` include logits and hidden states.
TOLERANCES: dict[tuple[str, str, str], Tolerance] = {
    ("stages", "tiny", "float32"): Tolerance(
        1e-5,
        "some hundred float32 roundings (6e-8) in a row of sums of up to a thousand terms",
        {"torch": 1.6e-6, "tf": 1.8e-6, "flax": 1.7e-6},
    ),
    ("stages", "full", "float32"): Tolerance(
        5e-5,
        "12 to 24 layers, sums of up to 6144 terms (positional convolution), each layer passing on errors",
        {"torch": 2.4e-6, "tf": 4.9e-6, "flax": 2.7e-6},
    ),
    ("loss", "tiny", "float32"): Tolerance(
        1e-5, "losses are sums of logits that agree to that", {"torch": 9.1e-7, "tf": 1.3e-6, "flax": 1.5e-6}
    ),
    ("loss", "full", "float32"): Tolerance(
        1e-5, "sums of logits whose errors cancel", {"torch": 1.6e-7, "tf": 6.7e-8, "flax": 1.6e-7}
    ),
    ("gradients", "tiny", "float32"): Tolerance(
        1e-4,
        "differences of products of two such errors; small gradients are sums of large terms that cancel",
        {"torch": 7.6e-6, "tf": 6.9e-6, "flax": 2.3e-5},
    ),
    ("gradients", "full", "float32"): Tolerance(
        2e-4,
        "as for a tiny model, through more layers; the last queries' gradients are small differences",
        {"torch": 2.6e-5, "tf": 2.1e-5, "flax": 2.5e-5},
    ),
    ("steps", "tiny", "float32"): Tolerance(
        1e-4,
        "parameters after five steps of plain gradient descent: the gradients' errors, times steps that are small",
        {"torch": 7.2e-7, "tf": 3.9e-7, "flax": 4.0e-7},
    ),
    ("stages", "tiny", "bfloat16"): Tolerance(
        2e-2,
        "8 bits of mantissa: 4e-3 per rounding, a few of which add up",
        {"torch": 1.7e-2, "tf": 2.0e-2, "flax": 1.6e-2},
    ),
    ("stages", "full", "bfloat16"): Tolerance(
        3e-2,
        "24 layers round the sum that they add to 48 times: 2e-3 * sqrt(48) = 1.4e-2, the worst of 3,000 twice that",
        {"torch": 1.6e-2, "tf": 2.2e-2, "flax": 1.7e-2},
    ),
    ("golden", "tiny", "float64"): Tolerance(1e-9, "both sides compute in float64; gradient norms add up differently"),
    ("golden arrays", "tiny", "float64"): Tolerance(1e-6, "arrays are stored as float32, each value off by 6e-8"),
}


def tolerance(what: str, size: str = "tiny", dtype: str = "float32") -> Tolerance:
    """The row for ``stages``, ``loss``, ``gradients`` or ``steps``. Raises ``KeyError`` where the table has none."""
    return TOLERANCES[what, size, dtype]


def relative_error(value: np.ndarray, expected: np.ndarray) -> float:
    """Largest difference over the largest expected value; infinite where a value is not finite and should be.

    Raises:
        ValueError: the shapes differ.
    """
    if value.shape != expected.shape:
        raise ValueError(f"shape {value.shape} instead of {expected.shape}")
    finite = np.isfinite(expected)
    if not np.array_equal(value[~finite], expected[~finite]) or not np.isfinite(value[finite]).all():
        return float("inf")
    difference = np.abs(value[finite].astype(np.float64) - expected[finite]).max(initial=0.0)
    return float(difference / max(float(np.abs(expected[finite]).max(initial=0.0)), 1e-30))
