"""Guides as Jupyter notebooks: their text as it is, what runs as cells with its output, pictures inside."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

from blocks import BLOCK, REASONS

_PICTURE = re.compile(r"(!\[[^\]]*\])\(pictures/([\w-]+\.(png|svg))\)")
_LINK = re.compile(
    r"(?<!!)\[([^\]]+)\]\((?!https?:)[^)]*\)"
)  # to other pages, which a notebook does not have beside it
_TYPES = {"png": "image/png", "svg": "image/svg+xml"}
_BEGIN = (
    "**This notebook** is a guide of the site. Start Jupyter in a clone of the repository, in an environment with the "
    "package, and keep the notebook in the folder of the clone: commands name its samples and examples. What stays "
    "text does not run without more than the repository has; the reason stands above it. Most commands write over "
    "nothing: before a second run, remove what the first one made, which `git status` lists."
)
#: The first cell: Jupyter may have been started without its environment being active.
FIRST = """import os
import sys
from pathlib import Path

# `wav2vec2` and `python` in the cells below are those of this notebook's environment.
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
"""


def notebook(page: Path) -> str:
    """The notebook of a page, JSON in nbformat 4.5."""
    cells: list[dict[str, Any]] = []
    markdown = page.read_text(encoding="utf-8")
    place, code = 0, None  # the cell whose output may follow
    for match in BLOCK.finditer(markdown):
        cells += _text(markdown[place : match.start()], page.parent)
        language, reason, content = match.groups()
        if reason is not None:
            cells += _text(f"{REASONS[reason]}:\n\n{match[0]}", page.parent)
            code = None
        elif language == "text" and code is not None:
            code["outputs"] = [{"output_type": "stream", "name": "stdout", "text": _lines(content)}]
        elif language == "text":
            cells += _text(match[0], page.parent)
        else:
            code = _code(content if language == "python" else f"%%bash -e\n{content}")
            cells.append(code)
        place = match.end()
    cells += _text(markdown[place:], page.parent)
    cells[1:1] = [*_text(_BEGIN, page.parent), _code(FIRST)]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    made = {
        "nbformat": 4,
        "nbformat_minor": 5,
        "metadata": {"kernelspec": kernel, "language_info": {"name": "python"}},
        "cells": [{"id": f"cell-{number}", **cell} for number, cell in enumerate(cells)],
    }
    return json.dumps(made, indent=1, ensure_ascii=False) + "\n"


def _text(markdown: str, folder: Path) -> list[dict[str, Any]]:
    """A cell with its pictures, or none where there is nothing."""
    pictures = {found[2]: {_TYPES[found[3]]: _encoded(folder / "pictures" / found[2])}
                for found in _PICTURE.finditer(markdown)}  # fmt: skip
    source = _lines(_LINK.sub(r"\1", _PICTURE.sub(r"\1(attachment:\2)", markdown)).strip())
    cell: dict[str, Any] = {"cell_type": "markdown", "metadata": {}, "source": source}
    return [cell | ({"attachments": pictures} if pictures else {})] if source else []


def _code(source: str) -> dict[str, Any]:
    return {"cell_type": "code", "metadata": {}, "execution_count": None, "outputs": [], "source": _lines(source[:-1])}


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


def _encoded(picture: Path) -> str:
    return base64.b64encode(picture.read_bytes()).decode("ascii")
