"""The examples that an epoch of a weighted mixture visits."""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate, pairwise
from random import Random


class MixtureSchedule:
    """Distribution of an epoch's samples over weighted components.

    An epoch has as many samples as the components have examples together, as in big_vision's
    mixtures. A component goes through its examples in a fixed shuffled order that continues across
    epochs, so no example is repeated before all others of the component have been visited. Over
    any number of epochs, a component's number of samples differs from its share by at most one.

    Args:
        sizes: Number of examples of each component, in the order of the training set.
        weights: Relative number of samples of each component.
        seed: Seed of the shuffled orders.
    """

    def __init__(self, sizes: Sequence[int], weights: Sequence[float], seed: int) -> None:
        self.sizes = sizes
        self.num_examples = sum(sizes)
        ends = list(accumulate(weights))
        self._bounds = [0.0, *(end / ends[-1] for end in ends)]
        self._starts = [0, *accumulate(sizes)]
        self._orders = [
            Random(f"{seed}:order of part {component}").sample(range(size), size)
            for component, size in enumerate(sizes)
        ]

    def epoch_visits(self, epoch: int) -> list[list[tuple[int, int]]]:
        """Return (example index, number of earlier visits) of an epoch's samples by component."""
        counts = zip(self._counts_before(epoch), self._counts_before(epoch + 1), strict=True)
        return [
            [self._visit(component, position) for position in range(start, end)]
            for component, (start, end) in enumerate(counts)
        ]

    def component_of(self, example_index: int) -> int:
        """Return the number of the component that an example belongs to."""
        return bisect_right(self._starts, example_index) - 1

    def _counts_before(self, epoch: int) -> list[int]:
        """Return the number of samples of each component before an epoch."""
        ends = [round(bound * epoch * self.num_examples) for bound in self._bounds]
        return [end - start for start, end in pairwise(ends)]

    def _visit(self, component: int, position: int) -> tuple[int, int]:
        repeat, offset = divmod(position, self.sizes[component])
        return self._starts[component] + self._orders[component][offset], repeat
