"""Every command line of the README and of the site is one that ``wav2vec2`` parses, also where it does not run."""

import re

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


#: What a block of a guide contains -> extras of which one must be named above it.
NEEDS = {
    r"wav2vec2 plot|import matplotlib": {"plot", "train"},
    r"\.mp4": {"media"},
    r"wav2vec2 (finetune|pretrain|evaluate|lm tune)": {"train"},
    r"wav2vec2 lm ": {"lm"},
    r"wav2vec2 serve": {"serve"},
    r"--to onnx|import onnxruntime": {"onnx"},
    r"wav2vec2 |import torch|wav2vec2_torch|Transcriber|Classifier|align\(": {"torch"},
}


def test_guides_name_the_extras_that_their_blocks_need():
    guides = [page for page in pages() if page.parent.name == "guides" and page.stem != "index"]
    assert guides
    for guide in guides:
        markdown = guide.read_text(encoding="utf-8")
        named = set(re.search(r'`pip install -c constraints\.txt "\.\[([\w,]+)\]"`', markdown)[1].split(","))
        for block in blocks(markdown):
            for pattern, extras in NEEDS.items():
                if block.reason is None and re.search(pattern, block.code):
                    assert named & extras, f"{guide.stem} needs one of {extras}:\n{block.code}"


def test_a_wrong_option_is_noticed():
    with pytest.raises(Exception, match="--no-such-option"):
        parse(COMMAND, ["transcribe", "a.wav", "--no-such-option"])


def test_every_block_runs_or_says_why_not():
    for page in pages():
        for block in blocks(page.read_text(encoding="utf-8")):
            runs = block.language in ("sh", "python")
            assert runs or block.reason, f"{page}: a block of {block.language} neither runs nor has a reason"
