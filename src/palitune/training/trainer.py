"""`transformers.Trainer` with our loss, its normalization, and task metrics as evaluation.

The stock loss is taken at every position and averaged over tokens. This one is taken on suffixes
and averaged over examples, exactly so with gradient accumulation and on several devices.
"""

import time
from pathlib import Path
from typing import Any

import torch
from transformers import PrinterCallback, TrainerCallback

from palitune.data.collator import Batch
from palitune.data.samplers import (
    GroupByImageSampler,
    LengthGroupedSampler,
    WeightedMixtureSampler,
)
from palitune.data.training_set import TargetSampling, TrainingSet
from palitune.distributed import collectives
from palitune.errors import TrainingError
from palitune.training.activation_memory import (
    ActivationMemoryCallback,
    activation_offload_context,
)
from palitune.training.callbacks import EvalFn, LogFn, RichProgressCallback, SpeedCallback
from palitune.training.config import TrainingConfig
from palitune.training.data import TrainingCollator, TrainingData
from palitune.training.early_stopping import EVAL_PREFIX, EarlyStoppingCallback, TimeLimitCallback
from palitune.training.loader_monitor import LoaderMonitor
from palitune.training.loss_scaling import make_grad_scaler
from palitune.training.sequence_lengths import count_tokens
from palitune.training.state.checkpoints import CheckpointManager
from palitune.training.state.fsdp import is_sharded, wrap_in_ddp
from palitune.training.state.resume import CheckpointingTrainer, PreemptionCallback

EpochSampler = GroupByImageSampler | LengthGroupedSampler | WeightedMixtureSampler
"""Orders of an epoch other than a plain shuffle."""


class EvaluatingTrainer(CheckpointingTrainer):
    """A trainer that evaluates with task metrics and writes checkpoints and history to a folder."""

    def __init__(
        self,
        settings: TrainingConfig,
        folder: Path,
        eval_fn: EvalFn | None = None,
        loss_eval_fn: EvalFn | None = None,
        log_fn: LogFn | None = None,
        **trainer_kwargs: Any,
    ) -> None:
        """Create a trainer.

        Args:
            settings: Settings of the training.
            folder: Run folder.
            eval_fn: Computes task metrics of the network, which `evaluate` returns.
            loss_eval_fn: Computes losses that `evaluate` adds to the task metrics.
            log_fn: Called with every log entry and its step.
            trainer_kwargs: Arguments of `transformers.Trainer`.
        """
        self.settings = settings
        self.folder = folder
        self.checkpoints = CheckpointManager(folder / "checkpoints")
        self.eval_fn = eval_fn
        self.loss_eval_fn = loss_eval_fn
        self.progress = RichProgressCallback(folder / "history.jsonl", log_fn)
        super().__init__(
            # Required for an evaluation strategy, but not read: `evaluate` calls eval_fn.
            eval_dataset=trainer_kwargs["train_dataset"] if eval_fn else None,
            callbacks=[
                self.progress,
                SpeedCallback(folder / "speed.jsonl"),
                EarlyStoppingCallback(settings),
                TimeLimitCallback(settings),
                ActivationMemoryCallback(settings),
                PreemptionCallback(),
            ],
            **trainer_kwargs,
        )
        self.remove_callback(PrinterCallback)
        # `fp16=True` would also enable autocast, although the weights are in fp16 already.
        self.accelerator.scaler = make_grad_scaler(self.model)
        if self.accelerator.scaler and self.is_deepspeed_enabled:
            raise TrainingError(
                "launch=deepspeed does not scale the loss, as model.dtype=fp16 requires. Set "
                "launch=ddp, or model.dtype=fp32."
            )

    def _clip_grad_norm(self, model: Any) -> Any:
        self._unscale_gradients()
        return super()._clip_grad_norm(model)

    def _unscale_gradients(self) -> None:
        """Undo the loss scaling before gradients are clipped; no effect without it."""
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.unscale_(self.optimizer.optimizer)

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Return task metrics from `eval_fn`; the Trainer's own evaluation computes only losses."""
        assert self.eval_fn is not None
        values = self.eval_fn() | (self.loss_eval_fn() if self.loss_eval_fn else {})
        metrics = {EVAL_PREFIX + name: value for name, value in values.items()}
        self.log(dict(metrics))
        self.control: Any = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics


class PrefixTrainer(EvaluatingTrainer):
    """Supervised training on suffixes."""

    # The loss is already divided by the items of the whole optimizer step.
    loss_is_scaled_for_ga = True

    def __init__(self, settings: TrainingConfig, data: TrainingData, **kwargs: Any) -> None:
        super().__init__(
            settings,
            train_dataset=data.training_set,
            data_collator=TrainingCollator(data.collator, settings.loss_reduction),
            **kwargs,
        )
        self.sampler = _build_epoch_sampler(settings, data)
        self._loader_monitor = LoaderMonitor(self.args.dataloader_num_workers)
        self._trainable_parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.add_callback(_SetEpochCallback(data.training_set))

    def training_step(
        self, model: Any, inputs: dict[str, Any], num_items_in_batch: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Run forward and backward pass, without the stock walk through all modules."""
        if not model.training:
            model.train()
        with self.compute_loss_context_manager(), activation_offload_context(self.settings, model):
            loss = self.compute_loss(model, self._prepare_inputs(inputs), False, num_items_in_batch)
        # By default DeepSpeed would also divide by the number of accumulation steps.
        options = {"scale_wrt_gas": False} if self.is_deepspeed_enabled else {}
        self.accelerator.backward(loss, **options)
        return loss.detach()

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: Any) -> Any:
        """Fetch the micro-batches of an optimizer step, and measure the waiting time."""
        start = time.monotonic()
        samples = super().get_batch_samples(epoch_iterator, num_batches, device)
        if collectives.is_main_process():
            self._loader_monitor.record(time.monotonic() - start)
        return samples

    def _wrap_model(self, model: Any, training: bool = True, dataloader: Any = None) -> Any:
        if training and model is self.model and is_sharded(model):
            return wrap_in_ddp(model)
        return super()._wrap_model(model, training, dataloader)

    def _get_train_sampler(self, train_dataset: TrainingSet | None = None) -> Any:
        return super()._get_train_sampler(train_dataset) if self.sampler is None else self.sampler

    def floating_point_ops(self, inputs: Batch) -> int:
        """Return 0: the stock estimate counts all parameters at every step."""
        return 0

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | None = None,
    ) -> torch.Tensor:
        inputs = dict(inputs)
        weights, items = inputs.pop("label_weights"), inputs.pop("num_items")
        losses = model(**inputs, label_smoothing=self.settings.label_smoothing).loss
        divisor = items if num_items_in_batch is None else num_items_in_batch
        # DDP averages gradients over processes, but the items are already counted over all of them.
        loss: torch.Tensor = (losses * weights).sum() / divisor * self.accelerator.num_processes
        return loss

    def _clip_grad_norm(self, model: Any) -> Any:
        """Clip gradients, without the stock walk through all modules."""
        self._unscale_gradients()
        return self.accelerator.clip_grad_norm_(self._trainable_parameters, self.args.max_grad_norm)

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: Any) -> torch.Tensor:
        """Count the items of an optimizer step; the only hook that gets all its micro-batches."""
        items = float(sum(batch["num_items"] for batch in batch_samples))
        if self.args.world_size == 1:
            return torch.tensor(items)  # on the CPU: a division by it needs no copy
        total: torch.Tensor = self.accelerator.gather(torch.tensor(items, device=device)).sum()
        return total


class _SetEpochCallback(TrainerCallback):  # type: ignore[misc]
    """Set the epoch of the training set, which the data loader of a resumed epoch does not do."""

    def __init__(self, training_set: TrainingSet) -> None:
        self.training_set = training_set

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.training_set.set_epoch(int((state.epoch or 0) + 1e-6))


def _build_epoch_sampler(settings: TrainingConfig, data: TrainingData) -> EpochSampler | None:
    """Return the sampler that the settings require; None for a plain shuffle."""
    training_set = data.training_set
    if settings.prompts_per_image > 1:
        return GroupByImageSampler(training_set, settings.prompts_per_image)
    if settings.group_by_length:
        all_suffixes = settings.target_sampling is TargetSampling.all
        lengths = count_tokens(data.collator, training_set.examples, all_suffixes=all_suffixes)
        return LengthGroupedSampler(
            training_set, lengths, settings.global_batch_size, training_set.seed
        )
    if training_set.mixture_schedule:
        return WeightedMixtureSampler(training_set)
    return None
