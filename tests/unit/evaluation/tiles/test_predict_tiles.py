"""Answers tile by tile are those of the cut images, merged."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from palitune.errors import DataError
from palitune.evaluation.config import EvaluationConfig
from palitune.evaluation.predict import stream_predictions
from palitune.evaluation.tiles import predict_tiles
from palitune.evaluation.tiles.config import InferenceTiles
from palitune.evaluation.tiles.merging import merge_objects, place_in_image
from palitune.models.config import Device, Tiny
from palitune.models.loading import load, load_processor
from palitune.records import Example, Instance, Prediction
from palitune.tasks.detection import Detection
from palitune.tasks.ocr import Ocr

TASK = Detection(max_new_tokens=14)
WHOLE = EvaluationConfig(batch_size=3, num_workers=0)
TILES = InferenceTiles(size=60, overlap=0.25)
IN_TILES = replace(WHOLE, tiles=TILES)


@pytest.fixture(scope="module")
def model() -> tuple[Any, Any]:
    settings = Tiny(device=Device.cpu)
    return load(settings), load_processor(settings)


def example(name: str, image: Image.Image, folder: Path) -> Example:
    file = folder / f"{name}.png"
    image.save(file)
    return Example(
        id=name, images=(str(file),), size=image.size, prefix="detect 1 ; 2 ; 3", suffixes=(),
        reference=(), location=name,
    )  # fmt: skip


@pytest.fixture
def pages(tmp_path: Path) -> list[Example]:
    """Three images: 4 tiles, 1 tile and 2 tiles."""
    sizes = {"a": (100, 80), "b": (50, 60), "c": (90, 40)}
    return [
        example(name, Image.radial_gradient("L").resize(size).convert("RGB"), tmp_path)
        for name, size in sizes.items()
    ]


def predicted(
    model: tuple[Any, Any], examples: list[Example], settings: EvaluationConfig, **options: Any
) -> list[Any]:
    return list(stream_predictions(*model, examples, TASK, settings, **options))


def test_tiles_answer_as_the_cut_images_do(
    model: tuple[Any, Any], pages: list[Example], tmp_path: Path
) -> None:
    cut, grids = [], []
    for page in pages:
        grid = TILES.grid(page.size)
        grids.append(grid)
        image = Image.open(page.images[0])
        cut += [example(f"{page.id}{n}", image.crop(box), tmp_path) for n, box in enumerate(grid)]
    alone = iter([prediction for _, prediction in predicted(model, cut, WHOLE)])
    merged = [prediction for _, prediction in predicted(model, pages, IN_TILES)]
    assert [len(grid) for grid in grids] == [4, 1, 2]
    for page, grid, prediction in zip(pages, grids, merged, strict=True):
        parts = [next(alone) for _ in grid]
        if len(grid) == 1:
            assert prediction == replace(parts[0], id=page.id)
            continue
        assert prediction.text == " ; ".join(filter(None, (p.text.strip() for p in parts)))
        placed = [
            place_in_image(item, tile, page.size)
            for tile, part in zip(grid, parts, strict=True)
            for item in part.value or ()
            if isinstance(item, Instance)
        ]
        assert prediction.value == merge_objects(placed, TILES)
    assert any(prediction.value for prediction in merged)


def test_malformed_answers_of_tiles_are_counted(
    model: tuple[Any, Any],
    pages: list[Example],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def every_third_is_malformed(
        _: Any, __: Any, ___: Any, tiles: Any, batches: list[list[int]], *____: Any, **_____: Any
    ) -> Iterator[tuple[list[int], list[Prediction]]]:
        for batch in batches:
            yield (
                batch,
                [
                    Prediction(id=tiles[i].id, text="", value=None if i % 3 == 0 else ())
                    for i in batch
                ],
            )

    monkeypatch.setattr(predict_tiles, "predict_batches", every_third_is_malformed)
    values = [prediction.value for _, prediction in predicted(model, pages, IN_TILES)]
    assert values == [(), (), ()]  # each image has a tile with a well-formed answer
    assert "3 of 7 tiles have malformed answers" in caplog.text


def test_tiles_larger_than_the_images_change_no_answer(
    model: tuple[Any, Any], pages: list[Example]
) -> None:
    large = replace(WHOLE, tiles=InferenceTiles(size=100))
    assert predicted(model, pages, large) == predicted(model, pages, WHOLE)


def test_an_unreadable_image_is_one_error(model: tuple[Any, Any], pages: list[Example]) -> None:
    Path(pages[0].images[0]).write_text("no image")
    results = predicted(model, pages, IN_TILES, skip_unreadable=True)
    assert [type(result) for result in results] == [DataError, tuple, tuple]
    assert [p.id for _, p in results[1:] if isinstance(p, Prediction)] == ["b", "c"]
    with pytest.raises(DataError, match=r"^a, tile at 0,0: image .*Set skip_unreadable=true"):
        predicted(model, pages, IN_TILES)


def test_a_task_without_boxes_is_refused(model: tuple[Any, Any], pages: list[Example]) -> None:
    with pytest.raises(
        DataError, match=r"^evaluation\.tiles must be null for a task .*, got ocr\."
    ):
        list(stream_predictions(*model, pages, Ocr(), IN_TILES))


def test_perplexity_has_no_reference_in_a_tile() -> None:
    with pytest.raises(ValueError, match=r"^evaluation\.perplexity must be false with evalua"):
        EvaluationConfig(tiles=TILES, perplexity=True)
