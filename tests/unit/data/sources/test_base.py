"""Splits: found by pattern, set by the user or held out of train; a missing one is an error."""

import json
import os
from pathlib import Path

import pytest
from PIL import Image

from palitune.data.sources.base import Source
from palitune.data.sources.coco import Coco, CocoAnnotationKind
from palitune.data.sources.jsonl import Jsonl
from palitune.errors import DataError
from palitune.records import Row
from palitune.tasks.ocr import Ocr

from support.toy_data import SPLITS


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def found(source: Source, split: str) -> str:
    return str(source.annotation_file(split).relative_to(source.folder()))


def failure(source: Source, split: str) -> str:
    with pytest.raises(DataError) as caught:
        source.annotation_file(split)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "file",
    [
        "train.jsonl",
        "train/metadata.jsonl",
        "train/annotations.jsonl",
        "train/train.jsonl",
        "annotations/train.jsonl",
        "_annotations.train.jsonl",
        "dataset/_annotations.train.jsonl",
        "train.json",
    ],
)
def test_jsonl_files_are_found(tmp_path: Path, file: str) -> None:
    touch(tmp_path, file)
    assert found(Jsonl(path=str(tmp_path)), "train") == file


@pytest.mark.parametrize(
    "file",
    [
        "annotations/instances_train2017.json",
        "annotations/instances_train.json",
        "annotations/captions_train2014.json",
        "instances_train.json",
        "train/instances_default.json",
        "train.json",
        "annotations/train.json",
        "train/_annotations.coco.json",
        "train/annotations.json",
        "train/labels.json",
        "train/train.json",
    ],
)
def test_coco_files_are_found(tmp_path: Path, file: str) -> None:
    touch(tmp_path, file)
    assert found(Coco(path=str(tmp_path)), "train") == file


@pytest.mark.parametrize("kind", list(CocoAnnotationKind))
def test_a_setting_chooses_between_instances_and_captions(
    tmp_path: Path, kind: CocoAnnotationKind
) -> None:
    touch(tmp_path, "annotations/instances_train.json", "annotations/captions_train.json")
    file = f"annotations/{kind.value}_train.json"
    assert found(Coco(path=str(tmp_path), annotations=kind), "train") == file


@pytest.mark.parametrize("requested", ["validation", "val", "valid"])
@pytest.mark.parametrize("written", ["validation", "val", "valid"])
def test_validation_has_three_spellings(tmp_path: Path, requested: str, written: str) -> None:
    touch(tmp_path, f"{written}.jsonl")
    assert found(Jsonl(path=str(tmp_path)), requested) == f"{written}.jsonl"
    named = Jsonl(path=str(tmp_path), splits={written: "other.jsonl"})
    touch(tmp_path, "other.jsonl")
    assert found(named, requested) == "other.jsonl"


def test_a_split_may_have_any_name(tmp_path: Path) -> None:
    touch(tmp_path, "testA.jsonl", "test[1].jsonl")
    assert found(Jsonl(path=str(tmp_path)), "testA") == "testA.jsonl"
    assert found(Jsonl(path=str(tmp_path)), "test[1]") == "test[1].jsonl"


def test_a_path_in_place_of_a_split_is_a_missing_split(tmp_path: Path) -> None:
    touch(tmp_path, "test.jsonl")
    why = failure(Jsonl(path=str(tmp_path)), f"{tmp_path}/test.jsonl")
    assert why.startswith(f"{tmp_path}: no split '{tmp_path}/test.jsonl' (searched for ")


def test_a_file_as_path_is_the_split_train(tmp_path: Path) -> None:
    touch(tmp_path, "boats.jsonl", "test.jsonl")
    source = Jsonl(path=str(tmp_path / "boats.jsonl"))
    assert found(source, "train") == "boats.jsonl"
    assert source.available_splits() == ["train"]
    assert failure(source, "test") == (
        f"{tmp_path}/boats.jsonl: no split 'test' (data.path is a file, which is the split "
        "'train'; splits: train). Set data.splits.test=FILE."
    )
    named = Jsonl(path=str(tmp_path / "boats.jsonl"), splits={"test": "test.jsonl"})
    assert found(named, "test") == "test.jsonl"


def test_a_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    touch(tmp_path, "boats/train.jsonl")
    assert found(Jsonl(path="~/boats"), "train") == "train.jsonl"


def test_the_error_of_a_missing_split_lists_patterns_and_splits(tmp_path: Path) -> None:
    touch(tmp_path, "train.jsonl", "test.jsonl")
    source = Jsonl(path=str(tmp_path))
    assert failure(source, "val") == (
        f"{tmp_path}: no split 'validation' (searched for validation.jsonl, "
        "validation/metadata.jsonl, validation/annotations.jsonl, validation/validation.jsonl, "
        "annotations/validation.jsonl, _annotations.validation.jsonl, "
        "*/_annotations.validation.jsonl, validation.json, also as val and valid; "
        "splits: train, test). Set data.splits.validation=FILE or hold out a fraction of train "
        "with data.validation_fraction=0.1."
    )
    assert source.available_splits() == ["train", "test"]


def test_a_missing_folder_or_file_is_one_sentence(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    assert failure(Jsonl(path=str(gone)), "train") == (
        f"data.path: {gone} does not exist. Set it to the folder of the data."
    )
    assert failure(Jsonl(path=str(tmp_path), splits={"train": "b.jsonl"}), "train") == (
        f"{tmp_path}/b.jsonl cannot be read (No such file or directory). "
        "Check data.path and data.splits."
    )


def test_two_files_for_one_split_are_an_error(tmp_path: Path) -> None:
    touch(tmp_path, "annotations/instances_val2014.json", "annotations/instances_val2017.json")
    assert failure(Coco(path=str(tmp_path)), "validation") == (
        f"{tmp_path}: split 'validation' must be one file, got "
        "annotations/instances_val2014.json, annotations/instances_val2017.json. "
        "Choose one with data.splits.validation=FILE."
    )


def test_settings_are_checked_before_a_file_is_read() -> None:
    for setting, value in (("max_samples", 0), ("validation_fraction", 1.0), ("max_bad_rows", -1)):
        with pytest.raises(ValueError, match=rf"^data\.{setting} must be .*, got {value}\.$"):
            Jsonl(path="x", **{setting: value})  # type: ignore[arg-type]


def test_a_source_requires_a_task_and_its_component_has_the_name_of_the_task() -> None:
    source = Jsonl(path="x")
    with pytest.raises(ValueError, match=r"^task is missing: choose one of caption, .* task=NAME$"):
        source.dataset_specs(None)
    [spec] = source.dataset_specs(task := Ocr())
    assert (spec.name, spec.task, spec.source, spec.repeat) == ("ocr", task, source, 1)


def many_images(folder: Path, images: int = 200, rows_per_image: int = 3) -> Path:
    (folder / "images").mkdir(parents=True)
    Image.new("RGB", (4, 4)).save(folder / "images/0.png")
    for image in range(1, images):
        os.link(folder / "images/0.png", folder / f"images/{image}.png")
    rows = [{"image": f"images/{n % images}.png"} for n in range(images * rows_per_image)]
    (folder / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


def images_of(source: Source, split: str) -> list[str]:
    rows = list(source.rows(split))
    assert all(isinstance(row, Row) for row in rows)
    return [row.images[0] for row in rows if isinstance(row, Row)]


def test_a_held_out_fraction_is_the_same_everywhere_and_splits_by_image(tmp_path: Path) -> None:
    sides = []
    for name in ("here", "there"):
        folder = many_images(tmp_path / name)
        source = Jsonl(path=str(folder), validation_fraction=0.2)
        train, validation = images_of(source, "train"), images_of(source, "valid")
        assert len(train) + len(validation) == 600
        assert not set(train) & set(validation)
        assert 20 <= len(set(validation)) <= 60
        assert source.available_splits() == ["train", "validation"]
        sides.append([os.path.relpath(image, folder) for image in validation])
    assert sides[0] == sides[1]


def test_a_larger_fraction_contains_the_smaller_one(tmp_path: Path) -> None:
    folder = many_images(tmp_path / "a", rows_per_image=1)
    sources = (Jsonl(path=str(folder), validation_fraction=share) for share in (0.1, 0.5))
    small, large = (set(images_of(source, "validation")) for source in sources)
    assert small < large


def test_a_validation_file_and_a_fraction_exclude_each_other(toy_jsonl: Path) -> None:
    source = Jsonl(path=str(toy_jsonl), validation_fraction=0.2)
    for split in ("train", "validation"):
        assert failure(source, split) == (
            f"{toy_jsonl}/validation.jsonl: data.validation_fraction must be 0 for data with a "
            "validation file, got 0.2. Set data.validation_fraction=0 to use the file."
        )
    assert len(list(source.rows("test"))) == SPLITS["test"]


def test_rows_of_several_images_cannot_be_held_out(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    (tmp_path / "train.jsonl").write_text('{"images": ["a.png", "a.png"]}\n{"image": "b.png"}')
    rows = list(Jsonl(path=str(tmp_path), validation_fraction=0.5).rows("train"))
    assert [str(row) for row in rows] == [
        f"{tmp_path}/train.jsonl:1: data.validation_fraction must be 0 for rows of several images, "
        "got 0.5. Put the validation rows into a separate file.",
        f"{tmp_path}/train.jsonl:2: image {tmp_path}/b.png does not exist",
    ]
