"""Default number of processes that load images."""

import os
import sys

MAX_DEFAULT_WORKERS = 8
"""At 21 ms per image and core these load about 380 images of 224 px per second, which is more than
one GPU trains on."""


def resolve_num_workers(num_workers: int | None) -> int:
    """Return the configured number of workers; None: one per core that no process trains on."""
    if num_workers is not None:
        return num_workers
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    cores_per_process = cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return min(max(1, cores_per_process - 1), MAX_DEFAULT_WORKERS)
