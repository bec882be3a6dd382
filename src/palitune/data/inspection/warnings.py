"""Warnings about the data of an inspection."""

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
"""Objects per class below which training hardly learns the class."""
MIN_CODEC_IOU = 0.8
"""Mean IoU of encoded and decoded masks below which the codec limits the results."""
MAX_BAD_ROW_GROUPS = 10
"""Causes of bad rows with a warning of their own, the most frequent ones."""
MAX_LISTED_DUPLICATES = 3
"""Paths of one identical image in a warning; inspection.json has all of them."""
MAX_TINY_FRACTION = 0.1
"""Fraction of objects smaller than a patch above which a warning is given."""


@dataclass(frozen=True)
class InspectionWarning:
    """A warning: level `bad` harms training or metrics, level `odd` may be intended."""

    level: str
    text: str


def inspection_warnings(
    report: InspectionReport, config: InspectionConfig
) -> list[InspectionWarning]:
    """Return all warnings, bad ones first."""
    warnings = [*_duplicate_warnings(report.duplicates)]
    for split in report.splits:
        warnings += _with_prefix(
            f"{split.component}, {split.split}", _split_warnings(split, config)
        )
    for component, splits in groupby(report.splits, key=lambda split: split.component):
        warnings += _with_prefix(component, _component_warnings(list(splits)))
    return sorted(warnings, key=lambda warning: warning.level != "bad")


def _with_prefix(prefix: str, warnings: Iterable[InspectionWarning]) -> Iterator[InspectionWarning]:
    for warning in warnings:
        yield InspectionWarning(warning.level, f"{prefix}: {warning.text}")


def _duplicate_warnings(duplicates: DuplicateImages) -> Iterator[InspectionWarning]:
    for (first, second), pairs in duplicates.across_splits.items():
        yield InspectionWarning(
            "bad",
            f"{_pluralize(len(pairs), 'image')} of {second} {_is_or_are(len(pairs))} also in "
            f"{first}, with identical bytes: metrics on {second} will be too high; the first: "
            f"{pairs[0][1]} = {pairs[0][0]}",
        )
    for split, groups in duplicates.within_splits.items():
        count = sum(len(group) - 1 for group in groups)
        listed = " = ".join(groups[0][:MAX_LISTED_DUPLICATES])
        if (rest := len(groups[0]) - MAX_LISTED_DUPLICATES) > 0:
            listed += f" and {rest} more"
        yield InspectionWarning(
            "odd",
            f"{_pluralize(count, 'image')} of {split} {_is_or_are(count)} also there under another "
            f"name; the first: {listed}",
        )


def _split_warnings(report: SplitReport, config: InspectionConfig) -> Iterator[InspectionWarning]:
    stats = report.stats
    groups = report.bad_row_groups
    for group in groups[:MAX_BAD_ROW_GROUPS]:
        count = _pluralize(group.count, "bad row")
        yield InspectionWarning("bad", f"{count}, the first: {group.messages[0]}")
    if rest := sum(group.count for group in groups[MAX_BAD_ROW_GROUPS:]):
        yield InspectionWarning("bad", f"{_pluralize(rest, 'bad row')} of other causes")
    tokens = stats["tokens"]
    if tokens and tokens["over_max_length"] and report.split == config.train_split:
        longest = int(tokens["example"]["max"])
        yield InspectionWarning(
            "bad",
            f"{tokens['over_max_length']:.1%} of the examples exceed training.max_length="
            f"{config.max_length} and cannot be trained on; the longest, {tokens['longest_at']}, "
            f"has {longest} tokens",
        )
    if tokens and tokens["over_max_new_tokens"]:
        yield InspectionWarning(
            "bad",
            f"{tokens['over_max_new_tokens']:.1%} of the suffixes are longer than "
            f"task.max_new_tokens={report.task.max_new_tokens}: such answers would be truncated; "
            f"the longest has {int(tokens['suffix']['max'])} tokens",
        )
    if repeated := stats["repeated_questions"]:
        yield InspectionWarning(
            "odd", f"{_pluralize(repeated, 'example')} with the image and prompt of an earlier one"
        )
    if control_words := stats["control_words"]:
        yield InspectionWarning(
            "odd",
            f"{_pluralize(control_words, 'example')} with a control token such as <eos> or <image> "
            "in the prompt or a suffix; it is tokenized as plain characters",
        )
    for message in stats["left_out"]:
        yield InspectionWarning("odd", message)
    yield from _object_warnings(report)


def _object_warnings(report: SplitReport) -> Iterator[InspectionWarning]:
    objects = report.stats["objects"]
    if objects and objects["below_a_patch"] > MAX_TINY_FRACTION:
        yield InspectionWarning(
            "odd",
            f"{objects['below_a_patch']:.0%} of the objects are smaller than one patch of the "
            "model; set a higher model.resolution, or drop them with task.min_box_side",
        )
    upper_bound = report.codec_upper_bounds.get((ALL, ALL))
    if upper_bound is not None and upper_bound.iou < MIN_CODEC_IOU:
        yield InspectionWarning(
            "odd",
            f"encoded and decoded masks have a mean IoU of {upper_bound.iou:.3f}, the upper bound "
            "of any model with this codec",
        )


def _component_warnings(splits: list[SplitReport]) -> Iterator[InspectionWarning]:
    """Compare the labels of the splits with each other and with the classes of the task."""
    task = splits[0].task
    if not isinstance(task, Detection):
        return
    counts = {split.split: split.label_counts for split in splits}
    total = sum(counts.values(), Counter[str]())
    source_classes = dict.fromkeys(name for split in splits for name in split.classes)
    classes = task.classes or list(source_classes)
    for group in near_duplicate_labels([*total, *classes]):
        labels = ", ".join(f"{label!r} ({total[label]} objects)" for label in group)
        yield InspectionWarning(
            "bad", f"labels that differ in spelling only: {labels}; use one spelling"
        )
    if ignored := [label for label in total if classes and label not in classes]:
        yield InspectionWarning(
            "odd", f"in the data, but not in task.classes: {_join_names(ignored)}"
        )
    if absent := [label for label in classes if not total[label]]:
        yield InspectionWarning("odd", f"classes without objects: {_join_names(absent)}")
    train = counts.get("train")
    if train is None:
        return
    for split, label_counts in counts.items():
        if unseen := [n for n in label_counts if not train[n] and n in classes]:
            yield InspectionWarning("bad", f"in {split}, but not in train: {_join_names(unseen)}")
    if rare := [
        f"{name} ({train[name]})" for name in classes if 0 < train[name] < MIN_CLASS_OBJECTS
    ]:
        yield InspectionWarning(
            "odd", f"fewer than {MIN_CLASS_OBJECTS} objects in train: {_join_names(rare)}"
        )


def _join_names(names: Iterable[str], max_names: int = 12) -> str:
    names = list(names)
    more = f" and {len(names) - max_names} more" if len(names) > max_names else ""
    return ", ".join(names[:max_names]) + more


def _pluralize(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'s' * (count != 1)}"


def _is_or_are(count: int) -> str:
    return "is" if count == 1 else "are"
