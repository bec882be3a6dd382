"""Field F1 and tree accuracy equal an independent implementation of Donut's evaluator."""

import json
import math
import random
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest

from palitune.metrics import METRICS
from palitune.metrics.text.json_fields import JsonFields, json_tree_accuracy
from palitune.records import Example, Prediction

Tree = tuple[str, tuple["Tree", ...]]  # type: ignore[misc]
Flat = list[tuple[str, str]]
WORDS = ["tea", "cake", "1", "12.5", "te", "a b", "x"]


def random_value(rng: random.Random, depth: int = 0) -> Any:
    """A value as Donut's data have them: texts, lists of texts or objects, objects."""
    kind = rng.random()
    if depth == 0 or (kind < 0.35 and depth < 3):
        names = rng.sample(["a", "bb", "total", "nm", "c"], rng.randint(0, 3))
        return {name: random_value(rng, depth + 1) for name in names}
    if kind < 0.5 and depth < 3:
        return [random_value(rng, 0) for _ in range(rng.randint(0, 2))]
    if kind < 0.6:
        return [rng.choice(WORDS) for _ in range(rng.randint(1, 3))]
    return rng.choice([*WORDS, "", None, 3, 2.5])


def edited(value: Any, rng: random.Random) -> Any:
    """A prediction of an answer: some values are other ones, some are missing."""
    if isinstance(value, dict):
        return {n: edited(v, rng) for n, v in value.items() if rng.random() < 0.8}
    if isinstance(value, list):
        return [edited(v, rng) for v in value if rng.random() < 0.8]
    return value if rng.random() < 0.7 else rng.choice(WORDS)


def donut_tree(value: Any) -> Tree:
    """Donut's tree, written from its documentation: sorted names, then objects or leaves."""

    def children(value: Any) -> tuple[Tree, ...]:
        if isinstance(value, dict):
            made = (
                (name, children(value[name])) for name in sorted(value, key=lambda n: (len(n), n))
            )
            return tuple(node for node in made if node[1])
        if isinstance(value, list) and all(isinstance(item, dict) for item in value):
            made = (("<subtree>", children(item)) for item in value)
            return tuple(node for node in made if node[1])
        items = value if isinstance(value, list) else [value]
        return tuple((f"<leaf>{item}", ()) for item in items if item not in (None, ""))

    def with_lists(node: Tree) -> Tree:
        """An object as the value of a name is a list of one object."""
        label, inner = node
        inner = tuple(with_lists(child) for child in inner)
        is_object = any(not c[0].startswith("<") for c in inner)
        if label not in ("<root>", "<subtree>") and is_object:
            inner = (("<subtree>", inner),)
        return label, inner

    return with_lists(("<root>", children(value)))


@cache
def levenshtein(a: str, b: str) -> int:
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        previous, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (x != y))
    return row[-1]


def cost(label: str) -> int:
    return len(label.removeprefix("<leaf>")) if label.startswith("<leaf>") else 1


def change(a: str, b: str) -> int:
    leaves = [label for label in (a, b) if label.startswith("<leaf>")]
    if len(leaves) == 2:
        return levenshtein(a, b)
    return 1 + cost(leaves[0]) if leaves else int(a != b)


def forest_distance() -> Callable[[tuple[Tree, ...], tuple[Tree, ...]], int]:
    """The recursion that defines the edit distance of forests, memoized."""

    @cache
    def distance(one: tuple[Tree, ...], two: tuple[Tree, ...]) -> int:
        if not one and not two:
            return 0
        options = []
        if one:
            options.append(distance((*one[:-1], *one[-1][1]), two) + cost(one[-1][0]))
        if two:
            options.append(distance(one, (*two[:-1], *two[-1][1])) + cost(two[-1][0]))
        if one and two:
            inside = distance(one[-1][1], two[-1][1])
            options.append(distance(one[:-1], two[:-1]) + inside + change(one[-1][0], two[-1][0]))
        return min(options)

    return distance


def donut_accuracy(predicted: Any, expected: Any) -> float:
    distance = forest_distance()
    one, two, empty = donut_tree(predicted), donut_tree(expected), ("<root>", ())
    if not (whole := distance((empty,), (two,))):
        return float(one == empty)
    return max(0.0, 1 - distance((one,), (two,)) / whole)


def donut_flat(tree: Tree, path: str = "") -> Flat:
    label, children = tree
    if label.startswith("<leaf>"):
        return [(path, label)]
    name = "" if label.startswith("<") else label
    path = f"{path}.{name}".strip(".")
    return [entry for child in children for entry in donut_flat(child, path)]


def make_example(answer: Any) -> Example:
    return Example(
        id="1", images=(), size=(1, 1), prefix="extract json", suffixes=("",), location="a:1",
        reference=(json.dumps(answer),),
    )  # fmt: skip


def make_prediction(value: Any, repairs: tuple[str, ...] = ()) -> Prediction:
    text = json.dumps(value)
    return Prediction(id="1", text=text, value=text, repairs=repairs)


def test_1200_random_cases_equal_an_independent_implementation() -> None:
    rng = random.Random(0)
    metric, correct, total, values = JsonFields(), 0, 0, set()
    for _ in range(1200):
        answer = random_value(rng)
        predicted = edited(answer, rng) if rng.random() < 0.8 else random_value(rng)
        accuracy = json_tree_accuracy(predicted, answer)
        assert accuracy == pytest.approx(donut_accuracy(predicted, answer)), (predicted, answer)
        values.add(round(accuracy, 3))
        metric.update(make_example(answer), make_prediction(predicted))
        left = donut_flat(donut_tree(answer))
        flat = donut_flat(donut_tree(predicted))
        total += len(left) + len(flat)
        for field in flat:
            if field in left:
                left.remove(field)
                correct += 1
    assert metric.compute()["json_fields_f1"] == pytest.approx(2 * correct / total)
    assert len(values) > 100  # not only zeros and ones


def test_fields_are_counted_over_all_and_for_each() -> None:
    metric = JsonFields()
    answer = {"total": 3, "items": [{"name": "Tea"}, {"name": "Tea"}, {"name": "Cake"}]}
    predicted = {"total": 4, "items": [{"name": "Cake"}, {"name": "Tea"}], "tax": 0}
    assert metric.update(make_example(answer), make_prediction(predicted)) == {
        "json_fields_f1": pytest.approx(2 * 2 / (4 + 4))
    }
    assert metric.compute()["json_fields_precision"] == pytest.approx(2 / 4)
    fields = metric.compute_slices()["field"]
    assert fields["items.name"]["json_fields_precision"] == 1
    assert fields["items.name"]["json_fields_recall"] == pytest.approx(2 / 3)
    assert fields["total"]["json_fields_f1"] == 0
    assert math.isnan(fields["tax"]["json_fields_recall"])
    assert {path: values["examples"] for path, values in fields.items()} == {
        "items.name": 1, "tax": 1, "total": 1,
    }  # fmt: skip


def test_values_are_compared_as_the_task_gives_them() -> None:
    assert json_tree_accuracy({"a": "Tea"}, {"a": "tea"}) == pytest.approx(1 - 1 / 4)
    assert json_tree_accuracy({"a": 0}, {"a": 0}) == 1
    assert json_tree_accuracy({}, {"a": "x"}) == 0
    assert json_tree_accuracy({}, {}) == 1
    assert json_tree_accuracy({"a": "x"}, {}) == 0


def test_a_repaired_or_empty_text_is_malformed() -> None:
    metric = METRICS["json_malformed"]()
    for prediction in [
        make_prediction({"a": 1}),
        make_prediction({"a": 1}, ("the text is cut off",)),
        Prediction(id="1", text="?", value=None),
    ]:
        metric.update(make_example({"a": 1}), prediction)
    assert metric.compute() == {"json_malformed": pytest.approx(2 / 3)}
    assert metric.compute_weighted(np.array([[1.0, 0, 0]]))["json_malformed"].tolist() == [0]
