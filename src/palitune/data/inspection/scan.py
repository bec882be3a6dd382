"""Inspection of all components and splits in one pass over their rows."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from palitune.codec.masks import load_codec
from palitune.codec.text_tokens import RoundTripCheck
from palitune.data.dataset import whole_images
from palitune.data.example_cache import (
    DuplicateIdError,
    iterate_examples,
    rare_garbage_collection,
    with_progress,
)
from palitune.data.inspection.bad_rows import BadRowGroup, BadRowGroups
from palitune.data.inspection.duplicate_images import DuplicateImages, find_duplicates
from palitune.data.inspection.object_stats import ObjectStats
from palitune.data.inspection.reservoir import Reservoir
from palitune.data.inspection.text_stats import AnswerStats, TokenLengthStats
from palitune.data.skipped import SkipCounter
from palitune.data.sources.base import DatasetSpec
from palitune.data.sources.split_files import canonical_split
from palitune.data.sources.validation import short_repr
from palitune.errors import DataError
from palitune.metrics.objects.codec_upper_bound import CodecUpperBound, UpperBounds
from palitune.records import Example, Row, Size, Tile, instance_from_json, instance_to_json
from palitune.tasks import Task
from palitune.tasks.mask_task import MaskTask

MAX_LISTED_BAD_ROWS = 100
"""Bad rows that are listed with their message; all are counted."""


@dataclass(frozen=True, kw_only=True)
class InspectionConfig:
    """Scope and limits of an inspection."""

    splits: Sequence[str]
    """Splits to inspect; empty: all that exist."""
    train_split: str
    """Split that is used for training."""
    max_length: int
    """Maximum tokens per example in training."""
    num_samples: int
    """Random examples to show per component and split."""
    codec_samples: int
    """Images per component and split whose masks are encoded and decoded."""


@dataclass(frozen=True, kw_only=True)
class SplitReport:
    """The inspection of one split of one component."""

    component: str
    split: str
    task: Task
    stats: dict[str, Any]
    """The entry of `inspection.json`."""
    samples: list[tuple[Row, Example]]
    """Random rows with the examples that the task wrote from them."""
    skipped: list[str]
    """Messages for the first bad rows."""
    bad_row_groups: list[BadRowGroup]
    """All bad rows by cause, the most frequent first."""
    label_counts: Counter[str]
    """Number of objects by label, also of labels that the task does not use."""
    classes: tuple[str, ...]
    """All classes of the source."""
    images: list[str]
    codec_upper_bounds: UpperBounds


@dataclass(frozen=True, kw_only=True)
class InspectionReport:
    splits: list[SplitReport]
    duplicates: DuplicateImages

    def raise_for_bad_rows(self) -> None:
        """Raise DataError if any row of any split is bad."""
        if bad := sum(report.stats["bad_rows"] for report in self.splits):
            first = next(report.skipped[0] for report in self.splits if report.skipped)
            raise DataError(f"bad rows: {bad}, the first: {first}")


def scan(
    specs: Sequence[DatasetSpec], processor: Any, config: InspectionConfig
) -> InspectionReport:
    """Inspect the configured splits of all data sets. Bad rows are counted, not raised.

    Raises DataError if a split does not exist, a file cannot be read, or no row can be used.
    """
    reports = [
        Inspector(
            spec if split == config.train_split else whole_images(spec), split, processor, config
        ).run()
        for spec in specs
        for split in splits_to_inspect(spec, config)
    ]
    if not any(report.stats["examples"] for report in reports):
        bad = [message for report in reports for message in report.skipped]
        raise DataError(f"no row can be used, the first: {bad[0]}" if bad else "the data is empty")
    images: dict[str, list[str]] = {}
    for report in reports:
        images.setdefault(report.split, []).extend(report.images)
    duplicates = find_duplicates(images)
    for first, second in list(duplicates.across_splits):
        if any(spec.source.shares_rows(first, second) for spec in specs):
            del duplicates.across_splits[first, second]  # composed on purpose
    return InspectionReport(splits=reports, duplicates=duplicates)


def splits_to_inspect(spec: DatasetSpec, config: InspectionConfig) -> list[str]:
    """Return the splits to inspect: the configured ones, or all that exist."""
    if config.splits:
        return list(dict.fromkeys(map(canonical_split, config.splits)))
    existing = spec.source.available_splits()
    if not existing:
        spec.source.annotation_file("train")  # raises an error that lists the searched files
    return existing


@dataclass
class Inspector:
    """Collects the statistics of one split."""

    spec: DatasetSpec
    split: str
    processor: Any
    config: InspectionConfig
    num_bad_rows: int = 0
    duplicate_ids: int = 0
    num_examples: int = 0
    num_empty_suffixes: int = 0
    num_control_words: int = 0
    """Examples with a text such as `<eos>`, which is tokenized as plain characters."""
    skipped: list[str] = field(default_factory=list)
    bad_row_groups: BadRowGroups = field(default_factory=BadRowGroups)
    prompt_counts: Counter[tuple[tuple[str, ...], Tile | None, str]] = field(
        default_factory=Counter
    )
    """Number of examples by (images, tile, prompt)."""
    image_sizes: Counter[Size] = field(default_factory=Counter)
    classes: dict[str, None] = field(default_factory=dict)
    skip_counter: SkipCounter = field(default_factory=SkipCounter)
    answer_stats: AnswerStats = field(default_factory=AnswerStats)

    def __post_init__(self) -> None:
        side = self.processor.image_processor.size["width"]
        tokens: int = self.processor.image_seq_length
        self.token_lengths = TokenLengthStats(self.processor.tokenizer, tokens)
        self.round_trip = RoundTripCheck(self.token_lengths.tokenizer)
        self.object_stats = ObjectStats(side, side / tokens**0.5)
        self.sample_reservoir: Reservoir[tuple[Row, Example]] = Reservoir(self.config.num_samples)
        has_masks = isinstance(self.spec.task, MaskTask)
        self.mask_reservoir: Reservoir[tuple[Size, list[dict[str, Any]]]] = Reservoir(
            self.config.codec_samples if has_masks else 0
        )

    def run(self) -> SplitReport:
        """Read all rows and return the report."""
        source, task = self.spec.source, self.spec.task
        pairs = iterate_examples(
            source, task, self.split, self._add_bad_row, self.skip_counter,
            allow_missing_references=True,
        )  # fmt: skip
        pairs = islice(pairs, source.max_samples)
        with rare_garbage_collection():
            for row, example in with_progress(pairs, f"inspecting {self.spec.name}, {self.split}"):
                try:
                    self._check_suffixes(example)
                except DataError as error:
                    self._add_bad_row(error)
                else:
                    self._update(row, example)
        upper_bounds = self._codec_upper_bounds()
        return SplitReport(
            component=self.spec.name,
            split=self.split,
            task=task,
            stats=self._stats(upper_bounds),
            samples=self.sample_reservoir.samples(),
            skipped=self.skipped,
            bad_row_groups=self.bad_row_groups.most_frequent(),
            label_counts=self.object_stats.objects_per_class,
            classes=tuple(self.classes),
            images=list({path: None for images, *_ in self.prompt_counts for path in images}),
            codec_upper_bounds=upper_bounds,
        )

    def _add_bad_row(self, error: DataError) -> None:
        self.num_bad_rows += 1
        self.duplicate_ids += isinstance(error, DuplicateIdError)
        self.bad_row_groups.add(str(error))
        if len(self.skipped) < MAX_LISTED_BAD_ROWS:
            self.skipped.append(str(error))

    def _check_suffixes(self, example: Example) -> None:
        """Raise DataError if the tokens of a suffix decode to another text."""
        for suffix in example.suffixes:
            decoded = self.round_trip.decoded_if_changed(suffix)
            if decoded is not None:
                raise DataError(
                    f"{example.location}: the suffix {short_repr(suffix)} cannot be learned: its "
                    f"tokens are those of {short_repr(decoded)}. Replace the characters that "
                    "differ."
                )

    def _update(self, row: Row, example: Example) -> None:
        self.num_examples += 1
        self.num_empty_suffixes += bool(example.suffixes) and not any(example.suffixes)
        self.num_control_words += any(
            map(self.round_trip.tokenizer.has_control_words, (example.prefix, *example.suffixes))
        )
        self.prompt_counts[example.images, example.tile, example.prefix] += 1
        self.image_sizes[example.size] += 1
        self.classes |= dict.fromkeys(row.classes or ())
        self.token_lengths.add(example)
        self.answer_stats.add(example)
        self.sample_reservoir.add(lambda: (row, example))
        if row.instances is not None:
            instances = row.instances
            self.object_stats.add(instances, row.size)
            if any(i.mask is not None for i in instances):
                self.mask_reservoir.add(
                    lambda: (row.size, [instance_to_json(i) for i in instances])
                )

    def _codec_upper_bounds(self) -> UpperBounds:
        """Encode and decode the masks of the sampled images."""
        if not isinstance(self.spec.task, MaskTask):
            return {}
        metric = CodecUpperBound(load_codec(self.spec.task.codec))
        description = f"codec upper bound, {self.spec.name} {self.split}"
        for size, instances in with_progress(self.mask_reservoir.samples(), description):
            metric.update(map(instance_from_json, instances), size)
        return metric.compute()

    def _stats(self, upper_bounds: UpperBounds) -> dict[str, Any]:
        repeated = sum(count - 1 for count in self.prompt_counts.values())
        by_area = sorted(self.image_sizes, key=lambda size: size[0] * size[1])
        codec = [
            {"class": label, "size": extent, "iou": round(b.iou, 4), "objects": b.num_objects}
            for (label, extent), b in upper_bounds.items()
        ]
        return {
            "part": self.spec.name,
            "split": self.split,
            "task": self.spec.task.name,
            "examples": self.num_examples,
            "images": len({images for images, *_ in self.prompt_counts}),
            "bad_rows": self.num_bad_rows,
            "duplicate_ids": self.duplicate_ids,
            "repeated_questions": repeated,
            "empty_suffixes": self.num_empty_suffixes,
            "control_words": self.num_control_words,
            "image_sizes": {
                "smallest": by_area[:1],
                "largest": by_area[-1:],
                "different": len(by_area),
            },
            "tokens": self.token_lengths.summary(
                self.config.max_length, self.spec.task.max_new_tokens
            ),
            "objects": self.object_stats.summary(),
            "answers": self.answer_stats.summary(),
            "codec_ceiling": {"images": len(self.mask_reservoir.samples()), "iou": codec},
            "left_out": self.skip_counter.messages(),
            "tiles": self.skip_counter.tile_counts and self.skip_counter.tile_counts.summary(),
            "bad": self.skipped,
            "bad_by_cause": [
                {"cause": group.cause, "rows": group.count, "first": group.messages}
                for group in self.bad_row_groups.most_frequent()
            ],
        }
