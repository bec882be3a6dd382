"""`transformers.Trainer` under one class that owns loss, normalisation and measurement.

The stock loss scores every position and averages over tokens; this one scores the suffix only and
averages over examples, exactly so under accumulation and on several devices.
"""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import TrainerState
from transformers.trainer_utils import get_last_checkpoint

from palitune.data.collator import Batch, Collator
from palitune.data.visits import Visits
from palitune.training import perplexity
from palitune.training.faults import TrainingError
from palitune.training.loss import count_items, token_weights
from palitune.training.order import ByImage
from palitune.training.progress import Progress
from palitune.training.settings import Optimizer, Schedule, Training
from palitune.training.stopping import MEASURED, Stopping, is_exhausted, remarks

_log = logging.getLogger(__name__)

Measure = Callable[[], dict[str, float]]
"""Measures the network: `part/metric` or, of slices of the data, `minival/loss` -> value."""


class PrefixTrainer(Trainer):  # type: ignore[misc]
    # The loss below is already divided by the items of the whole optimizer step.
    loss_is_scaled_for_ga = True

    def __init__(
        self, settings: Training, measure: Measure | None, losses: Measure | None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.settings = settings
        self.measure = measure
        self.losses = losses

    def training_step(
        self, model: Any, inputs: Batch, num_items_in_batch: torch.Tensor | None = None
    ) -> torch.Tensor:
        """As the Trainer's own, without walking through every module of the network each time."""
        if not model.training:
            model.train()
        with self.compute_loss_context_manager():
            loss = self.compute_loss(model, self._prepare_inputs(inputs), False, num_items_in_batch)
        self.accelerator.backward(loss)
        return loss.detach()

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        if self.settings.side_by_side == 1:
            return super()._get_train_sampler(train_dataset)
        return ByImage(self.train_dataset, self.settings.side_by_side)

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
        measured = self.measure() | (self.losses() if self.losses else {})
        metrics = {MEASURED + name: value for name, value in measured.items()}
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
    slices: perplexity.Slices | None = None,
    log: Callable[[dict[str, float], int], None] | None = None,
) -> None:
    """Train the network's trainable parameters in place; checkpoints go to `folder/checkpoints`.

    With `settings.best_metric` the network ends with the weights of the best measurement. What
    became of the training is said in `folder/training.json`. `slices` is what loss and perplexity
    are measured on, every `settings.perplexity_every`.
    """
    losses = _losses(network, collator, slices, settings)
    trainer = PrefixTrainer(
        settings,
        measure,
        losses,
        model=network,
        args=_arguments(
            settings, seed, folder, measured=measure is not None, device=network.device
        ),
        train_dataset=visits,
        eval_dataset=visits if measure else None,  # never read: `evaluate` measures instead
        data_collator=collator.train,
        callbacks=[Progress(folder / "history.jsonl", log), _Epochs(visits), Stopping(settings)],
    )
    trainer.remove_callback(PrinterCallback)
    if losses and settings.perplexity_every:
        log_losses = perplexity.OnTheWay(settings.perplexity_every, lambda: trainer.log(losses()))
        trainer.add_callback(log_losses)
    checkpoint = _checkpoint_to_resume(settings, folder)
    if checkpoint and (ended := _stopped_early(Path(checkpoint), settings)):
        trainer.state = ended
        trainer._load_from_checkpoint(ended.best_model_checkpoint or checkpoint)
    else:
        trainer.train(resume_from_checkpoint=checkpoint)
    _conclude(folder, trainer.state, settings)


def _losses(
    network: Any, collator: Collator, slices: perplexity.Slices | None, settings: Training
) -> Measure | None:
    if not slices:
        return None
    limit, size = settings.perplexity_limit, settings.micro_batch_size
    return lambda: perplexity.measure(network, collator, slices, limit=limit, batch_size=size)


def _stopped_early(checkpoint: Path, settings: Training) -> TrainerState | None:
    """The state of a training whose patience ended at this checkpoint: there is nothing to do."""
    file = checkpoint / "trainer_state.json"
    state = TrainerState.load_from_json(str(file)) if file.is_file() else None
    return state if state and is_exhausted(state.log_history, settings) else None


def _conclude(folder: Path, state: TrainerState, settings: Training) -> None:
    """Say what became of the training, in the log and in `training.json` for the report."""
    said = remarks(state.log_history, settings, state.global_step, state.max_steps)
    for sentence in said:
        _log.info(sentence)
    told = {"steps": state.global_step, "planned_steps": state.max_steps, "remarks": said}
    (folder / "training.json").write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")


def _arguments(
    settings: Training, seed: int, folder: Path, *, measured: bool, device: torch.device
) -> TrainingArguments:
    measure_when = "no" if not measured else "steps" if settings.validate_every else "epoch"
    save_every = settings.save_every or settings.validate_every
    arguments = TrainingArguments(
        output_dir=str(folder / "checkpoints"),
        per_device_train_batch_size=settings.micro_batch_size,
        gradient_accumulation_steps=_accumulation(settings),
        num_train_epochs=settings.epochs,
        max_steps=settings.max_steps or -1,
        learning_rate=settings.learning_rate,
        optim={
            Optimizer.adamw: "adamw_torch_fused",
            Optimizer.adamw_8bit: "adamw_bnb_8bit",
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
    # Said afterwards: as an argument it would ask that save_every be a multiple of validate_every,
    # which `Stopping` makes needless, since it saves every new best.
    arguments.load_best_model_at_end = settings.best_metric is not None
    return arguments


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
