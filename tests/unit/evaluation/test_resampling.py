import pytest

from palitune.evaluation.resampling import (
    MAX_VALUES_PER_ATTRIBUTE,
    OutputValidity,
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
    return [one.attributes for one in examples]


def images(examples: list[Example]) -> list[tuple[str, ...]]:
    return [one.images for one in examples]


def test_slices_are_the_numbers_of_the_examples_with_a_value() -> None:
    examples = [example(n, kind="count" if n % 3 else "colour", size="s") for n in range(9)]
    metric, shares = METRICS["exact_match"](), OutputValidity()
    for n, one in enumerate(examples):
        metric.update(one, Prediction(id=one.id, text="", value="1" if n < 6 else "2"))
        shares.update(malformed=n == 0, truncated=False)
    found = slice_metrics([metric, shares], attributes(examples))
    assert found["kind"]["count"] == pytest.approx(
        {"examples": 6, "exact_match": 4 / 6, "malformed": 0, "unfinished": 0}
    )
    assert found["kind"]["colour"]["malformed"] == pytest.approx(1 / 3)
    assert found["size"]["s"]["exact_match"] == pytest.approx(metric.compute()["exact_match"])


def test_an_attribute_that_some_lack_slices_the_others_and_none_gives_none() -> None:
    examples = [example(0, kind="count"), example(1)]
    metric = METRICS["exact_match"]()
    for one in examples:
        metric.update(one, Prediction(id=one.id, text="", value="1"))
    assert slice_metrics([metric], attributes(examples))["kind"] == {
        "count": {"examples": 1, "exact_match": 1.0}
    }
    assert slice_metrics([metric], attributes([example(0), example(1)])) == {}


def test_of_many_values_the_most_frequent_are_told() -> None:
    examples = [example(n, name=str(n // 2)) for n in range(2 * MAX_VALUES_PER_ATTRIBUTE)]
    examples += [example(n, name=f"rare {n}") for n in range(20)]
    metric = METRICS["exact_match"]()
    for one in examples:
        metric.update(one, Prediction(id=one.id, text="", value="1"))
    assert list(slice_metrics([metric], attributes(examples))["name"]) == [
        str(n) for n in range(MAX_VALUES_PER_ATTRIBUTE)
    ]


def test_too_few_images_give_no_interval_however_many_examples() -> None:
    shares = OutputValidity()
    examples = [example(n, image=f"/{n % 9}.png") for n in range(50)]
    for _ in examples:
        shares.update(malformed=False, truncated=True)
    assert bootstrap_metrics([shares], images(examples), 100) == {}
    assert bootstrap_metrics([shares], range(50), 0) == {}
    found = bootstrap_metrics([shares], range(50), 100)
    assert {name: (len(v), v[0]) for name, v in found.items()} == {
        "malformed": (100, 0),
        "unfinished": (100, 1),
    }
