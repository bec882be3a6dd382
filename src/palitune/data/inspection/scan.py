"""One pass over every part and split: what its rows hold, and what the task makes of them."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from palitune.codec.masks import load_codec
from palitune.data.inspection.duplicate_images import DuplicateImages, find_duplicates
from palitune.data.inspection.object_stats import ObjectStats
from palitune.data.inspection.reservoir import Reservoir
from palitune.data.inspection.text_stats import AnswerStats, TokenLengthStats
from palitune.data.skipped import SkipCounter
from palitune.data.sources.base import DatasetSpec
from palitune.data.sources.split_files import canonical_split
from palitune.errors import DataError
from palitune.metrics.objects.codec_upper_bound import CodecUpperBound, UpperBounds
from palitune.records import Example, Row, Size, instance_from_json, instance_to_json
from palitune.tasks import Task
from palitune.tasks.mask_task import MaskTask

T = TypeVar("T")

MAX_LISTED_BAD_ROWS = 100
"""Bad rows that are kept with their sentence; all are counted."""


@dataclass(frozen=True, kw_only=True)
class InspectionConfig:
    """How much is looked at."""

    splits: Sequence[str]
    """Empty: all that exist."""
    train_split: str
    """The split that training takes."""
    max_length: int
    """Tokens that training allows an example."""
    num_samples: int
    """Examples of each part and split that are kept, drawn at random."""
    codec_samples: int
    """Images of each part and split whose masks are written and read back."""


@dataclass(frozen=True, kw_only=True)
class SplitReport:
    """What one split of one part holds."""

    component: str
    split: str
    task: Task
    stats: dict[str, Any]
    """As `inspection.json` has them."""
    samples: list[Example]
    skipped: list[str]
    """A sentence for each of the first bad rows."""
    label_counts: Counter[str]
    """Objects by label, asked for or not."""
    classes: tuple[str, ...]
    """Every class that the source knows."""
    images: list[str]
    codec_upper_bounds: UpperBounds


@dataclass(frozen=True, kw_only=True)
class InspectionReport:
    splits: list[SplitReport]
    duplicates: DuplicateImages


def scan(
    specs: Sequence[DatasetSpec], processor: Any, config: InspectionConfig
) -> InspectionReport:
    """Look through every part and split that is asked for.

    Bad rows are counted, not raised. Raises DataError where a file as a whole cannot be read, where
    there is no such split, and where no row at all can be used.
    """
    found = [
        Inspector(pairing, split, processor, config).run()
        for pairing in specs
        for split in splits_to_inspect(pairing, config)
    ]
    bad = [sentence for one in found for sentence in one.skipped]
    if not any(one.stats["examples"] for one in found):
        raise DataError(f"no row can be used, the first: {bad[0]}" if bad else "the data is empty")
    images: dict[str, list[str]] = {}
    for one in found:
        images.setdefault(one.split, []).extend(one.images)
    return InspectionReport(splits=found, duplicates=find_duplicates(images))


def splits_to_inspect(spec: DatasetSpec, config: InspectionConfig) -> list[str]:
    """Return the splits to look through; those that are named must exist."""
    if config.splits:
        return list(dict.fromkeys(map(canonical_split, config.splits)))
    existing = spec.source.available_splits()
    if not existing:
        spec.source.annotation_file("train")  # says what is missing, and where it was looked for
    return existing


@dataclass
class Inspector:
    """The pass over one split, while it goes on."""

    spec: DatasetSpec
    split: str
    processor: Any
    config: InspectionConfig
    location_by_id: dict[str, str] = field(default_factory=dict)
    num_bad_rows: int = 0
    duplicate_ids: int = 0
    num_examples: int = 0
    num_empty_suffixes: int = 0
    skipped: list[str] = field(default_factory=list)
    prompt_counts: Counter[tuple[tuple[str, ...], str]] = field(default_factory=Counter)
    """Examples by images and prompt."""
    image_sizes: Counter[Size] = field(default_factory=Counter)
    classes: dict[str, None] = field(default_factory=dict)
    skip_counter: SkipCounter = field(default_factory=SkipCounter)
    answer_stats: AnswerStats = field(default_factory=AnswerStats)

    def __post_init__(self) -> None:
        side = self.processor.image_processor.size["width"]
        tokens: int = self.processor.image_seq_length
        self.token_lengths = TokenLengthStats(self.processor.tokenizer, tokens)
        self.object_stats = ObjectStats(side, side / tokens**0.5)
        self.sample_reservoir: Reservoir[Example] = Reservoir(self.config.num_samples)
        masked = isinstance(self.spec.task, MaskTask)
        self.mask_reservoir: Reservoir[tuple[Size, list[dict[str, Any]]]] = Reservoir(
            self.config.codec_samples if masked else 0
        )

    def run(self) -> SplitReport:
        """Go through all rows and return what was found."""
        for row, example in self._iterate_examples():
            self._update(row, example)
        ceilings = self._codec_upper_bounds()
        return SplitReport(
            component=self.spec.name,
            split=self.split,
            task=self.spec.task,
            stats=self._stats(ceilings),
            samples=self.sample_reservoir.samples(),
            skipped=self.skipped,
            label_counts=self.object_stats.objects_per_class,
            classes=tuple(self.classes),
            images=list({path: None for images, _ in self.prompt_counts for path in images}),
            codec_upper_bounds=ceilings,
        )

    def _iterate_examples(self) -> Iterator[tuple[Row, Example]]:
        """Yield every good row with its example, as training and evaluation would have them."""
        limit, task = self.spec.source.max_samples, self.spec.task
        rows = self.spec.source.rows(self.split)
        for row in _with_progress(rows, f"inspecting {self.spec.name}, {self.split}"):
            try:
                example = self._make_example(row)
                assert isinstance(row, Row)  # else it was raised
                if self.split == "train" and not task.include_in_training(row):
                    self.skip_counter.add(
                        {"images without objects (task.negative_ratio)": 1}, row.location
                    )
                    continue
                self.skip_counter.add(task.count_dropped(row), row.location)
            except DataError as mistake:
                self.num_bad_rows += 1
                self.skipped += [str(mistake)] * (len(self.skipped) < MAX_LISTED_BAD_ROWS)
                continue
            yield row, example
            if self.num_examples == limit:
                return

    def _make_example(self, row: Row | DataError) -> Example:
        if isinstance(row, DataError):
            raise row
        if (first := self.location_by_id.setdefault(row.id, row.location)) is not row.location:
            self.duplicate_ids += 1
            raise DataError(f"{row.location}: id {row.id!r} is used already at {first}")
        return self.spec.task.example(row)

    def _update(self, row: Row, example: Example) -> None:
        self.num_examples += 1
        self.num_empty_suffixes += not any(example.suffixes)
        self.prompt_counts[example.images, example.prefix] += 1
        self.image_sizes[example.size] += 1
        self.classes |= dict.fromkeys(row.classes or ())
        self.token_lengths.add(example)
        self.answer_stats.add(example)
        self.sample_reservoir.add(lambda: example)
        if row.instances is not None:
            instances = row.instances
            self.object_stats.add(instances, row.size)
            if any(i.mask is not None for i in instances):
                self.mask_reservoir.add(
                    lambda: (row.size, [instance_to_json(i) for i in instances])
                )

    def _codec_upper_bounds(self) -> UpperBounds:
        """Write the masks of the drawn images as tokens and read them back."""
        if not isinstance(self.spec.task, MaskTask):
            return {}
        gathered = CodecUpperBound(load_codec(self.spec.task.codec))
        drawn = self.mask_reservoir.samples()
        doing = f"ceiling of the codec, {self.spec.name} {self.split}"
        for size, written in _with_progress(drawn, doing):
            gathered.update((instance_from_json(one) for one in written), size)
        return gathered.compute()

    def _stats(self, upper_bounds: UpperBounds) -> dict[str, Any]:
        repeated = sum(count - 1 for count in self.prompt_counts.values())
        by_area = sorted(self.image_sizes, key=lambda size: size[0] * size[1])
        ceiling = [
            {"class": label, "size": extent, "iou": round(one.iou, 4), "objects": one.num_objects}
            for (label, extent), one in upper_bounds.items()
        ]
        return {
            "part": self.spec.name,
            "split": self.split,
            "task": self.spec.task.name,
            "examples": self.num_examples,
            "images": len({images for images, _ in self.prompt_counts}),
            "bad_rows": self.num_bad_rows,
            "duplicate_ids": self.duplicate_ids,
            "repeated_questions": repeated,
            "empty_suffixes": self.num_empty_suffixes,
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
            "codec_ceiling": {"images": len(self.mask_reservoir.samples()), "iou": ceiling},
            "left_out": self.skip_counter.messages(),
            "bad": self.skipped,
        }


def _with_progress(items: Iterable[T], description: str) -> Iterator[T]:
    """Show on a terminal how many have been gone through."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn

    console = Console(stderr=True)
    columns = SpinnerColumn(), TextColumn("{task.description}: {task.completed:,}")
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        bar = progress.add_task(description, total=None)
        for item in items:
            yield item
            progress.advance(bar)
