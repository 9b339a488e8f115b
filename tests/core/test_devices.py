"""What devices can do at most, by the names that frameworks have for them."""

import pytest

from wav2vec2_core.devices import Devices


@pytest.mark.parametrize(
    ("kind", "bfloat16", "float32"),
    [
        ("NVIDIA A100-SXM4-80GB", 312e12, 19.5e12),
        ("NVIDIA H100 80GB HBM3", 989e12, 67e12),
        ("NVIDIA H100 PCIe", 756e12, 51e12),
        ("NVIDIA H200", 989e12, 67e12),
        ("NVIDIA L4", 121e12, 30.3e12),
        ("NVIDIA L40S", 362e12, 91.6e12),
        ("Tesla V100-SXM2-16GB", None, 15.7e12),
        ("Tesla V100-PCIE-32GB", None, 14e12),
        ("Tesla T4", None, 8.1e12),
        ("TPU v5 lite", 197e12, None),
        ("TPU v5p", 459e12, None),
        ("TPU v5", 459e12, None),
        ("TPU v4", 275e12, None),
        ("TPU v6 lite", 918e12, None),
        ("cpu", None, None),
        ("NVIDIA L400", None, None),
        ("A5000 of tomorrow", None, None),
    ],
)
def test_peaks(kind, bfloat16, float32):
    assert Devices(kind).peak("bfloat16") == bfloat16
    assert Devices(kind).peak("float32") == float32


def test_peaks_of_several():
    assert Devices("TPU v4", 8).peak("bfloat16") == 8 * 275e12
