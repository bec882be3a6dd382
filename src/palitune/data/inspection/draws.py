"""Draw some out of many that come one by one, each as likely as any other."""

from collections.abc import Callable
from random import Random
from typing import Generic, TypeVar

T = TypeVar("T")


class Reservoir(Generic[T]):
    """Algorithm R (Vitter 1985, "Random sampling with a reservoir"); the same draw every time."""

    def __init__(self, count: int, seed: int = 0) -> None:
        self.count = count
        self.seen = 0
        self._random = Random(seed)
        self._drawn: dict[int, tuple[int, T]] = {}

    def offer(self, make: Callable[[], T]) -> None:
        """Offer one more; it is made only if it is drawn."""
        place = self.seen if self.seen < self.count else self._random.randint(0, self.seen)
        if place < self.count:
            self._drawn[place] = (self.seen, make())
        self.seen += 1

    def drawn(self) -> list[T]:
        """Return what has been drawn so far, in the order in which it came."""
        return [made for _, made in sorted(self._drawn.values(), key=lambda pair: pair[0])]
