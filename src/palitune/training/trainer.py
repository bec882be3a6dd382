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

from palitune import preemption, processes
from palitune.data.by_image import ByImage
from palitune.data.by_length import ByLength
from palitune.data.collator import Batch, Collator
from palitune.data.in_proportion import InProportion
from palitune.data.visits import Suffixes, Visits
from palitune.engines import ALONE, Launch
from palitune.training import perplexity
from palitune.training.arguments import arguments
from palitune.training.checkpoints import Checkpoints
from palitune.training.faults import TrainingError
from palitune.training.holding import Layers, check_device, saved_activations
from palitune.training.loss import count_items, token_weights
from palitune.training.progress import Progress
from palitune.training.resuming import RECORD, Preemption, Resumable, checkpoint_to_resume
from palitune.training.settings import Training
from palitune.training.sharding import Shards
from palitune.training.stopping import MEASURED, Stopping, is_exhausted, remarks

_log = logging.getLogger(__name__)

Measure = Callable[[], dict[str, float]]
"""Measures the network: `part/metric` or, of slices of the data, `minival/loss` -> value."""

Order = ByImage | ByLength | InProportion
"""In which an epoch visits the examples, where it is not by chance alone."""


class Measured(Resumable):
    """A trainer that is measured by task metrics on the way."""

    def __init__(
        self,
        settings: Training,
        checkpoints: Checkpoints,
        measure: Measure | None,
        losses: Measure | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.settings = settings
        self.checkpoints = checkpoints
        self.measure = measure
        self.losses = losses

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


class PrefixTrainer(Measured):
    # The loss below is already divided by the items of the whole optimizer step.
    loss_is_scaled_for_ga = True

    def __init__(self, *args: Any, sampler: Order | None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.sampler = sampler
        self._trained = [p for p in self.model.parameters() if p.requires_grad]

    def training_step(
        self, model: Any, inputs: Batch, num_items_in_batch: torch.Tensor | None = None
    ) -> torch.Tensor:
        """As the Trainer's own, without walking through every module of the network each time."""
        if not model.training:
            model.train()
        with self.compute_loss_context_manager(), saved_activations(self.settings):
            loss = self.compute_loss(model, self._prepare_inputs(inputs), False, num_items_in_batch)
        # DeepSpeed would divide by the micro-batches of the step, too.
        told = {"scale_wrt_gas": False} if self.is_deepspeed_enabled else {}
        self.accelerator.backward(loss, **told)
        return loss.detach()

    def _get_train_sampler(self, train_dataset: Visits | None = None) -> Any:
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
        return self.accelerator.clip_grad_norm_(self._trained, self.args.max_grad_norm)

    def _get_num_items_in_batch(self, batch_samples: list[Batch], device: Any) -> torch.Tensor:
        """Private, but the only hook that sees all micro-batches of one optimizer step."""
        reduction = self.settings.loss_reduction
        items = sum(
            count_items(batch["labels"], reduction, batch["token_type_ids"])
            for batch in batch_samples
        )
        counted = torch.tensor(float(items), device=device)
        return self.accelerator.gather(counted).sum() if self.args.world_size > 1 else counted


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
    launch: Launch = ALONE,
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
    check_device(settings, network.device)
    losses = _losses(network, collator, slices, settings)
    shards = Shards(network, launch)
    measure, losses = (work and shards.around(work) for work in (measure, losses))
    checkpoints = Checkpoints(folder / "checkpoints")
    progress = Progress(folder / "history.jsonl", log)
    trainer = PrefixTrainer(
        settings,
        checkpoints,
        measure,
        losses,
        sampler=_order(settings, collator, visits, seed),
        model=network,
        args=arguments(settings, seed, folder, measured=measure is not None, device=network.device),
        train_dataset=visits,
        eval_dataset=visits if measure else None,  # never read: `evaluate` measures instead
        data_collator=collator.train,
        callbacks=[
            progress,
            _Epochs(visits),
            Stopping(settings),
            Layers(settings),
            Preemption(),
        ],
    )
    if losses and settings.perplexity_every:
        log_losses = perplexity.OnTheWay(settings.perplexity_every, lambda: trainer.log(losses()))
        trainer.add_callback(log_losses)
    steps = settings.max_steps or math.ceil(
        settings.epochs * math.ceil(len(visits) / settings.batch_size)
    )
    carry_out(trainer, progress, folder, steps)
    shards.end()


def carry_out(trainer: Measured, progress: Progress, folder: Path, steps: int) -> None:
    """Train to the end or go on from a checkpoint, and say in `training.json` what became of it.

    `steps`: those of the whole training.
    """
    settings, checkpoints = trainer.settings, trainer.checkpoints
    trainer.remove_callback(PrinterCallback)
    processes.by_first(checkpoints.clear)
    checkpoint = checkpoint_to_resume(settings, checkpoints)
    try:
        with preemption.postponed():
            _go_on(trainer, checkpoint, steps)
    except TrainingError as fault:
        raise TrainingError(f"{fault}; {checkpoints.said()}") from fault
    except preemption.Preempted as ending:
        raise preemption.Preempted(checkpoints.said()) from ending
    finally:
        progress.close()
    _conclude(folder, trainer.state, settings)


def _go_on(trainer: Measured, checkpoint: Path | None, steps: int) -> None:
    """Train from a checkpoint on; one that was the end of its training is only loaded."""
    state = checkpoint and TrainerState.load_from_json(str(checkpoint / RECORD))
    if checkpoint and state and _is_over(state, trainer.settings, steps):
        trainer.state = state
        trainer.load_end(checkpoint)
    else:
        trainer.train(resume_from_checkpoint=checkpoint and str(checkpoint))


def _losses(
    network: Any, collator: Collator, slices: perplexity.Slices | None, settings: Training
) -> Measure | None:
    if not slices:
        return None
    limit, size = settings.perplexity_limit, settings.micro_batch_size
    return lambda: perplexity.measure(network, collator, slices, limit=limit, batch_size=size)


def _is_over(state: TrainerState, settings: Training, steps: int) -> bool:
    """Tell whether patience has ended, or all steps are taken: Trainer would take one more."""
    return state.global_step >= steps or is_exhausted(state.log_history, settings)


def _conclude(folder: Path, state: TrainerState, settings: Training) -> None:
    """Say what became of the training, in the log and in `training.json` for the report."""
    if not processes.is_first():
        return
    said = remarks(state.log_history, settings, state.global_step, state.max_steps)
    for sentence in said:
        _log.info(sentence)
    told = {"steps": state.global_step, "planned_steps": state.max_steps, "remarks": said}
    (folder / "training.json").write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")


def _order(settings: Training, collator: Collator, visits: Visits, seed: int) -> Order | None:
    if settings.side_by_side > 1:
        return ByImage(visits, settings.side_by_side)
    if not settings.group_by_length:
        return InProportion(visits, visits.proportions) if visits.proportions else None
    together = settings.suffixes is Suffixes.all
    lengths = [collator.length(example, together=together) for example in visits.examples]
    return ByLength(visits, lengths, settings.batch_size, seed)
