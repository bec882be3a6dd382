"""What a recipe is told: one dataclass per recipe, and the types that its parts can have."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from palitune.alignment.config import AlignmentConfig
from palitune.config.runners import RUNNERS, RunnerConfig
from palitune.config.search_space import SEARCHES, SearchConfig
from palitune.data.images.augmentation import AUGMENTATIONS, Augmentation
from palitune.data.images.video import VideoSampling
from palitune.data.registry import SOURCES
from palitune.data.sources.base import Data
from palitune.data.sources.mixture import Mixture
from palitune.distributed.strategies import STRATEGIES, Strategy
from palitune.evaluation.config import EvaluationConfig
from palitune.export.config import ExportConfig
from palitune.models.adapters.config import ADAPTERS, AdapterConfig
from palitune.models.config import MODELS, ModelConfig
from palitune.report.naming import folder_names, shorten_to_differences
from palitune.report.trackers.config import TRACKER_CONFIGS, TrackerConfig
from palitune.tasks import TASKS, Task
from palitune.training.config import TrainingConfig
from palitune.training.reference_hparams import ReferenceHparams


@dataclass(kw_only=True)
class RecipeConfig:
    """The same for every recipe."""

    positional_field: ClassVar[str | None] = None
    """The list that words of the command line without `=` belong to, if there may be any."""
    optional_groups: ClassVar[tuple[str, ...]] = ()
    """Groups that a run does without where a mandatory value of one of them is missing."""

    output_dir: str
    """Folder of the run; outputs/RECIPE/DATE_TIME where none is given."""


@dataclass(kw_only=True)
class ModelRecipeConfig(RecipeConfig):
    """The same for every recipe that has a model, so that one experiment serves them all."""

    task: Task | None = None
    model: ModelConfig
    adapter: AdapterConfig
    training: TrainingConfig
    reference_hparams: ReferenceHparams = field(default_factory=ReferenceHparams)
    """What `training=reference_hparams` is derived from."""
    augmentation: Augmentation
    evaluation: EvaluationConfig
    tracking: TrackerConfig
    launch: Strategy
    runner: RunnerConfig
    search: SearchConfig
    seed: int = 0
    """Of everything random: order of examples, initial weights of the adapter, dropout."""
    evaluate_before: bool = True
    """Also evaluate before training, so that the report shows what training changed."""


@dataclass(kw_only=True)
class DataRecipeConfig(ModelRecipeConfig):
    """A run on annotated data."""

    data: Data

    def __post_init__(self) -> None:
        self.data.dataset_specs(self.task)  # a source needs a task, a mixture brings its own


@dataclass(kw_only=True)
class Finetune(DataRecipeConfig):
    """Train an adapter; from `adapter.path` where one is given."""


@dataclass(kw_only=True)
class Align(Finetune, AlignmentConfig):
    """Tune an adapter further, from `adapter.path` where one is given, by what answers are worth.

    Of `training`, what is of targets and their loss is not read; nor is `augmentation` with dpo.
    """

    def __post_init__(self) -> None:
        DataRecipeConfig.__post_init__(self)
        AlignmentConfig.__post_init__(self)


@dataclass(kw_only=True)
class Evaluate(DataRecipeConfig):
    """Judge the adapter in `adapter.path`, or the base model where none is given."""

    predictions: str | None = None
    """Judge these instead of a model's: a run folder, lines of {"id", "text"}, COCO results."""
    adapters: list[str | None] = field(default_factory=list)
    """Folders of adapters, null being the base model: judge each, in a run folder of its own, on a
    base that is read once, and compare them; instead of `adapter.path`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.adapters and self.predictions is not None:
            raise ValueError("adapters and predictions cannot both be judged; leave out one")
        if self.adapters and self.adapter.path is not None:
            raise ValueError("adapters and adapter.path both name adapters; leave out one")

    def per_adapter(self) -> "list[Evaluate]":
        """Give a run for each of `adapters`; where there are none, this one."""
        if not self.adapters:
            return [self]
        names = folder_names(shorten_to_differences([path or "base" for path in self.adapters]))
        return [
            replace(
                self,
                adapters=[],
                adapter=replace(self.adapter, path=path),
                output_dir=str(Path(self.output_dir) / name),
            )
            for path, name in zip(self.adapters, names, strict=True)
        ]


@dataclass(kw_only=True)
class Check(DataRecipeConfig):
    """Probe what `Finetune` would train, without training it."""


@dataclass(kw_only=True)
class Inspect(DataRecipeConfig):
    """Look through the data with the eyes of the task and of the model's tokenizer."""

    splits: list[str] = field(default_factory=list)
    """Splits to look through; empty: all that exist."""
    samples: int = 8
    """Examples of each part and split that are drawn with their prefix and suffix."""
    codec_samples: int = 300
    """Images of each part and split whose masks are written as tokens and read back."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("samples", "codec_samples"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0, not {getattr(self, name)}")


@dataclass(kw_only=True)
class Plan(ModelRecipeConfig):
    """Predict memory and time of what `Finetune` would train, on one GPU, without weights."""

    optional_groups = ("data", "task")

    data: Data | None = None
    """Data whose rows are counted; without, or where it is not there, their length is assumed."""
    prefix_tokens: int | None = None
    """Tokens of a prompt; null: counted on the data, 32 where it cannot be read."""
    suffix_tokens: int | None = None
    """Tokens of an answer; null: counted on the data, 32 where it cannot be read."""
    examples: int | None = None
    """Training examples; null: those of the data."""
    gpu_memory: float = 80.0
    """GiB of the GPU that is planned for; an H100 has 80."""
    device_tflops: float = 989.0
    """Its peak of dense matrix products; an H100's in bf16 is 989."""
    mfu: float = 0.4
    """Share of that peak that a step reaches: an assumption, measure your own."""
    device_bandwidth: float = 2.5
    """TB/s at which it reads and writes; quantized weights are expanded in every pass."""
    released: bool = True
    """Also predict every released model at every resolution, with LoRA and QLoRA."""
    calibrate: bool = False
    """Also take one real step on this machine, and set the prediction beside it; reads weights."""

    def __post_init__(self) -> None:
        if self.data is not None:
            self.data.dataset_specs(self.task)
        for name in ("prefix_tokens", "suffix_tokens", "examples"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, not {value}")
        for name in ("gpu_memory", "device_tflops", "device_bandwidth"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be above 0, not {getattr(self, name)}")
        if not 0 < self.mfu <= 1:
            raise ValueError(f"mfu must lie in (0, 1], not {self.mfu}")


@dataclass(kw_only=True)
class Predict(ModelRecipeConfig):
    """Ask the adapter in `adapter.path`, or the base model, about images without annotations."""

    images: Any
    """Folder, file or pattern (photos/*.jpg) of images or videos, or a list of them."""
    multi_image: bool = False
    """Ask one question about all images at once, in the order of `images`."""
    frames: VideoSampling = field(default_factory=VideoSampling)
    """Which frames of a video are asked about."""
    prompt: str | None = None
    """What every image is asked, e.g. "detect boat ; buoy"; null: what `task` asks."""
    skip_unreadable: bool = False
    """Leave out images that cannot be read, and list them, instead of stopping at the first."""
    max_shown: int = 300
    """Images on the page, the first ones; all of them are in the files."""
    data: Data | None = None
    """Not read; there so that the configuration of a training serves."""

    def __post_init__(self) -> None:
        if isinstance(self.images, str):
            self.images = [self.images]
        named = isinstance(self.images, list) and all(isinstance(p, str) for p in self.images)
        if not named or not self.images:
            raise ValueError("images must be a folder, a file or a pattern, or a list of them")
        if not (self.prompt or "").strip() and self.task is None:
            raise ValueError(
                "prompt is missing: write what to ask, e.g. prompt='detect boat', or choose a task "
                "that knows it, e.g. task=detection 'task.classes=[boat]'"
            )
        if self.max_shown < 0:
            raise ValueError(f"max_shown must be at least 0, not {self.max_shown}")

    def mixture_tasks(self) -> list[Task]:
        """Return the tasks that a mixture brings along."""
        if self.task is None and isinstance(self.data, Mixture):
            return [pairing.task for pairing in self.data.dataset_specs(None)]
        return []


@dataclass(kw_only=True)
class Export(ExportConfig, ModelRecipeConfig):
    """Merge the adapter in `adapter.path` into its base, for plain transformers."""

    data: Data | None = None
    """Whose examples the export is compared on."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.adapter_combination(self.adapter)
        if self.data is not None and self.image is None:
            self.data.dataset_specs(self.task)


@dataclass(kw_only=True)
class Compare(RecipeConfig):
    """Set finished runs side by side."""

    positional_field = "runs"

    runs: list[str] = field(default_factory=list)
    """Folders of runs, or of sweeps; also written bare, `palitune compare RUN RUN`."""
    baseline: str | None = None
    """What the others are compared with: the folder or the label of a run; null: the first."""
    bootstrap_samples: int = 1000
    """Resampled test sets behind the interval of every difference; 0: no intervals."""

    def __post_init__(self) -> None:
        if not self.runs:
            raise ValueError(
                "runs are missing: name the folders of runs, or of a sweep: palitune compare RUN..."
            )
        if self.bootstrap_samples < 0:
            raise ValueError(f"bootstrap_samples must be at least 0, not {self.bootstrap_samples}")


RECIPE_CONFIGS: dict[str, type[RecipeConfig]] = {
    run.__name__.lower(): run
    for run in (Finetune, Align, Evaluate, Check, Inspect, Plan, Predict, Export, Compare)
}
"""By recipe; `conf/<recipe>.yaml` is the root of its configuration."""

GROUPS: Mapping[str, Mapping[str, type]] = {
    "data": SOURCES,
    "task": TASKS,
    "model": MODELS,
    "adapter": ADAPTERS,
    "training": {
        "reference_hparams": TrainingConfig,
        "default": TrainingConfig,
    },  # a run is saved as the last
    "augmentation": AUGMENTATIONS,
    "evaluation": {"default": EvaluationConfig},
    "tracking": TRACKER_CONFIGS,
    "launch": STRATEGIES,
    "runner": RUNNERS,
    "search": SEARCHES,
}
"""The type of every option of the groups that are fields of a run."""
