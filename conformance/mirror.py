"""What a back end's sources declare, so that three of them can be compared: files, classes, methods, arguments."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path

#: Back end -> (package, prefix of its public classes).
PACKAGES = {
    "torch": ("wav2vec2_torch", ""),
    "tf": ("wav2vec2_tf", "TF"),
    "flax": ("wav2vec2_flax", "Flax"),
}
#: What a framework calls the computation of a module, and the one name for it here.
_COMPUTATION = {"forward": "forward", "call": "forward", "__call__": "forward"}


@dataclass(frozen=True)
class Declared:
    """What one module file declares. functions: ``name`` or ``Class.method`` -> argument names in order."""

    classes: tuple[str, ...]
    functions: dict[str, tuple[str, ...]]


def declared(package: Path, prefix: str) -> dict[str, Declared]:
    """Public declarations of every file of a package, by file name; names without the framework's prefix."""
    return {path.name: _read(path, prefix) for path in sorted(package.glob("*.py")) if not path.name.startswith("_")}


def _read(path: Path, prefix: str) -> Declared:
    classes: list[str] = []
    functions: dict[str, tuple[str, ...]] = {}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            functions[node.name] = _arguments(node)
        elif isinstance(node, ast.ClassDef):
            name = node.name.removeprefix(prefix)
            classes.append(name)
            for inner in node.body:
                if not isinstance(inner, ast.FunctionDef):
                    continue
                method = _COMPUTATION.get(inner.name, inner.name)
                if not method.startswith("_") or method == "__init__":
                    functions.setdefault(f"{name}.{method}", _arguments(inner))
    return Declared(tuple(classes), functions)


def _arguments(node: ast.FunctionDef) -> tuple[str, ...]:
    given = node.args
    return tuple(argument.arg for argument in (*given.posonlyargs, *given.args, *given.kwonlyargs))
