"""A folder of data on the command line: the settings that read it, and the printed command."""

import json
import shlex
import shutil
from pathlib import Path

import pytest
from PIL import Image

from palitune.config.compose import compose
from palitune.config.data_folder import equivalent_command, folder_settings, split_folder
from palitune.config.preflight import check_run, judge_on_validation
from palitune.config.recipes import Compare, Finetune
from palitune.data.recognition.resolve import recognize_folder
from palitune.data.sources.base import Source
from palitune.errors import ConfigError, DataError
from palitune.records import Row


def coco(names: list[str]) -> str:
    images = [{"id": n, "file_name": name} for n, name in enumerate(names)]
    boxes = [
        {"id": n, "image_id": n, "category_id": 1, "bbox": [1, 2, 3, 4]} for n in range(len(names))
    ]
    categories = [{"id": 1, "name": "boat"}]
    return json.dumps({"images": images, "annotations": boxes, "categories": categories})


@pytest.fixture
def boats(tmp_path: Path) -> Path:
    """A folder whose name needs quotes, as CVAT exports it: no split in any name."""
    folder = tmp_path / "my boats, 2"
    (folder / "annotations").mkdir(parents=True)
    (folder / "images").mkdir()
    names = [f"{number}.png" for number in range(40)]
    for number, name in enumerate(names):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(folder / "images" / name)
    (folder / "annotations" / "instances_default.json").write_text(coco(names))
    return folder


def compose_folder(folder: Path, *overrides: str) -> Finetune:
    settings, _ = folder_settings(str(folder), overrides, has_other_config=False)
    return compose(Finetune, settings)


def test_a_folder_without_splits_is_read_with_a_validation_share(boats: Path) -> None:
    settings, recognized = folder_settings(str(boats), ["model=tiny"], has_other_config=False)
    assert settings == [
        "data=coco",
        f"data.path='{boats}'",
        "data.splits.train=annotations/instances_default.json",
        "data.validation_fraction=0.2",
        "task=detection",
        "model=tiny",
    ]
    assert recognized is not None
    assert recognized.description == (
        f"{boats}: COCO (annotations/instances_default.json), splits: train, "
        "validation (20% of its images), task: detection"
    )
    run = compose(Finetune, settings)
    judge_on_validation(run)
    check_run(run)
    source = run.data
    assert isinstance(source, Source)
    counts = {split: len(list(source.rows(split))) for split in ("train", "validation")}
    assert sum(counts.values()) == 40
    assert counts["validation"] > 0


def test_the_printed_command_composes_the_same_run(boats: Path) -> None:
    settings, _ = folder_settings(str(boats), ["model=tiny"], has_other_config=False)
    command = shlex.split(equivalent_command("finetune", settings))
    assert command[:2] == ["palitune", "finetune"]
    assert compose(Finetune, command[2:]).data == compose_folder(boats, "model=tiny").data


def test_a_file_is_the_split_train_and_chosen_settings_have_priority(boats: Path) -> None:
    file = boats / "annotations" / "instances_default.json"
    run = compose_folder(file, "model=tiny", "data.images=../images", "task=segmentation")
    assert run.task is not None
    assert run.task.name == "segmentation"
    assert isinstance(run.data, Source)
    row = next(iter(run.data.rows("train")))
    assert isinstance(row, Row)


@pytest.mark.parametrize("layout", ["voc", "labelme"])
def test_files_next_to_their_images_are_the_split_train(tmp_path: Path, layout: str) -> None:
    for number in range(3):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / f"{number}.png")
        box = "<xmin>1</xmin><ymin>2</ymin><xmax>3</xmax><ymax>4</ymax>"
        shape = {"label": "boat", "points": [[1, 2], [3, 4]], "shape_type": "rectangle"}
        voc = f"<annotation><object><name>boat</name><bndbox>{box}</bndbox></object></annotation>"
        text, suffix = {"voc": (voc, "xml"), "labelme": (json.dumps({"shapes": [shape]}), "json")}[
            layout
        ]
        (tmp_path / f"{number}.{suffix}").write_text(text)
    run = compose_folder(tmp_path, "model=tiny", "data.validation_fraction=0")
    assert isinstance(run.data, Source)
    assert run.data.name == layout
    rows = list(run.data.rows("train"))
    assert [row.instances for row in rows if isinstance(row, Row)] == [rows[0].instances] * 3  # type: ignore[union-attr]


def test_a_folder_is_an_argument_that_exists_or_has_a_slash(boats: Path) -> None:
    assert split_folder(Finetune, [str(boats), "seed=3"]) == (str(boats), ["seed=3"])
    assert split_folder(Finetune, ["coco", "a/b"]) == ("a/b", ["coco"])
    assert split_folder(Compare, [str(boats)]) == (None, [str(boats)])
    with pytest.raises(ConfigError, match="finetune takes one folder of data, got a/b, c/d"):
        split_folder(Finetune, ["a/b", "c/d"])
    with pytest.raises(ConfigError, match="the data is given twice"):
        folder_settings(str(boats), ["data.path=x"], has_other_config=False)
    with pytest.raises(DataError, match="a/b does not exist"):
        recognize_folder("a/b")


def test_with_an_experiment_a_folder_is_its_path_only(boats: Path) -> None:
    settings, recognized = folder_settings(
        str(boats), ["experiment=coco_detection"], has_other_config=True
    )
    assert settings == [f"data.path='{boats}'", "experiment=coco_detection"]
    assert recognized is None


def test_a_known_format_in_the_place_of_another_is_named(boats: Path) -> None:
    run = compose(Finetune, ["data=yolo", f"data.path='{boats}'", "task=detection", "model=tiny"])
    with pytest.raises(DataError) as caught:
        check_run(run)
    assert str(caught.value) == (
        f"{boats} is not YOLO: it holds COCO (annotations/instances_default.json). Set data=coco."
    )
    shutil.copy(boats / "annotations" / "instances_default.json", boats / "train.json")
    run = compose(Finetune, ["data=jsonl", f"data.path='{boats}'", "task=ocr", "model=tiny"])
    with pytest.raises(DataError, match=r"train\.json: file must be JSON lines, got COCO\. Set"):
        check_run(run)
