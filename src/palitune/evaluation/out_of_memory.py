"""Batches that do not fit into memory are predicted in halves."""

import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

from palitune.models.device_memory import is_out_of_memory, release_memory

_log = logging.getLogger(__name__)

Item = TypeVar("Item")
Batch = TypeVar("Batch")
Result = TypeVar("Result")


class HalvingBatches:
    """Runs a function on a batch; on out-of-memory, on batches of half its size from then on."""

    def __init__(self, batch_size: int) -> None:
        self.max_size = batch_size
        """Largest number of examples that is tried at a time."""

    def run(
        self,
        batch: Batch,
        items: Sequence[Item],
        predict: Callable[[Batch], list[Result]],
        collate: Callable[[Sequence[Item]], Batch],
    ) -> list[Result]:
        """Return the results of a batch.

        Args:
            batch: The collated examples.
            items: The examples.
            predict: Returns the results of a collated batch.
            collate: Collates some of the examples again.

        Raises:
            torch.OutOfMemoryError: A single example does not fit.
        """
        if len(items) <= self.max_size:
            try:
                return predict(batch)
            except RuntimeError as error:
                if not is_out_of_memory(error) or len(items) <= 1:
                    raise
            # Outside of the handler: the error refers to the tensors of the failed pass.
            self.max_size = len(items) // 2
            _log.warning(
                "out of memory with %d examples per batch: the evaluation continues with %d. Set "
                "evaluation.batch_size=%d.",
                len(items),
                self.max_size,
                self.max_size,
            )
        release_memory()
        starts = range(0, len(items), self.max_size)
        parts = [items[start : start + self.max_size] for start in starts]
        return [
            result for part in parts for result in self.run(collate(part), part, predict, collate)
        ]
