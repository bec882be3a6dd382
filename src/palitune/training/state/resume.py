"""Contents of a checkpoint: a resumed training equals one that was never interrupted.

transformers writes checkpoints as pickles and in place; these are safetensors and JSON with
checksums. They contain the trainable weights, the optimizer state, the step of the schedule and of
the data order, and the states of the random generators of every process.
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
from transformers.trainer_callback import TrainerState

from palitune.distributed import collectives, preemption
from palitune.errors import TrainingError
from palitune.training.config import TrainingConfig
from palitune.training.state import deepspeed, state_files
from palitune.training.state.checkpoints import CheckpointManager, validate_checkpoint
from palitune.training.state.paged_optimizer import restore_paging

WEIGHTS_FILE, STATE_STEM, TRAINER_STATE_FILE = "weights.safetensors", "state", "trainer_state.json"


class CheckpointingTrainer(Trainer):  # type: ignore[misc]
    """A Trainer that writes and reads our checkpoints."""

    settings: TrainingConfig
    checkpoints: CheckpointManager

    @property
    def data_order_settings(self) -> dict[str, int]:
        """Settings that determine which examples a step trains on."""
        return {
            "examples": len(self.train_dataset),
            "global_batch_size": self.settings.global_batch_size,
            "seed": self.args.seed,
        }

    def get_train_dataloader(self) -> Any:
        loader = super().get_train_dataloader()
        init_fn = partial(_init_worker_ignoring_sigterm, loader.worker_init_fn)
        # accelerate reads from the inner loader, and copies the outer one when a run is resumed.
        loader.worker_init_fn = loader.base_dataloader.worker_init_fn = init_fn
        return loader

    def _prepare_for_training(self, steps: int, loader: Any, checkpoint: str | None) -> Any:
        """Load our checkpoint instead of the stock one if DeepSpeed is enabled."""
        if not self.is_deepspeed_enabled or checkpoint is None:
            return super()._prepare_for_training(steps, loader, checkpoint)
        prepared = super()._prepare_for_training(steps, loader, None)
        self._load_from_checkpoint(checkpoint)
        self._load_optimizer_and_scheduler(checkpoint)
        return prepared

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Write a checkpoint in the main process; an error there is raised in all processes."""
        logged = {"loss": float(self._tr_loss), "logged": self._globalstep_last_logged}
        processes = collectives.gather_to_main({"random": get_rng_states(), **logged})
        if self.is_deepspeed_enabled:
            optimizer_state = deepspeed.optimizer_state(self.optimizer.optimizer)
        else:
            optimizer_state = self.optimizer.state_dict()["state"]
        state = {
            "optimizer": optimizer_state,
            "scaler": self.accelerator.scaler and self.accelerator.scaler.state_dict(),
            "schedule": self.lr_scheduler.last_epoch,
            "order": self.data_order_settings,
            "processes": processes,
        }
        collectives.run_on_main_process(lambda: self._write_checkpoint(state))
        self._locate_best_checkpoint()

    def _write_checkpoint(self, state: dict[str, Any]) -> None:
        step = self.state.global_step
        weights = {
            name: weight.detach().cpu().contiguous()
            for name, weight in self._named_trainable_parameters().items()
        }
        if not all(bool(weight.isfinite().all()) for weight in weights.values()):
            raise TrainingError(
                f"training diverged at step {step} (NaN or infinite weights); lower "
                "training.learning_rate or check the data"
            )

        def write_files(folder: Path) -> None:
            save_file(weights, folder / WEIGHTS_FILE)
            state_files.save_tree(folder / STATE_STEM, state)
            self.state.save_to_json(str(folder / TRAINER_STATE_FILE))

        self.checkpoints.save(step, write_files)
        self.checkpoints.prune(self.settings.keep_checkpoints, self.state.best_global_step)

    def _locate_best_checkpoint(self) -> None:
        """Update the path of the best checkpoint, since the run folder may have moved."""
        if self.state.best_global_step is not None:
            path = self.checkpoints.path(self.state.best_global_step)
            if path.is_dir():
                self.state.best_model_checkpoint = str(path)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Load the weights of a checkpoint into the network."""
        saved = load_file(Path(resume_from_checkpoint) / WEIGHTS_FILE)
        parameters = self._named_trainable_parameters()
        shapes = {name: tuple(weight.shape) for name, weight in parameters.items()}
        saved_shapes = {name: tuple(weight.shape) for name, weight in saved.items()}
        if differences := sorted(set(shapes.items()) ^ set(saved_shapes.items())):
            name, _ = differences[0]
            raise TrainingError(
                f"{resume_from_checkpoint} was trained with other adapter settings: {name} has "
                f"shape {saved_shapes.get(name)} there and {shapes.get(name)} in this run. Use the "
                "same adapter settings, or another output_dir."
            )
        with torch.no_grad():
            for name, weight in parameters.items():
                weight.copy_(saved[name])

    def _load_best_model(self) -> None:
        if error := validate_checkpoint(Path(self.state.best_model_checkpoint)):
            raise TrainingError(f"The best checkpoint cannot be loaded: {error}.")
        self._load_from_checkpoint(self.state.best_model_checkpoint)

    def load_final(self, checkpoint: Path) -> None:
        """Load the final weights of a finished training from its last checkpoint."""
        self.state = TrainerState.load_from_json(str(checkpoint / TRAINER_STATE_FILE))
        self._locate_best_checkpoint()
        if self.args.load_best_model_at_end and self.state.best_model_checkpoint is not None:
            self._load_best_model()
        else:
            self._load_from_checkpoint(str(checkpoint))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """Load the optimizer state and the step of the schedule.

        Learning rate, weight decay and the like are those of this run's settings.
        """
        if checkpoint is None:
            return
        self._locate_best_checkpoint()
        saved = state_files.load_tree(Path(checkpoint) / STATE_STEM)
        order = self.data_order_settings
        if saved["order"] != order:
            changes = " and ".join(
                f"{name} was {value} and is now {order[name]}"
                for name, value in saved["order"].items()
                if value != order[name]
            )
            raise TrainingError(
                f"Cannot resume from {checkpoint}: {changes}. Start a new run in another "
                "output_dir."
            )
        if self.is_deepspeed_enabled:
            deepspeed.load_optimizer_state(self.optimizer.optimizer, saved["optimizer"])
        else:
            groups = self.optimizer.state_dict()["param_groups"]
            self.optimizer.load_state_dict({"state": saved["optimizer"], "param_groups": groups})
            restore_paging(self.optimizer.optimizer)
        if self.accelerator.scaler and saved.get("scaler"):
            self.accelerator.scaler.load_state_dict(saved["scaler"])
        schedule = self.lr_scheduler
        schedule.last_epoch = saved["schedule"]
        rates = [
            rate * scale(schedule.last_epoch)
            for rate, scale in zip(schedule.base_lrs, schedule.lr_lambdas, strict=True)
        ]
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        schedule._last_lr = rates

    def _load_rng_state(self, checkpoint: str | None) -> None:
        """Load the random generators and the loss sum of this process.

        They are not restored if the number of processes has changed.
        """
        if checkpoint is None:
            return
        processes = state_files.load_tree(Path(checkpoint) / STATE_STEM)["processes"]
        if len(processes) == collectives.world_size():
            state = processes[collectives.rank()]
            set_rng_states(state["random"])
            self._tr_loss += state["loss"]
            self._globalstep_last_logged = state["logged"]

    def _named_trainable_parameters(self) -> dict[str, torch.nn.Parameter]:
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad}


class PreemptionCallback(TrainerCallback):  # type: ignore[misc]
    """After SIGTERM in any process, save a checkpoint of the current step and end the run."""

    def __init__(self) -> None:
        self.preempted = False

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if collectives.any_rank(preemption.preemption_requested()):
            self.preempted = control.should_save = True

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.preempted:
            raise preemption.Preempted


def _init_worker_ignoring_sigterm(worker_init_fn: Callable[[int], None], worker_id: int) -> None:
    """Start a data worker that continues after SIGTERM, so that the current step can finish."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    worker_init_fn(worker_id)


def checkpoint_to_resume(settings: TrainingConfig, checkpoints: CheckpointManager) -> Path | None:
    """Return the checkpoint to resume from, in every process; None for a new training."""
    if settings.resume is None:
        return None
    return collectives.run_on_main_process(
        lambda: _resolve_resume(str(settings.resume), checkpoints)
    )


def _resolve_resume(resume: str, checkpoints: CheckpointManager) -> Path | None:
    if resume == "auto":
        return checkpoints.latest_valid()
    if not Path(resume).is_dir():
        raise TrainingError(f"training.resume: folder {resume} does not exist.")
    if error := validate_checkpoint(Path(resume)):
        raise TrainingError(f"training.resume: {error}. Set it to another checkpoint, or to auto.")
    return Path(resume)


def get_rng_states() -> dict[str, Any]:
    """Return the states of all random generators that training may use."""
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
