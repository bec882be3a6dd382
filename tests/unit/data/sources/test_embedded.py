"""The embedded pages: every kind of annotation in every split, and no overlap between splits."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from palitune.data.sources.embedded import EmbeddedAnnotationKind, Handwriting, Print
from palitune.data.sources.masks.formats import mask_to_box
from palitune.records import Row
from palitune.tasks import TASKS, Task


def rows_of(annotations: EmbeddedAnnotationKind, split: str) -> list[Row]:
    rows = list(Handwriting(annotations=annotations).rows(split))
    assert all(isinstance(row, Row) for row in rows)
    return [row for row in rows if isinstance(row, Row)]


@pytest.mark.parametrize("split", ["train", "validation", "test"])
@pytest.mark.parametrize("annotations", list(EmbeddedAnnotationKind))
def test_the_task_of_the_same_name_can_use_every_row(
    annotations: EmbeddedAnnotationKind, split: str
) -> None:
    is_large = annotations is EmbeddedAnnotationKind.small_objects
    task = TASKS["detection" if is_large else annotations.value]()
    rows = rows_of(annotations, split)
    assert rows
    assert all(task.example(row).suffixes for row in rows)


def test_splits_share_no_image() -> None:
    splits = [
        {row.images[0] for row in rows_of(EmbeddedAnnotationKind.ocr, split)}
        for split in ("train", "validation", "test")
    ]
    assert len(set.union(*splits)) == sum(map(len, splits))


def test_the_text_of_a_page_names_its_boxes() -> None:
    boxes = {
        Path(row.images[0]).name: row for row in rows_of(EmbeddedAnnotationKind.detection, "test")
    }
    for row in rows_of(EmbeddedAnnotationKind.ocr, "test"):
        labels = [instance.label for instance in boxes[Path(row.images[0]).name].instances or ()]
        assert sorted(labels) == sorted((row.text or "").replace(" ", "").replace("\n", ""))


def test_a_mask_is_the_dark_part_of_its_box() -> None:
    rows = rows_of(EmbeddedAnnotationKind.segmentation, "validation")
    assert len(rows) == 150
    for row in rows[:20]:
        page = np.asarray(Image.open(row.images[0])).astype(int)
        for instance in row.instances or ():
            assert instance.mask is not None
            x0, y0, x1, y1 = map(int, instance.box)
            assert mask_to_box(instance.mask) == pytest.approx((x0, y0, x1, y1), abs=5)
            inside = page[y0:y1, x0:x1]
            dark = inside < (inside.max() + inside.min()) / 2
            assert np.mean(dark != instance.mask[y0:y1, x0:x1]) < 0.02


def test_crowded_pages_of_train_have_no_boxes() -> None:
    splits = ("train", "validation", "test")
    for kind in (EmbeddedAnnotationKind.segmentation, EmbeddedAnnotationKind.detection):
        assert [len(rows_of(kind, s)) for s in splits] == [650, 150, 360]
    digits = {
        s: [len(row.text or "") for row in rows_of(EmbeddedAnnotationKind.ocr, s)] for s in splits
    }
    assert {s: len(counted) for s, counted in digits.items()} == {
        "train": 1030, "validation": 150, "test": 360
    }  # fmt: skip
    assert {*digits["train"][:650], *digits["validation"], *digits["test"]} == {1, 2, 3}
    assert {*digits["train"][650:]} == {4, 5, 6}


def test_every_page_is_asked_for_its_largest_digit() -> None:
    for split in ("train", "validation", "test"):
        pages = {
            Path(row.images[0]): row.text or ""
            for row in rows_of(EmbeddedAnnotationKind.ocr, split)
        }
        rows = [
            r for r in rows_of(EmbeddedAnnotationKind.vqa, split) if "largest" in (r.question or "")
        ]
        assert [Path(row.images[0]) for row in rows] == list(pages)
        for row in rows:
            assert row.answers == (max(filter(str.isdigit, pages[Path(row.images[0])])),)


def test_a_plain_detection_row_has_no_masks() -> None:
    assert all(
        i.mask is None
        for row in rows_of(EmbeddedAnnotationKind.detection, "test")
        for i in row.instances or ()
    )


@pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.name)
def test_the_task_says_what_is_read_where_nothing_else_is_said(task: type[Task]) -> None:
    [pairing] = Handwriting(max_samples=3).dataset_specs(task())
    assert isinstance(pairing.source, Handwriting)
    assert pairing.source.max_samples == 3
    assert pairing.source.annotations is EmbeddedAnnotationKind.__members__.get(task.name)
    [pairing] = Handwriting(annotations=EmbeddedAnnotationKind.vqa).dataset_specs(task())
    assert pairing.source == Handwriting(annotations=EmbeddedAnnotationKind.vqa)


@pytest.mark.parametrize(
    "annotations", [a for a in EmbeddedAnnotationKind if a.name in ("ocr", "vqa", "detection")]
)
def test_print_has_the_same_annotations_but_masks(annotations: EmbeddedAnnotationKind) -> None:
    source = Print(annotations=annotations)
    assert source.available_splits() == ["train", "validation", "test"]
    rows = [row for split in source.available_splits() for row in source.rows(split)]
    examples = [TASKS[annotations.value]().example(row) for row in rows if isinstance(row, Row)]
    assert len(examples) == len(rows) >= 360
    assert len({example.images for example in examples}) == 360
    with pytest.raises(
        ValueError, match=r"^data\.annotations must be ocr, vqa, detection or json for data="
    ):
        Print().dataset_specs(TASKS["segmentation"]())


def test_a_path_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"^data\.path must be empty for data=handwriting, got 'x'"
    ):
        Handwriting(path="x")


def test_all_splits_are_there() -> None:
    assert Handwriting().available_splits() == ["train", "validation", "test"]
