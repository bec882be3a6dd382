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

from palitune import preemption, processes
from palitune.training import trees, zero
from palitune.training.checkpoints import Checkpoints, fault_of
from palitune.training.faults import TrainingError
from palitune.training.settings import Training

WEIGHTS, STATE, RECORD = "weights.safetensors", "state", "trainer_state.json"


class Resumable(Trainer):  # type: ignore[misc]
    """Writes and reads the checkpoints of `Trainer` in our own form."""

    settings: Training
    checkpoints: Checkpoints

    @property
    def order(self) -> dict[str, int]:
        """What the place of a step in the data depends on."""
        told = self.settings
        examples = len(self.train_dataset)
        return {"examples": examples, "batch_size": told.batch_size, "seed": self.args.seed}

    def get_train_dataloader(self) -> Any:
        loader = super().get_train_dataloader()
        begin = partial(_deaf, loader.worker_init_fn)
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
        each = processes.gathered({"random": random_states(), **logged})
        if self.is_deepspeed_enabled:
            memory = zero.memory(self.optimizer.optimizer)
        else:
            memory = self.optimizer.state_dict()["state"]
        processes.by_first(lambda: self._write(each, memory))
        self._find_best()

    def _write(self, each: list[dict[str, Any]], memory: dict[int, Any]) -> None:
        """Write a checkpoint out of the states of each process and the optimizer's memory."""
        state, step = self.state, self.state.global_step
        weights = {name: weight.detach().cpu() for name, weight in self._trainable().items()}
        if not all(bool(weight.isfinite().all()) for weight in weights.values()):
            raise TrainingError(
                f"the weights are not numbers any more at step {step}; lower "
                "training.learning_rate or check the data"
            )

        def fill(folder: Path) -> None:
            save_file({k: v.contiguous() for k, v in weights.items()}, folder / WEIGHTS)
            told = {"schedule": self.lr_scheduler.last_epoch, "order": self.order}
            trees.write(folder / STATE, {"optimizer": memory, **told, "processes": each})
            state.save_to_json(str(folder / RECORD))

        self.checkpoints.write(step, fill)
        self.checkpoints.keep(self.settings.keep_checkpoints, state.best_global_step)

    def _find_best(self) -> None:
        """Look for the best checkpoint where this run keeps its own: its folder may have moved."""
        if self.state.best_global_step is not None:
            place = self.checkpoints.of(self.state.best_global_step)
            if place.is_dir():
                self.state.best_model_checkpoint = str(place)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Put the weights of a checkpoint into the network."""
        saved, ours = load_file(Path(resume_from_checkpoint) / WEIGHTS), self._trainable()
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
        if fault := fault_of(Path(self.state.best_model_checkpoint)):
            raise TrainingError(f"the best checkpoint is lost: {fault}")
        self._load_from_checkpoint(self.state.best_model_checkpoint)

    def load_end(self, checkpoint: Path) -> None:
        """Put into the network what a training ended with whose last checkpoint this is."""
        self._find_best()
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
        self._find_best()
        saved = trees.read(Path(checkpoint) / STATE)
        if saved["order"] != self.order:
            told = " and ".join(
                f"{name} was {then} and is {self.order[name]}"
                for name, then in saved["order"].items()
                if then != self.order[name]
            )
            raise TrainingError(
                f"{checkpoint} cannot be gone on with: {told}, so that its place in the data is "
                "lost; begin anew in another output_dir"
            )
        schedule = self.lr_scheduler
        if self.is_deepspeed_enabled:
            zero.remember(self.optimizer.optimizer, saved["optimizer"])
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
        each = trees.read(Path(checkpoint) / STATE)["processes"]
        if len(each) == processes.count():
            mine = each[processes.rank()]
            restore_random_states(mine["random"])
            self._tr_loss += mine["loss"]
            self._globalstep_last_logged = mine["logged"]

    def _trainable(self) -> dict[str, torch.nn.Parameter]:
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad}


class Preemption(TrainerCallback):  # type: ignore[misc]
    """Where the run is asked to end, save the step that is at work and end."""

    def __init__(self) -> None:
        self.ends = False

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if processes.any_of(preemption.asked()):
            self.ends = control.should_save = True

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.ends:
            raise preemption.Preempted


def _deaf(begin: Callable[[int], None], worker: int) -> None:
    """Start a process that reads images: told to end with all others, it serves until the end."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    begin(worker)


def checkpoint_to_resume(settings: Training, checkpoints: Checkpoints) -> Path | None:
    """The checkpoint that a training goes on from, in every process; None where it begins."""
    if settings.resume is None:
        return None
    return processes.by_first(lambda: _chosen(str(settings.resume), checkpoints))


def _chosen(told: str, checkpoints: Checkpoints) -> Path | None:
    if told == "auto":
        return checkpoints.newest_whole()
    if not Path(told).is_dir():
        raise TrainingError(f"training.resume: there is no folder {told}")
    if fault := fault_of(Path(told)):
        raise TrainingError(f"training.resume: {fault}; name another checkpoint, or auto")
    return Path(told)


def random_states() -> dict[str, Any]:
    """The states of all random generators that training may draw from."""
    name, keys, *rest = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": (name, np.asarray(keys).tolist(), *rest),
        "torch": torch.random.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
    }


def restore_random_states(states: Mapping[str, Any]) -> None:
    random.setstate(states["python"])
    np.random.set_state(states["numpy"])
    torch.random.set_rng_state(states["torch"])
    if states["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])
