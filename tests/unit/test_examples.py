import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from palitune.examples import (
    Instance,
    Prediction,
    Reference,
    Value,
    instance_from_json,
    instance_to_json,
    value_from_json,
    value_to_json,
)

COORDINATES = st.floats(allow_nan=False, allow_infinity=False)
SIDES = st.tuples(st.integers(1, 9), st.integers(1, 9))
INSTANCES = st.builds(
    Instance,
    label=st.text(),
    box=st.tuples(*[COORDINATES] * 4),
    score=st.none() | st.floats(0, 1),
    crowd=st.booleans(),
    mask=st.none() | SIDES.flatmap(lambda sides: arrays(np.bool_, sides)),
)
OBJECTS = st.lists(INSTANCES, max_size=3).map(tuple)


@given(st.none() | st.text() | OBJECTS | st.lists(st.text(), max_size=3).map(tuple))
def test_a_value_survives_json(value: Value | Reference | None) -> None:
    assert value_from_json(json.loads(json.dumps(value_to_json(value)))) == value


def test_an_instance_is_written_with_what_is_set() -> None:
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


def test_masks_are_compared_and_written_as_run_lengths() -> None:
    mask = np.eye(3, dtype=bool)
    boat = Instance("boat", (0, 0, 3, 3), mask=mask)
    assert boat == Instance("boat", (0, 0, 3, 3), mask=mask.copy())
    assert boat != Instance("boat", (0, 0, 3, 3), mask=~mask)
    assert boat != Instance("boat", (0, 0, 3, 3))
    assert boat != "boat"
    assert len({boat, Instance("boat", (0, 0, 3, 3), mask=mask.copy())}) == 1
    written = json.loads(json.dumps(instance_to_json(boat)))
    assert written["mask"]["size"] == [3, 3]
    assert isinstance(written["mask"]["counts"], str)
    assert instance_from_json(written) == boat


def test_the_nouns_cannot_be_changed() -> None:
    prediction = Prediction(id="1", text="boat", value="boat")
    with pytest.raises(dataclasses.FrozenInstanceError):
        prediction.text = "ship"  # type: ignore[misc]
