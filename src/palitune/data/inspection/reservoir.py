"""Draw some out of many that come one by one, each as likely as any other."""

from collections.abc import Callable
from random import Random
from typing import Generic, TypeVar

T = TypeVar("T")


class Reservoir(Generic[T]):
    """Algorithm R (Vitter 1985, "Random sampling with a reservoir"); the same draw every time."""

    def __init__(self, capacity: int, seed: int = 0) -> None:
        self.capacity = capacity
        self.num_seen = 0
        self._rng = Random(seed)
        self._sampled: dict[int, tuple[int, T]] = {}

    def add(self, make: Callable[[], T]) -> None:
        """Offer one more; it is made only if it is drawn."""
        place = (
            self.num_seen if self.num_seen < self.capacity else self._rng.randint(0, self.num_seen)
        )
        if place < self.capacity:
            self._sampled[place] = (self.num_seen, make())
        self.num_seen += 1

    def samples(self) -> list[T]:
        """Return what has been drawn so far, in the order in which it came."""
        return [made for _, made in sorted(self._sampled.values(), key=lambda pair: pair[0])]
