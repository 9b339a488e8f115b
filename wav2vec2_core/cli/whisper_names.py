"""Options as whisper spells them: underscores in names, ``True`` and ``False`` behind switches."""

from __future__ import annotations

import click
from typer.core import TyperCommand


class WhisperNames(TyperCommand):
    """A command that also takes ``--output_dir`` for ``--output-dir`` and ``--word_timestamps True`` for a switch."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Rewrite whisper's spelling, then parse."""
        switches = {
            name: option
            for option in self.params
            if isinstance(option, click.Option) and option.is_flag
            for name in option.opts
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
                # A switch that is off: its opposite, where there is one.
                rewritten += [name] if waiting.pop(0) == "True" else switches[name].secondary_opts[:1]
            else:
                rewritten.append(f"{name}{equals}{value}")
        return super().parse_args(ctx, rewritten)
