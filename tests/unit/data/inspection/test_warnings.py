"""Every warning is one sentence, and bad ones come first."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from palitune.data.inspection.bad_rows import BadRowGroup
from palitune.data.inspection.duplicate_images import DuplicateImages
from palitune.data.inspection.scan import InspectionConfig, InspectionReport, SplitReport
from palitune.data.inspection.warnings import inspection_warnings
from palitune.metrics.objects.codec_upper_bound import UpperBound
from palitune.tasks import Task
from palitune.tasks.detection import Detection
from palitune.tasks.ocr import Ocr

CONFIG = InspectionConfig(
    splits=[], train_split="train", max_length=100, num_samples=0, codec_samples=0
)
TOKENS = {
    "over_max_length": 0.0,
    "over_max_new_tokens": 0.0,
    "longest_at": "a.json:7",
    "example": {"max": 120.0},
    "suffix": {"max": 40.0},
}
VALID = {
    "bad_rows": 0, "repeated_questions": 0, "control_words": 0, "left_out": [], "objects": {},
    "tokens": TOKENS,
}  # fmt: skip


def split(
    name: str = "train",
    labels: Mapping[str, int] = {},
    task: Task | None = None,
    classes: Sequence[str] = (),
    upper_bound: float | None = None,
    bad: Mapping[str, int] = {},
    **numbers: Any,
) -> SplitReport:
    return SplitReport(
        component="boats",
        split=name,
        task=task or Detection(),
        stats=VALID | numbers,
        samples=[],
        skipped=["a.json:3: no box"],
        bad_row_groups=[
            BadRowGroup(cause, count, [f"a.json:3: {cause}"]) for cause, count in bad.items()
        ],
        label_counts=Counter(labels),
        classes=tuple(classes),
        images=[],
        codec_upper_bounds={}
        if upper_bound is None
        else {("all", "all"): UpperBound(upper_bound, 9)},
    )


def warnings(*splits: SplitReport, copies: DuplicateImages | None = None) -> list[str]:
    report = InspectionReport(splits=list(splits), duplicates=copies or DuplicateImages({}, {}))
    return [f"{warning.level}: {warning.text}" for warning in inspection_warnings(report, CONFIG)]


def test_valid_data_has_no_warnings() -> None:
    assert warnings(split(labels={"boat": 10}, classes=["boat"]), split("test", {"boat": 1})) == []


@pytest.mark.parametrize(
    ("report", "start"),
    [
        (split(bad={"no box": 1}), "bad: boats, train: 1 bad row, the first: a.json:3: no box"),
        (
            split(tokens=TOKENS | {"over_max_length": 0.25}),
            "bad: boats, train: 25.0% of the examples exceed training.max_length=100 and "
            "cannot be trained on; the longest, a.json:7, has 120 tokens",
        ),
        (
            split(tokens=TOKENS | {"over_max_new_tokens": 0.5}, task=Ocr(max_new_tokens=9)),
            "bad: boats, train: 50.0% of the suffixes are longer than task.max_new_tokens=9: "
            "such answers would be truncated; the longest has 40 tokens",
        ),
        (
            split(repeated_questions=2),
            "odd: boats, train: 2 examples with the image and prompt of an earlier one",
        ),
        (split(left_out=["left out: 3 x"]), "odd: boats, train: left out: 3 x"),
        (
            split(objects={"below_a_patch": 0.3}),
            "odd: boats, train: 30% of the objects are smaller than one patch",
        ),
        (
            split(upper_bound=0.7),
            "odd: boats, train: encoded and decoded masks have a mean IoU of 0.700, the",
        ),
        (
            split(labels={"boat": 12, "Boat": 11}),
            "bad: boats: labels that differ in spelling only: 'Boat' (11 objects), 'boat' (12",
        ),
        (
            split(labels={"boat": 12, "cow": 11}, task=Detection(classes=["boat"])),
            "odd: boats: in the data, but not in task.classes: cow",
        ),
        (
            split(labels={"boat": 12}, classes=["boat", "buoy"]),
            "odd: boats: classes without objects: buoy",
        ),
        (
            split(labels={"boat": 9}, classes=["boat"]),
            "odd: boats: fewer than 10 objects in train: boat (9)",
        ),
    ],
)
def test_a_warning_is_one_sentence(report: SplitReport, start: str) -> None:
    (sentence,) = warnings(report)
    assert sentence.startswith(start)


def test_only_the_train_split_can_be_too_long_for_training() -> None:
    assert warnings(split("test", tokens=TOKENS | {"over_max_length": 0.25})) == []


def test_a_class_without_training_objects_is_bad() -> None:
    classes = ["boat", "buoy"]
    train = split(labels={"boat": 12}, classes=classes)
    test = split("test", {"boat": 2, "buoy": 1}, classes=classes)
    assert warnings(train, test) == ["bad: boats: in test, but not in train: buoy"]


def test_duplicates_are_reported_with_the_first_and_bad_warnings_come_first() -> None:
    copies = DuplicateImages(
        {"train": [["a", "b", "c"]]}, {("train", "test"): [("a", "d"), ("e", "f")]}
    )
    first, second, third = warnings(split(left_out=["left out: x"]), copies=copies)
    assert first.startswith("bad: 2 images of test are also in train, with identical bytes: ")
    assert first.endswith("the first: d = a")
    assert (
        second == "odd: 2 images of train are also there under another name; the first: a = b = c"
    )
    assert third == "odd: boats, train: left out: x"


def test_a_file_under_many_names_is_one_short_warning() -> None:
    many = DuplicateImages({"train": [[str(number) for number in range(1000)]]}, {})
    [warning] = warnings(split(), copies=many)
    assert warning.endswith("; the first: 0 = 1 = 2 and 997 more")


def test_a_long_list_is_truncated() -> None:
    labels = {f"class {number}": 20 for number in range(30)}
    (sentence,) = warnings(split(labels=labels, task=Detection(classes=["class 1"])))
    assert sentence.endswith("class 11, class 12 and 17 more")


def test_examples_with_control_tokens_are_reported() -> None:
    report = InspectionReport(splits=[split(control_words=2)], duplicates=DuplicateImages({}, {}))
    [warning] = inspection_warnings(report, CONFIG)
    assert warning.level == "odd"
    assert warning.text.startswith("boats, train: 2 examples with a control token such as <eos>")


def test_bad_rows_of_each_cause_have_a_warning() -> None:
    many = {f"cause {number}": 20 - number for number in range(12)}
    texts = warnings(split(bad={"no box": 2} | many))
    assert texts[0] == "bad: boats, train: 2 bad rows, the first: a.json:3: no box"
    assert texts[10] == "bad: boats, train: 30 bad rows of other causes"
    assert len(texts) == 11
