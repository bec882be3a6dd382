"""Reservoir sampling: a uniform random sample of a stream."""

from collections.abc import Callable
from random import Random
from typing import Generic, TypeVar

T = TypeVar("T")


class Reservoir(Generic[T]):
    """Algorithm R (Vitter 1985, "Random sampling with a reservoir") with a fixed seed."""

    def __init__(self, capacity: int, seed: int = 0) -> None:
        self.capacity = capacity
        self.num_seen = 0
        self._rng = Random(seed)
        self._sampled: dict[int, tuple[int, T]] = {}

    def add(self, create: Callable[[], T]) -> None:
        """Add an item; `create` is called only if the item enters the sample."""
        is_full = self.num_seen >= self.capacity
        slot = self._rng.randint(0, self.num_seen) if is_full else self.num_seen
        if slot < self.capacity:
            self._sampled[slot] = (self.num_seen, create())
        self.num_seen += 1

    def samples(self) -> list[T]:
        """Return the sample in the order of the stream."""
        return [item for _, item in sorted(self._sampled.values(), key=lambda pair: pair[0])]
