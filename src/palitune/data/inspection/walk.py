"""One pass over every part and split: what its rows hold, and what the task makes of them."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from palitune.codec.masks import codec_named
from palitune.data.inspection.copies import Copies, find_copies
from palitune.data.inspection.draws import Reservoir
from palitune.data.inspection.objects import Objects
from palitune.data.inspection.texts import Answers, Lengths
from palitune.data.left_out import LeftOut
from palitune.data.sources import Pairing
from palitune.data.sources.lookup import canonical
from palitune.examples import (
    DataError,
    Example,
    Row,
    Size,
    instance_from_json,
    instance_to_json,
)
from palitune.metrics.mask_ceiling import CeilingOfCodec, Ceilings
from palitune.tasks import Task
from palitune.tasks.masked import MaskedTask

T = TypeVar("T")

NAMED = 100
"""Bad rows that are kept with their sentence; all are counted."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """How much is looked at."""

    splits: Sequence[str]
    """Empty: all that exist."""
    train: str
    """The split that training takes."""
    max_length: int
    """Tokens that training allows an example."""
    samples: int
    """Examples of each part and split that are kept, drawn at random."""
    ceiling_images: int
    """Images of each part and split whose masks are written and read back."""


@dataclass(frozen=True, kw_only=True)
class InspectedSplit:
    """What one split of one part holds."""

    part: str
    split: str
    task: Task
    numbers: dict[str, Any]
    """As `inspection.json` has them."""
    samples: list[Example]
    skipped: list[str]
    """A sentence for each of the first bad rows."""
    labels: Counter[str]
    """Objects by label, asked for or not."""
    classes: tuple[str, ...]
    """Every class that the source knows."""
    images: list[str]
    ceilings: Ceilings


@dataclass(frozen=True, kw_only=True)
class Inspected:
    splits: list[InspectedSplit]
    copies: Copies


def walk(pairings: Sequence[Pairing], processor: Any, look: Look) -> Inspected:
    """Look through every part and split that is asked for.

    Bad rows are counted, not raised. Raises DataError where a file as a whole cannot be read, where
    there is no such split, and where no row at all can be used.
    """
    found = [
        Walk(pairing, split, processor, look).done()
        for pairing in pairings
        for split in splits_of(pairing, look)
    ]
    bad = [sentence for one in found for sentence in one.skipped]
    if not any(one.numbers["examples"] for one in found):
        raise DataError(f"no row can be used, the first: {bad[0]}" if bad else "the data is empty")
    images: dict[str, list[str]] = {}
    for one in found:
        images.setdefault(one.split, []).extend(one.images)
    return Inspected(splits=found, copies=find_copies(images))


def splits_of(pairing: Pairing, look: Look) -> list[str]:
    """Return the splits to look through; those that are named must exist."""
    if look.splits:
        return list(dict.fromkeys(map(canonical, look.splits)))
    existing = pairing.source.available_splits()
    if not existing:
        pairing.source.annotation_file("train")  # says what is missing, and where it was looked for
    return existing


@dataclass
class Walk:
    """The pass over one split, while it goes on."""

    pairing: Pairing
    split: str
    processor: Any
    look: Look
    places: dict[str, str] = field(default_factory=dict)
    bad: int = 0
    duplicate_ids: int = 0
    kept: int = 0
    empty: int = 0
    skipped: list[str] = field(default_factory=list)
    asked: Counter[tuple[tuple[str, ...], str]] = field(default_factory=Counter)
    """Examples by images and prompt."""
    sizes: Counter[Size] = field(default_factory=Counter)
    classes: dict[str, None] = field(default_factory=dict)
    left_out: LeftOut = field(default_factory=LeftOut)
    answers: Answers = field(default_factory=Answers)

    def __post_init__(self) -> None:
        side = self.processor.image_processor.size["width"]
        tokens: int = self.processor.image_seq_length
        self.lengths = Lengths(self.processor.tokenizer, tokens)
        self.objects = Objects(side, side / tokens**0.5)
        self.samples: Reservoir[Example] = Reservoir(self.look.samples)
        masked = isinstance(self.pairing.task, MaskedTask)
        self.masked: Reservoir[tuple[Size, list[dict[str, Any]]]] = Reservoir(
            self.look.ceiling_images if masked else 0
        )

    def done(self) -> InspectedSplit:
        """Go through all rows and return what was found."""
        for row, example in self._pairs():
            self._take(row, example)
        ceilings = self._ceilings()
        return InspectedSplit(
            part=self.pairing.name,
            split=self.split,
            task=self.pairing.task,
            numbers=self._numbers(ceilings),
            samples=self.samples.drawn(),
            skipped=self.skipped,
            labels=self.objects.objects,
            classes=tuple(self.classes),
            images=list({path: None for images, _ in self.asked for path in images}),
            ceilings=ceilings,
        )

    def _pairs(self) -> Iterator[tuple[Row, Example]]:
        """Yield every good row with its example, as training and evaluation would have them."""
        limit, task = self.pairing.source.limit, self.pairing.task
        rows = self.pairing.source.rows(self.split)
        for row in _shown(rows, f"inspecting {self.pairing.name}, {self.split}"):
            try:
                example = self._example(row)
                assert isinstance(row, Row)  # else it was raised
                if self.split == "train" and not task.keeps(row):
                    self.left_out.add({"images without objects (task.negatives)": 1}, row.place)
                    continue
                self.left_out.add(task.left_out(row), row.place)
            except DataError as mistake:
                self.bad += 1
                self.skipped += [str(mistake)] * (len(self.skipped) < NAMED)
                continue
            yield row, example
            if self.kept == limit:
                return

    def _example(self, row: Row | DataError) -> Example:
        if isinstance(row, DataError):
            raise row
        if (first := self.places.setdefault(row.id, row.place)) is not row.place:
            self.duplicate_ids += 1
            raise DataError(f"{row.place}: id {row.id!r} is used already at {first}")
        return self.pairing.task.example(row)

    def _take(self, row: Row, example: Example) -> None:
        self.kept += 1
        self.empty += not any(example.suffixes)
        self.asked[example.images, example.prefix] += 1
        self.sizes[example.size] += 1
        self.classes |= dict.fromkeys(row.classes or ())
        self.lengths.add(example)
        self.answers.add(example)
        self.samples.offer(lambda: example)
        if row.instances is not None:
            instances = row.instances
            self.objects.add(instances, row.size)
            if any(i.mask is not None for i in instances):
                self.masked.offer(lambda: (row.size, [instance_to_json(i) for i in instances]))

    def _ceilings(self) -> Ceilings:
        """Write the masks of the drawn images as tokens and read them back."""
        if not isinstance(self.pairing.task, MaskedTask):
            return {}
        gathered = CeilingOfCodec(codec_named(self.pairing.task.codec))
        drawn = self.masked.drawn()
        doing = f"ceiling of the codec, {self.pairing.name} {self.split}"
        for size, written in _shown(drawn, doing):
            gathered.update((instance_from_json(one) for one in written), size)
        return gathered.compute()

    def _numbers(self, ceilings: Ceilings) -> dict[str, Any]:
        repeated = sum(count - 1 for count in self.asked.values())
        by_area = sorted(self.sizes, key=lambda size: size[0] * size[1])
        ceiling = [
            {"class": label, "size": extent, "iou": round(one.iou, 4), "objects": one.objects}
            for (label, extent), one in ceilings.items()
        ]
        return {
            "part": self.pairing.name,
            "split": self.split,
            "task": self.pairing.task.name,
            "examples": self.kept,
            "images": len({images for images, _ in self.asked}),
            "bad_rows": self.bad,
            "duplicate_ids": self.duplicate_ids,
            "repeated_questions": repeated,
            "empty_suffixes": self.empty,
            "image_sizes": {
                "smallest": by_area[:1],
                "largest": by_area[-1:],
                "different": len(by_area),
            },
            "tokens": self.lengths.summary(self.look.max_length, self.pairing.task.max_new_tokens),
            "objects": self.objects.summary(),
            "answers": self.answers.summary(),
            "codec_ceiling": {"images": len(self.masked.drawn()), "iou": ceiling},
            "left_out": self.left_out.sentences(),
            "bad": self.skipped,
        }


def _shown(items: Iterable[T], doing: str) -> Iterator[T]:
    """Show on a terminal how many have been gone through."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn

    console = Console(stderr=True)
    columns = SpinnerColumn(), TextColumn("{task.description}: {task.completed:,}")
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        bar = progress.add_task(doing, total=None)
        for item in items:
            yield item
            progress.advance(bar)
