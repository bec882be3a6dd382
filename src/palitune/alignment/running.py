"""From settings to a trainer of TRL, and its run."""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from datasets import Dataset

from palitune import data, processes
from palitune.alignment import pairs
from palitune.alignment.pairs import PairCollator
from palitune.alignment.prompts import Prompts, shuffled
from palitune.alignment.samples import Samples
from palitune.alignment.sampling import sample_pairs
from palitune.alignment.scoring import Scorer
from palitune.alignment.settings import SAMPLED, Alignment, Method
from palitune.alignment.trainers import Aligned, Before, Dpo, Grpo, Rloo, release
from palitune.data.augmentation import Augmentation, NoAugmentation
from palitune.data.collator import Collator
from palitune.data.dataset import Part
from palitune.data.visits import Suffixes, Visits, visits_to
from palitune.training.arguments import arguments
from palitune.training.checkpoints import Checkpoints
from palitune.training.faults import TrainingError
from palitune.training.holding import Layers, check_device
from palitune.training.progress import Progress
from palitune.training.resuming import Preemption
from palitune.training.settings import Training
from palitune.training.stopping import Stopping
from palitune.training.trainer import Measure, carry_out

Log = Callable[[dict[str, float], int], None]


@dataclass(frozen=True, kw_only=True)
class Run:
    """What every method is given."""

    network: Any
    processor: Any
    parts: list[Part]
    how: Alignment
    settings: Training
    augmentation: Augmentation
    seed: int
    folder: Path
    measure: Measure | None
    log: Log | None

    @property
    def collator(self) -> Collator:
        told = self.settings
        return Collator(
            self.processor,
            max_length=told.max_length,
            images=told.images,
            image_store=told.image_store,
        )

    def visits(self, augmentation: Augmentation) -> Visits:
        examples = data.concatenate(self.parts)
        return visits_to(examples, Suffixes.first, self.seed, augmentation)

    @property
    def longest(self) -> int:
        """Tokens that an answer may have."""
        return max(part.task.max_new_tokens for part in self.parts)

    def steps(self, visits: int, at_once: int) -> int:
        """Optimizer steps, where an epoch has so many prompts or pairs, and a step so many."""
        return self.settings.max_steps or math.ceil(self.settings.epochs * visits / at_once)

    def carry_out(
        self,
        kind: type[Aligned],
        config: Any,
        dataset: Dataset,
        steps: int,
        epoch: int,
        told: dict[str, Any],
        **given: Any,
    ) -> None:
        """Make a trainer of its kind, `told` its own settings and `given` the rest, and train.

        `epoch`: steps between measurements where the settings do not say.
        """
        network, measure = self.network, self.measure
        every = self.settings.validate_every or epoch
        settings = replace(self.settings, validate_every=every if measure else None)
        check_device(settings, network.device)
        progress = Progress(self.folder / "history.jsonl", self.log)
        args = arguments(
            settings, self.seed, self.folder, measured=measure is not None, device=network.device,
            kind=config, max_steps=steps, beta=self.how.weight, disable_dropout=True,
            gradient_checkpointing=settings.gradient_checkpointing,
            ddp_find_unused_parameters=False,
            bf16=False, **told,  # the precision is the base's, as in all other trainings
        )  # fmt: skip
        # TRL asks transformers for a property by the name it had before.
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing`")
        trainer = kind(
            settings,
            Checkpoints(self.folder / "checkpoints"),
            measure,
            model=network,
            args=args,
            train_dataset=dataset,
            eval_dataset=dataset if measure else None,  # never read: `evaluate` measures instead
            callbacks=[progress, Stopping(settings), Layers(settings), Preemption()],
            **given,
        )
        trainer.add_callback(Before(trainer))
        trainer.add_callback(Samples(self.folder, self.how.shown, trainer.latest))
        try:
            carry_out(trainer, progress, self.folder, steps)
        finally:
            release(network)


def by_reward(run: Run) -> None:
    """Tune by the rewards of sampled answers, with GRPO or RLOO."""
    from trl import GRPOConfig, RLOOConfig

    how, batch_size, collator = run.how, run.settings.batch_size, run.collator
    visits = run.visits(run.augmentation)
    if batch_size % how.group:
        raise TrainingError(
            f"training.batch_size {batch_size} counts answers, and {how.group} of them are to one "
            f"prompt: make it a multiple of group={how.group}"
        )
    at_once = batch_size // how.group
    steps = run.steps(len(visits), at_once)
    prompts = Prompts(visits, steps * at_once)
    prefixes = [visit.example.prefix for visit in prompts]
    rows = {"prompt": prefixes, "place": list(range(len(prompts)))}
    told = {
        "num_generations": how.group,
        "num_generations_eval": 1,
        "temperature": how.temperature,
        "epsilon": how.clip,
        "max_completion_length": run.longest,
        "generation_kwargs": {"suppress_tokens": [collator.image_token]},
        "shuffle_dataset": False,
        "dataloader_num_workers": 0,
    }
    kind, config = (Grpo, GRPOConfig) if how.method is Method.grpo else (Rloo, RLOOConfig)
    run.carry_out(
        kind, config, Dataset.from_dict(rows), steps, math.ceil(len(visits) / at_once), told,
        visits=len(visits), prompts=prompts, collator=collator, scorer=Scorer(run.parts),
        processing_class=run.processor.tokenizer,
    )  # fmt: skip


def by_preference(run: Run) -> None:
    """Tune by pairs of answers, with DPO."""
    from trl import DPOConfig

    found = _pairs(run)
    batch_size = run.settings.batch_size
    steps = run.steps(len(found), batch_size)
    epochs = range(math.ceil(steps * batch_size / len(found)))
    order = [place for epoch in epochs for place in shuffled(len(found), run.seed, epoch)]
    run.carry_out(
        Dpo, DPOConfig, Dataset.from_dict({"image": order[: steps * batch_size]}), steps,
        math.ceil(len(found) / batch_size), {"max_length": None}, visits=len(found),
        data_collator=PairCollator(run.collator, found), processing_class=run.processor,
    )  # fmt: skip


def _pairs(run: Run) -> list[pairs.Pair]:
    """Read the pairs; sample them first, unless a resumed run has done so."""
    if run.how.pairs != SAMPLED:
        return pairs.read(Path(run.how.pairs).expanduser())
    file, settings = run.folder / pairs.FILE, run.settings
    is_there = processes.by_first(lambda: settings.resume is not None and file.is_file())
    if not is_there:
        visits = run.visits(NoAugmentation())  # pairs are read back from a file, without views
        prompts = Prompts(visits, min(len(visits), run.how.sampled_prompts))
        sample_pairs(
            run.network, run.collator, prompts, Scorer(run.parts), run.how, run.folder,
            steps=settings.max_steps, batch_size=settings.batch_size, max_new_tokens=run.longest,
        )  # fmt: skip
    return processes.by_first(lambda: pairs.read(file))
