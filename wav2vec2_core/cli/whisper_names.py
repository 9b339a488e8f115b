"""Whisper's spelling of options: underscores in names, ``True`` and ``False`` after switches."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand


class WhisperNames(TyperCommand):
    """A command that also accepts ``--output_dir`` for ``--output-dir`` and ``--word_timestamps True`` for a switch."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Rewrite whisper's spelling, then parse."""
        switches: dict[str, Any] = {
            name: option for option in self.params if getattr(option, "is_flag", False) for name in option.opts
        }
        waiting, rewritten = list(args), []
        while waiting:
            argument = waiting.pop(0)
            if argument == "--":
                rewritten += [argument, *waiting]
                break
            name, equals, value = argument.partition("=")
            if not argument.startswith("--"):
                rewritten.append(argument)
                continue
            name = name.replace("_", "-")
            if name in switches and not equals and waiting and waiting[0] in ("True", "False"):
                # A switch set to False: its opposite, if there is one.
                rewritten += [name] if waiting.pop(0) == "True" else switches[name].secondary_opts[:1]
            else:
                rewritten.append(f"{name}{equals}{value}")
        return super().parse_args(ctx, rewritten)
