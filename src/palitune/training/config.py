"""What a training run is told: one field, one sentence, one default."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from palitune.data.images.resize import ResizeBackend
from palitune.data.training_set import TargetSampling
from palitune.errors import TrainingError
from palitune.metrics import higher_is_better

MINIVAL_LOSS = "minival/loss"
"""The one name of `best_metric` that no task reports."""


class Optimizer(Enum):
    adamw = "adamw"
    adamw_8bit = "adamw_8bit"
    """bitsandbytes' block-wise 8-bit states: a quarter of the optimizer memory."""
    paged_adamw_8bit = "paged_adamw_8bit"
    """The same, moved to the host's memory where the GPU's runs short; CUDA only."""


class Schedule(Enum):
    cosine = "cosine"
    linear = "linear"
    constant = "constant"


class LossReduction(Enum):
    example = "example"
    """Mean over an example's suffix tokens, then over examples: what PaliGemma was trained with."""
    token = "token"
    """Mean over all suffix tokens of the batch: long suffixes weigh more."""


@dataclass(kw_only=True)
class TrainingConfig:
    global_batch_size: int = 16
    """Examples per optimizer step, over all devices and accumulation steps."""
    micro_batch_size: int = 4
    """Examples per forward pass and device; divides global_batch_size."""
    epochs: float = 1.0
    """Passes over the training examples; ignored where max_steps is set."""
    max_steps: int | None = None
    """Optimizer steps."""
    learning_rate: float = 2e-4
    """Peak learning rate of the adapter (LoRA; full fine-tuning wants about 1e-5)."""
    optimizer: Optimizer = Optimizer.adamw
    """adamw | adamw_8bit | paged_adamw_8bit."""
    adam_beta2: float = 0.999
    """Decay of the squared-gradient average."""
    weight_decay: float = 0.0
    """Decoupled weight decay (AdamW's meaning: multiplied by the learning rate)."""
    schedule: Schedule = Schedule.cosine
    """Learning rate after warm-up: cosine | linear (both to zero) | constant."""
    warmup_ratio: float = 0.05
    """Share of all steps with a linearly rising learning rate."""
    max_grad_norm: float = 1.0
    """Gradients are clipped to this global norm."""
    label_smoothing: float = 0.0
    """Probability mass spread over the other tokens of the vocabulary."""
    loss_reduction: LossReduction = LossReduction.example
    """example | token."""
    target_sampling: TargetSampling = TargetSampling.sample
    """Which of several targets a visit trains on: sample | cycle | majority | first | all (in one
    row that shares image and prefix; each counts as an example of its own in the loss)."""
    prompts_per_image: int = 1
    """Prompts of one image that stand side by side in the order of an epoch and see it augmented in
    the same way, so that it is encoded once for them; 1: every prompt by itself."""
    max_length: int = 4608
    """Tokens of one example, image included; a longer one is refused, never cut."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time."""
    gradient_checkpointing_ratio: float = 1.0
    """Share of the language layers that gradient_checkpointing recomputes, evenly spaced."""
    activation_offloading: bool = False
    """Keep activations in the host's memory between forward and backward pass; CUDA only."""
    compile: bool = False
    """Compile the language layers with torch.compile; CUDA only; its gain is not measured yet."""
    group_by_length: bool = False
    """Draw batches of examples of similar length: less padding, a little less chance."""
    resize: ResizeBackend = ResizeBackend.exact
    """How images are resized: exact (to the pixels of the checkpoint's processor) | fast (within
    2/255 of them, in a third of the time or less)."""
    image_cache: str | None = None
    """Folder that keeps the resized images (147, 588 and 2352 KiB at 224, 448 and 896 px), so that
    each is decoded once; what augmentation makes of them is not kept; null: none."""
    vision_feature_cache: str | None = None
    """Folder that keeps what the frozen vision tower makes of each image (0.56, 2.25 and 9 MiB at
    224, 448 and 896 px in bf16), so that it runs once per image; null: none."""
    split: str = "train"
    """Split to train on."""
    validation_split: str | None = None
    """Split that is measured on during training; null: none."""
    eval_max_samples: int | None = 256
    """Examples per part whose answers are judged in a measurement during training; null: all."""
    eval_every: float | None = None
    """Optimizer steps between measurements of task metrics; below 1 a share of the run (0.25: four
    times); null: once per epoch."""
    eval_loss_every: float | None = None
    """Optimizer steps, or below 1 a share of the run, between measurements of loss and perplexity
    on a slice of `split` (minitrain) and of `validation_split` (minival); null: none."""
    eval_loss_max_samples: int = 64
    """Examples per part in each of these slices, evenly spaced."""
    best_metric: str | None = None
    """Number whose best checkpoint becomes the adapter, e.g. `ocr/exact_match` or `minival/loss`,
    compared whenever task metrics are measured; the first of equals; null: the last."""
    early_stopping_patience: int | None = None
    """Measurements in a row without a better best_metric after which training stops; null: none."""
    save_every: float | None = None
    """Optimizer steps, or below 1 a share of the run, between checkpoints; null: with every
    measurement, and at the end."""
    keep_checkpoints: int = 2
    """Newest checkpoints kept on disk (the best one is always kept)."""
    resume: str | None = None
    """`auto`: from the newest whole checkpoint of the run folder, if any; or a folder of one."""
    log_every: int = 10
    """Optimizer steps between logged losses."""
    num_workers: int = 2
    """Processes that decode images; 0: decode in the training process."""
    self_check: bool = True
    """Probe mask, labels, tokens and trainable parameters before the first step."""

    def __post_init__(self) -> None:
        _check_minimum("global_batch_size", self.global_batch_size, 1)
        _check_minimum("micro_batch_size", self.micro_batch_size, 1)
        if self.global_batch_size % self.micro_batch_size:
            raise ValueError(
                f"training.micro_batch_size {self.micro_batch_size} must divide "
                f"training.global_batch_size {self.global_batch_size}"
            )
        _check_range("gradient_checkpointing_ratio", self.gradient_checkpointing_ratio, 0, 1)
        _check_minimum("learning_rate", self.learning_rate, 0)
        _check_minimum("weight_decay", self.weight_decay, 0)
        _check_range("warmup_ratio", self.warmup_ratio, 0, 1)
        _check_range("label_smoothing", self.label_smoothing, 0, 0.999)
        _check_range("adam_beta2", self.adam_beta2, 0, 0.999999)
        if self.epochs <= 0:
            raise ValueError(f"training.epochs must be above 0, not {self.epochs}")
        if self.max_grad_norm <= 0:
            raise ValueError(f"training.max_grad_norm must be above 0, not {self.max_grad_norm}")
        for name in ("max_steps", "eval_max_samples", "early_stopping_patience"):
            if (value := getattr(self, name)) is not None:
                _check_minimum(name, value, 1)
        for name in ("eval_every", "eval_loss_every", "save_every"):
            _check_step_interval(name, getattr(self, name))
        for name in (
            "keep_checkpoints",
            "log_every",
            "max_length",
            "prompts_per_image",
            "eval_loss_max_samples",
        ):
            _check_minimum(name, getattr(self, name), 1)
        if self.prompts_per_image > 1 and self.group_by_length:
            raise ValueError(
                "training.prompts_per_image and training.group_by_length are two orders of examples; "
                "choose one"
            )
        _check_minimum("num_workers", self.num_workers, 0)
        self._check_best_metric()

    def check_best_metric(self, names: Sequence[str]) -> None:
        """Raise TrainingError if `best_metric` is none of the validation metrics `names`."""
        if self.best_metric not in (None, MINIVAL_LOSS, *names):
            raise TrainingError(
                f"training.best_metric: {self.best_metric!r} is not one of {', '.join(names)}"
            )

    def _check_best_metric(self) -> None:
        if self.early_stopping_patience is not None and self.best_metric is None:
            raise ValueError(
                "training.early_stopping_patience needs training.best_metric, the number that has to get better"
            )
        if self.best_metric is None:
            return
        if self.validation_split is None:
            raise ValueError(
                "training.best_metric needs training.validation_split, the split it is measured on"
            )
        if self.best_metric == MINIVAL_LOSS and self.eval_loss_every is None:
            raise ValueError(
                f"training.best_metric {MINIVAL_LOSS} needs training.eval_loss_every, e.g. 0.05"
            )

    @property
    def greater_is_better(self) -> bool:
        return self.best_metric is None or higher_is_better(self.best_metric)


def _check_minimum(name: str, value: float, low: float) -> None:
    if value < low:
        raise ValueError(f"training.{name} must be at least {low}, not {value}")


def _check_step_interval(name: str, value: float | None) -> None:
    """Accept a share of the run, or a whole number of steps."""
    if value is not None and not 0 < value < 1 and (value < 1 or value % 1):
        raise ValueError(
            f"training.{name} must be a whole number of steps, or a share of the run between 0 and "
            f"1, not {value}"
        )


def _check_range(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ValueError(f"training.{name} must lie in [{low}, {high}], not {value}")
