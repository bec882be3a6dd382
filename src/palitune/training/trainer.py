"""`transformers.Trainer` under one class that owns loss, normalisation and measurement.

The stock loss scores every position and averages over tokens; this one scores the suffix only and
averages over examples, exactly so under accumulation and on several devices.
"""

import json
import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import PrinterCallback, TrainerCallback
from transformers.trainer_callback import TrainerState

from palitune.data.collator import Batch, Collator
from palitune.data.dataset import ConcatDataset, TaskDataset
from palitune.data.images.augmentation import Augmentation
from palitune.data.samplers import (
    GroupByImageSampler,
    LengthGroupedSampler,
    WeightedMixtureSampler,
)
from palitune.data.training_set import TargetSampling, TrainingSet, build_training_set
from palitune.distributed import collectives, preemption
from palitune.distributed.strategies import SINGLE_PROCESS, Strategy
from palitune.errors import TrainingError
from palitune.training import validation_loss
from palitune.training.activation_memory import (
    ActivationMemoryCallback,
    activation_offload_context,
    check_device,
)
from palitune.training.arguments import build_training_arguments
from palitune.training.callbacks import RichProgressCallback
from palitune.training.checkpoints import CheckpointManager
from palitune.training.config import TrainingConfig
from palitune.training.early_stopping import (
    EVAL_PREFIX,
    EarlyStoppingCallback,
    patience_exhausted,
    summary_messages,
)
from palitune.training.fsdp import FsdpShards
from palitune.training.loss import count_items, token_weights
from palitune.training.resume import (
    TRAINER_STATE_FILE,
    CheckpointingTrainer,
    Preemption,
    checkpoint_to_resume,
)
from palitune.training.validation_loss import MINITRAIN, MINIVAL
from palitune.training.vision_feature_cache import build_cached_feature_collator

_log = logging.getLogger(__name__)

EvalFn = Callable[[], dict[str, float]]
"""Measures the network: `part/metric` or, of slices of the data, `minival/loss` -> value."""

EpochSampler = GroupByImageSampler | LengthGroupedSampler | WeightedMixtureSampler
"""In which an epoch visits the examples, where it is not by chance alone."""


class EvaluatingTrainer(CheckpointingTrainer):
    """A trainer that is measured by task metrics on the way."""

    def __init__(
        self,
        settings: TrainingConfig,
        checkpoints: CheckpointManager,
        eval_fn: EvalFn | None,
        loss_eval_fn: EvalFn | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.settings = settings
        self.checkpoints = checkpoints
        self.eval_fn = eval_fn
        self.loss_eval_fn = loss_eval_fn

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Measure task metrics by generation; the Trainer's own evaluation only knows losses."""
        assert self.eval_fn is not None
        measured = self.eval_fn() | (self.loss_eval_fn() if self.loss_eval_fn else {})
        metrics = {EVAL_PREFIX + name: value for name, value in measured.items()}
        self.log(dict(metrics))
        self.control: Any = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics


class PrefixTrainer(EvaluatingTrainer):
    # The loss below is already divided by the items of the whole optimizer step.
    loss_is_scaled_for_ga = True

    def __init__(self, *args: Any, sampler: EpochSampler | None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.sampler = sampler
        self._trainable_parameters = [p for p in self.model.parameters() if p.requires_grad]

    def training_step(
        self, model: Any, inputs: Batch, num_items_in_batch: torch.Tensor | None = None
    ) -> torch.Tensor:
        """As the Trainer's own, without walking through every module of the network each time."""
        if not model.training:
            model.train()
        with self.compute_loss_context_manager(), activation_offload_context(self.settings):
            loss = self.compute_loss(model, self._prepare_inputs(inputs), False, num_items_in_batch)
        # DeepSpeed would divide by the micro-batches of the step, too.
        told = {"scale_wrt_gas": False} if self.is_deepspeed_enabled else {}
        self.accelerator.backward(loss, **told)
        return loss.detach()

    def _get_train_sampler(self, train_dataset: TrainingSet | None = None) -> Any:
        return super()._get_train_sampler(train_dataset) if self.sampler is None else self.sampler

    def floating_point_ops(self, inputs: Batch) -> int:
        """Say that none are counted: the Trainer would count all parameters at every step."""
        return 0

    def compute_loss(
        self,
        model: Any,
        inputs: Batch,
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | None = None,
    ) -> torch.Tensor:
        settings = self.settings
        losses = model(**inputs, label_smoothing=settings.label_smoothing).loss
        labels, types = inputs["labels"], inputs["token_type_ids"]
        total = (losses * token_weights(labels, settings.loss_reduction, types)).sum()
        items = num_items_in_batch
        if items is None:
            items = torch.tensor(count_items(labels, settings.loss_reduction, types))
        # Data-parallel training averages gradients over processes; the items are already global.
        loss: torch.Tensor = total / items.to(total.device) * self.accelerator.num_processes
        return loss

    def _clip_grad_norm(self, model: Any) -> Any:
        """As the Trainer's own, without walking through every module of the network twice."""
        return self.accelerator.clip_grad_norm_(self._trainable_parameters, self.args.max_grad_norm)

    def _get_num_items_in_batch(self, batch_samples: list[Batch], device: Any) -> torch.Tensor:
        """Private, but the only hook that sees all micro-batches of one optimizer step."""
        reduction = self.settings.loss_reduction
        items = sum(
            count_items(batch["labels"], reduction, batch["token_type_ids"])
            for batch in batch_samples
        )
        counted = torch.tensor(float(items), device=device)
        return self.accelerator.gather(counted).sum() if self.args.world_size > 1 else counted


class _SetEpochCallback(TrainerCallback):  # type: ignore[misc]
    """Tell the training set its epoch: the loader of a resumed epoch does not pass it on."""

    def __init__(self, training_set: TrainingSet) -> None:
        self.training_set = training_set

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.training_set.set_epoch(int((state.epoch or 0) + 1e-6))


def seed_everything(seed: int) -> None:
    """Seed everything random of this process: initial weights, dropout, sampling."""
    from transformers import set_seed

    set_seed(seed)


def train(
    network: Any,
    processor: Any,
    datasets: list[TaskDataset],
    settings: TrainingConfig,
    augmentation: Augmentation,
    launch: Strategy,
    *,
    seed: int,
    folder: Path,
    validation: list[TaskDataset] | None = None,
    eval_fn: Callable[[], dict[str, float]] | None = None,
    log_fn: Callable[[dict[str, float], int], None] | None = None,
) -> None:
    """Train in place; see `palitune.training.trainer.train`.

    `validation` is what minival is a slice of, `measure` what task metrics are measured by.
    """
    pass

    collator = Collator(
        processor,
        max_length=settings.max_length,
        resize_backend=settings.resize,
        image_cache=settings.image_cache,
    )
    visits = build_training_set(
        ConcatDataset(datasets),
        settings.target_sampling,
        seed,
        augmentation,
        share_per_image=settings.prompts_per_image > 1,
    )
    slices = {MINITRAIN: datasets} | ({MINIVAL: validation} if validation else {})
    if settings.vision_feature_cache is not None:
        collator = build_cached_feature_collator(network, processor, visits, settings)
    elif collator.image_cache:
        collator.image_cache.check_disk_space(visits.examples)
    fit(
        network, collator, visits, settings, launch, seed=seed, folder=folder, eval_fn=eval_fn,
        slices=slices if settings.eval_loss_every else None, log_fn=log_fn,
    )  # fmt: skip


def fit(
    network: Any,
    collator: Collator,
    training_set: TrainingSet,
    settings: TrainingConfig,
    launch: Strategy = SINGLE_PROCESS,
    *,
    seed: int,
    folder: Path,
    eval_fn: EvalFn | None = None,
    slices: validation_loss.PerplexitySlices | None = None,
    log_fn: Callable[[dict[str, float], int], None] | None = None,
) -> None:
    """Train the network's trainable parameters in place; checkpoints go to `folder/checkpoints`.

    With `settings.best_metric` the network ends with the weights of the best measurement. What
    became of the training is said in `folder/training.json`. `slices` is what loss and perplexity
    are measured on, every `settings.eval_loss_every`.
    """
    check_device(settings, network.device)
    losses = _build_loss_eval_fn(network, collator, slices, settings)
    shards = FsdpShards(network, launch)
    eval_fn, losses = (work and shards.wrap_unsharded(work) for work in (eval_fn, losses))
    checkpoints = CheckpointManager(folder / "checkpoints")
    progress = RichProgressCallback(folder / "history.jsonl", log_fn)
    trainer = PrefixTrainer(
        settings,
        checkpoints,
        eval_fn,
        losses,
        sampler=_build_epoch_sampler(settings, collator, training_set, seed),
        model=network,
        args=build_training_arguments(
            settings, seed, folder, do_eval=eval_fn is not None, device=network.device
        ),
        train_dataset=training_set,
        eval_dataset=training_set if eval_fn else None,  # never read: `evaluate` measures instead
        data_collator=collator.collate_train,
        callbacks=[
            progress,
            _SetEpochCallback(training_set),
            EarlyStoppingCallback(settings),
            ActivationMemoryCallback(settings),
            Preemption(),
        ],
    )
    if losses and settings.eval_loss_every:
        log_losses = validation_loss.PeriodicEvalCallback(
            settings.eval_loss_every, lambda: trainer.log(losses())
        )
        trainer.add_callback(log_losses)
    steps = settings.max_steps or math.ceil(
        settings.epochs * math.ceil(len(training_set) / settings.global_batch_size)
    )
    run_training(trainer, progress, folder, steps)
    shards.remove_sharding()


def run_training(
    trainer: EvaluatingTrainer, progress: RichProgressCallback, folder: Path, steps: int
) -> None:
    """Train to the end or go on from a checkpoint, and say in `training.json` what became of it.

    `steps`: those of the whole training.
    """
    settings, checkpoints = trainer.settings, trainer.checkpoints
    trainer.remove_callback(PrinterCallback)
    collectives.run_on_main_process(checkpoints.delete_incomplete)
    checkpoint = checkpoint_to_resume(settings, checkpoints)
    try:
        with preemption.defer_sigterm():
            _resume_or_train(trainer, checkpoint, steps)
    except TrainingError as fault:
        raise TrainingError(f"{fault}; {checkpoints.describe_latest()}") from fault
    except preemption.Preempted as ending:
        raise preemption.Preempted(checkpoints.describe_latest()) from ending
    finally:
        progress.close()
    _write_summary(folder, trainer.state, settings)


def _resume_or_train(trainer: EvaluatingTrainer, checkpoint: Path | None, steps: int) -> None:
    """Train from a checkpoint on; one that was the end of its training is only loaded."""
    state = checkpoint and TrainerState.load_from_json(str(checkpoint / TRAINER_STATE_FILE))
    if checkpoint and state and _is_finished(state, trainer.settings, steps):
        trainer.state = state
        trainer.load_final(checkpoint)
    else:
        trainer.train(resume_from_checkpoint=checkpoint and str(checkpoint))


def _build_loss_eval_fn(
    network: Any,
    collator: Collator,
    slices: validation_loss.PerplexitySlices | None,
    settings: TrainingConfig,
) -> EvalFn | None:
    if not slices:
        return None
    limit, size = settings.eval_loss_max_samples, settings.micro_batch_size
    return lambda: validation_loss.evaluate_perplexity(
        network, collator, slices, limit=limit, batch_size=size
    )


def _is_finished(state: TrainerState, settings: TrainingConfig, steps: int) -> bool:
    """Tell whether patience has ended, or all steps are taken: Trainer would take one more."""
    return state.global_step >= steps or patience_exhausted(state.log_history, settings)


def _write_summary(folder: Path, state: TrainerState, settings: TrainingConfig) -> None:
    """Say what became of the training, in the log and in `training.json` for the report."""
    if not collectives.is_main_process():
        return
    said = summary_messages(state.log_history, settings, state.global_step, state.max_steps)
    for sentence in said:
        _log.info(sentence)
    told = {"steps": state.global_step, "planned_steps": state.max_steps, "remarks": said}
    (folder / "training.json").write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")


def _build_epoch_sampler(
    settings: TrainingConfig, collator: Collator, training_set: TrainingSet, seed: int
) -> EpochSampler | None:
    if settings.prompts_per_image > 1:
        return GroupByImageSampler(training_set, settings.prompts_per_image)
    if not settings.group_by_length:
        return WeightedMixtureSampler(training_set) if training_set.mixture_schedule else None
    together = settings.target_sampling is TargetSampling.all
    lengths = [
        collator.num_tokens(example, all_suffixes=together) for example in training_set.examples
    ]
    return LengthGroupedSampler(training_set, lengths, settings.global_batch_size, seed)
