"""A record holds all that an answer is judged by, to the last digit."""

import json

import numpy as np
import pytest

from palitune.evaluation.perplexity import Likelihood
from palitune.evaluation.records import Answer, from_record, line, to_record
from palitune.examples import Example, Instance

EXAMPLE = Example(
    id="7",
    images=("a.png",),
    size=(4, 3),
    prefix="p",
    suffixes=("s",),
    reference=("s",),
    place="a:7",
)
MASK = np.eye(3, 4, dtype=bool)


@pytest.mark.parametrize(
    "answer",
    [
        Answer(text="två \u2028 båtar", value="två"),
        Answer(text="cut", value=None, finished=False, confidence=0.1 + 0.2),
        Answer(text="", value=(), missing=True, likelihood=Likelihood(-1 / 3, 7)),
        Answer(text="<loc", value=(Instance("b", (0.1, 0.2, 1 / 3, 3), mask=MASK, score=1 / 7),)),
    ],
)
def test_an_answer_survives_its_record(answer: Answer) -> None:
    written = line(to_record("ocr", EXAMPLE, answer, {"exact_match": 1.0}))
    assert written.count("\n") == 1
    assert from_record(json.loads(written)) == answer
