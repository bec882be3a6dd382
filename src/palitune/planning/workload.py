"""How long the rows of a training are, and how many: counted on the data, or as told."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from palitune.data.collator import Collator
from palitune.data.dataset import ConcatDataset, load_split
from palitune.data.sources.base import Data
from palitune.data.training_set import TargetSampling
from palitune.errors import DataError, ModelError
from palitune.models.config import ModelConfig
from palitune.models.loading import load_processor
from palitune.planning.activation_bytes import BatchShape
from palitune.planning.model_shapes import ModelShape
from palitune.records import Example
from palitune.tasks import Task
from palitune.training.config import TrainingConfig
from palitune.training.sequence_lengths import evenly_spaced

MAX_COUNTED_EXAMPLES = 2_000
"""Examples whose tokens are counted, evenly spaced."""
DEFAULT_PREFIX_TOKENS = DEFAULT_SUFFIX_TOKENS = 32
"""Tokens where neither data nor settings tell."""


@dataclass(frozen=True)
class AssumedLengths:
    """What settings say of the data; null: to be counted."""

    prefix_tokens: int | None
    suffix_tokens: int | None
    num_examples: int | None


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

    def longest_batch(self, model_shape: ModelShape, batch_size: int) -> BatchShape:
        """A micro-batch of rows that are all as long as the longest."""
        return self._batch_shape(model_shape, batch_size, self.text, self.suffix)

    def mean_batch(self, model_shape: ModelShape, batch_size: int) -> BatchShape:
        """A micro-batch of average length."""
        return self._batch_shape(model_shape, batch_size, self.mean_text, self.mean_suffix)

    def _batch_shape(
        self, model_shape: ModelShape, batch_size: int, text: float, suffix: float
    ) -> BatchShape:
        tokens = self.row_images * model_shape.num_patches + round(text)
        return BatchShape(
            batch_size, tokens, max(1, round(batch_size * suffix)), batch_size * self.row_images
        )

    def num_steps(self, settings: TrainingConfig) -> int | None:
        """Optimizer steps of a run; None where the number of examples is unknown."""
        if settings.max_steps is not None:
            return settings.max_steps
        if self.examples is None:
            return None
        return math.ceil(settings.epochs * math.ceil(self.examples / settings.global_batch_size))


def measure_workload(
    data: Data | None,
    task: Task | None,
    model: ModelConfig,
    settings: TrainingConfig,
    assumed_lengths: AssumedLengths,
) -> Workload:
    """Count the tokens of the training examples; where they cannot be read, take what is told."""
    prefix, suffix = (
        assumed_lengths.prefix_tokens or DEFAULT_PREFIX_TOKENS,
        assumed_lengths.suffix_tokens or DEFAULT_SUFFIX_TOKENS,
    )
    text = prefix + suffix
    as_told = f"rows of {prefix} prefix and {suffix} suffix tokens, as set or assumed"
    assumed = Workload(
        text,
        suffix,
        text,
        suffix,
        1,
        assumed_lengths.num_examples,
        assumed_lengths.num_examples,
        as_told,
    )
    if data is None:
        return assumed
    try:
        examples = ConcatDataset(load_split(data, task, settings.split))
        images = len({path for example in examples for path in example.images})
        known = replace(
            assumed, examples=assumed_lengths.num_examples or len(examples), images=images
        )
        if assumed_lengths.prefix_tokens is not None and assumed_lengths.suffix_tokens is not None:
            return known
        return _measure_lengths(examples, Collator(load_processor(model)), settings, known)
    except (DataError, ModelError) as fault:
        return replace(assumed, source=f"{as_told}, since the data was not read: {fault}")


def _measure_lengths(
    examples: Sequence[Example], collator: Collator, settings: TrainingConfig, workload: Workload
) -> Workload:
    together = settings.target_sampling is TargetSampling.all
    chosen = [examples[index] for index in evenly_spaced(len(examples), MAX_COUNTED_EXAMPLES)]
    texts, suffixes = [], []
    for example in chosen:
        whole = collator.num_tokens(example, all_suffixes=together)
        prompt = collator.num_tokens(replace(example, suffixes=("",))) - 1  # without its EOS
        suffixes.append(whole - prompt)
        texts.append(whole - len(example.images) * collator.tokens_per_image)
    rows = 1 if settings.group_by_length else settings.micro_batch_size
    padded = [max(texts[start : start + rows]) for start in range(0, len(texts), rows)]
    return replace(
        workload,
        text=max(texts),
        suffix=max(suffixes),
        mean_text=sum(padded) / len(padded),
        mean_suffix=sum(suffixes) / len(suffixes),
        row_images=max(len(example.images) for example in chosen),
        source=f"rows of at most {max(texts)} tokens besides the image, suffixes of at most "
        f"{max(suffixes)}, counted on {len(chosen)} of {len(examples)} examples",
    )
