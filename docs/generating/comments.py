"""What the reference makes of the code's comments and docstrings, beyond what griffe reads by itself."""

from __future__ import annotations

import re
from typing import Any

from griffe import Attribute, Docstring, Extension, Object

#: Names of several arguments with one description, broken into two lines.
_BROKEN = re.compile(r"^( *(?:\w+, )*\w+,)\n +(?=(?:\w+, )*\w+: )", re.MULTILINE)


class Comments(Extension):
    """Constants are described by the ``#:`` comments above them; names of arguments may fill more than a line."""

    def on_attribute(self, *, attr: Attribute, **_: Any) -> None:
        """Take the lines of ``#:`` above an attribute as its docstring."""
        if attr.docstring or attr.lineno is None:
            return
        lines = attr.lines_collection[attr.filepath]
        first = attr.lineno - 1
        while first and lines[first - 1].strip().startswith("#:"):
            first -= 1
        text = "\n".join(line.strip().removeprefix("#:").strip() for line in lines[first : attr.lineno - 1])
        if text:
            attr.docstring = Docstring(text, parent=attr)

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Put the names of an entry in one line."""
        if obj.docstring:
            obj.docstring.value = _BROKEN.sub(r"\1 ", obj.docstring.value)
