"""Tables of old and new names: TOML files whose rows the tests run."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any


def rows(path: Path) -> list[dict[str, Any]]:
    """Rows: ``old``, one of ``name`` (dotted), ``code`` (Python) or ``command`` (of the shell), and ``note``."""
    return _read(path)["row"]


def settings(path: Path) -> tuple[str, str]:
    """The module that the rows need, and the code that runs before theirs."""
    read = _read(path)
    return read["needs"], read.get("setup", "")


def table(path: Path) -> str:
    """Markdown of a table."""
    lines = ["| old | new | |", "|---|---|---|"]
    for row in rows(path):
        new = row.get("name") or row.get("code") or row["command"]
        lines.append(f"| {_code(row['old'])} | {_code(new)} | {row.get('note', '')} |")
    return "\n".join(lines)


def _read(path: Path) -> dict[str, Any]:
    return tomllib.loads(path.read_text(encoding="utf-8"))


def _code(text: str) -> str:
    """Code that breaks into lines between its names, not within them."""
    escaped = "".join(f"&#{ord(letter)};" if letter in "&<>|*_[]`\\" else letter for letter in text)
    return f"<code>{re.sub(r'(?<=[.,(/=])(?=[^ ])', '<wbr>', escaped)}</code>"
