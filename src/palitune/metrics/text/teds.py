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

from palitune.metrics.base import (
    FloatArray,
    Metric,
    ResampleCounts,
    answer_text,
    check_references,
    reference_texts,
    weighted_mean,
)
from palitune.records import Example, Prediction

_VOID_ELEMENTS = ("br", "img", "hr", "wbr", "col")
"""Elements that have no end."""


@dataclass
class TableNode:
    """An element of a table; `content` is what a cell holds: its characters and tags."""

    tag: str
    spans: tuple[str, str] = ("1", "1")
    content: list[str] = field(default_factory=list)
    children: list["TableNode"] = field(default_factory=list)


class _TableParser(HTMLParser):
    """Reads the first table; `elements` counts all that is in it, what cells hold included."""

    def __init__(self) -> None:
        super().__init__()
        self.root: TableNode | None = None
        self.open_nodes: list[TableNode] = []
        self.open_cell_tags: list[str] = []
        """Open elements of a cell's content."""
        self.num_elements = 0
        self.closed = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if self.closed or not (self.open_nodes or tag == "table"):
            return
        if (
            self.open_nodes
            and self.open_nodes[-1].tag == "td"
            and tag not in ("td", "tr", "tbody", "thead")
        ):
            self.num_elements += 1
            self.open_nodes[-1].content.append(f"<{tag}>")
            if tag not in _VOID_ELEMENTS:
                self.open_cell_tags.append(tag)
            return
        self._close_implied_tags(tag)
        told = {name: value or "1" for name, value in attrs if tag == "td"}
        node = TableNode(tag, (told.get("colspan", "1"), told.get("rowspan", "1")))
        if self.open_nodes:
            self.open_nodes[-1].children.append(node)
            self.num_elements += 1
        else:
            self.root = node
        if tag not in _VOID_ELEMENTS:
            self.open_nodes.append(node)

    def handle_endtag(self, tag: str) -> None:
        if self.open_cell_tags and tag in self.open_cell_tags:
            while self.open_cell_tags.pop() != tag:
                pass
            self.open_nodes[-1].content.append(f"</{tag}>")
        elif any(node.tag == tag for node in self.open_nodes):
            while self.open_nodes.pop().tag != tag:
                pass
            self.open_cell_tags.clear()
            self.closed = not self.open_nodes

    def handle_data(self, data: str) -> None:
        if self.open_nodes and self.open_nodes[-1].tag == "td":
            self.open_nodes[-1].content.extend(data)

    def _close_implied_tags(self, tag: str) -> None:
        """Close what a row or cell that begins ends by itself."""
        ends = {"td": ("td",), "tr": ("td", "tr"), "tbody": ("td", "tr", "thead")}.get(tag, ())
        while self.open_nodes and self.open_nodes[-1].tag in ends:
            self.open_nodes.pop()
            self.open_cell_tags.clear()


def teds(answer: str, reference: str, *, structure_only: bool = False) -> float:
    """Return the similarity of two tables in HTML, in [0, 1]; `structure` looks at no content."""
    (found, found_elements), (wanted, elements) = _parse_table(answer), _parse_table(reference)
    if found is None or wanted is None:
        return 0.0
    nodes = max(found_elements, elements)
    distance = _tree_edit_distance(found, wanted, structure_only)
    return 1.0 - distance / nodes if nodes else float(distance == 0)


def _parse_table(html: str) -> tuple[TableNode | None, int]:
    reader = _TableParser()
    reader.feed(html)
    reader.close()
    return reader.root, reader.num_elements


def _tree_edit_distance(first: TableNode, second: TableNode, structure_only: bool) -> float:
    """Return the edit distance of two trees, keyroot by keyroot."""
    (ours, our_left, our_roots), (theirs, their_left, their_roots) = (
        _post_order(first),
        _post_order(second),
    )
    trees = np.zeros((len(ours), len(theirs)))
    costs = [[_relabel_cost(a, b, structure_only) for b in theirs] for a in ours]
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


def _post_order(root: TableNode) -> tuple[list[TableNode], list[int], list[int]]:
    """Return nodes in post-order, the leftmost leaf below each, and the keyroots."""
    nodes: list[TableNode] = []
    left: list[int] = []

    def walk(node: TableNode) -> int:
        leaves = [walk(child) for child in node.children]
        nodes.append(node)
        left.append(leaves[0] if leaves else len(nodes) - 1)
        return left[-1]

    walk(root)
    highest = {leaf: number for number, leaf in enumerate(left)}
    return nodes, left, sorted(highest.values())


def _relabel_cost(a: TableNode, b: TableNode, structure_only: bool) -> float:
    if a.tag != b.tag or a.spans != b.spans:
        return 1.0
    if structure_only or a.tag != "td" or not (a.content or b.content):
        return 0.0
    from rapidfuzz.distance import Levenshtein

    return Levenshtein.normalized_distance(a.content, b.content)


class Teds(Metric):
    """Report the mean similarity of tables, with and without what is in their cells."""

    def __init__(self) -> None:
        self.scores: list[tuple[float, float]] = []

    def update(self, example: Example, prediction: Prediction) -> dict[str, float]:
        answer, references = answer_text(prediction), reference_texts(example)
        check_references(references)
        self.scores.append(
            (
                _best_similarity(answer, references, False),
                _best_similarity(answer, references, True),
            )
        )
        return dict(zip(_METRIC_NAMES, self.scores[-1], strict=True))

    def compute(self) -> dict[str, float]:
        numbers = self.compute_weighted(np.ones((1, len(self.scores))))
        return {name: float(values[0]) for name, values in numbers.items()}

    def compute_weighted(self, counts: ResampleCounts) -> dict[str, FloatArray]:
        columns: Iterator[FloatArray] = iter(np.array(self.scores, float).reshape(-1, 2).T)
        return {name: weighted_mean(counts, next(columns)) for name in _METRIC_NAMES}


_METRIC_NAMES = ("teds", "teds_structure")


def _best_similarity(answer: str, references: Sequence[str], structure_only: bool) -> float:
    return max(teds(answer, reference, structure_only=structure_only) for reference in references)
