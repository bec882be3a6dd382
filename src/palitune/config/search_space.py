"""What a search for the best settings is told: which number, which space, how many trials."""

from dataclasses import dataclass, field
from typing import ClassVar


@dataclass(kw_only=True)
class SearchConfig:
    """None: a sweep runs every combination."""

    name: ClassVar[str] = "none"


@dataclass(kw_only=True)
class OptunaSearch(SearchConfig):
    """A sweep in which Optuna chooses the values of each job by what the jobs before gave."""

    name: ClassVar[str] = "optuna"

    metric: str
    """Number that is searched the best of, as in metrics.json, e.g. vqa/anls_rrc."""
    n_trials: int = 20
    """Jobs in all; those of an earlier call of the same command count."""
    seed: int = 0
    """Of the choice of values; each trial's own randomness is `seed`'s."""
    space: dict[str, str] = field(default_factory=dict)
    """By setting, the values to choose from: choice(8, 16), range(1, 9), interval(0, 0.1),
    int(interval(1, 8)), tag(log, interval(1e-5, 1e-3)). The command line adds others, as
    KEY=VALUES, and KEY=VALUE leaves one out."""

    def __post_init__(self) -> None:
        if self.n_trials < 1:
            raise ValueError(f"search.n_trials must be at least 1, not {self.n_trials}")


SEARCHES: dict[str, type[SearchConfig]] = {kind.name: kind for kind in (SearchConfig, OptunaSearch)}


@dataclass(frozen=True)
class Categorical:
    """One of several values, each as an override writes it."""

    values: tuple[str, ...]

    def bounds(self) -> tuple[str, str]:
        return self.values[0], self.values[-1]


@dataclass(frozen=True)
class NumericRange:
    """A number between two, both possible."""

    low: float
    high: float
    log: bool = False
    """Whether equal ratios are equally probable, not equal differences."""
    is_integer: bool = False

    def bounds(self) -> tuple[str, str]:
        return repr(self.low), repr(self.high)


Domain = Categorical | NumericRange
