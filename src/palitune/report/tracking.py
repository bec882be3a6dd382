"""Start a tracker that cannot stop a run: its first fault is told, then it is left alone."""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from palitune.report.run_folder import read
from palitune.report.trackers import Nowhere, Tracker, Tracking

_log = logging.getLogger(__name__)


def start(tracking: Tracking, folder: Path, config: Mapping[str, Any]) -> "Guarded":
    """Open the tracker of a run; whatever it raises, now or later, is one warning.

    `config`: the composed configuration as plain values. The caller starts it on one process only.
    """
    return Guarded(tracking, folder, config)


class Guarded:
    """A tracker whose first fault is a warning, and its end."""

    def __init__(self, tracking: Tracking, folder: Path, config: Mapping[str, Any]) -> None:
        self._name = tracking.name
        self._tracker: Tracker = Nowhere()
        self._try(lambda: self._open(tracking, folder, config))

    def log(self, numbers: Mapping[str, float], step: int) -> None:
        self._try(lambda: self._tracker.log(numbers, step))

    def publish(self, folder: Path) -> None:
        """Record the results in a run folder; nothing where there are none yet."""
        if (folder / "metrics.json").is_file() and not isinstance(self._tracker, Nowhere):
            self._try(lambda: self._tracker.publish(read(folder)))

    def finish(self) -> None:
        self._try(lambda: self._tracker.finish())

    def _open(self, tracking: Tracking, folder: Path, config: Mapping[str, Any]) -> None:
        self._tracker = tracking.open(folder, config)

    def _try(self, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as fault:
            self._tracker = Nowhere()
            _log.warning(
                "tracking with %s has stopped (%s: %s); the run goes on, its folder has every "
                "number",
                self._name,
                type(fault).__name__,
                fault,
            )
