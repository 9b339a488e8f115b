"""Figures for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from wav2vec2_core.serving.engine import Engine

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
_BATCH = (1, 2, 5, 10, 20, 30, 45, 60, 120, 300)


class Metrics:
    """Of one server. ``watch`` is told of every batch, ``answered`` of every answer."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._batches = Histogram(
            "wav2vec2_batch_seconds", "Seconds of audio in a batch.", buckets=_BATCH, registry=self._registry
        )
        self._audio = Counter("wav2vec2_audio_seconds", "Seconds of audio computed.", registry=self._registry)
        self._busy = Counter("wav2vec2_model_busy_seconds", "Seconds that the model ran.", registry=self._registry)
        self._latency = Histogram(
            "wav2vec2_request_seconds",
            "Seconds from a request to the end of its answer.",
            ["path", "status"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._engine: Engine | None = None
        self._totals = [0.0, 0.0]
        self._registry.register(_Current(self))

    def watch(self, seconds: float, took: float) -> None:
        """A batch of so many seconds of audio took the model so many seconds."""
        self._batches.observe(seconds)
        self._audio.inc(seconds)
        self._busy.inc(took)
        self._totals = [self._totals[0] + seconds, self._totals[1] + took]

    def of(self, engine: Engine) -> None:
        """The engine whose queue is shown."""
        self._engine = engine

    def answered(self, path: str, status: int, seconds: float) -> None:
        """An answer: the route it came from, and how long it took."""
        self._latency.labels(path, str(status)).observe(seconds)

    def page(self) -> bytes:
        """The figures in Prometheus' text format."""
        return generate_latest(self._registry)

    def current(self) -> Iterator[Any]:
        """What is read at the moment of asking."""
        engine = self._engine
        if engine is None:
            return
        yield GaugeMetricFamily("wav2vec2_requests_waiting", "Requests accepted and not answered.", engine.waiting)
        factor = self._totals[1] / self._totals[0] if self._totals[0] else 0.0
        yield GaugeMetricFamily("wav2vec2_real_time_factor", "Model seconds for a second of audio.", factor)
        refused = CounterMetricFamily("wav2vec2_refusals", "Requests refused, by reason.", labels=["reason"])
        for reason, count in sorted(engine.refused.items()):
            refused.add_metric([reason], count)
        yield refused


class _Current:
    """A collector over ``Metrics.current``."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Any]:
        return self._metrics.current()
