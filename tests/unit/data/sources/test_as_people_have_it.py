"""Data that needs no settings: masks, captions, class names and a missing test split."""

from pathlib import Path
from typing import Any

import pytest

from palitune.config.compose import compose
from palitune.config.preflight import judge_on_validation
from palitune.config.recipes import Finetune
from palitune.data.sources.box_formats import CORNERS_HINT, BoxFormat, BoxReader
from palitune.data.sources.coco import Coco, CocoAnnotationKind
from palitune.data.sources.voc import Voc
from palitune.errors import DataError
from palitune.records import Row
from palitune.tasks.caption import Caption
from palitune.tasks.detection import Detection
from palitune.tasks.segmentation import Segmentation

from support.official_files import draw_image
from support.toy_data import write_toy_coco


def test_a_task_with_masks_reads_masks_and_captions_their_file() -> None:
    source = Coco(path="boxes")
    assert [spec.source for spec in source.dataset_specs(Segmentation())] == [
        Coco(path="boxes", masks=True)
    ]
    assert source.dataset_specs(Detection())[0].source == source
    [captions] = source.dataset_specs(Caption())
    assert captions.source == Coco(path="boxes", annotations=CocoAnnotationKind.captions)


def write_voc(folder: Path, split: str, *names: str) -> None:
    draw_image(folder / f"{split}/{split}.jpg")
    objects = "".join(
        f"<object><name>{name}</name><part><name>head</name></part><bndbox><xmin>8</xmin>"
        "<ymin>6</ymin><xmax>40</xmax><ymax>30</ymax></bndbox></object>"
        for name in names
    )
    xml = f"<annotation><filename>{split}.jpg</filename>{objects}</annotation>"
    (folder / f"{split}/{split}.xml").write_text(xml)


def test_voc_takes_the_classes_of_all_splits_from_its_files(tmp_path: Path) -> None:
    write_voc(tmp_path, "train", "dog", "cat")
    write_voc(tmp_path, "test", "ant", "dog")
    for split in ("train", "test"):
        [row] = Voc(path=str(tmp_path)).rows(split)
        assert isinstance(row, Row)
        assert row.classes == ("ant", "cat", "dog")
    assert Detection().example(row).prefix == "detect ant ; cat ; dog"


def test_corners_in_place_of_width_and_height_are_recognized_first() -> None:
    with pytest.raises(DataError) as error:
        BoxReader(BoxFormat.xywh).read([30, 20, 60, 40], (64, 48), "a.json, annotation id 1")
    assert str(error.value).endswith(CORNERS_HINT)
    assert "swapped" not in str(error.value)


@pytest.mark.parametrize(("has_test", "split"), [(False, "validation"), (True, "test")])
def test_validation_judges_if_there_is_no_test_split(
    has_test: bool, split: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_toy_coco(tmp_path)
    if not has_test:
        (tmp_path / "annotations/instances_test.json").unlink()
        (tmp_path / "annotations/captions_test.json").unlink()
    argv: list[Any] = ["data=coco", f"data.path={tmp_path}", "task=detection", "model=tiny"]
    run = compose(Finetune, argv)
    judge_on_validation(run)
    assert run.evaluation.split == split
    assert ("the data has no split test" in caplog.text) is not has_test
