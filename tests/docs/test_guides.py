"""The guides run as they are written, and make the pictures that they show."""

import shutil

import pytest
from documents import ROOT, blocks, run_page

GUIDES = sorted((ROOT / "docs/guides").glob("*.md"))


@pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: guide.stem)
def test_guide_runs(guide, tmp_path):
    commands = "\n".join(block.code for block in blocks(guide.read_text(encoding="utf-8")) if block.reason is None)
    for program in ("curl", "ffmpeg"):
        if f"\n{program} " in f"\n{commands}" and not shutil.which(program):
            pytest.skip(f"this guide runs {program}, which is not installed")
    ran = run_page(guide, tmp_path)
    assert ran >= 2 or guide.stem == "index"
