"""`palitune inspect` on a user's own data, by command line, and its page in a browser."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from palitune import __main__ as program

from support.browser import DESKTOP, PHONE, open_page
from support.toy_data import write_toy_coco, write_toy_jsonl
from support.toy_formats import box_polygon, write_coco

BOXES = ["task=detection", "data=coco", "data.path=boxes", "model=tiny", "output_dir=out"]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_toy_coco(tmp_path / "boxes")
    return tmp_path


def inspected() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(Path("out/inspection.json").read_text())
    return content


def split(name: str) -> dict[str, Any]:
    (found,) = (one for one in inspected()["splits"] if one["split"] == name)
    return dict(found)


def texts(level: str) -> list[str]:
    return [one["text"] for one in inspected()["findings"] if one["level"] == level]


def test_augmented_views_are_drawn_beside_the_image_as_it_is(home: Path) -> None:
    settings = [*BOXES, "splits=[train]", "samples=2"]
    assert program.run(["inspect", *settings, "augmentation=light"]) == 0
    with open_page(Path("out/inspection.html"), PHONE) as visit:
        cards = visit.page.locator("#augmentation .card")
        assert cards.count() == 2
        assert cards.first.locator("img").count() == 4
        assert visit.overflow() <= 0
        assert visit.errors == []
    assert program.run(["inspect", *settings, "overwrite=true"]) == 0
    assert 'id="augmentation"' not in Path("out/inspection.html").read_text(encoding="utf-8")


def test_a_coco_folder_is_counted_split_by_split(
    home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert program.run(["inspect", "boxes", *BOXES[:1], *BOXES[3:]]) == 0
    files = {path.name for path in Path("out").iterdir()}
    assert files == {"config.yaml", "environment.json", "inspection.html", "inspection.json"}
    assert [one["split"] for one in inspected()["splits"]] == ["train", "validation", "test"]
    train, annotated = (
        split("train"),
        json.loads((home / "boxes/annotations/instances_train.json").read_text()),
    )
    assert (train["examples"], train["images"], train["bad_rows"]) == (12, 12, 0)
    assert train["objects"]["objects"] == len(annotated["annotations"])
    for category in annotated["categories"]:
        own = [a for a in annotated["annotations"] if a["category_id"] == category["id"]]
        counted = train["objects"]["classes"][category["name"]]
        assert counted["objects"] == len(own)
        assert counted["images"] == len({a["image_id"] for a in own})
    sides = sorted(min(a["bbox"][2:]) for a in annotated["annotations"])
    assert sides[0] <= train["objects"]["shorter_side"]["median"] <= sides[-1]
    assert train["tokens"]["over_max_length"] == 0
    printed = capfd.readouterr().out
    assert "too long" in printed
    assert "boxes: COCO (annotations/instances_test.json" in printed
    command = "palitune inspect data=coco data.path=boxes task=detection model=tiny output_dir=out"
    assert f"the same: {command}" in printed
    assert inspected()["copies"] == {"within": {}, "across": {}}


def test_what_harms_is_found(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = home / "boxes/annotations/instances_train.json"
    content = json.loads(file.read_text())
    content["categories"] += [{"id": 9, "name": "Red"}, {"id": 10, "name": "yellow"}]
    content["annotations"][0]["category_id"] = 9
    bad = content["annotations"][-1]
    bad["bbox"] = [500, 1, 10, 10]
    file.write_text(json.dumps(content))
    images = home / "boxes/images"
    shutil.copy(images / "train_01.png", images / "test_02.png")
    shutil.copy(images / "train_01.png", images / "train_04.png")
    assert program.run(["inspect", *BOXES, "training.max_length=90", "task.max_new_tokens=9"]) == 0
    bad_ones = "\n".join(texts("bad"))
    assert (
        "1 image of test is also in train, with identical bytes: metrics on test will" in bad_ones
    )
    assert "detection, train: 1 bad row, the first: boxes/annotations/instances_train" in bad_ones
    assert "of the examples exceed training.max_length=90 and cannot be trained on" in bad_ones
    assert "of the suffixes are longer than task.max_new_tokens=9" in bad_ones
    assert "labels that differ in spelling only: 'Red' (1 objects), 'red' (" in bad_ones
    odd_ones = "\n".join(texts("odd"))
    assert "1 image of train is also there under another name" in odd_ones
    assert "classes without objects: yellow" in odd_ones
    assert split("train")["bad_rows"] == 1
    page = Path("out/inspection.html").read_text()
    assert "Bad rows by cause" in page
    assert "Centers of boxes, train" in page
    said = " ".join(capfd.readouterr().out.split())
    assert "✗ 1 image of test is also in train" in said


def test_what_the_task_leaves_out_is_told(home: Path) -> None:
    told = ["task.classes=[red,green]", "task.negative_ratio=0", "task.max_objects=1"]
    assert program.run(["inspect", *BOXES, *told]) == 0
    odd_ones = "\n".join(texts("odd"))
    assert "in the data, but not in task.classes: blue" in odd_ones
    assert "images without objects (task.negative_ratio), in " in odd_ones
    assert "objects over task.max_objects=1, in " in odd_ones


def test_masks_have_a_ceiling_by_class_and_size(home: Path) -> None:
    (home / "shapes").mkdir()
    write_coco(home / "shapes", lambda written: [box_polygon(written)])
    told = ["task=segmentation", "data=coco", "data.path=shapes", "data.masks=true"]
    few = ["splits=[val]", "codec_samples=3", "samples=2", "model=tiny", "output_dir=out"]
    assert program.run(["inspect", *told, *few]) == 0
    (one,) = inspected()["splits"]
    ceiling = one["codec_ceiling"]
    assert (one["split"], ceiling["images"]) == ("validation", 3)
    (every,) = (c for c in ceiling["iou"] if (c["class"], c["size"]) == ("all", "all"))
    assert 0.8 < every["iou"] < 1
    labels = {c["class"] for c in ceiling["iou"]} - {"all"}
    assert labels <= {"red", "green", "blue"}
    page = Path("out/inspection.html").read_text()
    assert page.count('<article class="card') == 2
    assert "on 3 images drawn at random" in " ".join(page.split())


def test_answers_of_text_tasks_are_counted(home: Path) -> None:
    write_toy_jsonl(home / "questions")
    told = ["task=vqa", "data=jsonl", "data.path=questions", "model=tiny", "output_dir=out"]
    assert program.run(["inspect", *told]) == 0
    answers = split("train")["answers"]
    assert sum(answers["most_frequent"].values()) == 12
    assert answers["acceptable"] == {"2": 12}
    assert split("train")["objects"]["objects"] > 0  # the rows have them, whatever the task reads


def test_every_part_of_a_mixture_is_inspected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    told = ["experiment=quickstart", "splits=[test]", "samples=1", "data.max_samples=5"]
    assert program.run(["inspect", *told, "output_dir=out"]) == 0
    assert [(one["part"], one["examples"]) for one in inspected()["splits"]] == [
        ("ocr", 5),
        ("detection", 5),
        ("vqa", 5),
    ]


def test_only_the_processor_of_the_model_is_needed(tiny: Callable[[str], Path], home: Path) -> None:
    weightless = home / "model"
    shutil.copytree(tiny("paligemma2"), weightless)
    for weights in weightless.glob("*.safetensors*"):
        weights.unlink()
    told = [*BOXES, "model=local", f"model.path={weightless}"]
    assert program.run(["inspect", *told]) == 0
    assert inspected()["model"] == "local (model)"


MISTAKES = {
    "a split that does not exist": (
        ["splits=[dev]", "data.path=boxes"],
        "boxes: no split 'dev' (searched for ",
    ),
    "data that does not exist": (["data.path=boxs"], "data.path: boxs does not exist. Set it "),
    "a folder without annotations": (["data.path=empty"], "empty: no split 'train' (searched for "),
    "masks that were not asked for": (
        ["task=segmentation", "data.path=boxes"],
        "no row can be used, the first: boxes/annotations/instances_train.json, image id 0: object "
        "'",
    ),
}


@pytest.mark.parametrize(("told", "start"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_ends_in_one_sentence_and_leaves_no_folder(
    told: list[str], start: str, home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (home / "empty").mkdir()
    base = ["task=detection", "data=coco", "model=tiny", "output_dir=out"]
    assert program.run(["inspect", *base, *told]) == 1
    *_, said = capfd.readouterr().err.strip().splitlines()
    assert said.startswith(f"palitune: {start}")
    assert not Path("out").exists()


@pytest.mark.parametrize("window", [PHONE, DESKTOP])
def test_the_page_loads_without_faults_and_its_samples_can_be_found(
    window: tuple[int, int], home: Path
) -> None:
    assert program.run(["inspect", *BOXES, "samples=3"]) == 0
    with open_page(Path("out/inspection.html"), window) as visit:
        page = visit.page
        assert page.locator(".findings li").count() == len(inspected()["findings"])
        cards = page.locator("article.card:visible")
        assert cards.count() == 9
        page.select_option("[name=part]", "detection, test")
        assert cards.count() == 3
        page.select_option("[name=label]", "red")
        for card in cards.all():
            assert "red" in card.get_attribute("data-labels")
        page.select_option("[name=part]", "")
        page.select_option("[name=label]", "")
        for link in page.locator("nav a").all():
            target = link.get_attribute("href")
            assert page.locator(target).count() == 1
        page.focus(".enlarge >> nth=0")
        page.keyboard.press("Enter")
        assert page.locator("article.large").count() == 1
        assert visit.broken_images() == []
        assert visit.overflow() <= 0
        assert visit.errors == []
