"""The built site: every public name is described, links and anchors lead somewhere, nothing comes from elsewhere."""

import json
import os
import re
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from documents import blocks, pages
from notebooks import FIRST
from reference import pages as reference_pages
from reference import public_names

SITE = Path(os.environ.get("DOCS_SITE", "none"))
pytestmark = pytest.mark.skipif(not SITE.is_dir(), reason="DOCS_SITE names no built site: the session `docs` does")


class Page(HTMLParser):
    """Anchors, links and loaded files of a page."""

    def __init__(self, path):
        super().__init__()
        self.anchors, self.links, self.loaded = {""}, [], []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.anchors |= {found[key] for key in ("id", "name") if found.get(key)}
        if tag == "a" and found.get("href"):
            self.links.append(found["href"])
        elif tag in ("link", "script", "img", "iframe") and (address := found.get("href") or found.get("src")):
            self.loaded.append(address)


@cache
def parsed(path):
    return Page(path)


def html():
    """All pages but that for wrong addresses, which a server shows at any address."""
    return sorted(path for path in SITE.rglob("*.html") if path.name != "404.html")


def test_every_public_name_is_described():
    described = set().union(*(parsed(SITE / page.replace(".md", ".html")).anchors for page in reference_pages()))
    missing = [f"{module}.{name}" for module, names in public_names().items() for name in names
               if f"{module}.{name}" not in described]  # fmt: skip
    assert not missing


def test_links_lead_somewhere():
    broken = []
    for page in html():
        for link in parsed(page).links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            target = target / "index.html" if target.is_dir() else target
            if not target.is_file() or (
                target.suffix == ".html" and unquote(parts.fragment) not in parsed(target).anchors
            ):
                broken.append(f"{page.relative_to(SITE)}: {link}")
    assert not broken


def is_file_beside(page, address):
    """Whether an address is that of a file of the site; the site's start is no file."""
    parts = urlsplit(address)
    return not parts.netloc and not address.startswith("/") and (page.parent / unquote(parts.path)).exists()


def test_nothing_is_loaded_from_elsewhere():
    for page in html():
        missing = [one for one in parsed(page).loaded if not is_file_beside(page, one)]
        assert not missing, page
        assert not [one for one in parsed(page).links if one.startswith("/")], page
    for style in SITE.rglob("*.css"):
        assert not re.search(r"url\(\s*['\"]?(https?:)?//", style.read_text(encoding="utf-8")), style


def test_guides_are_notebooks_too():
    """Each has the blocks of its page that run, in their order, and their outputs."""
    nbformat = pytest.importorskip("nbformat", reason="checks the format of notebooks: the session `docs` installs it")
    guides = [page for page in pages() if page.parent.name == "guides" and page.stem != "index"]
    assert len(guides) >= 9
    for guide in guides:
        notebook = nbformat.read(SITE / "guides" / f"{guide.stem}.ipynb", as_version=4)
        nbformat.validate(notebook)
        first, *cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
        assert f"{first.source}\n" == FIRST
        found = [(cell.source, "".join(output.text for output in cell.outputs)) for cell in cells]
        running = [block for block in blocks(guide.read_text(encoding="utf-8")) if block.reason is None]
        magic = {"sh": "%%bash -e\n", "python": ""}
        assert found == [
            (f"{magic[block.language]}{block.code}".removesuffix("\n"), block.expected or "") for block in running
        ]
        shown = re.findall(r"attachment:([\w.-]+)", json.dumps(notebook))
        held = [name for cell in notebook.cells for name in cell.get("attachments", {})]
        assert shown == held
        assert len(shown) == len(re.findall(r"\]\(pictures/", guide.read_text(encoding="utf-8")))
