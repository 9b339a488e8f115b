"""Changes one source file in one place after the other, and lists the changes that its tests do not notice.

    nox -s mutate -- wav2vec2_core/masking.py
    nox -s mutate -- wav2vec2_torch/losses.py --sample 30 -- tests/torch/test_torch_losses.py -x

Numbers, comparisons, arithmetic, conditions and single statements are changed, in a copy of the sources. What survives
is either a test that is missing or a change that makes no difference; telling them apart takes a reader.
"""

from __future__ import annotations

import argparse
import ast
import copy
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[2]
NOT_COPIED = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist", "benchmarks")
#: Operators and what takes their place.
SWAPPED: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv, ast.Pow: ast.Mult, ast.MatMult: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
    ast.And: ast.Or, ast.Or: ast.And,
}  # fmt: skip
NAMES = {"min": "max", "max": "min", "minimum": "maximum", "maximum": "minimum", "any": "all", "all": "any"}


@dataclass(frozen=True)
class Mutant:
    """One change. line: where; before, after: the code; source: the whole file with it."""

    line: int
    before: str
    after: str
    source: str


def mutants(source: str) -> Iterator[Mutant]:
    """Every change of a file, in the order of its lines."""
    tree = ast.parse(source)
    annotations = {id(inner) for node in ast.walk(tree) for hint in _hints(node) for inner in ast.walk(hint)}
    places = [
        (node, field, index)
        for node in ast.walk(tree)
        if id(node) not in annotations
        for field, value in ast.iter_fields(node)
        for index in (range(len(value)) if isinstance(value, list) else [None])
    ]
    found = []
    for parent, field, index in places:
        value = getattr(parent, field)
        old = value if index is None else value[index]
        if not isinstance(old, ast.AST) or id(old) in annotations:
            continue
        for new in _changes(parent, old):
            before = ast.unparse(parent if isinstance(old, (ast.operator, ast.cmpop, ast.boolop)) else old)
            _put(parent, field, index, new)
            after = ast.unparse(parent if isinstance(old, (ast.operator, ast.cmpop, ast.boolop)) else new)
            line = getattr(old, "lineno", getattr(parent, "lineno", 0))
            found.append(Mutant(line, before, after, ast.unparse(ast.fix_missing_locations(tree))))
            _put(parent, field, index, old)
    yield from sorted(found, key=lambda mutant: mutant.line)


def _hints(node: ast.AST) -> list[ast.AST]:
    """Annotations of a node: changing those changes nothing."""
    return [hint for name in ("annotation", "returns") if isinstance(hint := getattr(node, name, None), ast.AST)]


def _put(parent: ast.AST, field: str, index: int | None, node: ast.AST) -> None:
    if index is None:
        setattr(parent, field, node)
    else:
        getattr(parent, field)[index] = node


def _changes(parent: ast.AST, node: ast.AST) -> Iterator[ast.AST]:
    """What may stand in the place of a node."""
    if type(node) in SWAPPED:
        yield SWAPPED[type(node)]()
    match node:
        case ast.Constant(value=bool(value)):
            yield ast.Constant(not value)
        case ast.Constant(value=int(value)):
            yield ast.Constant(value + 1)
        case ast.Constant(value=float(value)):
            yield ast.Constant(value * 2 if value else 1.0)
        case ast.UnaryOp(operand=operand):
            yield copy.deepcopy(operand)
        case ast.Expr(value=ast.Call()) | ast.AugAssign() | ast.Raise():
            yield ast.Pass()
        case ast.Name(id=name) if name in NAMES and isinstance(parent, ast.Call):
            yield ast.Name(NAMES[name], ast.Load())
        case ast.Attribute(attr=name) if name in NAMES and isinstance(parent, ast.Call):
            yield ast.Attribute(copy.deepcopy(node.value), NAMES[name], ast.Load())
        case ast.If() | ast.IfExp() | ast.While():
            changed = copy.deepcopy(node)
            changed.test = ast.UnaryOp(ast.Not(), changed.test)
            yield changed


def own_tests(file: Path) -> list[str]:
    """The tests that mirror a source file: those of its name, or of the nearest folder; for a back end conformance."""
    package, *folders = file.relative_to(ROOT).with_suffix("").parts
    folder = ROOT / "tests" / package.removeprefix("wav2vec2_")
    found = sorted(folder.rglob(f"test_*{folders[-1]}.py"))
    if not found:
        inner = folder.joinpath(*folders[:-1])
        found = [inner if inner.is_dir() else folder]
    tests = [str(path.relative_to(ROOT)) for path in found]
    if package != "wav2vec2_core":
        tests += ["conformance/test_backends.py", "--backends", package.removeprefix("wav2vec2_")]
    return tests


class Checkout:
    """A copy of the sources in which a file is changed and tests run."""

    def __init__(self, folder: Path, file: Path, tests: list[str]) -> None:
        self.folder, self.tests = folder, tests
        shutil.copytree(ROOT, folder, ignore=NOT_COPIED)
        self.file = folder / file.relative_to(ROOT)

    def passes(self, source: str, seconds: float | None = None) -> bool:
        """Whether the tests pass with this source; what takes longer than ``seconds`` has not passed."""
        self.file.write_text(source, encoding="utf-8")
        environment = {**os.environ, "PYTHONPATH": str(self.folder), "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *self.tests]
        try:
            run = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, timeout=seconds)
        except subprocess.TimeoutExpired:
            return False
        return run.returncode == 0


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="source file to change")
    parser.add_argument("tests", nargs="*", help="arguments of pytest; the mirroring tests where there are none")
    parser.add_argument("--sample", type=int, help="try so many changes, drawn at random, instead of all")
    parser.add_argument("--jobs", type=int, default=1, help="how many to try at once")
    arguments = parser.parse_args()
    file = arguments.file.resolve()
    source = file.read_text(encoding="utf-8")
    tried = list(mutants(source))
    if arguments.sample is not None:
        chosen = random.Random(0).sample(range(len(tried)), min(arguments.sample, len(tried)))
        tried = [tried[index] for index in sorted(chosen)]
    tests = arguments.tests or own_tests(file)
    print(f"{file.relative_to(ROOT)}: {len(tried)} changes, pytest {' '.join(tests)}", flush=True)
    with TemporaryDirectory() as folder:
        if (shared := ROOT.parent / "shared").exists():
            (Path(folder) / "shared").symlink_to(shared.resolve())
        free: SimpleQueue[Checkout] = SimpleQueue()
        checkouts = [Checkout(Path(folder) / str(number), file, tests) for number in range(arguments.jobs)]
        started = time.perf_counter()
        if not checkouts[0].passes(ast.unparse(ast.parse(source))):
            sys.exit("the tests fail without any change: mend them first")
        limit = 3 * (time.perf_counter() - started) + 30
        for checkout in checkouts:
            free.put(checkout)

        def survives(mutant: Mutant) -> bool:
            checkout = free.get()
            try:
                return checkout.passes(mutant.source, limit)
            finally:
                free.put(checkout)

        survivors = 0
        with ThreadPoolExecutor(arguments.jobs) as pool:
            for mutant, survived in zip(tried, pool.map(survives, tried), strict=True):
                if survived:
                    survivors += 1
                    before, after = (text.partition("\n")[0] for text in (mutant.before, mutant.after))
                    print(f"survived, line {mutant.line}: {before}  ->  {after}", flush=True)
    print(f"{survivors} of {len(tried)} changes survived")


if __name__ == "__main__":
    main()
