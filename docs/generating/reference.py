"""A page for each public module and its public names, which ``tests/support/public_names.json`` keeps in place."""

from __future__ import annotations

import ast
import json
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
TITLES = {
    "wav2vec2_core": "Core",
    "wav2vec2_torch": "PyTorch",
    "wav2vec2_tf": "TensorFlow",
    "wav2vec2_flax": "JAX",
}


def public_names() -> dict[str, list[str]]:
    """Module -> its public names."""
    return json.loads((ROOT / "tests/support/public_names.json").read_text(encoding="utf-8"))


def navigation() -> list[Any]:
    """The modules of each package."""
    sections = [
        {
            title: [
                {module.partition(".")[2] or module: f"reference/{module}.md"}
                for module in public_names()
                if module.split(".")[0] == package
            ]
        }
        for package, title in TITLES.items()
    ]
    return ["reference/index.md", *sections]


def pages() -> dict[str, str]:
    """Path -> Markdown. A name that comes from another public module is described there, and linked here."""
    made, places = {}, _places()
    for module, names in public_names().items():
        lines = [f"# {module}", "", _summary(module), ""]
        for name in names:
            home = _home(module, name)
            if places[home] == (module, name):
                lines += [f"::: {module}.{name}", ""]
            else:
                lines += [
                    f"## `{name}` {{ #{module}.{name} }}",
                    "",
                    f"Described as [`{'.'.join(places[home])}`][{home}].",
                    "",
                ]
        made[f"reference/{module}.md"] = "\n".join(lines)
    index = [
        "# Reference",
        "",
        "Every public name, from the docstrings of the code. Names that are not listed may change.",
        "",
    ]
    for package, title in TITLES.items():
        index += [f"## {title}", "", "| module | |", "|---|---|"]
        index += [f"| [`{m}`]({m}.md) | {_summary(m)} |" for m in public_names() if m.split(".")[0] == package]
        index.append("")
    made["reference/index.md"] = "\n".join(index)
    return made


def _places() -> dict[str, tuple[str, str]]:
    """Where a name is defined -> the page that describes it: the shortest path, as a package is what users import."""
    places: dict[str, tuple[str, str]] = {}
    for module, names in sorted(public_names().items(), key=lambda item: item[0].count(".")):
        for name in names:
            places.setdefault(_home(module, name), (module, name))
    return places


def _home(module: str, name: str) -> str:
    """The full name of what ``module.name`` is, where it is defined."""
    for node in ast.walk(_parsed(module)):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                if (alias.asname or alias.name) == name and node.module.startswith("wav2vec2"):
                    return _home(node.module, alias.name)
    return f"{module}.{name}"


def _summary(module: str) -> str:
    """The first sentence of a module's docstring."""
    return (ast.get_docstring(_parsed(module)) or "").split("\n\n")[0].replace("\n", " ").replace("``", "`")


@cache
def _parsed(module: str) -> ast.Module:
    path = ROOT / module.replace(".", "/")
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return ast.parse(path.read_text(encoding="utf-8"))
