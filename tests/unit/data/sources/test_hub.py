"""Data sets of the hub: a folder as one is downloaded, read by `datasets`, and no network."""

from pathlib import Path
from typing import Any

import datasets
import pytest

from palitune.data.sources.box_formats import BoxFormat
from palitune.data.sources.hub import Hub
from palitune.errors import DataError
from palitune.records import Instance, Row

from support.official_files import draw_image

FEATURES = {
    "image": datasets.Image(),
    "query": datasets.Value("string"),
    "answers": datasets.List(datasets.Value("string")),
    "objects": {
        "bbox": datasets.List(datasets.List(datasets.Value("float32"))),
        "category": datasets.List(datasets.ClassLabel(names=["boat", "buoy"])),
    },
}
ASKED = {"query": "where?", "answers": ["here", "there"]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A repository as `hf download` leaves it."""
    draw_image(tmp_path / "drawn.png")
    image = {"bytes": (tmp_path / "drawn.png").read_bytes(), "path": None}
    objects = {"bbox": [[1, 2, 3, 4]], "category": [1]}
    made = datasets.Dataset.from_list(
        [{"image": image, "objects": objects} | ASKED] * 3, datasets.Features(FEATURES)
    )
    (tmp_path / "repository/data").mkdir(parents=True)
    for split in ("train", "testdev"):
        made.to_parquet(tmp_path / f"repository/data/{split}-00000-of-00001.parquet")
    return tmp_path / "repository"


def hub(folder: Path, **settings: Any) -> Hub:
    columns = {"question": "query"}
    return Hub(path=str(folder), box_format=BoxFormat.xywh, columns=columns, **settings)


def test_a_picture_outside_the_folder_is_not_read(tmp_path: Path) -> None:
    draw_image(tmp_path / "private.png")
    image = {"bytes": None, "path": str(tmp_path / "private.png")}
    (tmp_path / "repository").mkdir()
    image_feature = {"bytes": datasets.Value("binary"), "path": datasets.Value("string")}
    features = datasets.Features({"image": image_feature, "query": datasets.Value("string")})
    made = datasets.Dataset.from_list([{"image": image, "query": "what?"}], features)
    made.to_parquet(tmp_path / "repository/train.parquet")
    [error] = hub(tmp_path / "repository").rows("train")
    assert isinstance(error, DataError)
    assert str(error).endswith("Copy the image into it.")


def test_a_folder_is_read_without_network(folder: Path) -> None:
    row, *others = hub(folder).rows("train")
    assert isinstance(row, Row), row
    assert len(others) == 2
    assert (row.id, row.location) == ("train-1", f"{folder}, train, row 1")
    assert (row.question, row.answers) == ("where?", ("here", "there"))
    assert row.instances == (Instance("buoy", (1, 2, 4, 6)),)
    assert row.classes == ("boat", "buoy")
    assert Path(row.images[0]).read_bytes() == (folder.parent / "drawn.png").read_bytes()
    assert [file.name for file in hub(folder).files("train")] == [
        "testdev-00000-of-00001.parquet", "train-00000-of-00001.parquet"
    ]  # fmt: skip


def test_splits_have_the_names_of_the_repository_or_of_the_settings(folder: Path) -> None:
    assert hub(folder).available_splits() == ["train", "testdev"]
    renamed = hub(folder, splits={"val": "testdev"})
    assert renamed.available_splits() == ["train", "validation"]
    assert len(list(renamed.rows("validation"))) == 3
    with pytest.raises(DataError) as caught:
        list(hub(folder).rows("test"))
    assert str(caught.value) == (
        f"{folder}: split must be one of train, testdev, got 'test'. Set data.splits.test=NAME."
    )


def test_an_invalid_row_is_an_error_with_its_location(folder: Path) -> None:
    source = Hub(path=str(folder), columns={"question": "absent"})
    bad = next(iter(source.rows("train")))
    assert str(bad).startswith(
        f"{folder}, train, row 1: column 'absent' (data.columns.question) mu"
    )


def test_the_error_without_network_describes_the_offline_way() -> None:
    source = Hub(path="nobody/nothing", revision="abc")
    with pytest.raises(DataError) as caught:
        list(source.rows("train"))
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(
        "nobody/nothing: cannot be downloaded from the Hugging Face hub ("
    )
    assert str(caught.value).endswith(
        "Without network, download it on another machine (hf download nobody/nothing --repo-type "
        "dataset --local-dir FOLDER) and set data.path=FOLDER."
    )


def test_the_description_file_depends_on_every_setting_of_the_repository() -> None:
    def description_file(**settings: Any) -> Path:
        return Hub(path="nobody/nothing", **settings).annotation_file("train")

    assert description_file() == description_file(max_samples=3)
    assert (
        len(
            {
                description_file(),
                description_file(revision="abc"),
                description_file(config_name="de"),
            }
        )
        == 3
    )


def test_a_folder_of_other_files_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "train.parquet").write_text("nothing")
    with pytest.raises(DataError, match="folder must be a data set that `datasets` can read"):
        list(Hub(path=str(tmp_path)).rows("train"))
