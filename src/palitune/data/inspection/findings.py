"""What of an inspection deserves a look, as sentences with the way out."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby

from palitune.data.inspection.copies import Copies
from palitune.data.inspection.objects import spellings
from palitune.data.inspection.walk import Inspected, InspectedSplit, Look
from palitune.metrics.mask_ceiling import ALL
from palitune.tasks.detection import Detection

FEW = 10
"""Objects of a class below which training hardly learns it."""
LOW_CEILING = 0.8
"""Mean IoU of masks that were only written and read back, below which the codec is in the way."""
MANY_TINY = 0.1
"""Share of objects smaller than a patch that is worth a sentence."""


@dataclass(frozen=True)
class Finding:
    """One sentence; `bad` harms training or its numbers, `odd` may be as it should be."""

    level: str
    text: str


def findings(inspected: Inspected, look: Look) -> list[Finding]:
    """Return what deserves a look, what is bad first."""
    found = [*_copies(inspected.copies)]
    for one in inspected.splits:
        where = f"{one.part}, {one.split}"
        found += [Finding(f.level, f"{where}: {f.text}") for f in _of_split(one, look)]
    for part, splits in groupby(inspected.splits, key=lambda one: one.part):
        found += [Finding(f.level, f"{part}: {f.text}") for f in _of_part(list(splits))]
    return sorted(found, key=lambda finding: finding.level != "bad")


def _copies(copies: Copies) -> Iterator[Finding]:
    for (one, other), pairs in copies.across.items():
        yield Finding(
            "bad",
            f"{_counted(len(pairs), 'image')} of {other} {_are(len(pairs))} in {one}, too, byte "
            f"for byte: numbers on {other} will look better than they are; first "
            f"{pairs[0][1]} = {pairs[0][0]}",
        )
    for split, groups in copies.within.items():
        count = sum(len(group) - 1 for group in groups)
        yield Finding(
            "odd",
            f"{_counted(count, 'image')} of {split} {_are(count)} there under another name, too; "
            f"first {' = '.join(groups[0])}",
        )


def _of_split(one: InspectedSplit, look: Look) -> Iterator[Finding]:
    numbers = one.numbers
    if bad := numbers["bad_rows"]:
        yield Finding("bad", f"{_counted(bad, 'bad row')}, the first: {one.skipped[0]}")
    tokens = numbers["tokens"]
    if tokens and tokens["over_max_length"] and one.split == look.train:
        longest = int(tokens["example"]["max"])
        yield Finding(
            "bad",
            f"{tokens['over_max_length']:.1%} of the examples exceed training.max_length="
            f"{look.max_length}, and training refuses them; the longest, {tokens['longest_at']}, "
            f"has {longest} tokens",
        )
    if tokens and tokens["over_max_new_tokens"]:
        yield Finding(
            "bad",
            f"{tokens['over_max_new_tokens']:.1%} of the suffixes are longer than "
            f"task.max_new_tokens={one.task.max_new_tokens}: answers like them would be cut off; "
            f"the longest has {int(tokens['suffix']['max'])} tokens",
        )
    if repeated := numbers["repeated_questions"]:
        yield Finding(
            "odd", f"{_counted(repeated, 'example')} with image and prompt of an earlier one"
        )
    for sentence in numbers["left_out"]:
        yield Finding("odd", sentence)
    yield from _of_objects(one)


def _of_objects(one: InspectedSplit) -> Iterator[Finding]:
    objects = one.numbers["objects"]
    if objects and objects["below_a_patch"] > MANY_TINY:
        yield Finding(
            "odd",
            f"{objects['below_a_patch']:.0%} of the objects are smaller than one patch of the "
            "model: take a higher model.resolution, or leave them out with task.min_box_side",
        )
    ceiling = one.ceilings.get((ALL, ALL))
    if ceiling is not None and ceiling.iou < LOW_CEILING:
        yield Finding(
            "odd",
            f"masks written as tokens and read back reach a mean IoU of {ceiling.iou:.3f} only: "
            "no model can do better with this codec",
        )


def _of_part(splits: list[InspectedSplit]) -> Iterator[Finding]:
    """Compare the labels of a part's splits with each other and with what the task asks for."""
    task = splits[0].task
    if not isinstance(task, Detection):
        return
    counts = {one.split: one.labels for one in splits}
    total = sum(counts.values(), Counter[str]())
    asked = task.classes or list(dict.fromkeys(name for one in splits for name in one.classes))
    for group in spellings([*total, *asked]):
        told = ", ".join(f"{label!r} ({total[label]} objects)" for label in group)
        yield Finding("bad", f"labels that differ in spelling only: {told}; make them one")
    if ignored := [label for label in total if asked and label not in asked]:
        yield Finding("odd", f"in the data, but not in task.classes: {_listed(ignored)}")
    if absent := [label for label in asked if not total[label]]:
        yield Finding("odd", f"asked for, but never in the data: {_listed(absent)}")
    train = counts.get("train")
    if train is None:
        return
    for split, labels in counts.items():
        if unseen := [name for name in labels if not train[name] and name in asked]:
            yield Finding("bad", f"in {split}, but never in train: {_listed(unseen)}")
    if rare := [f"{name} ({train[name]})" for name in asked if 0 < train[name] < FEW]:
        yield Finding("odd", f"fewer than {FEW} objects in train: {_listed(rare)}")


def _listed(names: Iterable[str], most: int = 12) -> str:
    every = list(names)
    return ", ".join(every[:most]) + (f" and {len(every) - most} more" * (len(every) > most))


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'s' * (count != 1)}"


def _are(count: int) -> str:
    return "is" if count == 1 else "are"
