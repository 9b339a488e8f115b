"""A page for each command, from the options that the command itself parses."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import typer

from wav2vec2_core.cli import app


def navigation() -> list[Any]:
    """Pages of the section, in the order of ``wav2vec2 --help``."""
    return ["commands/index.md", *(f"commands/{name}.md" for name in _commands())]


def pages() -> dict[str, str]:
    """Path -> Markdown."""
    commands = _commands()
    rows = [f"| [`wav2vec2 {name}`]({name}.md) | {_first(command.help)} |" for name, command in commands.items()]
    index = [
        "# Commands",
        "",
        "`wav2vec2 COMMAND --help` shows the same in a terminal.",
        "",
        "| command | |",
        "|---|---|",
    ]
    made = {"commands/index.md": "\n".join([*index, *rows]) + "\n"}
    for name, command in commands.items():
        made[f"commands/{name}.md"] = f"# {name}\n\n" + _described(f"wav2vec2 {name}", command, "##")
    return made


def _commands() -> dict[str, Any]:
    return dict(typer.main.get_command(app).commands)  # type: ignore[attr-defined]


def _described(name: str, command: Any, level: str) -> str:
    """Usage, help and a table for each group of options; of a group of commands, those of each."""
    if commands := getattr(command, "commands", None):
        parts = [
            f"{level} {inner}\n\n" + _described(f"{name} {inner}", one, f"{level}#") for inner, one in commands.items()
        ]
        return "\n".join([f"{command.help}\n", *parts])
    context = typer.Context(command, info_name=name)
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    options = [one for one in command.params if one.param_type_name == "option" and not one.hidden]
    usage = " ".join([name, "[OPTIONS]", *(one.metavar or one.name.upper() for one in arguments)])
    lines = [f"```text\n{usage}\n```", "", _text(command.help), ""]
    groups: dict[str, list[Any]] = defaultdict(list)
    for one in options:
        groups[one.rich_help_panel or "Options"].append(one)
    if arguments:
        lines += _table("argument", [(one.metavar or one.name.upper(), one.help or "") for one in arguments])
    for group, members in groups.items():
        lines += [f"{level} {group}" if name.count(" ") == 1 else f"**{group}**", ""]
        lines += _table("option", [one.get_help_record(context) for one in members])
    return "\n".join(lines)


def _table(what: str, rows: list[Any]) -> list[str]:
    cells = [f"| `{_cell(left)}` | {_cell(_escaped(right))} |" for left, right in rows]
    return [f"| {what} | |", "|---|---|", *cells, ""]


def _text(help_text: str | None) -> str:
    return _escaped("\n".join(line.strip() for line in (help_text or "").replace("\b", "").splitlines()))


def _first(help_text: str | None) -> str:
    return _escaped((help_text or "").strip().split("\n\n")[0].replace("\n", " "))


def _escaped(text: str) -> str:
    return text.replace("<", "&lt;").replace("*", "\\*").replace("_", "\\_")


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
