"""The pages that lead in and explain run as they are written."""

import pytest
from documents import ROOT, run_page

PAGES = [ROOT / "docs/index.md", ROOT / "docs/install.md", *sorted((ROOT / "docs/concepts").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_page_runs(page, tmp_path):
    run_page(page, tmp_path)
