"""One alignment run: network, data and settings, and the training of a TRL trainer with them."""

import math
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from datasets import Dataset

from palitune.alignment.completion_log import CompletionLogCallback
from palitune.alignment.config import AlignmentConfig
from palitune.alignment.trainers import (
    AlignmentTrainer,
    EvalBeforeTrainingCallback,
    remove_trl_state,
)
from palitune.training.activation_memory import check_device
from palitune.training.arguments import build_training_arguments
from palitune.training.callbacks import EvalFn, LogFn
from palitune.training.config import TrainingConfig
from palitune.training.data import TrainingData
from palitune.training.train import run_trainer


@dataclass(frozen=True, kw_only=True)
class AlignmentRun:
    """Everything that the methods train with."""

    network: Any
    """Network with a LoRA adapter; trained in place."""
    processor: Any
    """Processor of the model."""
    data: TrainingData
    config: AlignmentConfig
    settings: TrainingConfig
    folder: Path
    """Run folder."""
    eval_fn: EvalFn | None = None
    """Computes task metrics, before, during and after the training."""
    log_fn: LogFn | None = None
    """Called with every log entry and its step."""

    @property
    def max_new_tokens(self) -> int:
        """Maximum tokens of a generation."""
        return max(dataset.task.max_new_tokens for dataset in self.data.datasets)

    def num_steps(self, samples_per_epoch: int, samples_per_step: int) -> int:
        """Return the number of optimizer steps."""
        epochs = self.settings.epochs
        return self.settings.max_steps or math.ceil(epochs * samples_per_epoch / samples_per_step)

    def train(
        self,
        trainer_class: type[AlignmentTrainer],
        arguments_class: Any,
        dataset: Dataset,
        *,
        samples_per_epoch: int,
        samples_per_step: int,
        trl_arguments: dict[str, Any],
        **trainer_kwargs: Any,
    ) -> None:
        """Create a trainer and run it.

        Args:
            trainer_class: Class of the trainer.
            arguments_class: TRL's class of its arguments.
            dataset: Rows of the whole run in their order.
            samples_per_epoch: Prompts or pairs per epoch.
            samples_per_step: Prompts or pairs per optimizer step, over all devices.
            trl_arguments: Arguments of `arguments_class` beyond those of the settings.
            trainer_kwargs: Arguments of `trainer_class`.
        """
        check_device(self.settings, self.network.device)
        settings = self.settings
        # Task metrics are computed once per epoch by default.
        if self.eval_fn and not settings.eval_every:
            settings = replace(settings, eval_every=math.ceil(samples_per_epoch / samples_per_step))
        elif not self.eval_fn:
            settings = replace(settings, eval_every=None)
        steps = self.num_steps(samples_per_epoch, samples_per_step)
        arguments = build_training_arguments(
            settings,
            self.data.training_set.seed,
            self.folder,
            do_eval=self.eval_fn is not None,
            device=self.network.device,
            arguments_class=arguments_class,
            max_steps=steps,
            beta=self.config.effective_beta,
            disable_dropout=True,
            gradient_checkpointing=settings.gradient_checkpointing,
            bf16=False,  # model.dtype and adapter settings define the precision
            **trl_arguments,
        )
        # TRL reads a property of transformers by a deprecated name.
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing`")
        trainer = trainer_class(
            settings,
            self.folder,
            eval_fn=self.eval_fn,
            log_fn=self.log_fn,
            model=self.network,
            args=arguments,
            train_dataset=dataset,
            samples_per_epoch=samples_per_epoch,
            **trainer_kwargs,
        )
        trainer.add_callback(EvalBeforeTrainingCallback(trainer))
        trainer.add_callback(
            CompletionLogCallback(
                self.folder, self.config.num_completions_to_print, trainer.latest_completions
            )
        )
        try:
            run_trainer(trainer, steps)
        finally:
            remove_trl_state(self.network)
