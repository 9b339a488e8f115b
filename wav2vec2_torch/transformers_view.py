"""How models appear to transformers' programs, where those are loaded: as models that can save themselves.

``transformers.Trainer`` writes the configuration beside the weights, and lets a model choose its own way of saving,
only for what is an instance of ``transformers.PreTrainedModel``; for anything else it writes bare weights. So models
say so of themselves, in the way that Python has for stand-ins: ``__class__``. Nothing is imported for it, and
``type(model)`` stays the model's own class.
"""

from __future__ import annotations

import functools
import sys
from typing import Any


class SeenByTransformers:
    """Adds to a model what ``isinstance`` of transformers' programs looks at."""

    @property
    def __class__(self) -> type:
        library = sys.modules.get("transformers.modeling_utils")
        theirs = getattr(library, "PreTrainedModel", None)
        return type(self) if theirs is None else _view(type(self), theirs)

    @__class__.setter
    def __class__(self, value: type) -> None:
        object.__setattr__(self, "__class__", value)

    def __reduce_ex__(self, protocol: Any) -> Any:
        """As ever, but pickle must not compare ``type(self)`` with ``__class__``."""
        return _blank, (type(self),), self.__getstate__()


def _blank(kind: Any) -> Any:
    return kind.__new__(kind)


@functools.cache
def _view(kind: type, theirs: type) -> type:
    """A class that is a subclass of both; making an instance of it makes one of ``kind``."""

    def new(cls: type, *args: Any, **options: Any) -> Any:
        return kind(*args, **options)

    return type(kind.__name__, (kind, theirs), {"__module__": kind.__module__, "__doc__": kind.__doc__, "__new__": new})
