"""JSON answers: fields that are right, similarity of the trees, share of malformed texts.

`json_fields` is the micro-averaged precision, recall and F1 of fields, as `cal_f1` of Donut's
`JSONParseEvaluator` (clovaai/donut, `donut/util.py`): a predicted value is right if the reference
has an equal one under the same names; positions in lists do not matter, and each value counts once.
`json_tree` is Donut's accuracy by tree edit distance, `cal_acc` of the same class: 1 - distance of
the prediction / distance of an empty answer, at least 0. Names of fields cost 1 to insert, delete
or change, a value costs its characters, or the edit distance of two values. Names are sorted by
length and alphabet, as there. Unlike there, the number 0 and false are values, and an empty
prediction of an empty reference is right. `json_malformed` is the share of texts that are not JSON
of the declared fields; what can be read from them counts in the other metrics.

Values are compared in the form that the task gives them. A text that is no JSON counts as a single
value without a name.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from palitune.metrics.base import (
    FloatArray,
    MeanMetric,
    ResampleCounts,
    SummedMetric,
    answer_text,
    check_references,
    ratio,
    reference_texts,
)
from palitune.metrics.text.tree_edit_distance import TreeNode, tree_edit_distance
from palitune.records import Example, Prediction

FieldCounts = Counter[tuple[str, str]]
"""Number of each (path without positions, value)."""
_LEAF = "<leaf>"
_SUBTREE = "<subtree>"


def parse_answer(text: str) -> Any:
    """Return the JSON value of a text, an empty object for an empty one, else the text itself."""
    if not text:
        return {}
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def normalize(value: Any) -> Any:
    """Return Donut's form: sorted names, lists of texts or objects, and nothing empty."""
    if isinstance(value, Mapping):
        entries = {}
        for name in sorted(value, key=lambda name: (len(name), name)):
            if entry := normalize(value[name]):
                entries[name] = entry if isinstance(entry, list) else [entry]
        return entries
    if isinstance(value, list):
        if all(isinstance(item, Mapping) for item in value):
            return [entry for item in value if (entry := normalize(item))]
        texts = [_to_text(item) for item in value if not isinstance(item, Mapping | list)]
        return [text for text in texts if text]
    text = _to_text(value)
    return [text] if text else []


def _to_text(value: Any) -> str:
    if value is None:
        return ""
    return value.strip() if isinstance(value, str) else json.dumps(value)


def count_fields(value: Any) -> FieldCounts:
    """Count the values of an object by path."""
    counts: FieldCounts = Counter()

    def visit(node: Any, path: str) -> None:
        if isinstance(node, Mapping):
            for name, child in node.items():
                visit(child, f"{path}.{name}" if path else name)
        elif isinstance(node, list):
            for item in node:
                visit(item, path)
        else:
            counts[path, node] += 1

    visit(normalize(value), "")
    return counts


def json_tree_accuracy(predicted: Any, expected: Any) -> float:
    """Return Donut's accuracy by tree edit distance of two JSON values, in [0, 1]."""
    trees = [_to_tree(normalize(value), "<root>") for value in (predicted, expected)]
    empty = _distance(TreeNode("<root>"), trees[1])
    distance = _distance(*trees)
    return max(0.0, 1 - distance / empty) if empty else float(distance == 0)


def _to_tree(value: Any, label: str) -> TreeNode:
    if isinstance(value, Mapping):
        return TreeNode(label, [_to_tree(child, name) for name, child in value.items()])
    if all(isinstance(item, Mapping) for item in value):
        return TreeNode(label, [_to_tree(item, _SUBTREE) for item in value])
    return TreeNode(label, [TreeNode(f"{_LEAF}{item}") for item in value])


def _distance(first: TreeNode, second: TreeNode) -> float:
    return tree_edit_distance(first, second, insert_cost=_insert_cost, relabel_cost=_relabel_cost)


def _insert_cost(label: str) -> float:
    return len(label) - len(_LEAF) if label.startswith(_LEAF) else 1


def _relabel_cost(first: str, second: str) -> float:
    if first == second:
        return 0
    leaves = first.startswith(_LEAF), second.startswith(_LEAF)
    if all(leaves):
        from rapidfuzz.distance import Levenshtein

        return Levenshtein.distance(first, second)
    if any(leaves):
        return 1 + max(_insert_cost(label) for label in (first, second) if label.startswith(_LEAF))
    return 1


class JsonFields(SummedMetric):
    """Precision, recall and F1 of the fields, over all and for each field.

    With several references the one with the best F1 counts.
    """

    num_statistics: ClassVar[int] = 3

    def __init__(self) -> None:
        super().__init__()
        self.correct: Counter[str] = Counter()
        self.predicted: Counter[str] = Counter()
        self.expected: Counter[str] = Counter()
        self.num_examples_with: Counter[str] = Counter()

    def update(self, example: Example, prediction: Prediction) -> dict[str, float]:
        predicted = count_fields(parse_answer(answer_text(prediction)))
        references = reference_texts(example)
        check_references(references)
        counts = [count_fields(parse_answer(reference)) for reference in references]
        expected = max(counts, key=lambda fields: _f1_of_counts(predicted, fields))
        correct = predicted & expected
        totals = [_by_path(fields) for fields in (correct, predicted, expected)]
        self.correct += totals[0]
        self.predicted += totals[1]
        self.expected += totals[2]
        self.num_examples_with.update(set(totals[1]) | set(totals[2]))
        self.statistics.append(tuple(float(total.total()) for total in totals))
        return {"json_fields_f1": _f1_of_counts(predicted, expected)}

    def compute_weighted(self, counts: ResampleCounts) -> dict[str, FloatArray]:
        correct, predicted, expected = self.sums(counts)
        return {
            "json_fields_f1": ratio(2 * correct, predicted + expected),
            "json_fields_precision": ratio(correct, predicted),
            "json_fields_recall": ratio(correct, expected),
        }

    def compute_slices(self) -> dict[str, dict[str, dict[str, float]]]:
        return {
            "field": {path: self._field_values(path) for path in sorted(self.num_examples_with)}
        }

    def _field_values(self, path: str) -> dict[str, float]:
        correct, predicted, expected = (
            counts[path] for counts in (self.correct, self.predicted, self.expected)
        )
        return {
            "examples": self.num_examples_with[path],
            "json_fields_f1": 2 * correct / (predicted + expected),
            "json_fields_precision": correct / predicted if predicted else float("nan"),
            "json_fields_recall": correct / expected if expected else float("nan"),
        }


def _by_path(fields: FieldCounts) -> Counter[str]:
    totals: Counter[str] = Counter()
    for (path, _), count in fields.items():
        totals[path] += count
    return totals


def _f1_of_counts(predicted: FieldCounts, expected: FieldCounts) -> float:
    """Return F1; 1 if there is nothing to predict and nothing predicted."""
    total = predicted.total() + expected.total()
    return 2 * (predicted & expected).total() / total if total else 1.0


class JsonTree(MeanMetric):
    """Mean accuracy by tree edit distance, to the nearest reference."""

    def __init__(self) -> None:
        super().__init__("json_tree")

    def score(self, answer: str, references: Sequence[str]) -> float:
        check_references(references)
        predicted = parse_answer(answer)
        return max(json_tree_accuracy(predicted, parse_answer(text)) for text in references)


class JsonMalformed(MeanMetric):
    """Share of texts that are empty, or had to be repaired to read JSON of the declared fields."""

    def __init__(self) -> None:
        super().__init__("json_malformed")

    def update(self, example: Example, prediction: Prediction) -> dict[str, float]:
        if prediction.repairs:
            self.scores.append(1.0)
            return {self.name: 1.0}
        return super().update(example, prediction)

    def score(self, answer: str, references: tuple[str, ...]) -> float:
        return float(not answer)
