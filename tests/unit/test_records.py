import dataclasses
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as coco_mask

from palitune.records import (
    Instance,
    Prediction,
    Reference,
    Value,
    field_confidences_from_json,
    instance_from_json,
    instance_to_json,
    mask_from_json,
    mask_to_json,
    repairs_from_json,
    value_from_json,
    value_to_json,
)

COORDINATES = st.floats(-1e9, 1e9)
SIDES = st.tuples(st.integers(1, 9), st.integers(1, 9))
MASKS = SIDES.flatmap(lambda sides: arrays(np.bool_, sides))
INSTANCES = st.builds(
    Instance,
    label=st.text(),
    box=st.lists(COORDINATES, min_size=4, max_size=4).map(
        lambda sides: (*map(min, sides[:2], sides[2:]), *map(max, sides[:2], sides[2:]))
    ),
    mask=st.none() | MASKS,
    score=st.none() | st.floats(0, 1),
    crowd=st.booleans(),
)
OBJECTS = st.lists(INSTANCES, max_size=3).map(tuple)


@given(st.none() | st.text() | OBJECTS | st.lists(st.text(), max_size=3).map(tuple))
def test_a_value_is_the_same_after_a_round_trip_through_json(
    value: Value | Reference | None,
) -> None:
    assert value_from_json(json.loads(json.dumps(value_to_json(value)))) == value


def test_the_json_of_an_instance_has_the_fields_that_are_set() -> None:
    plain = Instance("boat", (1, 2, 3, 4))
    assert instance_to_json(plain) == {"label": "boat", "box": [1, 2, 3, 4]}
    scored = Instance("boat", (1, 2, 3, 4), score=0.5, crowd=True)
    assert instance_to_json(scored) == {
        "label": "boat",
        "box": [1, 2, 3, 4],
        "score": 0.5,
        "crowd": True,
    }
    assert instance_from_json(instance_to_json(scored)) == scored


def test_instances_are_equal_only_if_their_masks_are() -> None:
    mask = np.eye(3, dtype=bool)
    boat = Instance("boat", (0, 0, 3, 3), mask=mask)
    assert boat == Instance("boat", (0, 0, 3, 3), mask=mask.copy())
    assert boat != Instance("boat", (0, 0, 3, 3), mask=~mask)
    assert boat != Instance("boat", (0, 0, 3, 3))
    assert boat != "boat"
    assert len({boat, Instance("boat", (0, 0, 3, 3), mask=mask.copy())}) == 1


def test_a_mask_is_written_as_coco_rle() -> None:
    mask = np.zeros((4, 3), dtype=bool)
    mask[1:3, 1] = True  # in columns: 5 outside, 2 inside, 5 outside
    rle = instance_to_json(Instance("boat", (1, 1, 2, 3), mask=mask))["mask"]
    assert rle == {"size": [4, 3], "counts": "525"}
    assert coco_mask.area(rle) == 2
    assert np.array_equal(mask_from_json(rle), mask)
    assert np.array_equal(mask_from_json(mask_to_json(mask)), mask)


def test_records_are_immutable() -> None:
    prediction = Prediction(id="1", text="boat", value="boat")
    with pytest.raises(dataclasses.FrozenInstanceError):
        prediction.text = "ship"  # type: ignore[misc]


@pytest.mark.parametrize("confidences", [[1], {"a": 2}, {"a": None}, {"a": "x"}])
def test_invalid_confidences_of_fields_are_an_error(confidences: Any) -> None:
    assert field_confidences_from_json({"a": 0.5}) == {"a": 0.5}
    with pytest.raises(ValueError, match="score"):
        field_confidences_from_json(confidences)


@pytest.mark.parametrize("repairs", ["cut off", [1], {"a": 1}])
def test_invalid_repairs_are_an_error(repairs: Any) -> None:
    assert repairs_from_json(["cut off"]) == ("cut off",)
    with pytest.raises(ValueError, match="repairs must be a list of texts"):
        repairs_from_json(repairs)
