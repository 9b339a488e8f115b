"""Every command line of the README and of the site is one that ``wav2vec2`` parses, also where it does not run."""

import pytest
import typer
from command_lines import command_of, parse
from documents import ROOT, blocks, pages

from wav2vec2_core.cli import app

COMMAND = typer.main.get_command(app)
LINES = [
    (page.relative_to(ROOT).as_posix(), line)
    for page in pages()
    for block in blocks(page.read_text(encoding="utf-8"))
    if block.language == "sh"
    for line in block.code.replace("\\\n", " ").splitlines()
]


@pytest.mark.parametrize(("page", "line"), [(page, line) for page, line in LINES if command_of(line)])
def test_command_lines_parse(page, line):
    parse(COMMAND, command_of(line))


def test_a_wrong_option_is_noticed():
    with pytest.raises(Exception, match="--no-such-option"):
        parse(COMMAND, ["transcribe", "a.wav", "--no-such-option"])


def test_every_block_runs_or_says_why_not():
    for page in pages():
        for block in blocks(page.read_text(encoding="utf-8")):
            runs = block.language in ("sh", "python")
            assert runs or block.reason, f"{page}: a block of {block.language} neither runs nor has a reason"
