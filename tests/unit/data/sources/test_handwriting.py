"""The embedded pages: every kind of annotation in every split, and no overlap between splits."""

from pathlib import Path

import pytest

from palitune.data.sources.handwriting import Annotations, Handwriting
from palitune.examples import Row
from palitune.tasks import TASKS


def rows_of(annotations: Annotations, split: str) -> list[Row]:
    rows = list(Handwriting(annotations=annotations).rows(split))
    assert all(isinstance(row, Row) for row in rows)
    return [row for row in rows if isinstance(row, Row)]


@pytest.mark.parametrize("split", ["train", "validation", "test"])
@pytest.mark.parametrize("annotations", list(Annotations))
def test_the_task_of_the_same_name_can_use_every_row(annotations: Annotations, split: str) -> None:
    task = TASKS[annotations.value]()
    rows = rows_of(annotations, split)
    assert rows
    assert all(task.example(row).suffixes for row in rows)


def test_splits_share_no_image() -> None:
    splits = [
        {row.images[0] for row in rows_of(Annotations.ocr, split)}
        for split in ("train", "validation", "test")
    ]
    assert len(set.union(*splits)) == sum(map(len, splits))


def test_the_text_of_a_page_names_its_boxes() -> None:
    boxes = {Path(row.images[0]).name: row for row in rows_of(Annotations.detection, "test")}
    for row in rows_of(Annotations.ocr, "test"):
        labels = [instance.label for instance in boxes[Path(row.images[0]).name].instances or ()]
        assert sorted(labels) == sorted((row.text or "").replace(" ", "").replace("\n", ""))


def test_a_path_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^data\.path: handwriting is embedded; leave out 'x'$"):
        Handwriting(path="x")


def test_all_splits_are_there() -> None:
    assert Handwriting().available_splits() == ["train", "validation", "test"]
