"""Counters and histograms of a server in Prometheus' text format."""

import time
from collections.abc import Callable
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


class ServerMetrics:
    """The metrics of one server.

    Args:
        num_waiting: Returns the requests that wait.
    """

    def __init__(self, num_waiting: Callable[[], int]) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "palitune_requests",
            "Requests by path and status.",
            ("path", "status"),
            registry=self.registry,
        )
        self.latency = Histogram(
            "palitune_request_seconds",
            "Seconds from request to answer.",
            ("path",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.batch_size = Histogram(
            "palitune_batch_size", "Questions per batch.", buckets=_SIZES, registry=self.registry
        )
        queue = Gauge("palitune_queue_length", "Requests that wait.", registry=self.registry)
        queue.set_function(num_waiting)

    def text(self) -> bytes:
        """Return all values in Prometheus' text format."""
        return generate_latest(self.registry)


class MeasureRequests:
    """ASGI middleware that counts requests and measures their time.

    Args:
        app: The application behind it.
        metrics: Where to count.
    """

    def __init__(self, app: Any, metrics: ServerMetrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status = time.monotonic(), 500

        async def noting_send(message: Any) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            await self.app(scope, receive, noting_send)
        finally:
            # The route's pattern, not the path: clients must not create new time series.
            path = getattr(scope.get("route"), "path", "other")
            self.metrics.requests.labels(path, status).inc()
            self.metrics.latency.labels(path).observe(time.monotonic() - started)
