"""Tiles by command line: training on parts of images, and answers that are put together again."""

import json
from pathlib import Path

import pytest
import torch

from palitune import __main__ as program
from palitune.data.collator import Collator
from palitune.data.dataset import load_split, load_training_split
from palitune.data.images import large_pages
from palitune.data.images.io import open_image
from palitune.data.images.tiles import TrainingTiles
from palitune.data.images.transforms import IDENTITY_TRANSFORM
from palitune.data.sources.coco import Coco
from palitune.data.sources.embedded import EMBEDDED_FOLDER
from palitune.models.config import Tiny
from palitune.models.loading import load_processor
from palitune.tasks.detection import Detection

from support.toy_data import write_toy_coco

BOXES = ["task=detection", "data=coco", "data.path=boxes", "model=tiny"]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_toy_coco(tmp_path / "boxes")
    return tmp_path


def test_steps_count_tiles_and_evaluated_images_stay_whole(home: Path) -> None:
    data = Coco(path="boxes", tiles=TrainingTiles(size=40, overlap=0.25))
    [whole] = load_split(data, Detection(), "train")
    [train] = load_training_split(data, Detection(), "train", 0)
    sizes = {example.id: example.size for example in whole.examples}
    expected = sum(len(data.tiles.grid(size)) for size in sizes.values()) if data.tiles else 0
    assert len(train.examples) == expected > len(whole.examples)
    assert {example.tile for example in whole.examples} == {None}


def test_the_model_sees_the_pixels_of_the_tile(home: Path) -> None:
    data = Coco(path="boxes", tiles=TrainingTiles(size=40, overlap=0.25))
    [train] = load_training_split(data, Detection(), "train", 0)
    collator = Collator(load_processor(Tiny()))
    for example in train.examples[:4]:
        open_image(example.images[0]).crop(example.tile).save("cut.png")
        of_file = collator.load_pixels("cut.png", IDENTITY_TRANSFORM)
        of_tile = collator.collate_prompts([example])["pixel_values"][0]
        assert torch.equal(of_file, of_tile)
        collator._decoded_images.clear()


def test_inspect_counts_tiles_and_check_prints_them(
    home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tiles = "data.tiles={size: 40, overlap: 0.25}"
    assert program.run(["inspect", *BOXES, tiles, "output_dir=out"]) == 0
    splits = {s["split"]: s for s in json.loads(Path("out/inspection.json").read_text())["splits"]}
    counts = splits["train"]["tiles"]
    assert counts["tiles"] == splits["train"]["examples"] > counts["images"]
    assert splits["test"]["tiles"] is None
    assert program.run(["check", *BOXES, tiles]) == 0
    assert f"{counts['images']} images become {counts['tiles']} tiles of 40 px" in caplog.text


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["check", *BOXES, "data.tiles.overlap=1"], "data.tiles.overlap must be at least 0"),
        (
            ["check", *BOXES, "data.tiles={size: 10, overlap: 0.95}"],
            "data.tiles.overlap must leave at least one pixel of the tile's 10, got 0.95.",
        ),
        (["check", *BOXES, "data.tiles.size=0"], "data.tiles.size must be at least 1, got 0"),
        (
            ["check", "data=handwriting", "task=ocr", "model=tiny", "data.tiles.size=9"],
            "data.tiles must be null for a task without the boxes of all objects, got ocr",
        ),
        (["align", *BOXES, "data.tiles.size=9"], "data.tiles must be null for palitune align"),
    ],
)
def test_impossible_tiles_end_in_a_sentence(
    home: Path, command: list[str], message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert program.run(command) != 0
    printed = capfd.readouterr().err
    assert message in " ".join(printed.split())
    assert "Traceback" not in printed


def test_evaluate_and_predict_ask_tile_by_tile(
    home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    few = ["evaluation.num_workers=0", "evaluation.max_samples=2", "task.max_new_tokens=7"]
    tiles = "{size: 60, overlap: 0.25}"
    short = ["training.max_steps=1", "training.global_batch_size=2", "training.self_check=false"]
    settings = [*few, f"data.tiles={tiles}", f"evaluation.tiles={tiles}", "evaluate_before=false"]
    assert program.run(["finetune", *BOXES, *short, *settings, "output_dir=run"]) == 0
    records = [json.loads(line) for line in Path("run/predictions.jsonl").read_text().splitlines()]
    assert all(record["size"] == list(open_image(record["images"][0]).size) for record in records)
    caplog.clear()
    images = "images=boxes/images"
    assert program.run(["predict", images, "adapter.path=run", "output_dir=p", *few[:2]]) == 0
    assert "tiles of 60 px with an overlap of 0.25" in caplog.text  # as the adapter was trained
    caplog.clear()
    own = ["tiles.size=50", "output_dir=q", *few[:2]]
    assert program.run(["predict", images, "adapter.path=run", *own]) == 0
    assert "tiles of 50 px" in caplog.text


def test_a_training_on_tiles_that_is_evaluated_on_whole_images_is_warned_of(
    home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    short = ["training.max_steps=1", "training.global_batch_size=2", "training.self_check=false"]
    few = ["evaluation.max_samples=1", "evaluation.num_workers=0", "task.max_new_tokens=2"]
    settings = [*short, *few, "data.tiles.size=60", "evaluate_before=false", "output_dir=run"]
    assert program.run(["finetune", *BOXES, *settings]) == 0
    assert "Set evaluation.tiles={size: 60, overlap: 0.2} to evaluate tile by tile" in caplog.text


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (
            ["evaluate", "data=handwriting", "task=ocr", "model=tiny", "evaluation.tiles.size=9"],
            "evaluation.tiles must be null for a task without the boxes of all objects, got ocr",
        ),
        (
            ["predict", "images=boxes/images", "prompt=detect red", "model=tiny", "tiles.size=9",
             "rank=uncertainty"],
            "rank must be diversity with tiles, got uncertainty",
        ),
        (
            ["predict", "images=boxes/images", "prompt=ocr", "model=tiny", "tiles.size=9"],
            "evaluation.tiles must be null for a task without the boxes of all objects, got ocr",
        ),
        (
            ["evaluate", *BOXES, "evaluation.tiles.size=9", "endpoint=http://x",
             "endpoint_model=y"],
            "endpoint answers whole images. Set evaluation.tiles=null",
        ),
    ],
)  # fmt: skip
def test_impossible_tiles_of_answers_end_in_a_sentence(
    home: Path, command: list[str], message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert program.run(command) != 0
    printed = capfd.readouterr().err
    assert message in " ".join(printed.split())
    assert "Traceback" not in printed


def test_the_demo_runs_from_end_to_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PALITUNE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(large_pages, "SIZES", {"train": 2, "test": 1})
    brief = ["training.max_steps=2", "training.save_every=2", "training.self_check=false"]
    brief += ["training.global_batch_size=2", "training.micro_batch_size=2"]
    brief += ["task.max_new_tokens=4", "evaluate_before=false", "output_dir=run"]
    assert program.run(["finetune", "experiment=tiles_demo", *brief]) == 0
    metrics = json.loads(Path("run/metrics.json").read_text())
    assert metrics["examples"] == {"detection": 1}
    assert 0 <= metrics["after"]["detection/AP"] <= 1
    assert "2 images become 72 tiles of 112 px with an overlap of 0.3" in caplog.text


def test_large_pages_are_the_same_each_time_and_their_boxes_hold_the_ink(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(large_pages, "SIZES", {"validation": 2})
    for name in ("a", "b"):
        large_pages.draw_large_pages(EMBEDDED_FOLDER / "handwriting", tmp_path / name)
    first, second = (sorted(p for p in (tmp_path / n).rglob("*") if p.is_file()) for n in "ab")
    assert [file.read_bytes() for file in first] == [file.read_bytes() for file in second]
    content = json.loads((tmp_path / "a/validation_small_objects.json").read_text())
    for image in content["images"]:
        page = open_image(tmp_path / "a" / image["file_name"]).convert("L")
        for box in (a["bbox"] for a in content["annotations"] if a["image_id"] == image["id"]):
            x, y, width, height = box
            assert height in range(22, 33)
            assert page.crop((x, y, x + width, y + height)).getextrema()[0] < 130
            page.paste(255, (x, y, x + width, y + height))
        assert page.getextrema()[0] > 200  # no ink outside of the boxes
