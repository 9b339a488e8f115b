"""The guides run as they are written, and make the pictures that they show."""

import pytest
from documents import ROOT, run_page

GUIDES = sorted((ROOT / "docs/guides").glob("*.md"))


@pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: guide.stem)
def test_guide_runs(guide, tmp_path):
    ran = run_page(guide, tmp_path)
    assert ran >= 3 or guide.stem == "index"
