"""`min_score`: a number, or the thresholds stored with an adapter."""

import json
from pathlib import Path
from typing import Any

import pytest

from palitune.errors import DataError
from palitune.evaluation.object_quality.min_score import (
    AUTO,
    THRESHOLDS_FILE,
    ScoreThresholds,
    check_min_score,
    resolve_min_score,
)
from palitune.evaluation.object_quality.thresholds import store_thresholds
from palitune.evaluation.scoring import Results
from palitune.records import Instance

BOX = (0.0, 0.0, 10.0, 10.0)


def point(threshold: float | None, objects: int = 5) -> dict[str, Any]:
    return {"threshold": threshold, "precision": 1, "recall": 1, "f1": 1, "objects": objects}


def part(overall: float | None, task: str = "detection", objects: int = 9, **classes: Any) -> Any:
    return {"task": task, "overall": point(overall, objects), "classes": classes}


def stored(folder: Path, **parts: Any) -> str:
    store_thresholds(folder, Results(thresholds=parts), "validation")
    return str(folder)


def test_stored_thresholds_are_read_by_class(tmp_path: Path) -> None:
    adapter = stored(tmp_path, boats=part(0.4, boat=point(0.25), buoy=point(None)))
    thresholds = resolve_min_score(AUTO, adapter, "detection")
    assert thresholds == ScoreThresholds(0.4, {"boat": 0.25})
    kept = thresholds.keep(
        (
            Instance("boat", BOX, score=0.3),
            Instance("boat", BOX, score=0.2),
            Instance("buoy", BOX, score=0.3),
            Instance("kite", BOX, score=0.4),
            Instance("kite", BOX),
        )
    )
    assert [(i.label, i.score) for i in kept or () if isinstance(i, Instance)] == [
        ("boat", 0.3),
        ("kite", 0.4),
        ("kite", None),
    ]
    assert json.loads((tmp_path / THRESHOLDS_FILE).read_text())["split"] == "validation"


def test_of_several_data_sets_the_one_with_the_most_objects_decides(tmp_path: Path) -> None:
    adapter = stored(
        tmp_path,
        few=part(0.1, objects=3, boat=point(0.2, objects=3)),
        many=part(0.6, objects=30, boat=point(0.7, objects=30)),
        masks=part(0.9, "segmentation", objects=300, boat=point(0.9, objects=300)),
    )
    assert resolve_min_score(AUTO, adapter, "detection") == ScoreThresholds(0.6, {"boat": 0.7})


def test_a_number_is_the_threshold_of_every_class() -> None:
    assert resolve_min_score(0.5, None, "detection") == ScoreThresholds(0.5)
    assert ScoreThresholds(0.5).keep(None) is None
    assert ScoreThresholds(0.5).keep("a text") == "a text"


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({}, "has no thresholds.json"),
        ({"boats": part(0.5, "segmentation")}, "has none of the task detection"),
        ({"boats": part(None)}, "has none of the task detection"),
    ],
)
def test_an_adapter_without_thresholds_is_an_error(
    tmp_path: Path, parts: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=f"{message}. Set min_score to a number, or run palitune"):
        resolve_min_score(AUTO, stored(tmp_path, **parts), "detection")


def test_the_base_model_has_no_thresholds() -> None:
    with pytest.raises(DataError, match="the base model has none"):
        resolve_min_score(AUTO, None, "detection")


@pytest.mark.parametrize(
    "text", ["[]", "{", '{"parts": {"a": {"task": "detection"}}}', '{"parts": [1]}']
)
def test_a_damaged_file_is_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / THRESHOLDS_FILE).write_text(text)
    with pytest.raises(DataError, match="invalid thresholds"):
        resolve_min_score(AUTO, str(tmp_path), "detection")


@pytest.mark.parametrize("value", [True, -0.1, 1.5, "best", None])
def test_other_values_are_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="min_score must be auto or a number from 0 to 1"):
        check_min_score(value)


def test_without_scored_objects_nothing_is_stored(tmp_path: Path) -> None:
    assert store_thresholds(tmp_path, Results(), "validation") == []
    assert not (tmp_path / THRESHOLDS_FILE).exists()
