"""Start a tracker that cannot stop a run: its first fault is told, then it is left alone."""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from palitune.report.run_reader import read_run_folder
from palitune.report.trackers.config import NullTracker, Tracker, TrackerConfig

_log = logging.getLogger(__name__)


def start_tracker(
    tracker_config: TrackerConfig, folder: Path, config: Mapping[str, Any]
) -> "FailSafeTracker":
    """Open the tracker of a run; whatever it raises, now or later, is one warning.

    `config`: the composed configuration as plain values. The caller starts it on one process only.
    """
    return FailSafeTracker(tracker_config, folder, config)


class FailSafeTracker:
    """A tracker whose first fault is a warning, and its end."""

    def __init__(
        self, tracker_config: TrackerConfig, folder: Path, config: Mapping[str, Any]
    ) -> None:
        self._name = tracker_config.name
        self._tracker: Tracker = NullTracker()
        self._call_safely(lambda: self._open(tracker_config, folder, config))

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        self._call_safely(lambda: self._tracker.log(metrics, step))

    def publish(self, folder: Path) -> None:
        """Record the results in a run folder; nothing where there are none yet."""
        if (folder / "metrics.json").is_file() and not isinstance(self._tracker, NullTracker):
            self._call_safely(lambda: self._tracker.publish(read_run_folder(folder)))

    def finish(self) -> None:
        self._call_safely(lambda: self._tracker.finish())

    def _open(self, tracker_config: TrackerConfig, folder: Path, config: Mapping[str, Any]) -> None:
        self._tracker = tracker_config.open(folder, config)

    def _call_safely(self, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as fault:
            self._tracker = NullTracker()
            _log.warning(
                "tracking with %s has stopped (%s: %s); the run goes on, its folder has every "
                "number",
                self._name,
                type(fault).__name__,
                fault,
            )
