"""`palitune predict` on a user's own images, by command line, and its page in a browser."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from pycocotools.coco import COCO

from palitune import __main__ as program
from palitune.data.sources.embedded import Handwriting

from support.browser import DESKTOP, PHONE, open_page
from support.toy_data import write_toy_coco
from support.videos import frame_index, write_video

TINY = ["model=tiny", "evaluation.num_workers=0"]
DETECT = ["images=photos", "prompt=detect 1 ; 2 ; 3", *TINY]


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Five pages of digits, one of them in a subfolder and one as JPEG, beside a text file."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    for name, number in {"a.png": 1, "b.png": 2, "c.jpg": 3, "more/a.png": 4, "d.bmp": 5}.items():
        Image.open(Handwriting().resolved_path() / "images" / f"test-{number:04d}.png").convert(
            "RGB"
        ).save(folder / name)
    (folder / "notes.txt").write_text("no image")
    return folder


def predictions(folder: str | Path = "out") -> list[dict[str, Any]]:
    lines = (Path(folder) / "predictions.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def spoil_pixels(file: Path) -> None:
    """Leave header and end of a PNG as they are, so that only decoding finds the fault."""
    content = file.read_bytes()
    start = content.index(b"IDAT") + 4
    file.write_bytes(content[:start] + bytes(60) + content[start + 60 :])


def test_a_prompt_alone_predicts_boxes_on_a_folder(
    photos: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert program.run(["predict", *DETECT, "output_dir=out"]) == 0
    said = " ".join(capfd.readouterr().out.split())
    assert "answers parsed as detection (inferred from 'detect'; task=... overrides it)" in said
    assert "images: 5 of 5; other files skipped: 1" in said

    records = predictions()
    assert [record["id"] for record in records] == [
        "a.png", "b.png", "c.jpg", "d.bmp", "more/a.png",
    ]  # fmt: skip
    found = [instance for record in records for instance in record["value"]]
    assert found
    for instance in found:
        x0, y0, x1, y1 = instance["box"]
        assert 0 <= x0 < x1 <= 112
        assert 0 <= y0 < y1 <= 112
        assert 0 < instance["score"] < 1
    for name in ("a.png", "b.png", "c.jpg", "d.bmp.png", "more/a.png"):
        drawn = Image.open(Path("out/drawn") / name)
        assert drawn.size == (336, 336)  # enlarged by a whole factor, so that labels are legible
    assert Image.open("out/drawn/c.jpg").format == "JPEG"


def test_the_results_are_those_that_coco_reads(photos: Path) -> None:
    assert program.run(["predict", *DETECT, "output_dir=out"]) == 0
    explained = COCO("out/coco_images.json")
    results = explained.loadRes("out/coco_results.json")
    records = predictions()
    assert len(results.anns) == sum(len(record["value"]) for record in records)
    assert [explained.cats[number]["name"] for number in (1, 2, 3)] == ["1", "2", "3"]
    for number, record in enumerate(records, start=1):
        assert explained.imgs[number]["file_name"] == record["id"]
        for told, instance in zip(results.imgToAnns[number], record["value"], strict=True):
            x0, y0, x1, y1 = instance["box"]
            assert told["bbox"] == pytest.approx([x0, y0, x1 - x0, y1 - y0], abs=0.01)
            assert explained.cats[told["category_id"]]["name"] == instance["label"]


def test_a_text_answer_comes_for_every_prompt_and_the_task_may_be_told(photos: Path) -> None:
    assert program.run(["predict", "images=photos", "prompt=ocr", *TINY, "output_dir=out"]) == 0
    assert {record["task"] for record in predictions()} == {"ocr"}
    assert all(isinstance(record["value"], str) for record in predictions())
    assert not Path("out/drawn").exists()
    told = ["task=text", "images=photos/*.png", "prompt=ocr", "output_dir=text"]
    assert program.run(["predict", *told, *TINY]) == 0
    texts = {record["id"]: record["text"] for record in predictions()}
    assert {r["id"]: r["text"] for r in predictions("text")} == {
        name: texts[name] for name in ("a.png", "b.png")
    }
    assert {record["task"] for record in predictions("text")} == {"text"}


def test_a_task_writes_its_own_prompt(photos: Path) -> None:
    told = ["task=detection", "task.classes=[7,8]", "images=[photos/a.png,photos/more]"]
    assert program.run(["predict", *told, *TINY, "output_dir=out"]) == 0
    assert [record["prompt"] for record in predictions()] == ["detect 7 ; 8"] * 2
    assert [record["id"] for record in predictions()] == ["a.png", "more/a.png"]


def test_masks_are_written_as_run_lengths_in_pixels(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that writes masks does not ship: what it writes is given."""
    from palitune.models.generation import generate

    def written(tokenizer: Any, answer: Any) -> generate.Generation:
        box, codes = "<loc0100><loc0100><loc0900><loc0800>", "<seg005>" * 16
        return generate.Generation(f"{box}{codes} 7", (1,), (1,), (-0.1,), True)

    monkeypatch.setattr(generate, "to_generation", written)
    told = ["images=photos/a.png", "prompt=segment 7", *TINY, "task=segmentation"]
    assert program.run(["predict", *told, "output_dir=out"]) == 0
    (record,) = predictions()
    assert record["value"][0]["mask"]["size"] == [112, 112]
    (told_of,) = COCO("out/coco_images.json").loadRes("out/coco_results.json").anns.values()
    assert told_of["segmentation"] == record["value"][0]["mask"]


def test_the_adapter_and_the_task_of_a_training_serve(
    tiny: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_toy_coco(tmp_path / "boxes")
    model = ["model=local", f"model.path={tiny('paligemma2')}"]
    data = ["task=detection", "task.classes=[red,blue]", "data=coco", "data.path=boxes"]
    steps = ["training.max_steps=1", "training.num_workers=0", "evaluation.num_workers=0"]
    quick = [*steps, "evaluate_before=false", "evaluation.max_samples=1", "task.max_new_tokens=8"]
    assert program.run(["finetune", *data, *model, *quick, "output_dir=run"]) == 0
    told = ["--run", "run", "images=boxes/images", "evaluation.max_samples=3", "output_dir=out"]
    assert program.run(["predict", *told]) == 0
    assert [record["prompt"] for record in predictions()] == ["detect red ; blue"] * 3
    assert "path: run/adapter" in Path("out/config.yaml").read_text()


def test_a_mixture_brings_the_task_that_the_prompt_means(photos: Path) -> None:
    told = ["experiment=quickstart", "images=photos", "prompt=answer en which is largest?"]
    assert program.run(["predict", *told, "evaluation.num_workers=0", "output_dir=out"]) == 0
    assert {record["task"] for record in predictions()} == {"vqa"}


def test_an_unreadable_image_stops_or_is_left_out(
    photos: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (photos / "b.png").write_bytes((photos / "a.png").read_bytes()[:300])
    spoil_pixels(photos / "more/a.png")
    assert program.run(["predict", *DETECT]) == 1
    *_, said = capfd.readouterr().err.strip().splitlines()
    assert said.endswith("is truncated; copy or save it again (skip_unreadable=true skips it)")
    assert program.run(["predict", *DETECT, "skip_unreadable=true", "output_dir=out"]) == 0
    assert [record["id"] for record in predictions()] == ["a.png", "c.jpg", "d.bmp"]
    skipped = Path("out/skipped.txt").read_text().splitlines()
    assert len(skipped) == 2
    assert "2 unreadable" in capfd.readouterr().out


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_only_fails_when_it_is_decoded_ends_in_one_sentence(
    photos: Path, workers: int, capfd: pytest.CaptureFixture[str]
) -> None:
    spoil_pixels(photos / "b.png")
    told = [*DETECT, f"evaluation.num_workers={workers}", "evaluation.batch_size=2"]
    assert program.run(["predict", *told]) == 1
    *_, said = capfd.readouterr().err.strip().splitlines()
    assert said.startswith("palitune: images: b.png: image ")
    assert said.endswith(". Set skip_unreadable=true to skip this image.")


MISTAKES = {
    "no images": (["prompt=ocr"], 2, "images is missing: write images=... (Folder, file or "),
    "no prompt": (["images=photos"], 2, "prompt is missing: write prompt="),
    "an empty prompt": (["images=photos", "prompt=''"], 2, "prompt is missing: write prompt="),
    "images that are none": (["images=5", "prompt=ocr"], 2, "images must be a folder, a file or "),
    "a path that does not exist": (
        ["images=fotos", "prompt=ocr"],
        1,
        "images: fotos does not exist; use a folder, a file or a pattern",
    ),
    "a folder without images": (
        ["images=empty", "prompt=ocr"],
        1,
        "images: empty has no images (other files: 1); they end in .jpg, ",
    ),
    "a file that is no image": (["images=empty/x.txt", "prompt=ocr"], 1, "image /"),
    "a task that has no prompt of its own": (
        ["images=photos", "task=vqa"],
        1,
        "task=vqa: column 'question' is missing, but this task requires it, or write prompt='...'",
    ),
    "a task that does not know its classes": (
        ["images=photos", "task=detection"],
        1,
        "task=detection: the data has no list of classes. Set task.classes=[...], or write ",
    ),
    "a codec that does not exist": (
        ["images=photos", "task=segmentation", "task.codec=vae.npz", "prompt=segment 1"],
        2,
        "mask codec vae.npz does not exist; ",
    ),
    "an adapter that does not exist": (
        ["images=photos", "prompt=ocr", "adapter.path=nowhere"],
        1,
        "adapter.path: folder nowhere does not exist. ",
    ),
}


@pytest.mark.parametrize(("told", "code", "start"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_ends_in_one_sentence_and_leaves_no_folder(
    told: list[str], code: int, start: str, photos: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (photos.parent / "empty").mkdir()
    (photos.parent / "empty" / "x.txt").write_text("x")
    assert program.run(["predict", *told, *TINY]) == code
    *_, said = capfd.readouterr().err.strip().splitlines()
    assert said.startswith(f"palitune: {start}")
    assert sorted(path.name for path in photos.parent.iterdir()) == ["empty", "photos"]


@pytest.mark.parametrize("window", [PHONE, DESKTOP])
def test_the_page_shows_finds_and_enlarges_by_keyboard(
    window: tuple[int, int], photos: Path
) -> None:
    (photos / "a.png").rename(photos / ("long_" * 30 + ".png"))
    assert program.run(["predict", *DETECT, "output_dir=out"]) == 0
    records = predictions()
    labels = {record["id"]: {i["label"] for i in record["value"]} for record in records}
    label = sorted(set().union(*labels.values()))[0]
    with open_page(Path("out/predictions.html"), window) as visit:
        page = visit.page
        visible = page.locator("article.card:visible")
        assert visible.count() == len(records) == page.locator("article.card img").count()
        page.select_option("[name=label]", label)
        assert visible.count() == sum(label in found for found in labels.values())
        page.select_option("[name=label]", "")
        page.fill("[name=text]", "MORE/")
        assert visible.count() == 1
        for _ in range(6):  # from the search field past the controls of the drawing
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.className") == "enlarge":
                break
        page.keyboard.press("Enter")
        assert page.locator("article.large").count() == 1
        assert page.locator("article.large .enlarge").get_attribute("aria-pressed") == "true"
        assert visit.overflow() <= 0
        page.fill("[name=text]", "")
        assert visit.broken_images() == []
        assert visit.overflow() <= 0
        assert visit.errors == []


def test_images_of_one_question_and_frames_of_a_video_stand_in_a_row(photos: Path) -> None:
    write_video(photos / "clip.mp4", 12)
    told = ["predict", "prompt=answer en which is higher?", *TINY]
    pair = ["images=photos/*.png", "multi_image=true", "output_dir=pair"]
    clip = ["images=photos/clip.mp4", "frames.count=6", "frames.stride=2", "output_dir=clip"]
    assert program.run([*told, *pair]) == program.run([*told, *clip]) == 0
    [both], [video] = predictions("pair"), predictions("clip")
    assert both["id"] == "a.png, b.png"
    assert [Path(image).name for image in both["images"]] == ["a.png", "b.png"]
    assert [frame_index(image) for image in video["images"]] == [0, 2, 4, 6, 8, 10]
    for folder, shape, window in (("pair", 2, DESKTOP), ("clip", 4 * 64 / (2 * 48), PHONE)):
        with open_page(Path(folder) / "predictions.html", window) as visit:
            [(width, height)] = visit.page.locator("article.card img").evaluate_all(
                "all => all.map(image => [image.naturalWidth, image.naturalHeight])"
            )
            assert width / height == pytest.approx(shape, rel=0.05)
            assert visit.broken_images() == visit.errors == []
            assert visit.overflow() <= 0


def test_the_page_holds_so_many_images_and_says_where_the_others_are(photos: Path) -> None:
    assert program.run(["predict", *DETECT, "max_shown=2", "output_dir=out"]) == 0
    page = Path("out/predictions.html").read_text()
    assert page.count('<article class="card') == 2
    assert "Showing 2 of 5 images; all are in predictions.jsonl and drawn/." in page
    assert len(predictions()) == 5


def test_images_are_ranked_and_saved_for_labeling_tools(
    photos: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    save = "save=[coco,yolo,label_studio,voc]"
    assert (
        program.run(["predict", *DETECT, save, "rank=both", "rank_count=3", "output_dir=out"]) == 0
    )
    assert "pre-annotations: out/annotations/yolo" in capfd.readouterr().out
    tasks = json.loads(Path("out/annotations/label_studio/tasks.json").read_text())
    counts = [len(task["predictions"][0]["result"]) for task in tasks]
    assert counts == [len(record["value"] or ()) for record in predictions()]
    assert sum(counts) > 0
    with Path("out/to_label.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["rank"] for row in rows] == ["1", "2", "3"]
    assert {row["image"] for row in rows} <= {record["id"] for record in predictions()}
    assert float(rows[1]["distance"]) >= float(rows[2]["distance"]) / 2 > 0
    with open_page(Path("out/to_label.html"), PHONE) as visit:
        shown = visit.page.locator("article.card:visible h3").all_inner_texts()
        assert shown == [row["image"] for row in rows]
        assert visit.overflow() <= 0
        assert visit.errors == []


def test_a_text_has_no_place_in_a_format_of_boxes(
    photos: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert program.run(["predict", "images=photos", "prompt=ocr", *TINY, "save=[yolo]"]) != 0
    said = " ".join(capfd.readouterr().err.split())
    assert (
        "`save` must be label_studio for the task ocr, whose answers are texts, got yolo." in said
    )
