"""COCO files: the same instances as JSON Lines, and an error for every kind of invalid entry."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from palitune.data.sources.base import Source
from palitune.data.sources.box_formats import BoxClipping
from palitune.data.sources.coco import Coco, CocoAnnotationKind
from palitune.data.sources.jsonl import Jsonl
from palitune.data.sources.masks.formats import MASK_DESCRIPTION
from palitune.errors import DataError, LeftOut
from palitune.records import Instance, Row

from support.toy_data import COLORS, SPLITS

BOX_DESCRIPTION = "[x, y, width, height] in pixels"
Content = dict[str, Any]


@pytest.fixture
def content(tmp_path: Path) -> Content:
    """One image of 40 x 30 px with one box; its file stands in `tmp_path`."""
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    return {
        "images": [{"id": 17, "file_name": "a.png", "width": 40, "height": 30}],
        "annotations": [annotation(5, [1, 2, 10, 20])],
        "categories": [{"id": 3, "name": "buoy"}, {"id": 1, "name": "boat"}],
    }


def annotation(key: int, bbox: Any, **more: Any) -> Content:
    return {"id": key, "image_id": 17, "category_id": 3, "bbox": bbox, "iscrowd": 0} | more


def rows_of(folder: Path, content: Any, **settings: Any) -> list[Row | DataError]:
    (folder / "train.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return list(Coco(path=str(folder), **settings).rows("train"))


def good(source: Source, split: str) -> list[Row]:
    rows = list(source.rows(split))
    assert all(isinstance(row, Row) for row in rows)
    return [row for row in rows if isinstance(row, Row)]


def row_of(folder: Path, content: Content, **settings: Any) -> Row:
    [row] = rows_of(folder, content, **settings)
    assert isinstance(row, Row), row
    return row


def error_of(folder: Path, content: Content) -> str:
    [row] = [row for row in rows_of(folder, content) if isinstance(row, DataError)]
    start = f"{folder}/train.json"
    assert str(row).startswith(start)
    assert "\n" not in str(row)
    return str(row).removeprefix(start)


def file_error(folder: Path, content: Any) -> str:
    with pytest.raises(DataError) as caught:
        rows_of(folder, content)
    assert "\n" not in str(caught.value)
    return str(caught.value).removeprefix(f"{folder}/train.json: ")


@pytest.mark.parametrize("split", SPLITS)
def test_coco_and_jsonl_give_the_same_instances(
    toy_coco: Path, toy_jsonl: Path, split: str
) -> None:
    ours, theirs = (
        [(row.instances, row.size, Path(row.images[0]).name) for row in good(source, split)]
        for source in (Coco(path=str(toy_coco)), Jsonl(path=str(toy_jsonl)))
    )
    assert ours == theirs
    assert len(ours) == SPLITS[split]


def test_captions_are_gathered_by_image(toy_coco: Path, toy_jsonl: Path) -> None:
    ours = good(Coco(path=str(toy_coco), annotations=CocoAnnotationKind.captions), "train")
    theirs = good(Jsonl(path=str(toy_jsonl)), "train")
    assert [row.captions for row in ours] == [row.captions for row in theirs]
    assert all(row.instances is None and row.classes is None for row in ours)


def test_a_row_is_read_in_full(tmp_path: Path, content: Content) -> None:
    content["annotations"].append(annotation(6, [0, 0, 40, 30], category_id=1, iscrowd=1))
    content["annotations"][0]["segmentation"] = [[1, 2, 3, 4]]
    assert row_of(tmp_path, content) == Row(
        id="17",
        images=(str(tmp_path / "a.png"),),
        size=(40, 30),
        location=f"{tmp_path}/train.json, image id 17",
        instances=(
            Instance("buoy", (1, 2, 11, 22)),
            Instance("boat", (0, 0, 40, 30), crowd=True),
        ),
        classes=("buoy", "boat"),
    )


def test_classes_keep_the_order_of_the_file_and_occur_once(toy_coco: Path, tmp_path: Path) -> None:
    row = next(Coco(path=str(toy_coco)).rows("train"))
    assert isinstance(row, Row)
    assert row.classes == tuple(sorted(COLORS))


def test_an_image_without_annotations_is_a_row_without_instances(
    tmp_path: Path, content: Content
) -> None:
    assert row_of(tmp_path, content | {"annotations": []}).instances == ()


def test_the_size_may_be_left_to_the_image(tmp_path: Path, content: Content) -> None:
    content["images"] = [{"id": 17, "file_name": "a.png"}]
    assert row_of(tmp_path, content).size == (40, 30)


def test_a_box_may_overshoot_by_a_pixel(tmp_path: Path, content: Content) -> None:
    content["annotations"] = [annotation(5, [-0.4, 0, 40.8, 30.5])]
    assert row_of(tmp_path, content).instances == (Instance("buoy", (0, 0, 40, 30)),)


@pytest.mark.parametrize(
    ("clipping", "outcome"),
    [
        (BoxClipping.edge, "clipped"),
        (BoxClipping.all, "clipped"),
        (BoxClipping.none, "x1=42"),
    ],
)
def test_a_box_two_pixels_beyond_the_edge_is_clipped_and_counted(
    tmp_path: Path, content: Content, clipping: BoxClipping, outcome: str
) -> None:
    content["annotations"] = [annotation(5, [10, 0, 32, 30])]
    rows = rows_of(tmp_path, content, clip_boxes=clipping)
    if outcome != "clipped":
        assert outcome in str(rows[0])
        return
    row, record = rows
    assert isinstance(row, Row)
    assert row.instances == (Instance("buoy", (10, 0, 40, 30)),)
    assert isinstance(record, LeftOut)
    assert record.reason == "parts of boxes beyond the edge of the image"


def test_all_clips_a_box_far_beyond_the_edge_and_refuses_one_outside(
    tmp_path: Path, content: Content
) -> None:
    content["annotations"] = [annotation(5, [10, 0, 300, 30])]
    row, _ = rows_of(tmp_path, content, clip_boxes=BoxClipping.all)
    assert isinstance(row, Row)
    assert row.instances == (Instance("buoy", (10, 0, 40, 30)),)
    content["annotations"] = [annotation(5, [50, 0, 300, 30])]
    [bad] = rows_of(tmp_path, content, clip_boxes=BoxClipping.all)
    assert "must have an area" in str(bad)


def test_one_bad_image_names_all_its_faults(tmp_path: Path, content: Content) -> None:
    content["annotations"] = [
        annotation(5, [10, 0, 300, 30]),
        {**annotation(5, [1, 1, 3, 3]), "id": 8, "category_id": 99},
    ]
    [bad] = rows_of(tmp_path, content)
    assert "got x1=310" in str(bad)
    assert "Also" in str(bad)
    assert "got 99" in str(bad)


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        (
            {"image_id": 18},
            "image_id must be an image of the file, got 18. Drop the annotation, or add its image.",
        ),
        (
            {"image_id": [1]},
            "image_id must be an image of the file, got [1]. "
            "Drop the annotation, or add its image.",
        ),
        (
            {"category_id": 2},
            "category_id must be a category of the file, got 2. "
            "Drop the annotation, or add its category.",
        ),
        (
            {"bbox": [30, 2, 60, 20]},
            f"box must lie inside the image (40x30 px), got x1=90. Boxes are {BOX_DESCRIPTION}.",
        ),
        ({"iscrowd": "1"}, "iscrowd must be 0 or 1, got '1'. Export the annotations again."),
        ({"iscrowd": 2}, "iscrowd must be 0 or 1, got 2. Export the annotations again."),
        ({"bbox": None}, f"box must be four numbers, got None. Boxes are {BOX_DESCRIPTION}."),
        (
            {"bbox": [0.1, 0.1, 0.5, 0.5]},
            "box must be in pixels, got fractions [0.1, 0.1, 0.6, 0.6]. Boxes are "
            f"{BOX_DESCRIPTION}.",
        ),
    ],
)
def test_an_invalid_annotation_is_an_error(
    tmp_path: Path, content: Content, changed: Content, why: str
) -> None:
    content["annotations"] = [annotation(5, [1, 2, 10, 20], **{}) | changed]
    assert error_of(tmp_path, content) == f", annotation id 5: {why}"


def test_an_invalid_annotation_affects_only_its_image(tmp_path: Path, content: Content) -> None:
    content["images"].append({"id": 18, "file_name": "a.png", "width": 40, "height": 30})
    content["annotations"].append(annotation(6, [1, 2, 3, 4], image_id=18, category_id=9))
    assert [type(row) for row in rows_of(tmp_path, content)] == [Row, DataError]


def test_another_size_than_the_images_is_an_error(tmp_path: Path, content: Content) -> None:
    content["images"][0] |= {"width": 80}
    assert error_of(tmp_path, content) == (
        f", image id 17: size must be 40x30 px, as {tmp_path}/a.png has, got 80x30. Export the "
        "annotations again, or replace the image."
    )


def test_the_error_of_a_rotated_image_mentions_exif(tmp_path: Path, content: Content) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png", exif=exif)
    assert error_of(tmp_path, content) == (
        f", image id 17: size must be 30x40 px, as {tmp_path}/a.png has after its EXIF rotation, "
        "got 40x30. Export the annotations again, or remove the EXIF tag."
    )


def test_a_missing_image_is_an_error(tmp_path: Path, content: Content) -> None:
    content["images"].append({"id": 18, "file_name": "b.png", "width": 40, "height": 30})
    assert error_of(tmp_path, content) == f", image id 18: image {tmp_path}/b.png does not exist"


def test_an_image_without_id_or_name_is_an_error(tmp_path: Path, content: Content) -> None:
    content["images"].append({"id": 18})
    assert error_of(tmp_path, content) == (
        ": image must have an id and a file_name, got {'id': 18}. Add them."
    )


def test_a_url_is_an_error(tmp_path: Path, content: Content) -> None:
    content["images"][0]["file_name"] = "http://example.org/a.png"
    assert error_of(tmp_path, content) == (
        ", image id 17: image must be a path relative to the data, got the URL "
        "'http://example.org/a.png'. Download the images."
    )


def test_a_caption_must_be_a_text(tmp_path: Path, content: Content) -> None:
    del content["categories"]
    content["annotations"] = [{"id": 5, "image_id": 17, "caption": 3}]
    assert error_of(tmp_path, content) == ", annotation id 5: caption must be a text, got 3."


def test_a_file_without_annotations_gives_rows_without_references(
    tmp_path: Path, content: Content
) -> None:
    del content["annotations"]  # as in COCO's image_info_test2017.json
    row = row_of(tmp_path, content)
    assert (row.instances, row.captions, row.classes) == (None, None, ("buoy", "boat"))


def test_classes_have_the_numbers_of_the_file(tmp_path: Path, content: Content) -> None:
    (tmp_path / "train.json").write_text(json.dumps(content))
    assert Coco(path=str(tmp_path)).class_ids("train") == {"buoy": 3, "boat": 1}


def test_two_categories_with_one_id_are_an_error(tmp_path: Path, content: Content) -> None:
    content["categories"].append({"id": 3, "name": "ship"})
    assert file_error(tmp_path, content) == (
        "category ids must be unique, got id 3 for 'buoy' and 'ship'. Give one of them another id."
    )


def test_categories_may_be_null(tmp_path: Path, content: Content) -> None:
    assert row_of(tmp_path, content | {"categories": None}).instances is None


def test_another_json_file_is_an_error(tmp_path: Path, content: Content) -> None:
    assert file_error(tmp_path, "{") == (
        "file must be JSON (Expecting property name enclosed in double quotes, column 2). "
        "Export the annotations again."
    )
    for wrong in ([], {"annotations": []}, {"images": [], "annotations": {}}):
        assert "a COCO annotation file must have a list of objects" in file_error(tmp_path, wrong)
    assert file_error(tmp_path, content | {"categories": [{"id": 1}]}) == (
        "category must have an id and a name, got {'id': 1}."
    )


@pytest.mark.parametrize(
    "folder",
    [
        "",
        "images",
        "data",
        "train",
        "train2017",
        "images/train",
        "images/train2017",
        "train/images",
    ],
)
def test_the_image_folder_is_found(tmp_path: Path, content: Content, folder: str) -> None:
    (tmp_path / "annotations").mkdir()
    (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    (tmp_path / "a.png").rename(tmp_path / folder / "a.png")
    (tmp_path / "annotations/instances_train2017.json").write_text(json.dumps(content))
    [row] = Coco(path=str(tmp_path)).rows("train")
    assert isinstance(row, Row)
    assert row.images == (str(tmp_path / folder / "a.png"),)


def test_the_image_folder_can_be_set(tmp_path: Path, content: Content) -> None:
    (tmp_path / "data/pictures").mkdir(parents=True)
    (tmp_path / "a.png").rename(tmp_path / "data/pictures/a.png")
    with pytest.raises(
        DataError, match=r"image 'a\.png' must be in one of the folders \., images,"
    ):
        rows_of(tmp_path / "data", content)
    assert row_of(tmp_path / "data", content, images="pictures").size == (40, 30)
    with pytest.raises(DataError, match=r"^data\.images must be a folder, got .*/nowhere\. Cor"):
        rows_of(tmp_path / "data", content, images="nowhere")


def test_validation_out_of_train_finds_the_images_of_train(
    tmp_path: Path, content: Content
) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "a.png").rename(tmp_path / "train/a.png")
    (tmp_path / "train.json").write_text(json.dumps(content))
    source = Coco(path=str(tmp_path), validation_fraction=0.5)
    assert len([*source.rows("train"), *source.rows("validation")]) == 1


def test_segmentations_are_read_with_masks_only(tmp_path: Path, content: Content) -> None:
    square = [[1, 2, 11, 2, 11, 22, 1, 22]]
    region = {"size": [30, 40], "counts": [0, 600, 600]}  # the left half
    content["annotations"] = [
        annotation(5, [1, 2, 10, 20], segmentation=square),
        annotation(6, [0, 0, 20, 30], segmentation=region, iscrowd=1),
        annotation(7, [1, 2, 10, 20]),
    ]
    assert {i.mask for i in row_of(tmp_path, content).instances or ()} == {None}
    buoy, swarm, plain = row_of(tmp_path, content, masks=True).instances or ()
    assert buoy.mask is not None
    assert swarm.mask is not None
    assert (int(buoy.mask.sum()), bool(buoy.mask[2:22, 1:11].all())) == (200, True)
    assert (swarm.crowd, int(swarm.mask.sum()), bool(swarm.mask[:, :20].all())) == (True, 600, True)
    assert plain.mask is None


@pytest.mark.parametrize(
    ("segmentation", "why"),
    [
        ([[1, 2, 3, 4]], "polygon must have at least 3 points, got 2 in [1.0, 2.0, 3.0, 4.0]"),
        (
            [[1, 2, 3, 4, 5, "x"]],
            "polygon must be a flat list of x, y, x, y, ..., got [1, 2, 3, 4, 5, 'x']",
        ),
        ("polygon", f"mask must be {MASK_DESCRIPTION}, got 'polygon'."),
        (
            {"size": [40, 30], "counts": [1200]},
            "run lengths must have the size [30, 40] (height, width) of the image, got [40, 30]. "
            "Export the mask for this image.",
        ),
        (
            [[20, 20, 30, 20, 30, 28, 20, 28]],
            "mask must lie in its box [1, 2, 11, 22], got [20, 20, 30, 28] with 80 of 80 pixels "
            "outside. Correct the mask or the box.",
        ),
    ],
)
def test_an_invalid_segmentation_is_an_error_with_masks_only(
    tmp_path: Path, content: Content, segmentation: Any, why: str
) -> None:
    content["annotations"] = [annotation(5, [1, 2, 10, 20], segmentation=segmentation)]
    assert len(row_of(tmp_path, content).instances or ()) == 1
    [bad] = rows_of(tmp_path, content, masks=True)
    assert isinstance(bad, DataError)
    assert str(bad).startswith(f"{tmp_path}/train.json, annotation id 5: {why}")


def test_categories_of_one_name_are_one_class_and_counted(tmp_path: Path, content: Content) -> None:
    content["categories"].append({"id": 9, "name": "buoy"})
    record, row = rows_of(tmp_path, content)
    assert isinstance(record, LeftOut)
    assert str(record).endswith(
        "category id 9: categories named 'buoy' like an earlier one, now one class"
    )
    assert isinstance(row, Row)
    assert row.classes == ("buoy", "boat")
