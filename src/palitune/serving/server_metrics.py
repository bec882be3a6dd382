"""Counters and histograms of a server in Prometheus' text format."""

from collections.abc import Callable

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
