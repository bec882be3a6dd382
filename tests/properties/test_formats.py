"""Formats: the same data in another format gives the same rows."""

from pathlib import Path

import numpy as np
import pytest

from palitune.data.registry import SOURCES
from palitune.data.sources.base import Source
from palitune.records import Instance, Row
from palitune.tasks.detection import Detection

from support.toy_data import SIZE, SPLITS, toy_objects
from support.toy_formats import CLASSES, FORMATS, ToyFormat, object_mask

TASK = Detection(classes=CLASSES)


@pytest.fixture(scope="module", params=FORMATS, ids=lambda form: form.name)
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> object:
    folder = tmp_path_factory.mktemp("format")
    request.param.write(folder)
    return request.param, folder


def expected(split: str, masks: bool) -> dict[str, list[Instance]]:
    """Objects of each image by file name."""
    return {
        f"{split}_{index:02d}": [
            Instance(
                label=entry["label"],
                box=tuple(map(float, entry["box"])),  # type: ignore[arg-type]
                mask=object_mask(entry).astype(bool) if masks else None,
            )
            for entry in toy_objects(split, index)
        ]
        for index in range(SPLITS[split])
    }


def rows_of(source: Source, split: str) -> list[Row]:
    rows = list(source.rows(split))
    assert all(isinstance(row, Row) for row in rows), rows
    return [row for row in rows if isinstance(row, Row)]


def by_image(rows: list[Row], names: list[str], form: ToyFormat) -> dict[str, list[Instance]]:
    """Return the objects by image; images from tables have no names, but are in order."""
    found: dict[str, list[Instance]] = {}
    for position, row in enumerate(rows):
        in_table = form.source in (SOURCES["parquet"], SOURCES["webdataset"])
        name = names[position] if in_table else Path(row.images[0]).stem
        found.setdefault(name, []).extend(row.instances or ())
    return {name: sorted(objects, key=lambda i: i.box) for name, objects in found.items()}


@pytest.mark.parametrize("masks", [False, True])
@pytest.mark.parametrize("split", SPLITS)
def test_every_format_gives_the_same_instances(
    written: tuple[ToyFormat, Path], split: str, masks: bool
) -> None:
    form, folder = written
    rows = rows_of(form.open_source(folder, masks=masks), split)
    wanted = expected(split, masks and form.carries_masks)
    assert by_image(rows, list(wanted), form) == wanted
    assert {row.size for row in rows} == {SIZE}
    assert {row.classes for row in rows} == {tuple(CLASSES) if form.carries_classes else None}
    for instance in (i for row in rows for i in row.instances or ()):
        assert instance.mask is None or instance.mask.dtype == np.bool_


@pytest.mark.parametrize("split", SPLITS)
def test_every_format_gives_the_same_prompts_and_suffixes(
    written: tuple[ToyFormat, Path], split: str
) -> None:
    form, folder = written
    wanted = expected(split, masks=False)
    rows = rows_of(form.open_source(folder, masks=False), split)
    found = by_image(rows, list(wanted), form)
    assert [texts(objects) for objects in found.values()] == [
        texts(objects) for objects in wanted.values()
    ]


def texts(objects: list[Instance]) -> tuple[str, tuple[str, ...]]:
    row = Row(id="0", images=("a",), size=SIZE, location="here", instances=tuple(objects))
    example = TASK.example(row)
    return example.prefix, example.suffixes


def test_every_format_is_among_them() -> None:
    tested = {form.source for form in FORMATS}
    others = {
        "handwriting",
        "print",
        "mixture",
        "benchmark",
        "hub",
    }  # not a format of objects
    assert {SOURCES[name] for name in SOURCES if name not in others} == tested
