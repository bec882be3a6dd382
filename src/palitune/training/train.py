"""Supervised training of an adapter from start or checkpoint to its end."""

import logging
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from transformers.trainer_callback import TrainerState

from palitune.codec.parsing import format_json
from palitune.data.dataset import TaskDataset
from palitune.distributed import collectives, preemption
from palitune.distributed.strategies import SINGLE_PROCESS, Strategy
from palitune.errors import TrainingError
from palitune.training.activation_memory import check_device
from palitune.training.arguments import build_training_arguments
from palitune.training.callbacks import EvalFn, LogFn
from palitune.training.config import TrainingConfig
from palitune.training.data import TrainingData
from palitune.training.early_stopping import patience_exhausted, summary_messages
from palitune.training.state.fsdp import FsdpShards
from palitune.training.state.resume import TRAINER_STATE_FILE, checkpoint_to_resume
from palitune.training.trainer import EvaluatingTrainer, PrefixTrainer
from palitune.training.validation_loss import (
    MINITRAIN,
    MINIVAL,
    PeriodicEvalCallback,
    evaluate_perplexity,
)
from palitune.training.vision_feature_cache import build_cached_feature_collator

_log = logging.getLogger(__name__)


def train(
    network: Any,
    data: TrainingData,
    settings: TrainingConfig,
    folder: Path,
    *,
    launch: Strategy = SINGLE_PROCESS,
    validation: list[TaskDataset] | None = None,
    eval_fn: EvalFn | None = None,
    log_fn: LogFn | None = None,
) -> None:
    """Train the trainable parameters of a network in place.

    With `settings.best_metric` the network ends with the weights of the best validation, otherwise
    with those of the last step. Checkpoints, `history.jsonl` and `training.json` are written to the
    run folder.

    Args:
        network: Network with its adapter.
        data: Training set and collator.
        settings: Settings of the training.
        folder: Run folder.
        launch: Strategy of a run of several processes.
        validation: Components from which minival is sampled, for `settings.eval_loss_every`.
        eval_fn: Computes task metrics, for `settings.eval_every`.
        log_fn: Called with every log entry and its step.

    Raises:
        TrainingError: The training cannot start, diverges, or cannot write a checkpoint.
        Preempted: SIGTERM was received; a checkpoint is saved.
    """
    check_device(settings, network.device)
    if settings.vision_feature_cache is not None:
        data = replace(data, collator=build_cached_feature_collator(network, data, settings))
    loss_eval_fn = _make_loss_eval_fn(network, data, validation, settings)
    shards = FsdpShards(network, launch)
    # Generation and the validation loss need the complete weights on every process.
    eval_fn, loss_eval_fn = (fn and shards.wrap_unsharded(fn) for fn in (eval_fn, loss_eval_fn))
    trainer = PrefixTrainer(
        settings,
        data,
        folder=folder,
        eval_fn=eval_fn,
        loss_eval_fn=loss_eval_fn,
        log_fn=log_fn,
        model=network,
        args=build_training_arguments(
            settings,
            data.training_set.seed,
            folder,
            do_eval=eval_fn is not None,
            device=network.device,
        ),
    )
    if loss_eval_fn and settings.eval_loss_every:
        trainer.add_callback(
            PeriodicEvalCallback(settings.eval_loss_every, lambda: trainer.log(loss_eval_fn()))
        )
    steps_per_epoch = math.ceil(len(data.training_set) / settings.global_batch_size)
    run_trainer(trainer, settings.max_steps or math.ceil(settings.epochs * steps_per_epoch))
    shards.remove_sharding()


def run_trainer(trainer: EvaluatingTrainer, num_steps: int) -> None:
    """Run a training of `num_steps` optimizer steps from its start or from a checkpoint.

    The outcome is logged and written to `training.json`.
    """
    checkpoints = trainer.checkpoints
    collectives.run_on_main_process(checkpoints.delete_incomplete)
    checkpoint = checkpoint_to_resume(trainer.settings, checkpoints)
    if trainer.settings.resume is None:
        collectives.run_on_main_process(checkpoints.delete_all)  # of a run that is overwritten
    is_finished = checkpoint is not None and _is_finished(checkpoint, trainer.settings, num_steps)
    _log_start(trainer.settings, checkpoint, num_steps, is_finished=is_finished)
    try:
        with preemption.defer_sigterm():
            if checkpoint and is_finished:
                trainer.load_final(checkpoint)
            else:
                trainer.train(resume_from_checkpoint=checkpoint and str(checkpoint))
    except TrainingError as error:
        raise TrainingError(f"{error}; {checkpoints.describe_latest()}") from error
    except preemption.Preempted as signal:
        raise preemption.Preempted(checkpoints.describe_latest()) from signal
    finally:
        trainer.progress.close()
    if collectives.is_main_process():
        _write_summary(trainer)


def _make_loss_eval_fn(
    network: Any,
    data: TrainingData,
    validation: list[TaskDataset] | None,
    settings: TrainingConfig,
) -> EvalFn | None:
    if not settings.eval_loss_every:
        return None
    splits = {MINITRAIN: data.datasets} | ({MINIVAL: validation} if validation else {})
    return lambda: evaluate_perplexity(
        network,
        data.collator,
        splits,
        max_samples=settings.eval_loss_max_samples,
        batch_size=settings.micro_batch_size,
    )


def _is_finished(checkpoint: Path, settings: TrainingConfig, num_steps: int) -> bool:
    """Return whether a checkpoint ends its training; the Trainer would run one more step."""
    state = TrainerState.load_from_json(str(checkpoint / TRAINER_STATE_FILE))
    return state.global_step >= num_steps or patience_exhausted(state.log_history, settings)


def _log_start(
    settings: TrainingConfig, checkpoint: Path | None, num_steps: int, *, is_finished: bool
) -> None:
    """Log the step from which a resumed training continues."""
    if settings.resume is None:
        return
    if checkpoint is None:
        _log.info("there is no checkpoint to resume from: training starts at step 0")
        return
    step = TrainerState.load_from_json(str(checkpoint / TRAINER_STATE_FILE)).global_step
    if is_finished:
        _log.info("the training in %s is finished (step %d of %d)", checkpoint, step, num_steps)
    else:
        _log.info("resuming at step %d of %d from %s", step, num_steps, checkpoint)


def _write_summary(trainer: EvaluatingTrainer) -> None:
    """Log the outcome of a training and write it to `training.json` for the report."""
    state = trainer.state
    remarks = summary_messages(
        state.log_history, trainer.settings, state.global_step, state.max_steps
    )
    for remark in remarks:
        _log.info(remark)
    summary = {"steps": state.global_step, "planned_steps": state.max_steps, "remarks": remarks}
    text = format_json(summary, indent=2) + "\n"
    (trainer.folder / "training.json").write_text(text, encoding="utf-8")
