import math

import numpy as np
import pytest

from palitune.evaluation.config import EvaluationConfig
from palitune.evaluation.output_validity import VALIDITY_METRICS, ObjectValidity
from palitune.records import Example, Instance
from palitune.tasks import TASKS
from palitune.tasks.base import TextTask

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


def counted(
    *texts: str, task: str = "detection", prefix: str = "detect boat ; buoy"
) -> ObjectValidity:
    validity = ObjectValidity(TASKS[task](), EvaluationConfig())
    for text in texts:
        validity.count_and_deduplicate(example(prefix), text, validity.task.parse(text, (100, 100)))
    return validity


def test_malformed_fragments_next_to_valid_objects_are_counted() -> None:
    validity = counted(f"{BOAT} ; <loc0001> cut ; {VAN} ; junk", BOAT)
    assert validity.compute()["malformed_fragments"] == pytest.approx(2 / 5)


def test_duplicates_and_unknown_labels_are_shares_of_the_objects() -> None:
    metrics = counted(f"{BOAT} ; {NEAR} ; {VAN}", f"{BOAT} ; {VAN}").compute()
    assert metrics == pytest.approx(
        {"malformed_fragments": 0, "duplicates": 1 / 5, "unknown_label": 2 / 5}
    )


def test_shares_are_nan_without_objects_or_without_labels_in_the_prompt() -> None:
    assert all(map(math.isnan, counted("").compute().values()))
    metrics = counted(f"{BOAT} ; {VAN}", prefix="find everything").compute()
    assert metrics["duplicates"] == 0
    assert math.isnan(metrics["unknown_label"])


def test_resampled_sets_weight_their_objects() -> None:
    validity = counted(f"{BOAT} ; {NEAR}", VAN)
    metrics = validity.compute_weighted(np.array([[1.0, 1.0], [0.0, 2.0], [2.0, 0.0]]))
    assert metrics["duplicates"] == pytest.approx([1 / 3, 0, 1 / 2])
    assert metrics["unknown_label"] == pytest.approx([1 / 3, 1, 0])


def test_duplicates_are_removed_if_configured_but_always_counted() -> None:
    task = TASKS["detection"]()
    value = task.parse(f"{BOAT} ; {NEAR} ; {VAN}", (100, 100))
    deduplicating = ObjectValidity(task, EvaluationConfig(deduplicate=True))
    remaining = deduplicating.count_and_deduplicate(example(), f"{BOAT} ; {NEAR} ; {VAN}", value)
    assert isinstance(remaining, tuple)
    assert [i.label for i in remaining if isinstance(i, Instance)] == ["boat", "van"]
    assert deduplicating.compute()["duplicates"] == pytest.approx(1 / 3), (
        "duplicates are counted before removal"
    )
    assert (
        ObjectValidity(task, EvaluationConfig()).count_and_deduplicate(example(), "", value)
        == value
    )
    assert deduplicating.count_and_deduplicate(example(), "junk", None) is None, (
        "a malformed value stays None"
    )


@pytest.mark.parametrize("name", TASKS)
def test_a_task_reports_its_own_metrics_and_text_tasks_none(name: str) -> None:
    validity = counted(BOAT, task=name)
    assert tuple(validity.compute()) == TASKS[name].validity_metrics
    assert set(TASKS[name].validity_metrics) <= set(VALIDITY_METRICS)
    assert bool(validity.compute()) == (not issubclass(TASKS[name], TextTask))
