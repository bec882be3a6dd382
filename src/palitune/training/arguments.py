"""`transformers.TrainingArguments` from the settings of a training."""

from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments

from palitune.data.loader_workers import resolve_num_workers
from palitune.distributed import collectives
from palitune.errors import TrainingError
from palitune.training.config import Optimizer, Schedule, TrainingConfig
from palitune.training.state import deepspeed


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
    """Translate the settings.

    Args:
        settings: Settings of the training.
        seed: Random seed.
        folder: Run folder.
        do_eval: Whether to evaluate during training.
        device: Device of the network.
        arguments_class: Class of the arguments, e.g. TRL's `GRPOConfig`.
        extra_arguments: Arguments of that class; they override the settings.

    Raises:
        TrainingError: The settings do not fit the number of processes or DeepSpeed.
    """
    eval_strategy = "no" if not do_eval else "steps" if settings.eval_every else "epoch"
    save_every = settings.save_every or settings.eval_every
    uses_deepspeed = deepspeed.is_enabled()
    if uses_deepspeed:
        deepspeed.configure(settings, device)
    on_cpu = device.type == "cpu"
    make_arguments = partial(
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
        warmup_steps=min(settings.warmup_ratio, 0.999),  # below 1: a share of all steps
        max_grad_norm=settings.max_grad_norm,
        activation_checkpointing=settings.gradient_checkpointing,
        activation_checkpointing_kwargs={"use_reentrant": False},
        logging_steps=settings.log_every,
        logging_first_step=True,
        logging_nan_inf_filter=False,
        eval_strategy=eval_strategy,
        eval_steps=settings.eval_every,
        save_strategy="steps" if save_every else "epoch",
        save_steps=save_every or 500,
        metric_for_best_model=settings.best_metric and f"eval_{settings.best_metric}",
        greater_is_better=settings.greater_is_better,
        ddp_broadcast_buffers=False,  # rotary frequencies and position ids never change
        ddp_find_unused_parameters=False,  # every trainable parameter gets a gradient in every step
        dataloader_num_workers=resolve_num_workers(settings.num_workers),
        dataloader_pin_memory=device.type == "cuda",
        accelerator_config={"non_blocking": device.type == "cuda"},
        remove_unused_columns=False,
        label_names=["labels"],
        report_to=[],
        disable_tqdm=True,
        log_level="error",
        # With use_cpu, accelerate disables DeepSpeed; without a GPU it uses the CPU anyway.
        use_cpu=on_cpu and not uses_deepspeed,
        ddp_backend="gloo" if on_cpu and uses_deepspeed else None,
        seed=seed,
        data_seed=seed,
    )
    arguments: TrainingArguments = make_arguments(**extra_arguments)
    # Set afterwards: the constructor would require save_every to be a multiple of eval_every, which
    # is needless because EarlyStoppingCallback saves every improvement.
    arguments.load_best_model_at_end = settings.best_metric is not None
    # Otherwise one process that sees several GPUs would use all of them with DataParallel, which
    # multiplies the batch and cannot replicate this network.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments


def gradient_accumulation_steps(settings: TrainingConfig) -> int:
    """Return the micro-batches per process and optimizer step.

    Raises TrainingError if a batch cannot be divided evenly among the processes.
    """
    processes = collectives.world_size()
    per_process, rest = divmod(settings.global_batch_size, processes)
    if rest:
        raise TrainingError(
            f"training.global_batch_size must be a multiple of {processes}, the number of "
            f"processes, got {settings.global_batch_size}."
        )
    if per_process % settings.micro_batch_size:
        divisor = max(n for n in range(1, settings.micro_batch_size) if per_process % n == 0)
        raise TrainingError(
            f"training.micro_batch_size must divide {per_process}, the share of each of "
            f"{processes} processes in training.global_batch_size={settings.global_batch_size}, "
            f"got {settings.micro_batch_size}. Set training.micro_batch_size={divisor}."
        )
    return int(per_process // settings.micro_batch_size)
