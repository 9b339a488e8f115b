"""Documents beside the README, as pages of the site."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
#: Path in the repository -> page.
PAGES = {
    "README.md": "project/readme.md",
    "CHANGELOG.md": "project/changelog.md",
    "BENCHMARKS.md": "project/benchmarks.md",
    "SCALING.md": "project/scaling.md",
    "ARCHITECTURE.md": "project/architecture.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "examples/digits/README.md": "project/digits.md",
    "examples/english/README.md": "project/english.md",
    "examples/pretrain_small/README.md": "project/pretrain-small.md",
    "examples/launch/README.md": "project/launch.md",
    "wav2vec2_core/assets/demo-digits/README.md": "project/demo-digits.md",
}
_LINK = re.compile(r"\[([^\]]+)\]\((?!\w+:|#)([^)#]+)(#[^)]*)?\)")


def navigation() -> list[Any]:
    """The pages."""
    return list(PAGES.values())


def pages() -> dict[str, str]:
    """Path -> Markdown; links between documents lead to their pages, those to other files become their names."""
    return {page: _page(path, page) for path, page in PAGES.items()}


def _page(path: str, page: str) -> str:
    text = (ROOT / path).read_text(encoding="utf-8")
    if text.startswith("---\n"):  # the data of a model card
        text = text.partition("\n---\n")[2].lstrip()

    def link(found: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(path), found[2]))
        if (to := PAGES.get(target)) is None:
            return f"`{target}`" if found[1].strip("`") in (target, found[2]) else f"{found[1]} (`{target}`)"
        return f"[{found[1]}]({posixpath.relpath(to, posixpath.dirname(page))}{found[3] or ''})"

    return _LINK.sub(link, text)
