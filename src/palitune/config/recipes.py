"""Configuration dataclasses, one per recipe, and the registry of group options."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar

from annotated_types import Ge, Gt, Interval

from palitune.alignment.config import AlignmentConfig
from palitune.config.runners import RUNNERS, RunnerConfig
from palitune.config.search_space import SEARCHES, SearchConfig
from palitune.data.images.augmentation import AUGMENTATIONS, Augmentation
from palitune.data.images.video import VideoSampling
from palitune.data.registry import SOURCES
from palitune.data.sources.base import Data
from palitune.data.sources.mixture import Mixture
from palitune.distributed.strategies import STRATEGIES, Strategy
from palitune.errors import DataError, check_ranges
from palitune.evaluation.active_learning.ranking import RankBy
from palitune.evaluation.config import EvaluationConfig, MultipleChoiceMode
from palitune.evaluation.object_quality.min_score import check_min_score
from palitune.evaluation.tiles.config import InferenceTiles
from palitune.export.config import ExportConfig
from palitune.models.adapters.config import ADAPTERS, AdapterConfig
from palitune.models.config import MODELS, ModelConfig
from palitune.report.annotations.config import AnnotationFormat
from palitune.report.annotations.files import check_distinct
from palitune.report.naming import folder_names, shorten_to_differences
from palitune.report.trackers.config import TRACKER_CONFIGS, TrackerConfig
from palitune.serving.config import ServerConfig
from palitune.tasks import TASKS, Task
from palitune.training.config import TrainingConfig
from palitune.training.reference_hparams import ReferenceHparams


@dataclass(kw_only=True)
class RecipeConfig:
    """Settings of every recipe."""

    name: ClassVar[str]
    """Name of the recipe: `recipes/NAME.py`, configured by `conf/NAME.yaml`."""
    positional_field: ClassVar[str | None] = None
    """List setting that takes the positional arguments of the command line."""
    optional_groups: ClassVar[tuple[str, ...]] = ()
    """Groups that are set to null if a required value of one of them is missing."""

    output_dir: str
    """Output folder (default: outputs/RECIPE/DATE_TIME)."""
    overwrite: bool = False
    """Write to an `output_dir` that already holds results, and overwrite them."""

    has_default_folder = False  # set by `compose`; not a setting

    environment_keys = frozenset[tuple[str, ...]]()
    """Paths of the settings that come from environment variables; no setting itself."""

    def __post_init__(self) -> None:
        check_ranges(self)

    @property
    def resumes(self) -> bool:
        """Whether the run resumes the one in `output_dir`."""
        return False

    def written_folders(self) -> list[str]:
        """Return the folders that the run writes to; they must not hold results of another."""
        return [self.output_dir]


@dataclass(kw_only=True)
class ModelRecipeConfig(RecipeConfig):
    """Settings of every recipe with a model; one experiment fits them all."""

    task: Task | None = None
    model: ModelConfig
    adapter: AdapterConfig
    training: TrainingConfig
    reference_hparams: ReferenceHparams = field(default_factory=ReferenceHparams)
    """Published hyper-parameters, used by `training=reference_hparams`."""
    augmentation: Augmentation
    evaluation: EvaluationConfig
    tracking: TrackerConfig
    launch: Strategy
    runner: RunnerConfig
    search: SearchConfig
    seed: int = 0
    """Random seed for data order, adapter initialization and dropout."""
    evaluate_before: bool = True
    """Also evaluate before training, so that the report shows the change."""


@dataclass(kw_only=True)
class DataRecipeConfig(ModelRecipeConfig):
    """Settings of every recipe that needs annotated data."""

    data: Data

    def __post_init__(self) -> None:
        super().__post_init__()
        # A source needs a task, a mixture brings its own.
        tasks = [spec.task for spec in self.data.dataset_specs(self.task)]
        if self.evaluation.tiles is not None and not any(task.allow_crop for task in tasks):
            raise ValueError(
                "evaluation.tiles must be null for a task without the boxes of all objects, got "
                f"{tasks[0].name}. Set evaluation.tiles=null."
            )


@dataclass(kw_only=True)
class Finetune(DataRecipeConfig):
    """Train an adapter, or continue to train the one in `adapter.path`."""

    name = "finetune"

    @property
    def resumes(self) -> bool:
        return self.training.resume is not None


@dataclass(kw_only=True)
class Align(Finetune, AlignmentConfig):
    """Train an adapter with rewards (GRPO, RLOO) or preferences (DPO).

    Settings of `training` for targets and their loss have no effect; with DPO neither has
    `augmentation`.
    """

    name = "align"

    def __post_init__(self) -> None:
        DataRecipeConfig.__post_init__(self)
        AlignmentConfig.__post_init__(self)
        if any(spec.source.tiles for spec in self.data.dataset_specs(self.task)):
            raise ValueError(
                "data.tiles must be null for palitune align, whose pairs and samples are of whole "
                "images. Set data.tiles=null, or use palitune finetune."
            )


@dataclass(kw_only=True)
class Evaluate(DataRecipeConfig):
    """Evaluate the adapter in `adapter.path`, or the base model."""

    name = "evaluate"

    predictions: str | None = None
    """Score these predictions instead of a model's: a run folder, JSON lines {"id", "text"}, or
    COCO results."""
    adapters: list[str | None] = field(default_factory=list)
    """Adapter folders to evaluate and compare instead of `adapter.path`; null is the base model,
    which is loaded once. Each gets a run folder of its own."""
    endpoint: str | None = None
    """Evaluate the model of an OpenAI-compatible server, e.g. http://127.0.0.1:8000/v1, instead.
    With `predictions=RUN` its answers are compared with those of the run. An API key is read from
    OPENAI_API_KEY."""
    endpoint_model: str | None = None
    """Name of the model on that server."""
    store_thresholds: bool = False
    """Store the score thresholds of best F1 on this split with the adapter, for `min_score=auto` of
    predict and serve; for the validation split, not the test split."""
    max_difference: Annotated[float, Ge(0)] = 0.01
    """Maximum change of a metric from `predictions` to the server; more is an error. Without
    references: the maximum share of answers that differ."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(self)
        if (self.endpoint is None) != (self.endpoint_model is None):
            raise ValueError(
                "endpoint and endpoint_model must be set together, got endpoint="
                f"{self.endpoint} and endpoint_model={self.endpoint_model}."
            )
        if self.endpoint is not None and not self.endpoint.startswith(("http://", "https://")):
            raise ValueError(
                "endpoint must be an http address up to its version, e.g. "
                f"http://127.0.0.1:8000/v1, got {self.endpoint}."
            )
        if self.endpoint is not None and (
            self.evaluation.num_beams > 1
            or self.evaluation.constrained_decoding
            or self.evaluation.perplexity
            or self.evaluation.multiple_choice is not MultipleChoiceMode.generate
        ):
            raise ValueError(
                "endpoint answers by free greedy generation. Remove evaluation.num_beams, "
                "constrained_decoding, perplexity and multiple_choice."
            )
        if self.endpoint is not None and self.evaluation.tiles is not None:
            raise ValueError(
                "endpoint answers whole images. Set evaluation.tiles=null, or evaluate the adapter "
                "here."
            )
        if self.endpoint is not None and self.adapters:
            raise ValueError("endpoint and adapters cannot be combined; remove one of them")
        if self.store_thresholds and (self.endpoint is not None or self._has_base()):
            raise ValueError(
                "store_thresholds needs an adapter to store them with. Set adapter.path, or "
                "store_thresholds=false."
            )
        if self.adapters and self.predictions is not None:
            raise ValueError("adapters and predictions cannot be combined; remove one of them")
        if self.adapters and self.adapter.path is not None:
            raise ValueError("adapters and adapter.path cannot be combined; remove one of them")

    def _has_base(self) -> bool:
        """Whether one of the evaluated models is the base model."""
        return None in (self.adapters or [self.adapter.path])

    def written_folders(self) -> list[str]:
        return [run.output_dir for run in self.per_adapter()]

    def per_adapter(self) -> "list[Evaluate]":
        """Return one run for each of `adapters`, or this run if there are none."""
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
    """Check attention mask, labels, tokens and adapter without training."""

    name = "check"

    def written_folders(self) -> list[str]:
        return []


@dataclass(kw_only=True)
class Inspect(DataRecipeConfig):
    """Inspect the data as the model will see it: statistics, errors and sample images."""

    name = "inspect"

    splits: list[str] = field(default_factory=list)
    """Splits to inspect; empty: all."""
    samples: Annotated[int, Ge(0)] = 8
    """Examples of each component and split that are drawn with their prefix and suffix."""
    strict: bool = False
    """End with exit code 1 if a row is bad, for use in scripts."""
    codec_samples: Annotated[int, Ge(0)] = 300
    """Images of each component and split whose masks are encoded as tokens and decoded."""
    predictions: str | None = None
    """Run folder whose predicted boxes or masks are compared with the reference, to list suspected
    label errors; null: the folder of `--run`, if there is one with predictions."""
    suspects: Annotated[int, Ge(0)] = 50
    """Maximum number of suspected label errors on the page; the CSV file has all of them."""

    earlier_run = ""  # folder of `--run`, set by `compose`; not a setting


@dataclass(kw_only=True)
class Plan(ModelRecipeConfig):
    """Predict memory and time of a training on one GPU, without loading weights."""

    name = "plan"
    optional_groups = ("data", "task")

    data: Data | None = None
    """Data set whose examples are counted; if absent, token counts are assumed."""
    prefix_tokens: Annotated[int | None, Ge(1)] = None
    """Tokens of a prefix; null: measured on the data, or 32."""
    suffix_tokens: Annotated[int | None, Ge(1)] = None
    """Tokens of a suffix; null: measured on the data, or 32."""
    examples: Annotated[int | None, Ge(1)] = None
    """Number of training examples; null: counted in the data."""
    gpu: str | None = None
    """Card to plan for: T4, L4, A10, 3090, 4090, 5090, A100-40, A100-80, L40S, H100 or H200; null:
    the usual card with `gpu_memory`, or an H100."""
    gpu_memory: Annotated[float | None, Gt(0)] = None
    """Memory of the GPU in GiB; null: that of the card."""
    device_tflops: Annotated[float | None, Gt(0)] = None
    """Peak throughput of dense matrix products in the compute dtype in TFLOP/s; null: that of the
    card's data sheet (H100 in bf16: 989)."""
    mfu: Annotated[float, Interval(gt=0, le=1)] = 0.4
    """Model FLOPs utilization: the assumed fraction of the peak; measure your own."""
    device_bandwidth: Annotated[float | None, Gt(0)] = None
    """Memory bandwidth in TB/s; null: that of the card's data sheet (H100: 3.35)."""
    released: bool = True
    """Also predict every released model at every resolution, with LoRA and QLoRA."""
    calibrate: bool = False
    """Also load the weights, run one real step here and compare it with the prediction."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.data is not None:
            self.data.dataset_specs(self.task)


@dataclass(kw_only=True)
class Predict(ModelRecipeConfig):
    """Run the adapter in `adapter.path`, or the base model, on images without annotations."""

    name = "predict"

    images: Any
    """Folder, file or pattern (photos/*.jpg) of images or videos, or a list of them."""
    multi_image: bool = False
    """Pass all images to the model in one prompt, in the order of `images`."""
    frames: VideoSampling = field(default_factory=VideoSampling)
    """Frames that are sampled from a video."""
    prompt: str | None = None
    """Prompt for every image, e.g. "detect boat ; buoy"; null: the prompt of `task`."""
    skip_unreadable: bool = False
    """Skip and list images that cannot be read, instead of stopping at the first."""
    max_shown: Annotated[int, Ge(0)] = 300
    """Maximum number of images on the page; the files hold all of them."""
    min_score: Any = 0.0
    """Leave out objects with a lower score: a number from 0 to 1, or auto for the thresholds of
    best F1 on the validation split, by class, which are stored with the adapter."""
    save: list[AnnotationFormat] = field(default_factory=list)
    """Pre-annotations to write for labeling tools: coco, yolo, label_studio, voc. They are written
    into the folder `annotations` of the run, with the scores of the objects."""
    tiles: InferenceTiles | None = None
    """Ask about overlapping tiles of each image and merge their objects, {size: 448, overlap: 0.2};
    null: the setting of `evaluation.tiles`, which is that of the training."""
    rank: RankBy | None = None
    """Order the images by the value of a label and write `to_label.csv` and `to_label.html`:
    uncertainty | diversity | both."""
    rank_count: Annotated[int, Ge(1)] = 200
    """Maximum number of images in `to_label.csv`."""
    data: Data | None = None
    """Ignored; accepted so that a training configuration can be reused."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_min_score(self.min_score)
        if self.tiles is not None:
            self.evaluation = replace(self.evaluation, tiles=self.tiles)
        if self.evaluation.tiles is not None and self.rank not in (None, RankBy.diversity):
            raise ValueError(
                f"rank must be diversity with tiles, got {self.rank.value}, because the margin to "
                "the base model is that of one answer. Set rank=diversity, or "
                "evaluation.tiles=null."
            )
        if isinstance(self.images, str):
            self.images = [self.images]
        is_list = isinstance(self.images, list) and all(isinstance(p, str) for p in self.images)
        if not is_list or not self.images:
            raise ValueError("images must be a folder, a file or a pattern, or a list of them")
        if not (self.prompt or "").strip() and self.task is None:
            raise ValueError(
                "prompt is missing: write prompt='detect boat', or choose a task with a prompt, "
                "e.g. task=detection 'task.classes=[boat]'"
            )

    def check_formats(self, task: Task, image_names: Iterable[str]) -> None:
        """Raise DataError if a format in `save` cannot hold the answers of a task on images."""
        if {AnnotationFormat.yolo, AnnotationFormat.voc} & set(self.save):
            check_distinct(image_names)
        for_objects = [f.value for f in self.save if f is not AnnotationFormat.label_studio]
        if task.value_is_text and for_objects:
            raise DataError(
                f"`save` must be label_studio for the task {task.name}, whose answers are texts, "
                f"got {', '.join(for_objects)}. Set save=[label_studio], or a prompt such as "
                "'detect boat'."
            )

    def mixture_tasks(self) -> list[Task]:
        """Return the tasks of the mixture's components."""
        if self.task is None and isinstance(self.data, Mixture):
            return [spec.task for spec in self.data.dataset_specs(None)]
        return []


@dataclass(kw_only=True)
class Serve(ServerConfig, ModelRecipeConfig):
    """Serve the adapter in `adapter.path`, further adapters and the base model over HTTP."""

    name = "serve"

    def written_folders(self) -> list[str]:
        return []

    data: Data | None = None
    """Data of an earlier run, whose tasks and stored predictions are used."""

    def __post_init__(self) -> None:
        ModelRecipeConfig.__post_init__(self)
        ServerConfig.__post_init__(self)

    def component_tasks(self) -> dict[str, Task]:
        """Return the task of each component of the data; without data, the task by its name."""
        if self.data is not None:
            return {spec.name: spec.task for spec in self.data.dataset_specs(self.task)}
        return {} if self.task is None else {self.task.name: self.task}


@dataclass(kw_only=True)
class Export(ExportConfig, ModelRecipeConfig):
    """Merge the adapter in `adapter.path` into its base model, for plain transformers."""

    name = "export"

    data: Data | None = None
    """Data set whose examples the exported model is verified on."""

    def __post_init__(self) -> None:
        ModelRecipeConfig.__post_init__(self)
        ExportConfig.__post_init__(self)
        self.adapter_combination(self.adapter, self.seed)
        if self.data is not None and self.image is None:
            self.data.dataset_specs(self.task)


@dataclass(kw_only=True)
class Compare(RecipeConfig):
    """Compare finished runs, and predictions of other models."""

    name = "compare"
    positional_field = "runs"

    runs: list[str] = field(default_factory=list)
    """Folders of runs or sweeps, and files with predictions of other models (COCO results, or JSON
    lines), which are scored as the first run was; also as positional arguments, `palitune compare
    RUN RUN FILE`."""
    baseline: str | None = None
    """Folder or label of the run that the others are compared to; null: the first."""
    bootstrap_samples: Annotated[int, Ge(0)] = 1000
    """Bootstrap samples for the 95 % confidence interval of each difference; 0: no intervals."""
    domains: str | None = None
    """CSV file of data sets and their domains, `boats,sea` in each line, by the name of the folder
    of the data: the runs are summarized by domain instead of compared one by one."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.runs:
            raise ValueError(
                "runs are missing: give the folders of runs or of a sweep: palitune compare RUN..."
            )
        files = self.prediction_files()
        if files and not self.run_folders():
            raise ValueError(
                f"runs must have the folder of a run whose data {files[0]} is scored on. Add one: "
                "palitune compare RUN FILE"
            )
        names = [Path(file).stem for file in files]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(
                f"files of predictions must have different names, got {twice[0]} twice. Rename one "
                "after its model."
            )

    def prediction_files(self) -> list[str]:
        """Return the files among `runs`."""
        return [path for path in self.runs if Path(path).is_file()]

    def run_folders(self) -> list[str]:
        """Return the folders among `runs`."""
        return [path for path in self.runs if not Path(path).is_file()]

    def scored_folders(self) -> dict[str, str]:
        """Return the run folder of each file of predictions."""
        return {
            file: str(Path(self.output_dir) / Path(file).stem) for file in self.prediction_files()
        }

    def written_folders(self) -> list[str]:
        return list(self.scored_folders().values())  # the page may lie beside the runs


RECIPE_CONFIGS: dict[str, type[RecipeConfig]] = {
    schema.name: schema
    for schema in (
        Finetune,
        Align,
        Evaluate,
        Check,
        Inspect,
        Plan,
        Predict,
        Serve,
        Export,
        Compare,
    )
}
"""Configuration dataclass of each recipe by name."""

GROUPS: Mapping[str, Mapping[str, type]] = {
    "data": SOURCES,
    "task": TASKS,
    "model": MODELS,
    "adapter": ADAPTERS,
    # The options share a type, so a run is saved as the last one, with all its values.
    "training": {"reference_hparams": TrainingConfig, "default": TrainingConfig},
    "augmentation": AUGMENTATIONS,
    "evaluation": {"default": EvaluationConfig},
    "tracking": TRACKER_CONFIGS,
    "launch": STRATEGIES,
    "runner": RUNNERS,
    "search": SEARCHES,
}
"""Dataclass of each option, for the groups that are fields of a run."""
