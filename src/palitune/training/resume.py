"""What a checkpoint holds, so that a resumed training is the one that was never interrupted.

transformers' own checkpoints are pickles written in place; these are safetensors and JSON, checked
when read: trainable weights, optimizer, place in the schedule and in the data, and of every process
the states of its random generators.
"""

import random
import signal
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from transformers import Trainer, TrainerCallback

from palitune.distributed import collectives, preemption
from palitune.errors import TrainingError
from palitune.training import deepspeed, state_files
from palitune.training.checkpoints import CheckpointManager, validate_checkpoint
from palitune.training.config import TrainingConfig

WEIGHTS_FILE, STATE_STEM, TRAINER_STATE_FILE = "weights.safetensors", "state", "trainer_state.json"


class CheckpointingTrainer(Trainer):  # type: ignore[misc]
    """Writes and reads the checkpoints of `Trainer` in our own form."""

    settings: TrainingConfig
    checkpoints: CheckpointManager

    @property
    def data_order_settings(self) -> dict[str, int]:
        """What the place of a step in the data depends on."""
        told = self.settings
        examples = len(self.train_dataset)
        return {
            "examples": examples,
            "global_batch_size": told.global_batch_size,
            "seed": self.args.seed,
        }

    def get_train_dataloader(self) -> Any:
        loader = super().get_train_dataloader()
        begin = partial(_init_worker_ignoring_sigterm, loader.worker_init_fn)
        # accelerate reads from the inner one, and copies the outer one when a run is resumed.
        loader.worker_init_fn = loader.base_dataloader.worker_init_fn = begin
        return loader

    def _prepare_for_training(self, steps: int, loader: Any, checkpoint: str | None) -> Any:
        """Prepare as ever; with DeepSpeed, which would look for its own, load our checkpoint."""
        ours = self.is_deepspeed_enabled and checkpoint is not None
        prepared = super()._prepare_for_training(steps, loader, None if ours else checkpoint)
        if ours:
            self._load_from_checkpoint(str(checkpoint))
            self._load_optimizer_and_scheduler(checkpoint)
        return prepared

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Write a checkpoint; the first process does, and what keeps it from it ends them all."""
        logged = {"loss": float(self._tr_loss), "logged": self._globalstep_last_logged}
        each = collectives.gather_to_main({"random": get_rng_states(), **logged})
        if self.is_deepspeed_enabled:
            memory = deepspeed.optimizer_state(self.optimizer.optimizer)
        else:
            memory = self.optimizer.state_dict()["state"]
        collectives.run_on_main_process(lambda: self._write_checkpoint(each, memory))
        self._locate_best_checkpoint()

    def _write_checkpoint(
        self, process_states: list[dict[str, Any]], optimizer_state: dict[int, Any]
    ) -> None:
        """Write a checkpoint out of the states of each process and the optimizer's memory."""
        state, step = self.state, self.state.global_step
        weights = {
            name: weight.detach().cpu()
            for name, weight in self._named_trainable_parameters().items()
        }
        if not all(bool(weight.isfinite().all()) for weight in weights.values()):
            raise TrainingError(
                f"the weights are not numbers any more at step {step}; lower "
                "training.learning_rate or check the data"
            )

        def fill(folder: Path) -> None:
            save_file({k: v.contiguous() for k, v in weights.items()}, folder / WEIGHTS_FILE)
            told = {"schedule": self.lr_scheduler.last_epoch, "order": self.data_order_settings}
            state_files.save_tree(
                folder / STATE_STEM,
                {"optimizer": optimizer_state, **told, "processes": process_states},
            )
            state.save_to_json(str(folder / TRAINER_STATE_FILE))

        self.checkpoints.save(step, fill)
        self.checkpoints.prune(self.settings.keep_checkpoints, state.best_global_step)

    def _locate_best_checkpoint(self) -> None:
        """Look for the best checkpoint where this run keeps its own: its folder may have moved."""
        if self.state.best_global_step is not None:
            place = self.checkpoints.path(self.state.best_global_step)
            if place.is_dir():
                self.state.best_model_checkpoint = str(place)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Put the weights of a checkpoint into the network."""
        saved, ours = (
            load_file(Path(resume_from_checkpoint) / WEIGHTS_FILE),
            self._named_trainable_parameters(),
        )
        if odd := sorted(saved.keys() ^ ours.keys()):
            raise TrainingError(
                f"{resume_from_checkpoint} trained other weights than this run ({odd[0]}); take "
                "the adapter settings it was made with, or another output_dir"
            )
        with torch.no_grad():
            for name, weight in ours.items():
                if weight.shape != saved[name].shape:
                    raise TrainingError(
                        f"{resume_from_checkpoint}: {name} is {tuple(saved[name].shape)}, this "
                        f"run's is {tuple(weight.shape)}; take the adapter settings it was made "
                        "with, or another output_dir"
                    )
                weight.copy_(saved[name])

    def _load_best_model(self) -> None:
        if fault := validate_checkpoint(Path(self.state.best_model_checkpoint)):
            raise TrainingError(f"the best checkpoint is lost: {fault}")
        self._load_from_checkpoint(self.state.best_model_checkpoint)

    def load_final(self, checkpoint: Path) -> None:
        """Put into the network what a training ended with whose last checkpoint this is."""
        self._locate_best_checkpoint()
        if self.args.load_best_model_at_end and self.state.best_model_checkpoint is not None:
            self._load_best_model()
        else:
            self._load_from_checkpoint(str(checkpoint))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """Go on with the optimizer's memory and the place in the schedule.

        Learning rate, decay and the like are those that this run was told.
        """
        if checkpoint is None:
            return
        self._locate_best_checkpoint()
        saved = state_files.load_tree(Path(checkpoint) / STATE_STEM)
        if saved["order"] != self.data_order_settings:
            told = " and ".join(
                f"{name} was {then} and is {self.data_order_settings[name]}"
                for name, then in saved["order"].items()
                if then != self.data_order_settings[name]
            )
            raise TrainingError(
                f"{checkpoint} cannot be gone on with: {told}, so that its place in the data is "
                "lost; begin anew in another output_dir"
            )
        schedule = self.lr_scheduler
        if self.is_deepspeed_enabled:
            deepspeed.load_optimizer_state(self.optimizer.optimizer, saved["optimizer"])
        else:
            groups = self.optimizer.state_dict()["param_groups"]
            self.optimizer.load_state_dict({"state": saved["optimizer"], "param_groups": groups})
        schedule.last_epoch = saved["schedule"]
        rates = [
            rate * shape(schedule.last_epoch)
            for rate, shape in zip(schedule.base_lrs, schedule.lr_lambdas, strict=True)
        ]
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        schedule._last_lr = rates

    def _load_rng_state(self, checkpoint: str | None) -> None:
        """Go on with the random numbers, and the sum of losses, of this process.

        Where there were other processes, chance is another, too.
        """
        if checkpoint is None:
            return
        each = state_files.load_tree(Path(checkpoint) / STATE_STEM)["processes"]
        if len(each) == collectives.world_size():
            mine = each[collectives.rank()]
            set_rng_states(mine["random"])
            self._tr_loss += mine["loss"]
            self._globalstep_last_logged = mine["logged"]

    def _named_trainable_parameters(self) -> dict[str, torch.nn.Parameter]:
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad}


class Preemption(TrainerCallback):  # type: ignore[misc]
    """Where the run is asked to end, save the step that is at work and end."""

    def __init__(self) -> None:
        self.preempted = False

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if collectives.any_rank(preemption.preemption_requested()):
            self.preempted = control.should_save = True

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.preempted:
            raise preemption.Preempted


def _init_worker_ignoring_sigterm(worker_init_fn: Callable[[int], None], worker_id: int) -> None:
    """Start a process that reads images: told to end with all others, it serves until the end."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    worker_init_fn(worker_id)


def checkpoint_to_resume(settings: TrainingConfig, checkpoints: CheckpointManager) -> Path | None:
    """The checkpoint that a training goes on from, in every process; None where it begins."""
    if settings.resume is None:
        return None
    return collectives.run_on_main_process(
        lambda: _resolve_resume(str(settings.resume), checkpoints)
    )


def _resolve_resume(resume: str, checkpoints: CheckpointManager) -> Path | None:
    if resume == "auto":
        return checkpoints.latest_valid()
    if not Path(resume).is_dir():
        raise TrainingError(f"training.resume: there is no folder {resume}")
    if fault := validate_checkpoint(Path(resume)):
        raise TrainingError(f"training.resume: {fault}; name another checkpoint, or auto")
    return Path(resume)


def get_rng_states() -> dict[str, Any]:
    """The states of all random generators that training may draw from."""
    name, keys, *rest = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": (name, np.asarray(keys).tolist(), *rest),
        "torch": torch.random.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
    }


def set_rng_states(states: Mapping[str, Any]) -> None:
    random.setstate(states["python"])
    np.random.set_state(states["numpy"])
    torch.random.set_rng_state(states["torch"])
    if states["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])
