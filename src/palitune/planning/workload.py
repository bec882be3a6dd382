"""How long the rows of a training are, and how many: counted on the data, or as told."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from palitune import data as datasets
from palitune import models
from palitune.data.collator import Collator
from palitune.data.sources.base import Data
from palitune.data.visits import Suffixes
from palitune.examples import DataError, Example
from palitune.models.checkpoints import Model, ModelError
from palitune.planning.activations import Batch
from palitune.planning.on_paper import Paper
from palitune.tasks import Task
from palitune.training.lengths import spaced
from palitune.training.settings import Training

COUNTED = 2_000
"""Examples whose tokens are counted, evenly spaced."""
PREFIX = SUFFIX = 32
"""Tokens where neither data nor settings tell."""


@dataclass(frozen=True)
class Told:
    """What settings say of the data; null: to be counted."""

    prefix_tokens: int | None
    suffix_tokens: int | None
    examples: int | None


@dataclass(frozen=True)
class Workload:
    """Rows of a training; tokens without those of images, BOS, newline and EOS included."""

    text: int
    """Of the longest row."""
    suffix: int
    """Of the longest suffix."""
    mean_text: float
    """That rows are padded to, on average over micro-batches."""
    mean_suffix: float
    row_images: int
    """Images of a row."""
    examples: int | None
    images: int | None
    """Different ones, over all rows."""
    source: str
    """Where these numbers are from, a sentence."""

    def longest(self, paper: Paper, rows: int) -> Batch:
        """A micro-batch of rows that are all as long as the longest."""
        return self._batch(paper, rows, self.text, self.suffix)

    def usual(self, paper: Paper, rows: int) -> Batch:
        """A micro-batch of average length."""
        return self._batch(paper, rows, self.mean_text, self.mean_suffix)

    def _batch(self, paper: Paper, rows: int, text: float, suffix: float) -> Batch:
        tokens = self.row_images * paper.patches + round(text)
        return Batch(rows, tokens, max(1, round(rows * suffix)), rows * self.row_images)

    def steps(self, settings: Training) -> int | None:
        """Optimizer steps of a run; None where the number of examples is unknown."""
        if settings.max_steps is not None:
            return settings.max_steps
        if self.examples is None:
            return None
        return math.ceil(settings.epochs * math.ceil(self.examples / settings.batch_size))


def look(
    data: Data | None, task: Task | None, model: Model, settings: Training, told: Told
) -> Workload:
    """Count the tokens of the training examples; where they cannot be read, take what is told."""
    prefix, suffix = told.prefix_tokens or PREFIX, told.suffix_tokens or SUFFIX
    text = prefix + suffix
    as_told = f"rows of {prefix} prefix and {suffix} suffix tokens, as set or assumed"
    assumed = Workload(text, suffix, text, suffix, 1, told.examples, told.examples, as_told)
    if data is None:
        return assumed
    try:
        examples = datasets.concatenate(datasets.load(data, task, settings.split))
        images = len({path for example in examples for path in example.images})
        known = replace(assumed, examples=told.examples or len(examples), images=images)
        if told.prefix_tokens is not None and told.suffix_tokens is not None:
            return known
        return _counted(examples, Collator(models.load_processor(model)), settings, known)
    except (DataError, ModelError) as fault:
        return replace(assumed, source=f"{as_told}, since the data was not read: {fault}")


def _counted(
    examples: Sequence[Example], collator: Collator, settings: Training, known: Workload
) -> Workload:
    together = settings.suffixes is Suffixes.all
    chosen = [examples[index] for index in spaced(len(examples), COUNTED)]
    texts, suffixes = [], []
    for example in chosen:
        whole = collator.length(example, together=together)
        prompt = collator.length(replace(example, suffixes=("",))) - 1  # without its EOS
        suffixes.append(whole - prompt)
        texts.append(whole - len(example.images) * collator.tokens_per_image)
    rows = 1 if settings.group_by_length else settings.micro_batch_size
    padded = [max(texts[start : start + rows]) for start in range(0, len(texts), rows)]
    return replace(
        known,
        text=max(texts),
        suffix=max(suffixes),
        mean_text=sum(padded) / len(padded),
        mean_suffix=sum(suffixes) / len(suffixes),
        row_images=max(len(example.images) for example in chosen),
        source=f"rows of at most {max(texts)} tokens besides the image, suffixes of at most "
        f"{max(suffixes)}, counted on {len(chosen)} of {len(examples)} examples",
    )
