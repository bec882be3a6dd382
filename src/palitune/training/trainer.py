"""`transformers.Trainer` under one class that owns loss, normalisation and measurement.

The stock loss scores every position and averages over tokens; this one scores the suffix only and
averages over examples, exactly so under accumulation and on several devices.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

from palitune.data.by_length import ByLength
from palitune.data.collator import Batch, Collator
from palitune.data.visits import Suffixes, Visits
from palitune.training.faults import TrainingError
from palitune.training.holding import Layers, check_device, saved_activations
from palitune.training.loss import count_items, token_weights
from palitune.training.progress import Progress
from palitune.training.settings import Optimizer, Schedule, Training

Measure = Callable[[], dict[str, float]]
"""Measures the network on the validation split: `part/metric` -> value."""


class PrefixTrainer(Trainer):  # type: ignore[misc]
    # The loss below is already divided by the items of the whole optimizer step.
    loss_is_scaled_for_ga = True

    def __init__(
        self, settings: Training, measure: Measure | None, order: ByLength | None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.order = order
        self.settings = settings
        self.measure = measure

    def training_step(
        self, model: Any, inputs: Batch, num_items_in_batch: torch.Tensor | None = None
    ) -> torch.Tensor:
        """As the Trainer's own, without walking through every module of the network each time."""
        if not model.training:
            model.train()
        with self.compute_loss_context_manager(), saved_activations(self.settings):
            loss = self.compute_loss(model, self._prepare_inputs(inputs), False, num_items_in_batch)
        self.accelerator.backward(loss)
        return loss.detach()

    def _get_train_sampler(self, train_dataset: Visits | None = None) -> Any:
        return super()._get_train_sampler(train_dataset) if self.order is None else self.order

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

    def _get_num_items_in_batch(self, batch_samples: list[Batch], device: Any) -> torch.Tensor:
        """Private, but the only hook that sees all micro-batches of one optimizer step."""
        reduction = self.settings.loss_reduction
        items = sum(
            count_items(batch["labels"], reduction, batch["token_type_ids"])
            for batch in batch_samples
        )
        counted = torch.tensor(float(items), device=device)
        return self.accelerator.gather(counted).sum() if self.args.world_size > 1 else counted

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Measure task metrics by generation; the Trainer's own evaluation only knows losses."""
        assert self.measure is not None
        metrics = {f"eval_{name}": value for name, value in self.measure().items()}
        self.log(dict(metrics))
        self.control: Any = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics


class _Epochs(TrainerCallback):  # type: ignore[misc]
    """Tell the training set its epoch: the loader of a resumed epoch does not pass it on."""

    def __init__(self, visits: Visits) -> None:
        self.visits = visits

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.visits.set_epoch(int((state.epoch or 0) + 1e-6))


def train(
    network: Any,
    collator: Collator,
    visits: Visits,
    settings: Training,
    *,
    seed: int,
    folder: Path,
    measure: Measure | None = None,
    log: Callable[[dict[str, float], int], None] | None = None,
) -> None:
    """Train the network's trainable parameters in place; checkpoints go to `folder/checkpoints`.

    With `settings.best_metric` the network ends with the weights of the best measurement.
    """
    check_device(settings, network.device)
    trainer = PrefixTrainer(
        settings,
        measure,
        _order(settings, collator, visits, seed),
        model=network,
        args=_arguments(
            settings, seed, folder, measured=measure is not None, device=network.device
        ),
        train_dataset=visits,
        eval_dataset=visits if measure else None,  # never read: `evaluate` measures instead
        data_collator=collator.train,
        callbacks=[Progress(folder / "history.jsonl", log), _Epochs(visits), Layers(settings)],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train(resume_from_checkpoint=_checkpoint_to_resume(settings, folder))


def _order(settings: Training, collator: Collator, visits: Visits, seed: int) -> ByLength | None:
    if not settings.group_by_length:
        return None
    together = settings.suffixes is Suffixes.all
    lengths = [collator.length(example, together=together) for example in visits.examples]
    return ByLength(visits, lengths, settings.batch_size, seed)


def _arguments(
    settings: Training, seed: int, folder: Path, *, measured: bool, device: torch.device
) -> TrainingArguments:
    measure_when = "no" if not measured else "steps" if settings.validate_every else "epoch"
    save_every = settings.save_every or settings.validate_every
    return TrainingArguments(
        output_dir=str(folder / "checkpoints"),
        per_device_train_batch_size=settings.micro_batch_size,
        gradient_accumulation_steps=_accumulation(settings),
        num_train_epochs=settings.epochs,
        max_steps=settings.max_steps or -1,
        learning_rate=settings.learning_rate,
        optim={
            Optimizer.adamw: "adamw_torch_fused",
            Optimizer.adamw_8bit: "adamw_bnb_8bit",
            Optimizer.adamw_8bit_paged: "paged_adamw_8bit",
        }[settings.optimizer],
        adam_beta2=settings.adam_beta2,
        weight_decay=settings.weight_decay,
        lr_scheduler_type={
            Schedule.cosine: "cosine",
            Schedule.linear: "linear",
            Schedule.constant: "constant_with_warmup",
        }[settings.schedule],
        warmup_steps=min(settings.warmup, 0.999),  # below 1 it is a share of all steps
        max_grad_norm=settings.max_gradient_norm,
        activation_checkpointing=settings.gradient_checkpointing,
        activation_checkpointing_kwargs={"use_reentrant": False},
        logging_steps=settings.log_every,
        logging_first_step=True,
        logging_nan_inf_filter=False,
        eval_strategy=measure_when,
        eval_steps=settings.validate_every,
        save_strategy="steps" if save_every else "epoch",
        save_steps=save_every or 500,
        save_total_limit=settings.keep_checkpoints,
        load_best_model_at_end=settings.best_metric is not None,
        metric_for_best_model=settings.best_metric and f"eval_{settings.best_metric}",
        greater_is_better=settings.best_is_highest,
        dataloader_num_workers=settings.workers,
        dataloader_pin_memory=device.type == "cuda",
        remove_unused_columns=False,
        label_names=["labels"],
        report_to=[],
        disable_tqdm=True,
        log_level="error",
        use_cpu=device.type == "cpu",
        seed=seed,
        data_seed=seed,
    )


def _accumulation(settings: Training) -> int:
    import os

    per_step = settings.micro_batch_size * int(os.environ.get("WORLD_SIZE", "1"))
    if settings.batch_size % per_step:
        raise TrainingError(
            f"training.batch_size {settings.batch_size} is not a multiple of micro_batch_size x "
            f"processes = {per_step}"
        )
    return settings.batch_size // per_step


def _checkpoint_to_resume(settings: Training, folder: Path) -> str | None:
    if settings.resume is None:
        return None
    if settings.resume != "auto":
        if not Path(settings.resume).is_dir():
            raise TrainingError(f"training.resume: there is no folder {settings.resume}")
        return settings.resume
    checkpoints = folder / "checkpoints"
    last: str | None = get_last_checkpoint(str(checkpoints)) if checkpoints.is_dir() else None
    return last
