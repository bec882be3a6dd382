"""What a recipe is told: one dataclass per recipe, and the types that its parts can have."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from palitune.data.sources import SOURCES
from palitune.data.sources.base import Data
from palitune.evaluation.settings import Evaluation
from palitune.models.adapters import ADAPTERS, Adapter
from palitune.models.checkpoints import MODELS, Model
from palitune.report.trackers import TRACKING, Tracking
from palitune.tasks import TASKS, Task
from palitune.training.settings import Training


@dataclass(kw_only=True)
class Command:
    """The same for every recipe."""

    words: ClassVar[str | None] = None
    """The list that words of the command line without `=` belong to, if there may be any."""

    output_dir: str
    """Folder of the run; outputs/RECIPE/DATE_TIME where none is given."""


@dataclass(kw_only=True)
class Run(Command):
    """The same for every recipe that has a model, so that one experiment serves them all."""

    data: Data
    task: Task | None = None
    model: Model
    adapter: Adapter
    training: Training
    evaluation: Evaluation
    tracking: Tracking
    seed: int = 0
    """Of everything random: order of examples, initial weights of the adapter, dropout."""
    evaluate_before: bool = True
    """Also evaluate before training, so that the report shows what training changed."""

    def __post_init__(self) -> None:
        self.data.pairings(self.task)  # a source needs a task, a mixture brings its own


@dataclass(kw_only=True)
class Finetune(Run):
    """Train an adapter; from `adapter.path` where one is given."""


@dataclass(kw_only=True)
class Evaluate(Run):
    """Judge the adapter in `adapter.path`, or the base model where none is given."""


@dataclass(kw_only=True)
class Check(Run):
    """Probe what `Finetune` would train, without training it."""


@dataclass(kw_only=True)
class Compare(Command):
    """Set finished runs side by side."""

    words = "runs"

    runs: list[str] = field(default_factory=list)
    """Folders of runs, or of sweeps; also written bare, `palitune compare RUN RUN`."""
    baseline: str | None = None
    """What the others are compared with: the folder or the label of a run; null: the first."""
    resamples: int = 1000
    """Resampled test sets behind the interval of every difference; 0: no intervals."""

    def __post_init__(self) -> None:
        if not self.runs:
            raise ValueError(
                "runs are missing: name the folders of runs, or of a sweep: palitune compare RUN..."
            )
        if self.resamples < 0:
            raise ValueError(f"resamples must be at least 0, not {self.resamples}")


RUNS: dict[str, type[Command]] = {
    "finetune": Finetune,
    "evaluate": Evaluate,
    "check": Check,
    "compare": Compare,
}
"""By recipe; `conf/<recipe>.yaml` is the root of its configuration."""

GROUPS: Mapping[str, Mapping[str, type]] = {
    "data": SOURCES,
    "task": TASKS,
    "model": MODELS,
    "adapter": ADAPTERS,
    "training": {"default": Training},
    "evaluation": {"default": Evaluation},
    "tracking": TRACKING,
}
"""The type of every option of the groups that are fields of a run."""
