"""Progress of long loops: a bar on a terminal, and otherwise a plain line from time to time."""

import logging
import time
from typing import Any

import rich
from rich.progress import Progress, Task, TaskID

_log = logging.getLogger(__name__)

LINE_INTERVAL = 30.0
"""Seconds between two lines; a log never seems to stand still."""


def shows_bars() -> bool:
    """Return whether the output is a terminal, on which a bar can be redrawn."""
    return rich.get_console().is_terminal


class LineTimer:
    """Time until the next line of a log."""

    def __init__(self, interval: float = LINE_INTERVAL) -> None:
        self.interval = interval
        self.restart()

    def restart(self) -> None:
        self._start = time.monotonic()

    def is_due(self) -> bool:
        """Return whether the interval has passed since the last line, and start the next."""
        due = time.monotonic() - self._start >= self.interval
        if due:
            self.restart()
        return due


class LoggedProgress(Progress):
    """Progress bars that become lines of the log where there is no terminal."""

    def __init__(self, *columns: Any, disable: bool = False, **kwargs: Any) -> None:
        super().__init__(*columns, disable=disable or not shows_bars(), **kwargs)
        self._logs = not disable and not shows_bars()
        self._timer = LineTimer()

    def add_task(self, description: str, *args: Any, **kwargs: Any) -> TaskID:
        task_id = super().add_task(description, *args, **kwargs)
        if self._logs:
            self._timer.restart()
            total = self._task(task_id).total
            _log.info("%s%s", description, "" if total is None else f": {total:,.0f} in all")
        return task_id

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        super().advance(task_id, advance)
        if self._logs and self._timer.is_due():
            _log.info("%s: %s", self._task(task_id).description, self._counts(task_id))

    def _counts(self, task_id: TaskID) -> str:
        task = self._task(task_id)
        done = f"{task.completed:,.0f}"
        return done if task.total is None else f"{done} of {task.total:,.0f}"

    def _task(self, task_id: TaskID) -> Task:
        return next(task for task in self.tasks if task.id == task_id)
