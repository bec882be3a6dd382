"""TEDS: similarity of tables by the edit distance of their HTML trees, PubTabNet's metric.

As its authors' `metric.py`: 1 - edits / nodes of the larger table. To insert, delete or relabel a
node costs 1, and so does another `colspan` or `rowspan`; between two cells it is the share of
characters and tags that differ. What is inside a cell counts among the nodes, as there, although
the tree ends at cells. `teds_structure` looks at no content. An answer without a table scores 0.
The distance is Zhang and Shasha's (SIAM J. Computing 18, 1989).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from html.parser import HTMLParser

import numpy as np

from palitune.examples import Example, Prediction
from palitune.metrics.base import (
    Counts,
    Floats,
    Metric,
    answer_of,
    check_references,
    references_of,
    weighted_mean,
)

_EMPTY = ("br", "img", "hr", "wbr", "col")
"""Elements that have no end."""


@dataclass
class Node:
    """An element of a table; `content` is what a cell holds: its characters and tags."""

    tag: str
    spans: tuple[str, str] = ("1", "1")
    content: list[str] = field(default_factory=list)
    children: list["Node"] = field(default_factory=list)


class _Tables(HTMLParser):
    """Reads the first table; `elements` counts all that is in it, what cells hold included."""

    def __init__(self) -> None:
        super().__init__()
        self.root: Node | None = None
        self.path: list[Node] = []
        self.inside: list[str] = []
        """Open elements of a cell's content."""
        self.elements = 0
        self.closed = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if self.closed or not (self.path or tag == "table"):
            return
        if self.path and self.path[-1].tag == "td" and tag not in ("td", "tr", "tbody", "thead"):
            self.elements += 1
            self.path[-1].content.append(f"<{tag}>")
            if tag not in _EMPTY:
                self.inside.append(tag)
            return
        self._leave_for(tag)
        told = {name: value or "1" for name, value in attrs if tag == "td"}
        node = Node(tag, (told.get("colspan", "1"), told.get("rowspan", "1")))
        if self.path:
            self.path[-1].children.append(node)
            self.elements += 1
        else:
            self.root = node
        if tag not in _EMPTY:
            self.path.append(node)

    def handle_endtag(self, tag: str) -> None:
        if self.inside and tag in self.inside:
            while self.inside.pop() != tag:
                pass
            self.path[-1].content.append(f"</{tag}>")
        elif any(node.tag == tag for node in self.path):
            while self.path.pop().tag != tag:
                pass
            self.inside.clear()
            self.closed = not self.path

    def handle_data(self, data: str) -> None:
        if self.path and self.path[-1].tag == "td":
            self.path[-1].content.extend(data)

    def _leave_for(self, tag: str) -> None:
        """Close what a row or cell that begins ends by itself."""
        ends = {"td": ("td",), "tr": ("td", "tr"), "tbody": ("td", "tr", "thead")}.get(tag, ())
        while self.path and self.path[-1].tag in ends:
            self.path.pop()
            self.inside.clear()


def teds(answer: str, reference: str, *, structure: bool = False) -> float:
    """Return the similarity of two tables in HTML, in [0, 1]; `structure` looks at no content."""
    (found, found_elements), (wanted, elements) = _read(answer), _read(reference)
    if found is None or wanted is None:
        return 0.0
    nodes = max(found_elements, elements)
    distance = _distance(found, wanted, structure)
    return 1.0 - distance / nodes if nodes else float(distance == 0)


def _read(html: str) -> tuple[Node | None, int]:
    reader = _Tables()
    reader.feed(html)
    reader.close()
    return reader.root, reader.elements


def _distance(first: Node, second: Node, structure: bool) -> float:
    """Return the edit distance of two trees, keyroot by keyroot."""
    (ours, our_left, our_roots), (theirs, their_left, their_roots) = _post(first), _post(second)
    trees = np.zeros((len(ours), len(theirs)))
    costs = [[_cost(a, b, structure) for b in theirs] for a in ours]
    for i in our_roots:
        for j in their_roots:
            start, other = our_left[i], their_left[j]
            # forest[x][y]: between the first x and the first y nodes of the two subtrees
            forest = [[float(x + y) for y in range(j - other + 2)] for x in range(i - start + 2)]
            for x in range(1, i - start + 2):
                a = start + x - 1
                above, row = forest[x - 1], forest[x]
                for y in range(1, j - other + 2):
                    b = other + y - 1
                    if our_left[a] == start and their_left[b] == other:
                        row[y] = min(above[y] + 1, row[y - 1] + 1, above[y - 1] + costs[a][b])
                        trees[a, b] = row[y]
                    else:
                        before = forest[our_left[a] - start][their_left[b] - other]
                        row[y] = min(above[y] + 1, row[y - 1] + 1, before + float(trees[a, b]))
    return float(trees[-1, -1])


def _post(root: Node) -> tuple[list[Node], list[int], list[int]]:
    """Return nodes in post-order, the leftmost leaf below each, and the keyroots."""
    nodes: list[Node] = []
    left: list[int] = []

    def walk(node: Node) -> int:
        leaves = [walk(child) for child in node.children]
        nodes.append(node)
        left.append(leaves[0] if leaves else len(nodes) - 1)
        return left[-1]

    walk(root)
    highest = {leaf: number for number, leaf in enumerate(left)}
    return nodes, left, sorted(highest.values())


def _cost(a: Node, b: Node, structure: bool) -> float:
    if a.tag != b.tag or a.spans != b.spans:
        return 1.0
    if structure or a.tag != "td" or not (a.content or b.content):
        return 0.0
    from rapidfuzz.distance import Levenshtein

    return Levenshtein.normalized_distance(a.content, b.content)


class Teds(Metric):
    """Report the mean similarity of tables, with and without what is in their cells."""

    def __init__(self) -> None:
        self.scores: list[tuple[float, float]] = []

    def update(self, example: Example, prediction: Prediction) -> dict[str, float]:
        answer, references = answer_of(prediction), references_of(example)
        check_references(references)
        self.scores.append((_best(answer, references, False), _best(answer, references, True)))
        return dict(zip(_NAMES, self.scores[-1], strict=True))

    def compute(self) -> dict[str, float]:
        numbers = self.weighted(np.ones((1, len(self.scores))))
        return {name: float(values[0]) for name, values in numbers.items()}

    def weighted(self, counts: Counts) -> dict[str, Floats]:
        columns: Iterator[Floats] = iter(np.array(self.scores, float).reshape(-1, 2).T)
        return {name: weighted_mean(counts, next(columns)) for name in _NAMES}


_NAMES = ("teds", "teds_structure")


def _best(answer: str, references: Sequence[str], structure: bool) -> float:
    return max(teds(answer, reference, structure=structure) for reference in references)
