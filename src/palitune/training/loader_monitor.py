"""Share of the training time that is spent waiting for the data loader."""

import logging
import time

_log = logging.getLogger(__name__)

WARM_UP_STEPS = 5
"""Optimizer steps that are not measured: the workers start, and GPUs choose their kernels."""
MIN_STEPS, MIN_SECONDS = 20, 20.0
"""Shortest interval over which the share is measured."""
MAX_SHARE = 0.15


class LoaderMonitor:
    """Logs a warning, once, if the data loader limits the speed of a training."""

    def __init__(self, num_workers: int) -> None:
        self.num_workers = num_workers
        self._warned = False
        self._steps = -WARM_UP_STEPS
        self._waited = 0.0
        self._start = 0.0

    def record(self, seconds: float) -> None:
        """Add the waiting time of an optimizer step, right after it."""
        now = time.monotonic()
        self._steps += 1
        if self._steps <= 0:
            self._start = now
            return
        self._waited += seconds
        elapsed = now - self._start
        if self._steps < MIN_STEPS or elapsed < MIN_SECONDS:
            return
        if self._waited > MAX_SHARE * elapsed and not self._warned:
            self._warned = True
            _log.warning(
                "training waits %.0f %% of its time for images: raise training.num_workers above "
                "%d, or set training.image_cache or training.resize=fast",
                100 * self._waited / elapsed,
                self.num_workers,
            )
        self._steps, self._waited, self._start = 0, 0.0, now
