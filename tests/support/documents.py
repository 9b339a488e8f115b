"""Pages whose code blocks run in their order, as a reader would run them.

Commands run in the shell, Python in this process, each block by itself, all in one folder with the samples.
``python tests/support/documents.py PAGE`` does so too, and puts the pictures of a page beside it.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "docs/generating"))

from blocks import Block, blocks  # noqa: E402

__all__ = ["Block", "blocks", "pages", "run_page"]
#: Of the repository, what pages name.
FOLDERS = ("samples", "examples", "wav2vec2_core")


def pages() -> list[Path]:
    """README and the pages of the site that are written by hand."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def run_page(page: Path, folder: Path) -> int:
    """Run what runs of a page in a folder; returns how many blocks that were.

    Installation is left out: the environment that runs this has been installed.

    Raises:
        AssertionError: a block fails, prints something else than the page shows, or makes no picture that it shows.
    """
    for name in FOLDERS:
        (folder / name).symlink_to(ROOT / name)
    markdown = page.read_text(encoding="utf-8")
    ran = 0
    with contextlib.chdir(folder):
        for block in blocks(markdown):
            if block.reason is None:
                output = _shell(block.code) if block.language == "sh" else _python(block.code, str(page))
                assert block.expected is None or output == block.expected, f"{block.code}\n{output}"
                ran += 1
    for shown, made in _pictures(markdown, folder).items():
        assert made.is_file(), f"{page.name} shows {shown}, which its blocks do not make"
    return ran


def _pictures(markdown: str, folder: Path) -> dict[str, Path]:
    """Pictures that a page shows -> files that its blocks make; the curves of a run are RUN/curves.png there."""
    names = re.findall(r"\]\(pictures/([\w-]+\.\w+)\)", markdown)
    return {name: folder / name.replace("-curves.", "/curves.") for name in names}


def _shell(code: str) -> str:
    code = re.sub(r"^pip install [^&\n]*(&& |$)", "", code, flags=re.MULTILINE)
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "HF_HUB_OFFLINE": "1",
    }
    done = subprocess.run(["bash", "-ec", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{code}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def _python(code: str, page: str) -> str:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, page, "exec"), {"__name__": "__main__"})
    return printed.getvalue()


if __name__ == "__main__":
    for name in sys.argv[1:]:
        page = Path(name).resolve()
        with tempfile.TemporaryDirectory() as folder:
            print(page.name, run_page(page, Path(folder)), "blocks")
            for shown, made in _pictures(page.read_text(encoding="utf-8"), Path(folder)).items():
                (page.parent / "pictures").mkdir(exist_ok=True)
                shutil.copy(made, page.parent / "pictures" / shown)
