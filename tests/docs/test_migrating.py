"""The tables of old and new names: every new name can be imported, every new line runs, every command is parsed."""

import importlib
import importlib.util
from functools import reduce

import pytest
import typer
from command_lines import command_of, parse
from documents import ROOT
from tables import rows, settings

from wav2vec2_core.cli import app

COMMAND = typer.main.get_command(app)
TABLES = sorted((ROOT / "docs/migrating").glob("*.toml"))
TRANSFORMERS = importlib.util.find_spec("transformers")


def found(dotted):
    """What a dotted name means: the longest part of it that is a module, and attributes of that."""
    parts = dotted.split(".")
    for end in range(len(parts), 0, -1):
        try:
            module = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        return reduce(getattr, parts[end:], module)
    raise ModuleNotFoundError(dotted)


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.stem)
def test_every_row_works(table, tmp_path, monkeypatch):
    needs, setup = settings(table)
    pytest.importorskip(needs, reason=f"this table is about {needs}")
    (tmp_path / "samples").symlink_to(ROOT / "samples")
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(compile(setup, table.name, "exec"), names)
    for row in rows(table):
        ways = {"name", "code", "command"} & set(row)
        assert len(ways) == 1, row
        if "name" in row:
            found(row["name"])
        elif "code" in row:
            exec(compile(row["code"], f"{table.name}: {row['old']}", "exec"), names)
        else:
            parse(COMMAND, command_of(row["command"]))


@pytest.mark.oracle
@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.stem)
def test_old_names_of_transformers_are_right(table):
    pytest.importorskip("transformers", minversion="4.57", reason="compares with the names of transformers 4")
    for row in rows(table):
        if row["old"].startswith("transformers.") and row["old"].replace(".", "").replace("_", "").isalnum():
            found(row["old"])
