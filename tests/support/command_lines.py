"""Command lines of pages, parsed as ``wav2vec2`` parses them."""

import shlex


def command_of(line):
    """The arguments of ``wav2vec2`` in a line of a shell, or None: of its first command, also after && or |."""
    words = shlex.split(line, comments=True)
    starts = [at + 1 for at, word in enumerate(words) if word in ("wav2vec2", "wav2vec2_core")]
    if not starts:
        return None
    words = words[starts[0] :]
    ends = [at for at, word in enumerate(words) if word in ("|", "&&", ">", "2>", "&", "<", ";") or word.endswith(";")]
    return words[: ends[0]] if ends else words


def parse(command, words):
    """Parse without running. Raises click's UsageError."""
    context = command.make_context("wav2vec2", list(words), resilient_parsing=False)
    if hasattr(command, "commands"):
        _, inner, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        parse(inner, rest)
