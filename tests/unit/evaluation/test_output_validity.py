import math

import numpy as np
import pytest

from palitune.evaluation.config import EvaluationConfig
from palitune.evaluation.output_validity import VALIDITY_METRICS, ObjectValidity
from palitune.records import Example, Instance
from palitune.tasks import TASKS

BOAT = "<loc0000><loc0000><loc0500><loc0500> boat"
NEAR = "<loc0000><loc0000><loc0500><loc0450> boat"
VAN = "<loc0600><loc0600><loc0700><loc0700> van"


def example(prefix: str = "detect boat ; buoy") -> Example:
    return Example(
        id="1",
        images=("/1.png",),
        size=(100, 100),
        prefix=prefix,
        suffixes=("",),
        reference=(),
        location="rows.jsonl:1",
    )


def judged(
    *texts: str, task: str = "detection", prefix: str = "detect boat ; buoy"
) -> ObjectValidity:
    shares = ObjectValidity(TASKS[task](), EvaluationConfig())
    for text in texts:
        shares.count_and_deduplicate(example(prefix), text, shares.task.parse(text, (100, 100)))
    return shares


def test_garbage_beside_readable_objects_is_counted_fragment_by_fragment() -> None:
    shares = judged(f"{BOAT} ; <loc0001> cut ; {VAN} ; junk", BOAT)
    assert shares.compute()["malformed_fragments"] == pytest.approx(2 / 5)


def test_repeated_objects_and_labels_not_asked_for_are_shares_of_the_objects() -> None:
    found = judged(f"{BOAT} ; {NEAR} ; {VAN}", f"{BOAT} ; {VAN}").compute()
    assert found == pytest.approx(
        {"malformed_fragments": 0, "duplicates": 1 / 5, "unknown_label": 2 / 5}
    )


def test_where_nothing_is_written_or_no_labels_are_told_the_share_is_undefined() -> None:
    assert all(map(math.isnan, judged("").compute().values()))
    found = judged(f"{BOAT} ; {VAN}", prefix="find everything").compute()
    assert found["duplicates"] == 0
    assert math.isnan(found["unknown_label"])


def test_other_test_sets_weigh_their_objects() -> None:
    shares = judged(f"{BOAT} ; {NEAR}", VAN)
    found = shares.compute_weighted(np.array([[1.0, 1.0], [0.0, 2.0], [2.0, 0.0]]))
    assert found["duplicates"] == pytest.approx([1 / 3, 0, 1 / 2])
    assert found["unknown_label"] == pytest.approx([1 / 3, 1, 0])


def test_duplicates_leave_the_answer_where_the_settings_say_so() -> None:
    task = TASKS["detection"]()
    value = task.parse(f"{BOAT} ; {NEAR} ; {VAN}", (100, 100))
    kept = ObjectValidity(task, EvaluationConfig(deduplicate=True))
    left = kept.count_and_deduplicate(example(), f"{BOAT} ; {NEAR} ; {VAN}", value)
    assert isinstance(left, tuple)
    assert [i.label for i in left if isinstance(i, Instance)] == ["boat", "van"]
    assert kept.compute()["duplicates"] == pytest.approx(1 / 3), "as the model wrote it"
    assert (
        ObjectValidity(task, EvaluationConfig()).count_and_deduplicate(example(), "", value)
        == value
    )
    assert kept.count_and_deduplicate(example(), "junk", None) is None, "malformed stays malformed"


@pytest.mark.parametrize("name", TASKS)
def test_each_task_tells_its_own_shares_and_text_none(name: str) -> None:
    shares = judged(BOAT, task=name)
    assert tuple(shares.compute()) == TASKS[name].validity_metrics
    assert set(TASKS[name].validity_metrics) <= set(VALIDITY_METRICS)
    assert bool(shares.compute()) == isinstance(TASKS[name]().parse(BOAT, (9, 9)), tuple | None)
