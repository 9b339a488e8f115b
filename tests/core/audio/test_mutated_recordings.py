"""Damaged recordings of every container: read, refused with one line, or kept in part; never a traceback or a crash."""

import pytest
from mutated_recordings import check
from written_media import MEDIA, SOUND


@pytest.mark.parametrize("media", [False, True], ids=["libsndfile", "containers"])
def test_some_damaged_recordings(media):
    if media:
        pytest.importorskip("av", reason="PyAV comes with the media extra")
    check(MEDIA if media else SOUND, 0, 20)
