"""What every module of a model computed, without the model knowing: calls are watched from outside, for a while."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from wav2vec2_core.parameters import BODY_PREFIX

#: Modules whose results are (batch, channels, frames) where a framework puts channels first.
CHANNELS_FIRST = ("feature_extractor.conv_layers.", "adapter.layers.")
#: Modules of heads whose input is a stage that no module of its own gives; the first one that a model has counts.
_POOLED = ("head.feature_extractor", "classifier")
_LAYERS = "encoder.layers."


class Recorder:
    """The first result of each module call, by module path without the body's prefix.

    Attributes:
        results: path -> array of the framework. In a traced function these are symbols: return them from it.
    """

    def __init__(self, layer_keep: Sequence[Any] | None = None) -> None:
        self.results: dict[str, Any] = {}
        self.inputs: dict[str, Any] = {}
        self.layer_keep = layer_keep

    def record(self, path: str, inputs: Sequence[Any], result: Any) -> None:
        """Keep the result of ``path``; of transformer layers the input too, which is the result of a dropped one."""
        result = result[0] if isinstance(result, (tuple, list)) else result
        if isinstance(result, dict) or not hasattr(result, "shape"):
            return
        self.results[path] = result
        if _layer_number(path) is not None and inputs:
            self.inputs[path] = inputs[0]
        if path in _POOLED and inputs:
            self.results.setdefault("pooled", inputs[0])

    def stages(self) -> dict[str, Any]:
        """Results by path, with layer drop applied as in the model."""
        if self.layer_keep is None:
            return dict(self.results)
        chosen = {}
        for path, result in self.results.items():
            number = _layer_number(path)
            dropped = number is not None and not self.layer_keep[number]
            chosen[path] = self.inputs[path] if dropped else result
        return chosen


def _layer_number(path: str) -> int | None:
    number = path.removeprefix(_LAYERS)
    return int(number) if number != path and number.isdigit() else None


def module_paths(modules: Iterable[tuple[str, Any]]) -> dict[int, str]:
    """id of every module -> its path in the checkpoint's names, body prefix removed.

    A module of the head whose name the body also has keeps it with ``head.`` in front. ``modules``: (path, module).
    """
    found = [(path, module) for path, module in modules if path]
    body = {path.removeprefix(BODY_PREFIX) for path, _ in found if path.startswith(BODY_PREFIX)}
    paths = {}
    for path, module in found:
        inner = path.removeprefix(BODY_PREFIX)
        paths[id(module)] = f"head.{path}" if inner == path and path in body else inner
    return paths


def walk(module: Any, kind: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """(path, module) of everything of type ``kind`` in the attributes of ``module``, lists included, itself first."""
    yield ".".join(path), module
    for name, child in vars(module).items():
        if name.startswith("_"):
            continue
        if isinstance(child, kind):
            yield from walk(child, kind, (*path, name))
        elif isinstance(child, Sequence) and not isinstance(child, str):
            for index, item in enumerate(child):
                if isinstance(item, kind):
                    yield from walk(item, kind, (*path, name, str(index)))


def watched_methods(model: Any) -> list[tuple[type, str, dict[int, str]]]:
    """For ``watched_calls``: the methods of a model whose results are stages although no module gives them."""
    body = getattr(model, "wav2vec2", model)
    watch = [(definer(type(body), "mask_hidden_states"), "mask_hidden_states", {id(body): "masked"})]
    if getattr(model, "layer_weights", None) is not None:
        watch.append((definer(type(model), "encode"), "encode", {id(model): "layer_weights"}))
    return watch


def definer(cls: type, method: str) -> type:
    """The class among the ancestors of ``cls`` that defines the method."""
    return next(ancestor for ancestor in cls.__mro__ if method in vars(ancestor))


@contextmanager
def watched_calls(watch: Iterable[tuple[type, str, Mapping[int, str]]], recorder: Recorder) -> Iterator[None]:
    """Record calls of (class, method) for the objects with these ids; the classes are restored afterwards.

    For frameworks whose modules have no hooks. A class is named where it defines the method itself.
    """
    originals = []
    try:
        for cls, method, paths in watch:
            original = vars(cls)[method]
            originals.append((cls, method, original))
            setattr(cls, method, _recording(original, paths, recorder))
        yield
    finally:
        for cls, method, original in originals:
            setattr(cls, method, original)


def _recording(original: Any, paths: Mapping[int, str], recorder: Recorder) -> Any:
    @functools.wraps(original)
    def call(self: Any, *args: Any, **options: Any) -> Any:
        result = original(self, *args, **options)
        path = paths.get(id(self))
        if path is not None:
            recorder.record(path, args, result)
        return result

    return call
