"""What of an inspection deserves a look, as sentences with the way out."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby

from palitune.data.inspection.duplicate_images import DuplicateImages
from palitune.data.inspection.object_stats import near_duplicate_labels
from palitune.data.inspection.scan import InspectionConfig, InspectionReport, SplitReport
from palitune.metrics.objects.codec_upper_bound import ALL
from palitune.tasks.detection import Detection

MIN_CLASS_OBJECTS = 10
"""Objects of a class below which training hardly learns it."""
MIN_CODEC_IOU = 0.8
"""Mean IoU of masks that were only written and read back, below which the codec is in the way."""
MAX_TINY_FRACTION = 0.1
"""Share of objects smaller than a patch that is worth a sentence."""


@dataclass(frozen=True)
class InspectionWarning:
    """One sentence; `bad` harms training or its numbers, `odd` may be as it should be."""

    level: str
    text: str


def inspection_warnings(
    report: InspectionReport, config: InspectionConfig
) -> list[InspectionWarning]:
    """Return what deserves a look, what is bad first."""
    found = [*_duplicate_warnings(report.duplicates)]
    for one in report.splits:
        where = f"{one.component}, {one.split}"
        found += [
            InspectionWarning(f.level, f"{where}: {f.text}") for f in _split_warnings(one, config)
        ]
    for part, splits in groupby(report.splits, key=lambda one: one.component):
        found += [
            InspectionWarning(f.level, f"{part}: {f.text}")
            for f in _component_warnings(list(splits))
        ]
    return sorted(found, key=lambda finding: finding.level != "bad")


def _duplicate_warnings(duplicates: DuplicateImages) -> Iterator[InspectionWarning]:
    for (one, other), pairs in duplicates.across_splits.items():
        yield InspectionWarning(
            "bad",
            f"{_pluralize(len(pairs), 'image')} of {other} {_is_or_are(len(pairs))} in {one}, too, byte "
            f"for byte: numbers on {other} will look better than they are; first "
            f"{pairs[0][1]} = {pairs[0][0]}",
        )
    for split, groups in duplicates.within_splits.items():
        count = sum(len(group) - 1 for group in groups)
        yield InspectionWarning(
            "odd",
            f"{_pluralize(count, 'image')} of {split} {_is_or_are(count)} there under another name, too; "
            f"first {' = '.join(groups[0])}",
        )


def _split_warnings(report: SplitReport, config: InspectionConfig) -> Iterator[InspectionWarning]:
    numbers = report.stats
    if bad := numbers["bad_rows"]:
        yield InspectionWarning(
            "bad", f"{_pluralize(bad, 'bad row')}, the first: {report.skipped[0]}"
        )
    tokens = numbers["tokens"]
    if tokens and tokens["over_max_length"] and report.split == config.train_split:
        longest = int(tokens["example"]["max"])
        yield InspectionWarning(
            "bad",
            f"{tokens['over_max_length']:.1%} of the examples exceed training.max_length="
            f"{config.max_length}, and training refuses them; the longest, {tokens['longest_at']}, "
            f"has {longest} tokens",
        )
    if tokens and tokens["over_max_new_tokens"]:
        yield InspectionWarning(
            "bad",
            f"{tokens['over_max_new_tokens']:.1%} of the suffixes are longer than "
            f"task.max_new_tokens={report.task.max_new_tokens}: answers like them would be cut off; "
            f"the longest has {int(tokens['suffix']['max'])} tokens",
        )
    if repeated := numbers["repeated_questions"]:
        yield InspectionWarning(
            "odd", f"{_pluralize(repeated, 'example')} with image and prompt of an earlier one"
        )
    for sentence in numbers["left_out"]:
        yield InspectionWarning("odd", sentence)
    yield from _object_warnings(report)


def _object_warnings(report: SplitReport) -> Iterator[InspectionWarning]:
    objects = report.stats["objects"]
    if objects and objects["below_a_patch"] > MAX_TINY_FRACTION:
        yield InspectionWarning(
            "odd",
            f"{objects['below_a_patch']:.0%} of the objects are smaller than one patch of the "
            "model: take a higher model.resolution, or leave them out with task.min_box_side",
        )
    ceiling = report.codec_upper_bounds.get((ALL, ALL))
    if ceiling is not None and ceiling.iou < MIN_CODEC_IOU:
        yield InspectionWarning(
            "odd",
            f"masks written as tokens and read back reach a mean IoU of {ceiling.iou:.3f} only: "
            "no model can do better with this codec",
        )


def _component_warnings(splits: list[SplitReport]) -> Iterator[InspectionWarning]:
    """Compare the labels of a part's splits with each other and with what the task asks for."""
    task = splits[0].task
    if not isinstance(task, Detection):
        return
    counts = {one.split: one.label_counts for one in splits}
    total = sum(counts.values(), Counter[str]())
    asked = task.classes or list(dict.fromkeys(name for one in splits for name in one.classes))
    for group in near_duplicate_labels([*total, *asked]):
        told = ", ".join(f"{label!r} ({total[label]} objects)" for label in group)
        yield InspectionWarning(
            "bad", f"labels that differ in spelling only: {told}; make them one"
        )
    if ignored := [label for label in total if asked and label not in asked]:
        yield InspectionWarning(
            "odd", f"in the data, but not in task.classes: {_join_names(ignored)}"
        )
    if absent := [label for label in asked if not total[label]]:
        yield InspectionWarning("odd", f"asked for, but never in the data: {_join_names(absent)}")
    train = counts.get("train")
    if train is None:
        return
    for split, labels in counts.items():
        if unseen := [name for name in labels if not train[name] and name in asked]:
            yield InspectionWarning("bad", f"in {split}, but never in train: {_join_names(unseen)}")
    if rare := [f"{name} ({train[name]})" for name in asked if 0 < train[name] < MIN_CLASS_OBJECTS]:
        yield InspectionWarning(
            "odd", f"fewer than {MIN_CLASS_OBJECTS} objects in train: {_join_names(rare)}"
        )


def _join_names(names: Iterable[str], max_names: int = 12) -> str:
    every = list(names)
    return ", ".join(every[:max_names]) + (
        f" and {len(every) - max_names} more" * (len(every) > max_names)
    )


def _pluralize(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'s' * (count != 1)}"


def _is_or_are(count: int) -> str:
    return "is" if count == 1 else "are"
