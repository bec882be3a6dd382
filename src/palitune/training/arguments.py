"""Palitune's settings in the words of `transformers.Trainer`."""

import os
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments

from palitune.errors import TrainingError
from palitune.training import deepspeed
from palitune.training.config import Optimizer, Schedule, TrainingConfig


def build_training_arguments(
    settings: TrainingConfig,
    seed: int,
    folder: Path,
    *,
    do_eval: bool,
    device: torch.device,
    arguments_class: Any = TrainingArguments,
    **extra_arguments: Any,
) -> TrainingArguments:
    """Translate the settings; `measured`: whether anything is measured on the way.

    `kind`: of a trainer that is told `more`, which goes before the settings.
    """
    measure_when = "no" if not do_eval else "steps" if settings.eval_every else "epoch"
    save_every = settings.save_every or settings.eval_every
    by_deepspeed = deepspeed.is_enabled()
    if by_deepspeed:
        deepspeed.configure(settings, device)
    on_cpu = device.type == "cpu"
    told = partial(
        arguments_class,
        output_dir=str(folder / "checkpoints"),
        per_device_train_batch_size=settings.micro_batch_size,
        gradient_accumulation_steps=gradient_accumulation_steps(settings),
        num_train_epochs=settings.epochs,
        max_steps=settings.max_steps or -1,
        learning_rate=settings.learning_rate,
        optim={
            Optimizer.adamw: "adamw_torch_fused",
            Optimizer.adamw_8bit: "adamw_bnb_8bit",
            Optimizer.paged_adamw_8bit: "paged_adamw_8bit",
        }[settings.optimizer],
        adam_beta2=settings.adam_beta2,
        weight_decay=settings.weight_decay,
        lr_scheduler_type={
            Schedule.cosine: "cosine",
            Schedule.linear: "linear",
            Schedule.constant: "constant_with_warmup",
        }[settings.schedule],
        warmup_steps=min(settings.warmup_ratio, 0.999),  # below 1 it is a share of all steps
        max_grad_norm=settings.max_grad_norm,
        activation_checkpointing=settings.gradient_checkpointing,
        activation_checkpointing_kwargs={"use_reentrant": False},
        logging_steps=settings.log_every,
        logging_first_step=True,
        logging_nan_inf_filter=False,
        eval_strategy=measure_when,
        eval_steps=settings.eval_every,
        save_strategy="steps" if save_every else "epoch",
        save_steps=save_every or 500,
        metric_for_best_model=settings.best_metric and f"eval_{settings.best_metric}",
        greater_is_better=settings.greater_is_better,
        ddp_broadcast_buffers=False,  # they are constants: angles and numbers of positions
        dataloader_num_workers=settings.num_workers,
        dataloader_pin_memory=device.type == "cuda",
        remove_unused_columns=False,
        label_names=["labels"],
        report_to=[],
        disable_tqdm=True,
        log_level="error",
        # Told of a CPU, accelerate leaves DeepSpeed out; where there is no GPU it takes one anyway.
        use_cpu=on_cpu and not by_deepspeed,
        ddp_backend="gloo" if on_cpu and by_deepspeed else None,
        seed=seed,
        data_seed=seed,
    )
    made = told(**extra_arguments)
    # Said afterwards: as an argument it would ask that save_every be a multiple of eval_every,
    # which `Stopping` makes needless, since it saves every new best.
    made.load_best_model_at_end = settings.best_metric is not None
    return made


def gradient_accumulation_steps(settings: TrainingConfig) -> int:
    """Return how many micro-batches of a process make an optimizer step.

    Raises TrainingError where the processes cannot share a batch evenly.
    """
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    each, rest = divmod(settings.global_batch_size, processes)
    if rest:
        raise TrainingError(
            f"training.global_batch_size={settings.global_batch_size} cannot be shared by {processes} processes; "
            f"make it a multiple of {processes}"
        )
    if each % settings.micro_batch_size:
        fitting = max(n for n in range(1, settings.micro_batch_size) if each % n == 0)
        raise TrainingError(
            f"training.micro_batch_size={settings.micro_batch_size} does not divide the {each} of "
            f"training.global_batch_size={settings.global_batch_size} examples that each of {processes} "
            f"processes gets; set training.micro_batch_size={fitting}"
        )
    return each // settings.micro_batch_size
