"""Settings of supervised training, shared with preference and reward tuning."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Any

from annotated_types import Ge, Gt, Le

from palitune.data.images.resize import ResizeBackend
from palitune.data.training_set import TargetSampling
from palitune.errors import TrainingError, check_ranges
from palitune.metrics import higher_is_better

AUTO = "auto"
"""Value of `micro_batch_size` until the network and the data are loaded."""
MINIVAL_LOSS = "minival/loss"
"""The only value of `best_metric` that is not a metric of a task."""


class Optimizer(Enum):
    adamw = "adamw"
    """torch's fused AdamW."""
    adamw_8bit = "adamw_8bit"
    """bitsandbytes' AdamW with block-wise 8-bit states: a quarter of the optimizer memory."""
    paged_adamw_8bit = "paged_adamw_8bit"
    """adamw_8bit with states that move to CPU memory when GPU memory is short; CUDA only."""


class Schedule(Enum):
    cosine = "cosine"
    linear = "linear"
    constant = "constant"


class LossReduction(Enum):
    example = "example"
    """Mean over an example's suffix tokens, then over examples, as PaliGemma was trained."""
    token = "token"
    """Mean over all suffix tokens of the batch: long suffixes have more weight."""


@dataclass(kw_only=True)
class TrainingConfig:
    global_batch_size: Annotated[int, Ge(1)] = 16
    """Examples per optimizer step over all devices and gradient accumulation steps."""
    micro_batch_size: Any = 4
    """Examples per forward pass per device (transformers: per_device_train_batch_size); must divide
    global_batch_size. `auto`, the default of every recipe: the largest that fits on a GPU, found by
    measuring; at most 4 on a CPU."""
    epochs: Annotated[float, Gt(0)] = 1.0
    """Passes over the training examples (num_train_epochs); ignored if max_steps is set."""
    max_steps: Annotated[int | None, Ge(1)] = None
    """Optimizer steps (transformers' max_steps); null: determined by epochs."""
    max_hours: Annotated[float | None, Gt(0)] = None
    """Hours after which this call validates, saves and ends, with the adapter of best_metric or of
    the last step; null: no limit."""
    learning_rate: Annotated[float, Ge(0)] = 2e-4
    """Peak learning rate (transformers' learning_rate); full fine-tuning needs about 1e-5."""
    optimizer: Optimizer = Optimizer.adamw
    """Optimizer (transformers: optim)."""
    adam_beta2: Annotated[float, Ge(0), Le(0.999999)] = 0.999
    """Decay rate of the squared-gradient average (transformers' adam_beta2)."""
    weight_decay: Annotated[float, Ge(0)] = 0.0
    """Decoupled weight decay of AdamW, multiplied by the learning rate (transformers'
    weight_decay)."""
    schedule: Schedule = Schedule.cosine
    """Learning rate after warm-up (transformers: lr_scheduler_type); cosine and linear decay to
    zero."""
    warmup_ratio: Annotated[float, Ge(0), Le(1)] = 0.05
    """Share of all steps during which the learning rate rises linearly from zero; the first step is
    above it."""
    max_grad_norm: Annotated[float, Gt(0)] = 1.0
    """Global norm to which gradients are clipped (transformers' max_grad_norm)."""
    label_smoothing: Annotated[float, Ge(0), Le(0.999)] = 0.0
    """Probability mass spread evenly over the other tokens of the vocabulary."""
    loss_reduction: LossReduction = LossReduction.example
    """Mean per example, then over examples (example), or over all suffix tokens (token)."""
    target_sampling: TargetSampling = TargetSampling.sample
    """Target of an example with several: a random one (sample), the next of a shuffled list
    (cycle), the most frequent (majority), the first, or all in one row that shares image and prefix
    (each counts as an example in the loss)."""
    prompts_per_image: Annotated[int, Ge(1)] = 1
    """Prompts of one image that follow each other in an epoch and share its augmentation, so that
    the image is encoded once for them; 1: all prompts are shuffled independently."""
    max_length: Annotated[int, Ge(1)] = 4608
    """Maximum tokens of an example, image tokens included; a longer example is an error, it is
    never truncated."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time."""
    gradient_checkpointing_ratio: Annotated[float, Ge(0), Le(1)] = 1.0
    """Share of the language layers, evenly spaced, that gradient_checkpointing applies to."""
    activation_offloading: bool = False
    """Keep activations in CPU memory between forward and backward pass; CUDA only."""
    compile: Any = "auto"
    """Compile the language layers with torch.compile: auto (on a GPU where it works), true or
    false; the speedup is not measured yet."""
    group_by_length: bool = False
    """Form batches of examples of similar length: less padding, a less random order."""
    resize: ResizeBackend = ResizeBackend.exact
    """Image resizing: exact (the same pixels as the checkpoint's processor) or fast (within 2/255
    of them in a third of the time or less)."""
    image_cache: str | None = None
    """Cache folder for resized images (147, 588 and 2352 KiB per image at 224, 448 and 896 px), so
    that each is decoded once; augmented images are not cached; null: no cache."""
    vision_feature_cache: str | None = None
    """Cache folder for the outputs of the frozen vision tower (0.56, 2.25 and 9 MiB per image at
    224, 448 and 896 px in bf16), so that it runs once per image; null: no cache."""
    split: str = "train"
    """Split to train on."""
    validation_split: str | None = None
    """Split for validation during training; null: no validation."""
    eval_max_samples: Annotated[int | None, Ge(1)] = 256
    """Maximum examples per component for task metrics during training; null: all."""
    eval_every: float | None = None
    """Optimizer steps between validations with task metrics (transformers: eval_steps); below 1: a
    share of the run (0.25: four times); null: once per epoch."""
    eval_loss_every: float | None = None
    """Optimizer steps, or below 1 a share of the run, between measurements of loss and perplexity
    on samples of `split` (minitrain) and `validation_split` (minival); null: never."""
    eval_loss_max_samples: Annotated[int, Ge(1)] = 64
    """Examples per component in minitrain and in minival, evenly spaced."""
    best_metric: str | None = None
    """Metric that selects the checkpoint for the adapter (transformers: metric_for_best_model),
    e.g. `ocr/exact_match` or `minival/loss`; the first of equal values wins; null: the last
    step."""
    early_stopping_patience: Annotated[int | None, Ge(1)] = None
    """Stop after this many validations without improvement of best_metric (transformers'
    early_stopping_patience); null: never."""
    save_every: float | None = None
    """Optimizer steps, or below 1 a share of the run, between checkpoints (transformers:
    save_steps); null: after each validation and at the end."""
    keep_checkpoints: Annotated[int, Ge(1)] = 2
    """Newest checkpoints to keep on disk (transformers: save_total_limit); the best one is always
    kept."""
    resume: str | None = None
    """`auto`: resume from the newest valid checkpoint in the run folder, if any; or the folder of a
    checkpoint; null: start a new training."""
    log_every: Annotated[int, Ge(1)] = 10
    """Optimizer steps between log entries (transformers: logging_steps)."""
    num_workers: Annotated[int | None, Ge(0)] = None
    """Worker processes per device that load images (transformers: dataloader_num_workers); 0: load
    them in the training process; null: one less than the CPU cores per device, from 1 to 8."""
    self_check: bool = True
    """Check attention mask, labels, tokens and trainable parameters before the first step."""

    def __post_init__(self) -> None:
        check_ranges(self, "training")
        if self.compile not in (True, False, "auto"):
            raise ValueError(
                f"training.compile must be auto, true or false, got {self.compile}. "
                "Set training.compile=auto."
            )
        size = self.micro_batch_size
        if size != AUTO and (type(size) is not int or size < 1):
            raise ValueError(f"training.micro_batch_size must be at least 1 or auto, got {size}.")
        if size != AUTO and self.global_batch_size % size:
            raise ValueError(
                f"training.micro_batch_size must divide training.global_batch_size="
                f"{self.global_batch_size}, got {self.micro_batch_size}."
            )
        for name in ("eval_every", "eval_loss_every", "save_every"):
            _check_step_interval(name, getattr(self, name))
        if self.prompts_per_image > 1 and self.group_by_length:
            raise ValueError(
                "training.prompts_per_image above 1 and training.group_by_length both set the "
                "order of examples. Set only one of them."
            )
        self._check_best_metric()

    def check_best_metric(self, names: Sequence[str]) -> None:
        """Raise TrainingError if `best_metric` is not among the validation metrics `names`."""
        if self.best_metric not in (None, MINIVAL_LOSS, *names):
            raise TrainingError(
                f"training.best_metric must be one of {', '.join(names)}, got {self.best_metric}."
            )

    def _check_best_metric(self) -> None:
        if self.best_metric is None:
            if self.early_stopping_patience is not None:
                raise ValueError(
                    "training.early_stopping_patience requires a metric. Set training.best_metric."
                )
            return
        if self.validation_split is None:
            raise ValueError(
                "training.best_metric requires validation data. Set training.validation_split."
            )
        if self.best_metric == MINIVAL_LOSS and self.eval_loss_every is None:
            raise ValueError(
                f"training.best_metric={MINIVAL_LOSS} requires training.eval_loss_every. Set it, "
                "e.g. to 0.05."
            )

    @property
    def greater_is_better(self) -> bool:
        return self.best_metric is None or higher_is_better(self.best_metric)


def _check_step_interval(name: str, value: float | None) -> None:
    """Accept a share of the run, or a whole number of steps."""
    if value is not None and not 0 < value < 1 and (value < 1 or value % 1):
        raise ValueError(
            f"training.{name} must be a whole number of steps or a share of the run between 0 and "
            f"1, got {value}."
        )
