"""How models and their outputs appear to transformers' programs, where those are loaded.

``transformers.Trainer`` lets a model save itself, configuration and all, only if it is an instance of
``transformers.PreTrainedModel``; its pipelines keep the attributes of outputs only of a ``ModelOutput``. Ours say
so of themselves, in the way that Python has for stand-ins: ``__class__``. Nothing is imported for it, and
``type(thing)`` stays the thing's own class.
"""

from __future__ import annotations

import functools
import sys
from typing import Any, ClassVar


class SeenByTransformers:
    """Adds to a class what ``isinstance`` of transformers' programs looks at."""

    #: Module and class of transformers that instances pass for.
    passes_for: ClassVar[tuple[str, str]]

    @property
    def __class__(self) -> type:
        module, name = type(self).passes_for
        theirs = getattr(sys.modules.get(module), name, None)
        return type(self) if theirs is None else _view(type(self), theirs)

    @__class__.setter
    def __class__(self, value: type) -> None:
        object.__dict__["__class__"].__set__(self, value)  # as FSDP does; object.__setattr__ would come back here


@functools.cache
def _view(kind: type, theirs: type) -> type:
    """A class that is a subclass of both; making an instance of it makes one of ``kind``."""

    def new(cls: type, *args: Any, **options: Any) -> Any:
        return kind(*args, **options)

    return type(kind.__name__, (kind, theirs), {"__module__": kind.__module__, "__doc__": kind.__doc__, "__new__": new})
