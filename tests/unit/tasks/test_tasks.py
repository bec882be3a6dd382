import pytest

from palitune.metrics import METRICS
from palitune.tasks import TASKS


@pytest.mark.parametrize("name", TASKS)
def test_a_task_stands_in_the_table_under_its_own_name(name: str) -> None:
    task = TASKS[name]()
    assert task.name == name
    assert task.metrics
    assert set(task.metrics) <= set(METRICS)


@pytest.mark.parametrize("name", TASKS)
def test_tasks_do_not_share_their_default_metrics(name: str) -> None:
    TASKS[name]().metrics.append("exact_match")
    assert TASKS[name]().metrics != [*TASKS[name]().metrics, "exact_match"]
    assert TASKS[name]().metrics is not TASKS[name]().metrics
