"""Settings of a hyper-parameter search, and the domains of its search space."""

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from annotated_types import Ge

from palitune.errors import check_ranges


@dataclass(kw_only=True)
class SearchConfig:
    """No search: a sweep runs every combination."""

    name: ClassVar[str] = "none"


@dataclass(kw_only=True)
class OptunaSearch(SearchConfig):
    """Optuna chooses the values of each job from the results of the jobs before it."""

    name: ClassVar[str] = "optuna"

    metric: str
    """Metric to optimize, as in metrics.json, e.g. vqa/anls_rrc."""
    n_trials: Annotated[int, Ge(1)] = 20
    """Number of jobs, including those of an earlier call of the same command."""
    seed: int = 0
    """Random seed of the choice of values; `seed` is that of each trial."""
    space: dict[str, str] = field(default_factory=dict)
    """Search space, chosen with search_space=NAME: the domain of each setting, as choice(8, 16),
    range(1, 9), interval(0, 0.1), int(interval(1, 8)) or tag(log, interval(1e-5, 1e-3)). KEY=DOMAIN
    on the command line adds a setting, and KEY=VALUE removes one from the space."""

    def __post_init__(self) -> None:
        check_ranges(self, "search")


SEARCHES: dict[str, type[SearchConfig]] = {
    search.name: search for search in (SearchConfig, OptunaSearch)
}


@dataclass(frozen=True)
class Categorical:
    """One of several values, written as in an override."""

    values: tuple[str, ...]

    def bounds(self) -> tuple[str, str]:
        return self.values[0], self.values[-1]


@dataclass(frozen=True)
class NumericRange:
    """A number between two limits, both included."""

    low: float
    high: float
    log: bool = False
    """Sample uniformly on a logarithmic scale."""
    is_integer: bool = False

    def bounds(self) -> tuple[str, str]:
        return repr(self.low), repr(self.high)


Domain = Categorical | NumericRange
