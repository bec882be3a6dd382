"""Tracker wrapper that turns the first exception of a tracker into a warning."""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from palitune.report.run_reader import read_run_folder
from palitune.report.trackers.config import NullTracker, Tracker, TrackerConfig

_log = logging.getLogger(__name__)


class FailSafeTracker:
    """Tracker that cannot stop a run: it is disabled with a warning by its first exception.

    Args:
        tracker_config: Settings of the tracker.
        folder: Run folder.
        config: Composed configuration as plain values.
    """

    def __init__(
        self, tracker_config: TrackerConfig, folder: Path, config: Mapping[str, Any]
    ) -> None:
        self._name = tracker_config.name
        self._tracker: Tracker = NullTracker()
        self._call_safely(lambda: self._open(tracker_config, folder, config))

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        self._call_safely(lambda: self._tracker.log(metrics, step))

    def publish(self, folder: Path) -> None:
        """Log the results in a run folder; nothing if there are no metrics yet."""
        if (folder / "metrics.json").is_file() and not isinstance(self._tracker, NullTracker):
            self._call_safely(lambda: self._tracker.publish(read_run_folder(folder)))

    def finish(self) -> None:
        self._call_safely(lambda: self._tracker.finish())

    def _open(self, tracker_config: TrackerConfig, folder: Path, config: Mapping[str, Any]) -> None:
        self._tracker = tracker_config.open(folder, config)

    def _call_safely(self, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:
            self._tracker = NullTracker()
            _log.warning(
                "tracking with %s has stopped (%s: %s); the run continues, and its folder has all "
                "metrics",
                self._name,
                type(error).__name__,
                error,
            )
