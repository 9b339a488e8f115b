"""Every command line of the README and of the site is one that ``wav2vec2`` parses, also where it does not run."""

import shlex

import pytest
import typer
from documents import ROOT, blocks, pages

from wav2vec2_core.cli import app

LINES = [
    (page.relative_to(ROOT).as_posix(), line)
    for page in pages()
    for block in blocks(page.read_text(encoding="utf-8"))
    if block.language == "sh"
    for line in block.code.replace("\\\n", " ").splitlines()
]


def command_of(line):
    """The arguments of ``wav2vec2`` in a line of a shell, or None: of its first command, also after && or |."""
    words = shlex.split(line, comments=True)
    starts = [at + 1 for at, word in enumerate(words) if word in ("wav2vec2", "wav2vec2_core")]
    if not starts:
        return None
    words = words[starts[0] :]
    ends = [at for at, word in enumerate(words) if word in ("|", "&&", ">", "&", "<", ";") or word.endswith(";")]
    return words[: ends[0]] if ends else words


def parse(command, words):
    """Parse without running. Raises click's UsageError."""
    context = command.make_context("wav2vec2", list(words), resilient_parsing=False)
    if hasattr(command, "commands"):
        _, inner, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        parse(inner, rest)


@pytest.mark.parametrize(("page", "line"), [(page, line) for page, line in LINES if command_of(line)])
def test_command_lines_parse(page, line):
    parse(typer.main.get_command(app), command_of(line))


def test_a_wrong_option_is_noticed():
    with pytest.raises(Exception, match="--no-such-option"):
        parse(typer.main.get_command(app), ["transcribe", "a.wav", "--no-such-option"])


def test_every_block_runs_or_says_why_not():
    for page in pages():
        for block in blocks(page.read_text(encoding="utf-8")):
            runs = block.language in ("sh", "python")
            assert runs or block.reason, f"{page}: a block of {block.language} neither runs nor has a reason"
