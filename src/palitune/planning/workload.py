"""The workload of a training run: number and lengths of its rows, counted or assumed."""

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
"""Number of examples, evenly spaced, whose tokens are counted."""
DEFAULT_PREFIX_TOKENS = DEFAULT_SUFFIX_TOKENS = 32
"""Lengths that are assumed without data and without settings."""


@dataclass(frozen=True)
class AssumedLengths:
    """Lengths and number of examples from the settings; None: count them on the data."""

    prefix_tokens: int | None
    suffix_tokens: int | None
    num_examples: int | None


@dataclass(frozen=True)
class Workload:
    """Rows of a training run. Token counts include BOS, newline and EOS, but no image tokens."""

    text: int
    """Tokens of the longest row."""
    suffix: int
    """Tokens of the longest suffix."""
    mean_text: float
    """Padded length of a row, averaged over micro-batches."""
    mean_suffix: float
    row_images: int
    """Images per row."""
    examples: int | None
    images: int | None
    """Different images of all rows."""
    source: str
    """How the numbers were obtained, for messages."""

    def longest_batch(self, model_shape: ModelShape, batch_size: int) -> BatchShape:
        """Return a micro-batch in which every row is as long as the longest."""
        return self._batch_shape(model_shape, batch_size, self.text, self.suffix)

    def mean_batch(self, model_shape: ModelShape, batch_size: int) -> BatchShape:
        """Return a micro-batch of mean length."""
        return self._batch_shape(model_shape, batch_size, self.mean_text, self.mean_suffix)

    def _batch_shape(
        self, model_shape: ModelShape, batch_size: int, text: float, suffix: float
    ) -> BatchShape:
        return BatchShape(
            batch_size,
            seq_len=self.row_images * model_shape.num_patches + round(text),
            num_labels=max(1, round(batch_size * suffix)),
            num_images=batch_size * self.row_images,
        )

    def num_steps(self, settings: TrainingConfig) -> int | None:
        """Return the optimizer steps of a run; None if the number of examples is unknown."""
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
    """Count the tokens of the training examples, or assume lengths if there is no readable data.

    Args:
        data: The training data.
        task: Task of the data.
        model: Model whose tokenizer counts the tokens.
        settings: Training settings.
        assumed_lengths: Lengths from the settings. If both are set, no tokens are counted.
    """
    prefix = assumed_lengths.prefix_tokens or DEFAULT_PREFIX_TOKENS
    suffix = assumed_lengths.suffix_tokens or DEFAULT_SUFFIX_TOKENS
    num_examples = assumed_lengths.num_examples
    assumed = Workload(
        text=prefix + suffix,
        suffix=suffix,
        mean_text=prefix + suffix,
        mean_suffix=suffix,
        row_images=1,
        examples=num_examples,
        images=num_examples,
        source=f"rows of {prefix} prefix and {suffix} suffix tokens, as set or assumed",
    )
    if data is None:
        return assumed
    try:
        examples = ConcatDataset(load_split(data, task, settings.split, tiles=True))
        images = len({(path, e.tile) for e in examples for path in e.images})
        workload = replace(assumed, examples=num_examples or len(examples), images=images)
        if None not in (assumed_lengths.prefix_tokens, assumed_lengths.suffix_tokens):
            return workload
        return _measure_lengths(examples, Collator(load_processor(model)), settings, workload)
    except (DataError, ModelError) as error:
        return replace(
            assumed, source=f"{assumed.source}, because the data could not be read: {error}"
        )


def _measure_lengths(
    examples: Sequence[Example], collator: Collator, settings: TrainingConfig, workload: Workload
) -> Workload:
    all_suffixes = settings.target_sampling is TargetSampling.all
    counted = [examples[index] for index in evenly_spaced(len(examples), MAX_COUNTED_EXAMPLES)]
    texts, suffixes = [], []
    for example in counted:
        num_tokens = collator.num_tokens(example, all_suffixes=all_suffixes)
        prompt = collator.num_tokens(replace(example, suffixes=("",))) - 1  # without EOS
        suffixes.append(num_tokens - prompt)
        texts.append(num_tokens - len(example.images) * collator.tokens_per_image)
    rows = 1 if settings.group_by_length else settings.micro_batch_size
    padded = [max(texts[start : start + rows]) for start in range(0, len(texts), rows)]
    return replace(
        workload,
        text=max(texts),
        suffix=max(suffixes),
        mean_text=sum(padded) / len(padded),
        mean_suffix=sum(suffixes) / len(suffixes),
        row_images=max(len(example.images) for example in counted),
        source=f"rows of at most {max(texts)} tokens plus images, suffixes of at most "
        f"{max(suffixes)}, counted on {len(counted)} of {len(examples)} examples",
    )
