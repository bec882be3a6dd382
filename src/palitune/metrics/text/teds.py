"""TEDS: similarity of tables by the edit distance of their HTML trees, PubTabNet's metric.

As in its authors' `metric.py`: 1 - edit distance / nodes of the larger table. Inserting, deleting
or relabeling a node costs 1, as does a different `colspan` or `rowspan`; two cells with the same
spans cost the share of characters and tags that differ. Elements inside a cell count as nodes, as
in `metric.py`, although the tree ends at cells. `teds_structure` ignores the content of cells. An
answer without a table scores 0. The distance is Zhang and Shasha's (SIAM J. Computing 18, 1989).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import ClassVar

import numpy as np

from palitune.metrics.base import (
    SeveralMeansMetric,
    check_references,
)

_VOID_ELEMENTS = ("br", "img", "hr", "wbr", "col")
"""Elements without an end tag."""


@dataclass
class TableNode:
    """An element of a table; `content` holds the characters and tags of a cell."""

    tag: str
    spans: tuple[str, str] = ("1", "1")
    content: list[str] = field(default_factory=list)
    children: list["TableNode"] = field(default_factory=list)


class _TableParser(HTMLParser):
    """Parses the first table; `num_elements` includes the elements inside cells."""

    def __init__(self) -> None:
        super().__init__()
        self.root: TableNode | None = None
        self.open_nodes: list[TableNode] = []
        self.open_cell_tags: list[str] = []
        """Open elements in the content of the current cell."""
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
        spans = {name: value or "1" for name, value in attrs if tag == "td"}
        node = TableNode(tag, (spans.get("colspan", "1"), spans.get("rowspan", "1")))
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
        """Close the elements that a new row or cell ends without an end tag."""
        ends = {"td": ("td",), "tr": ("td", "tr"), "tbody": ("td", "tr", "thead")}.get(tag, ())
        while self.open_nodes and self.open_nodes[-1].tag in ends:
            self.open_nodes.pop()
            self.open_cell_tags.clear()


def teds(answer: str, reference: str, *, structure_only: bool = False) -> float:
    """Return the similarity of two HTML tables in [0, 1]; `structure_only` ignores cell content."""
    (predicted, predicted_size), (expected, size) = _parse_table(answer), _parse_table(reference)
    if predicted is None or expected is None:
        return 0.0
    num_nodes = max(predicted_size, size)
    distance = _tree_edit_distance(predicted, expected, structure_only)
    return 1.0 - distance / num_nodes if num_nodes else float(distance == 0)


def _parse_table(html: str) -> tuple[TableNode | None, int]:
    parser = _TableParser()
    parser.feed(html)
    parser.close()
    return parser.root, parser.num_elements


def _tree_edit_distance(first: TableNode, second: TableNode, structure_only: bool) -> float:
    """Return the edit distance of two trees, keyroot by keyroot (Zhang and Shasha's names)."""
    nodes_1, left_1, keyroots_1 = _post_order(first)
    nodes_2, left_2, keyroots_2 = _post_order(second)
    trees = np.zeros((len(nodes_1), len(nodes_2)))
    costs = [[_relabel_cost(a, b, structure_only) for b in nodes_2] for a in nodes_1]
    for i in keyroots_1:
        for j in keyroots_2:
            start, other = left_1[i], left_2[j]
            # forest[x][y]: distance of the first x and the first y nodes of the two subtrees
            forest = [[float(x + y) for y in range(j - other + 2)] for x in range(i - start + 2)]
            for x in range(1, i - start + 2):
                a = start + x - 1
                above, row = forest[x - 1], forest[x]
                for y in range(1, j - other + 2):
                    b = other + y - 1
                    if left_1[a] == start and left_2[b] == other:
                        row[y] = min(above[y] + 1, row[y - 1] + 1, above[y - 1] + costs[a][b])
                        trees[a, b] = row[y]
                    else:
                        before = forest[left_1[a] - start][left_2[b] - other]
                        row[y] = min(above[y] + 1, row[y - 1] + 1, before + float(trees[a, b]))
    return float(trees[-1, -1])


def _post_order(root: TableNode) -> tuple[list[TableNode], list[int], list[int]]:
    """Return nodes in post-order, the leftmost leaf below each, and the keyroots."""
    nodes: list[TableNode] = []
    left: list[int] = []

    def visit(node: TableNode) -> int:
        leaves = [visit(child) for child in node.children]
        nodes.append(node)
        left.append(leaves[0] if leaves else len(nodes) - 1)
        return left[-1]

    visit(root)
    keyroots = {leaf: index for index, leaf in enumerate(left)}
    return nodes, left, sorted(keyroots.values())


def _relabel_cost(a: TableNode, b: TableNode, structure_only: bool) -> float:
    if a.tag != b.tag or a.spans != b.spans:
        return 1.0
    if structure_only or a.tag != "td" or not (a.content or b.content):
        return 0.0
    from rapidfuzz.distance import Levenshtein

    return Levenshtein.normalized_distance(a.content, b.content)


class Teds(SeveralMeansMetric):
    """Mean similarity of tables, with and without the content of their cells."""

    num_statistics: ClassVar[int] = 2
    names = ("teds", "teds_structure")

    def scores(self, answer: str, references: tuple[str, ...]) -> tuple[float, ...]:
        check_references(references)
        return (
            _best_similarity(answer, references, structure_only=False),
            _best_similarity(answer, references, structure_only=True),
        )


def _best_similarity(answer: str, references: Sequence[str], *, structure_only: bool) -> float:
    return max(teds(answer, reference, structure_only=structure_only) for reference in references)
