"""The pipeline "audio-classification"."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from wav2vec2_core.classification import UTTERANCES, Classifier, sigmoid, softmax
from wav2vec2_core.errors import InputError, brief
from wav2vec2_core.pipeline import LoadedModel
from wav2vec2_core.pipelines.base import Pipeline, Runner, unknown_option
from wav2vec2_core.pipelines.inputs import Given

_FUNCTIONS = {"softmax": softmax, "sigmoid": sigmoid, "none": lambda scores: scores}


class AudioClassificationPipeline(Pipeline):
    """Labels of recordings with their scores, best first.

    Options of a call:
        top_k: labels of a result, at most; ``None``: all.
        function_to_apply: from the model's outputs to scores: ``"softmax"`` (where ``None``, but for a regression),
            ``"sigmoid"`` or ``"none"``.
    """

    task = "audio-classification"

    def __init__(self, loaded: LoadedModel, framework: str, batch_size: int = 1, **options: Any) -> None:
        """``options``: those of a call, which hold where a call says nothing else. Raises ``InputError``."""
        self._classifier = Classifier.of(loaded, UTTERANCES)
        super().__init__(loaded, framework, batch_size, **options)

    def _runner(self, top_k: int | None = None, function_to_apply: str | None = None, **others: Any) -> Runner:
        if others:
            raise unknown_option(self.task, others)
        if top_k is not None and (isinstance(top_k, bool) or not isinstance(top_k, int) or top_k < 1):
            raise InputError(f"top_k={brief(top_k)} must be an integer of at least 1, or None for all labels")
        if function_to_apply not in (None, *_FUNCTIONS):
            raise InputError(f"function_to_apply={brief(function_to_apply)} is unknown: use {', '.join(_FUNCTIONS)}")
        usual = "none" if self._classifier.is_regression else "softmax"
        return partial(self._run, top_k=top_k, function=function_to_apply or usual)

    def _run(self, given: Sequence[Given], size: int, top_k: int | None, function: str) -> list[list[dict[str, Any]]]:
        prepared = [self._loaded.prepare(one.recording, self._classifier.window) for one in given]
        waveforms = [one.waveform for one in prepared if one.waveform is not None]
        together = iter(self.model.logits(waveforms) if waveforms else [])
        scores = [
            next(together).astype(np.float64)
            if one.waveform is not None
            else self._classifier.scores(one.recording, statistics=one.level)
            for one in prepared
        ]
        return [self._labels(_FUNCTIONS[function](one), top_k) for one in scores]

    def _labels(self, scores: np.ndarray, top_k: int | None) -> list[dict[str, Any]]:
        order = np.argsort(-scores, kind="stable")[:top_k]
        return [{"score": float(scores[index]), "label": self._classifier.labels[index]} for index in order]
