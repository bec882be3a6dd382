"""What a recipe is told: one dataclass per recipe, and the types that its parts can have."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from palitune.data.sources import SOURCES
from palitune.data.sources.base import Data
from palitune.evaluation.settings import Evaluation
from palitune.models.adapters import ADAPTERS, Adapter
from palitune.models.checkpoints import MODELS, Model
from palitune.report.trackers import TRACKING, Tracking
from palitune.tasks import TASKS, Task
from palitune.training.published import Published
from palitune.training.settings import Training


@dataclass(kw_only=True)
class Run:
    """The same for every recipe, so that one experiment serves them all."""

    data: Data
    task: Task | None = None
    model: Model
    adapter: Adapter
    training: Training
    published: Published = field(default_factory=Published)
    """What `training=published` is derived from."""
    evaluation: Evaluation
    tracking: Tracking
    seed: int = 0
    """Of everything random: order of examples, initial weights of the adapter, dropout."""
    output_dir: str
    """Folder of the run; outputs/RECIPE/DATE_TIME where none is given."""
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


RUNS: dict[str, type[Run]] = {"finetune": Finetune, "evaluate": Evaluate, "check": Check}
"""By recipe; `conf/<recipe>.yaml` is the root of its configuration."""

GROUPS: Mapping[str, Mapping[str, type]] = {
    "data": SOURCES,
    "task": TASKS,
    "model": MODELS,
    "adapter": ADAPTERS,
    "training": {"published": Training, "default": Training},  # a run is saved as the last
    "evaluation": {"default": Evaluation},
    "tracking": TRACKING,
}
"""The type of every option of the groups that are fields of a run."""
