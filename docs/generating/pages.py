"""The folder that the site is built from: ``python docs/generating/pages.py FOLDER``.

Pages of ``docs`` with their tables and notes filled in, each guide also as a notebook, generated pages beside them, and
``mkdocs.yml`` with all of them in its navigation.
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path
from typing import Any

import blocks
import commands
import notebooks
import reference
import repository
import tables
import yaml

ROOT = Path(__file__).parents[2]
#: Sections of the navigation that are generated.
GENERATED = {"commands/": commands, "reference/": reference, "project/": repository}
_TABLE = re.compile(r"^<!-- table: ([\w-]+) -->$", re.MULTILINE)


def write_pages(folder: Path) -> None:
    """Write everything that ``zensical build -f FOLDER/mkdocs.yml`` needs into an empty or earlier folder."""
    pages = folder / "docs"
    shutil.rmtree(pages, ignore_errors=True)
    shutil.copytree(ROOT / "docs", pages, ignore=shutil.ignore_patterns("generating", "*.toml", "*.md", "__pycache__"))
    for source in (ROOT / "docs").rglob("*.md"):
        page = pages / source.relative_to(ROOT / "docs")
        text = _filled_in(source.read_text(encoding="utf-8"), source.parent)
        if page.parent.name == "guides" and page.stem != "index":
            _write(page.with_suffix(".ipynb"), notebooks.notebook(source))
            title, text = text.split("\n", 1)
            text = f"{title}\n\n[This guide as a Jupyter notebook]({page.stem}.ipynb)\n{text}"
        _write(page, text)
    for section in GENERATED.values():
        for path, text in section.pages().items():
            _write(pages / path, blocks.shown(text))
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    config["nav"] = [_with_generated(section) for section in config["nav"]]
    (python,) = config["plugins"][-1]["mkdocstrings"]["handlers"].values()
    python["paths"] = [str(ROOT)]
    python["options"]["extensions"] = [str(ROOT / path) for path in python["options"]["extensions"]]
    (folder / "mkdocs.yml").write_text(yaml.safe_dump(config, sort_keys=False, allow_unicode=True), encoding="utf-8")


def _with_generated(section: dict[str, Any]) -> dict[str, Any]:
    ((title, pages),) = section.items()
    return {title: GENERATED[pages].navigation() if isinstance(pages, str) else pages}


def _filled_in(markdown: str, folder: Path) -> str:
    """Tables of names, and the reasons of blocks that do not run."""
    return blocks.shown(_TABLE.sub(lambda found: tables.table(folder / f"{found[1]}.toml"), markdown))


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write_pages(Path(sys.argv[1]))
