"""Raw samples in any pieces."""

import io

import numpy as np
import pytest

from wav2vec2_core.audio.raw import PcmReader
from wav2vec2_core.errors import AudioError, InputError


class Trickle(io.RawIOBase):
    """A pipe that gives odd numbers of bytes."""

    def __init__(self, data):
        self.data, self.generator = data, np.random.default_rng(0)

    def read(self, size=-1):
        size = min(size, int(self.generator.integers(1, 8)))
        given, self.data = self.data[:size], self.data[size:]
        return given


@pytest.mark.parametrize("kind", ["s16le", "f32le"])
@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("extra", [b"", b"\x01", b"\x01\x02\x03"])
def test_any_pieces_and_a_stop_inside_a_sample(kind, channels, extra):
    samples = np.random.default_rng(1).uniform(-1, 1, (50, channels)).astype(np.float32)
    raw = (samples * 32768).round().clip(-32768, 32767).astype("<i2") if kind == "s16le" else samples.astype("<f4")
    reader = PcmReader(Trickle(raw.tobytes() + extra), kind, channels)
    read = np.concatenate(list(reader))
    size = raw.dtype.itemsize * channels
    assert len(read) == 50 + len(extra) // size
    np.testing.assert_allclose(read[:50], samples.mean(1), atol=2e-5)
    assert reader.leftover == len(extra) % size


def test_wrong_streams():
    with pytest.raises(InputError, match="sample format 'mp3' is unknown: use one of s16le, f32le"):
        PcmReader(io.BytesIO(), "mp3")
    with pytest.raises(InputError, match="channels=0"):
        PcmReader(io.BytesIO(), "s16le", 0)
    with pytest.raises(AudioError, match="NaN or infinite: check its sample format"):
        list(PcmReader(io.BytesIO(np.array([np.nan], "<f4").tobytes()), "f32le"))
    assert list(PcmReader(io.BytesIO(b""))) == []
