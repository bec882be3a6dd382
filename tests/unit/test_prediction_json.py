"""The JSON record of a prediction keeps everything that scoring reads, exactly."""

import json

import numpy as np
import pytest

from palitune.records import (
    Example,
    Instance,
    Likelihood,
    Prediction,
    prediction_from_json,
    prediction_to_json,
)

EXAMPLE = Example(
    id="7",
    images=("a.png",),
    size=(4, 3),
    prefix="p",
    suffixes=("s",),
    reference=("s",),
    location="a:7",
)
MASK = np.eye(3, 4, dtype=bool)


@pytest.mark.parametrize(
    "prediction",
    [
        Prediction(id="7", text="två \u2028 båtar", value="två"),
        Prediction(id="7", text="cut", value=None, finished=False, confidence=0.1 + 0.2),
        Prediction(id="7", text="", value=(), missing=True, likelihood=Likelihood(-1 / 3, 7)),
        Prediction(
            id="7",
            text="<loc",
            value=(Instance("b", (0.1, 0.2, 1 / 3, 3), mask=MASK, score=1 / 7),),
        ),
    ],
)
def test_a_prediction_survives_its_json_record(prediction: Prediction) -> None:
    record = prediction_to_json(prediction, EXAMPLE, "ocr", {"exact_match": 1.0})
    line = json.dumps(record, ensure_ascii=False) + "\n"
    assert line.count("\n") == 1
    assert prediction_from_json(json.loads(line)) == prediction
