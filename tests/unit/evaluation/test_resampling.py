import pytest

from palitune.evaluation.output_validity import OutputValidity
from palitune.evaluation.resampling import (
    MAX_VALUES_PER_ATTRIBUTE,
    bootstrap_metrics,
    slice_metrics,
)
from palitune.metrics import METRICS
from palitune.records import Example, Prediction


def example(number: int, image: str = "", **attributes: str) -> Example:
    return Example(
        id=str(number),
        images=(image or f"/{number}.png",),
        size=(9, 9),
        prefix="q",
        suffixes=("1",),
        reference=("1",),
        location=f"rows.jsonl:{number}",
        attributes=attributes,
    )


def attributes(examples: list[Example]) -> list[dict[str, str]]:
    return [example.attributes for example in examples]


def images(examples: list[Example]) -> list[tuple[str, ...]]:
    return [example.images for example in examples]


def test_slices_are_the_metrics_of_the_examples_with_a_value() -> None:
    examples = [example(n, kind="count" if n % 3 else "colour", size="s") for n in range(9)]
    metric, validity = METRICS["exact_match"](), OutputValidity()
    for n, case in enumerate(examples):
        metric.update(case, Prediction(id=case.id, text="", value="1" if n < 6 else "2"))
        validity.update(malformed=n == 0, truncated=False)
    slices = slice_metrics([metric, validity], attributes(examples))
    assert slices["kind"]["count"] == pytest.approx(
        {"examples": 6, "exact_match": 4 / 6, "malformed": 0, "unfinished": 0}
    )
    assert slices["kind"]["colour"]["malformed"] == pytest.approx(1 / 3)
    assert slices["size"]["s"]["exact_match"] == pytest.approx(metric.compute()["exact_match"])


def test_examples_without_an_attribute_are_in_none_of_its_slices() -> None:
    examples = [example(0, kind="count"), example(1)]
    metric = METRICS["exact_match"]()
    for case in examples:
        metric.update(case, Prediction(id=case.id, text="", value="1"))
    assert slice_metrics([metric], attributes(examples))["kind"] == {
        "count": {"examples": 1, "exact_match": 1.0}
    }
    assert slice_metrics([metric], attributes([example(0), example(1)])) == {}


def test_the_most_frequent_values_become_slices() -> None:
    examples = [example(n, name=str(n // 2)) for n in range(2 * MAX_VALUES_PER_ATTRIBUTE)]
    examples += [example(n, name=f"rare {n}") for n in range(20)]
    metric = METRICS["exact_match"]()
    for case in examples:
        metric.update(case, Prediction(id=case.id, text="", value="1"))
    assert list(slice_metrics([metric], attributes(examples))["name"]) == [
        str(n) for n in range(MAX_VALUES_PER_ATTRIBUTE)
    ]


def test_too_few_images_give_no_interval() -> None:
    validity = OutputValidity()
    examples = [example(n, image=f"/{n % 9}.png") for n in range(50)]
    for _ in examples:
        validity.update(malformed=False, truncated=True)
    assert bootstrap_metrics([validity], images(examples), 100) == {}
    assert bootstrap_metrics([validity], range(50), 0) == {}
    values = bootstrap_metrics([validity], range(50), 100)
    assert {name: (len(v), v[0]) for name, v in values.items()} == {
        "malformed": (100, 0),
        "unfinished": (100, 1),
    }
