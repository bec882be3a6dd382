"""Look through data with the eyes of a task and of a model's tokenizer, before anything is trained.

One pass over the rows of every part and split; images are not decoded.
"""

from typing import Any

from palitune.data.inspection.walk import Inspected, Look
from palitune.data.sources import Data
from palitune.tasks import Task


def inspect(data: Data, task: Task | None, processor: Any, look: Look) -> Inspected:
    """Look through the splits that are asked for; see `palitune.data.inspection.walk.walk`."""
    from palitune.data.inspection import walk

    return walk.walk(data.pairings(task), processor, look)


__all__ = ["Inspected", "Look", "inspect"]
