"""A record holds all that an answer is judged by, to the last digit."""

import json

import numpy as np
import pytest

from palitune.evaluation.perplexity import Likelihood
from palitune.evaluation.prediction_records import (
    PredictionRecord,
    from_json_record,
    to_json_line,
    to_json_record,
)
from palitune.records import Example, Instance

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
    "answer",
    [
        PredictionRecord(text="två \u2028 båtar", value="två"),
        PredictionRecord(text="cut", value=None, finished=False, confidence=0.1 + 0.2),
        PredictionRecord(text="", value=(), missing=True, likelihood=Likelihood(-1 / 3, 7)),
        PredictionRecord(
            text="<loc", value=(Instance("b", (0.1, 0.2, 1 / 3, 3), mask=MASK, score=1 / 7),)
        ),
    ],
)
def test_an_answer_survives_its_record(answer: PredictionRecord) -> None:
    written = to_json_line(to_json_record("ocr", EXAMPLE, answer, {"exact_match": 1.0}))
    assert written.count("\n") == 1
    assert from_json_record(json.loads(written)) == answer
