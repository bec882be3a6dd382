"""A training that waits for its data loader says so once."""

import pytest

from palitune.training import loader_monitor
from palitune.training.loader_monitor import LoaderMonitor


def warnings_of(
    step_seconds: float, waiting: float, steps: int, patch: pytest.MonkeyPatch, log: object
) -> list[str]:
    clock = iter(range(steps + 1))
    patch.setattr(loader_monitor.time, "monotonic", lambda: step_seconds * next(clock))
    monitor = LoaderMonitor(num_workers=2)
    for _ in range(steps):
        monitor.record(waiting)
    assert isinstance(log, pytest.LogCaptureFixture)
    return [record.getMessage() for record in log.records]


def test_a_slow_loader_is_reported_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (message,) = warnings_of(2.0, 0.8, 200, monkeypatch, caplog)
    assert message == (
        "training waits 40 % of its time for images: raise training.num_workers above 2, or set "
        "training.image_cache or training.resize=fast"
    )


@pytest.mark.parametrize(
    ("step_seconds", "waiting", "steps"),
    [(2.0, 0.1, 200), (2.0, 0.8, 24), (0.01, 0.008, 200)],
    ids=["fast loader", "few steps", "few seconds"],
)
def test_a_fast_loader_or_a_short_training_is_not_reported(
    step_seconds: float,
    waiting: float,
    steps: int,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert warnings_of(step_seconds, waiting, steps, monkeypatch, caplog) == []
