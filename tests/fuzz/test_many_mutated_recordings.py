"""Thousands of damaged recordings of every container."""

import pytest
from mutated_recordings import check
from written_media import MEDIA, SOUND


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*SOUND, *MEDIA])
def test_damaged_recordings(kind):
    if kind in MEDIA:
        pytest.importorskip("av", reason="PyAV comes with the media extra")
    check([kind], 1, 2000)
