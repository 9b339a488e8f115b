"""What computes: the kind of device, the most that it can do in a second, and this processor's name."""

from __future__ import annotations

import platform
import re
from dataclasses import dataclass
from pathlib import Path


def processor() -> str:
    """This machine's processor, by model and instructions: what was compiled for one need not run on another."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
    except OSError:  # not Linux
        return f"{platform.machine()} {platform.processor()}"
    named = ("model name", "flags", "Features")
    return "\n".join([platform.machine(), *sorted({line for line in lines if line.startswith(named)})])


@dataclass(frozen=True)
class Devices:
    """Devices of one kind. kind: its name in the framework, ``cpu`` for processors; count: of all processes."""

    kind: str
    count: int = 1

    def peak(self, dtype: str) -> float | None:
        """Floating-point operations per second of all of them in ``float32`` or ``bfloat16``; None where unknown."""
        kind = " " + re.sub("[^a-z0-9]+", " ", self.kind.lower()) + " "
        for name, peaks in _PEAKS.items():
            if all(f" {word} " in kind for word in name.lower().split()):
                peak = peaks.get(dtype)
                return None if peak is None else peak * self.count
        return None


_B, _F = "bfloat16", "float32"
#: Words of a name -> operations per second of one device, without sparsity, as the manufacturers' data sheets say; the
#: first whose words all occur. In float32 without shortcuts such as TF32. Of TPUs one device is what JAX counts as one:
#: a core of v2 and v3, a chip of the others. Peaks in float32 are not published for TPUs.
_PEAKS: dict[str, dict[str, float]] = {
    "TPU v2": {_B: 22.5e12},
    "TPU v3": {_B: 61.5e12},
    "TPU v4": {_B: 275e12},
    "TPU v5 lite": {_B: 197e12},
    "TPU v5e": {_B: 197e12},
    "TPU v5p": {_B: 459e12},
    "TPU v5": {_B: 459e12},
    "TPU v6 lite": {_B: 918e12},
    "TPU v6e": {_B: 918e12},
    "B200": {_B: 2250e12, _F: 75e12},
    "H200": {_B: 989e12, _F: 67e12},
    "H100 PCIe": {_B: 756e12, _F: 51e12},
    "H100 NVL": {_B: 835e12, _F: 60e12},
    "H100": {_B: 989e12, _F: 67e12},
    "A100": {_B: 312e12, _F: 19.5e12},
    "A6000": {_B: 154.8e12, _F: 38.7e12},
    "A40": {_B: 149.7e12, _F: 37.4e12},
    "A30": {_B: 165e12, _F: 10.3e12},
    "L40S": {_B: 362e12, _F: 91.6e12},
    "NVIDIA L4": {_B: 121e12, _F: 30.3e12},
    "V100 PCIe": {_F: 14e12},
    "V100": {_F: 15.7e12},
    "Tesla T4": {_F: 8.1e12},
    "RTX 4090": {_B: 165.2e12, _F: 82.6e12},
    "RTX 3090": {_B: 71e12, _F: 35.6e12},
}
