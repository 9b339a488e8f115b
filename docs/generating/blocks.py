"""Code blocks of the documentation: which run, and what is said of those that do not.

A block's first line is ```` ```LANGUAGE ```` or ```` ```LANGUAGE REASON ````; one with a reason does not run.
A ``text`` block without a reason is the exact output of the block before it.
"""

from __future__ import annotations

import re
from typing import NamedTuple

#: Reason -> what a reader of the page is told.
REASONS = {
    "network": "Not run by our tests: needs the hub, or recordings of your own",
    "hardware": "Not run by our tests: needs GPUs, TPUs or several machines",
    "other": "Not run by our tests: another program",
    "example": "An example: your numbers differ",
    "file": "Contents of a file",
}
BLOCK = re.compile(r"^```(\w+)(?: (\w+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A block that is not output. ``reason``: why it does not run, or None; ``expected``: its exact output, or None."""

    language: str
    reason: str | None
    code: str
    expected: str | None


def blocks(markdown: str) -> list[Block]:
    """The blocks of a page in their order.

    Raises:
        ValueError: a reason is not one of ``REASONS``.
    """
    found = [match.groups() for match in BLOCK.finditer(markdown)]
    for _, reason, code in found:
        if reason not in (None, *REASONS):
            raise ValueError(f"{reason!r} is no reason why {code[:60]!r} does not run: use one of {', '.join(REASONS)}")
    following = [*found[1:], ("", None, "")]
    return [
        Block(language, reason, code, after[2] if after[0] == "text" and after[1] is None else None)
        for (language, reason, code), after in zip(found, following, strict=False)
        if language != "text"
    ]


def shown(markdown: str) -> str:
    """The page with every reason as the title of its block."""
    blocks(markdown)
    return re.sub(
        r"^```(\w+) (\w+)$", lambda found: f'```{found[1]} title="{REASONS[found[2]]}"', markdown, flags=re.MULTILINE
    )
