"""TEDS: similarity of tables by the edit distance of their HTML trees, PubTabNet's metric.

As in its authors' `metric.py`: 1 - edit distance / nodes of the larger table. Inserting, deleting
or relabeling a node costs 1, as does a different `colspan` or `rowspan`; two cells with the same
spans cost the share of characters and tags that differ. Elements inside a cell count as nodes, as
in `metric.py`, although the tree ends at cells. `teds_structure` ignores the content of cells. An
answer without a table scores 0. The distance is Zhang and Shasha's (SIAM J. Computing 18, 1989).

The time of a comparison is at most quadratic in the elements of both tables and known beforehand.
Tables beyond the limits below score 0, and `Teds` logs how many they are.
"""

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import ClassVar

from palitune.metrics.base import (
    SeveralMeansMetric,
    check_references,
)
from palitune.metrics.text.tree_edit_distance import PostOrder, post_order, post_order_distance

log = logging.getLogger(__name__)

MAX_CHARACTERS = 200_000
"""Characters of a table; 4,096 tokens have about 15,000."""
MAX_DEPTH = 100
"""Nested elements of a table, or of the content of a cell."""
MAX_STEPS = 20_000_000
"""Steps of a comparison, of about 0.3 microseconds; two tables of 1,000 cells take 15 million."""
_MARKED_SECTION = re.compile(r"<!\[+")
_VOID_ELEMENTS = ("br", "img", "hr", "wbr", "col")
"""Elements without an end tag."""


class TableTooLargeError(ValueError):
    """A table beyond the limits of size, depth and time."""


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
                _check_depth(self.open_cell_tags)
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
            _check_depth(self.open_nodes)

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


def _check_depth(open_elements: Sequence[object]) -> None:
    if len(open_elements) > MAX_DEPTH:
        raise TableTooLargeError(f"a table must not nest more than {MAX_DEPTH} elements")


def teds(answer: str, reference: str, *, structure_only: bool = False) -> float:
    """Return the similarity of two HTML tables, at most 1; `structure_only` ignores cell content.

    As in `metric.py`, it is below 0 if even the roots of two small tables differ.

    Raises TableTooLargeError for tables beyond the limits of this module.
    """
    (predicted, predicted_size), (expected, size) = _parse_table(answer), _parse_table(reference)
    if predicted is None or expected is None:
        return 0.0
    num_nodes = max(predicted_size, size)
    distance = _tree_edit_distance(predicted, expected, structure_only)
    return 1.0 - distance / num_nodes if num_nodes else float(distance == 0)


def _parse_table(html: str) -> tuple[TableNode | None, int]:
    """Return the first table and the number of its elements; None without a table."""
    if len(html) > MAX_CHARACTERS:
        raise TableTooLargeError(f"a table must not have more than {MAX_CHARACTERS} characters")
    parser = _TableParser()
    # HTMLParser raises an AssertionError at "<![", a marked section, which HTML does not have.
    parser.feed(_MARKED_SECTION.sub("<!", html))
    parser.close()
    return parser.root, parser.num_elements


def _tree_edit_distance(first: TableNode, second: TableNode, structure_only: bool) -> float:
    """Return the edit distance of two tables; every deletion and insertion costs 1."""
    one, two = post_order(first), post_order(second)
    _check_steps(one, two)
    return post_order_distance(
        one,
        two,
        deletions=[1.0] * len(one.nodes),
        insertions=[1.0] * len(two.nodes),
        relabelings=[[_relabel_cost(a, b, structure_only) for b in two.nodes] for a in one.nodes],
    )


def _check_steps(one: PostOrder[TableNode], two: PostOrder[TableNode]) -> None:
    """Raise TableTooLargeError if the comparison of two trees has too many steps.

    Every pair of subtrees below keyroots fills a table of their sizes, and comparing two cells
    reads the content of both.
    """
    cells_1 = sum(root - one.leftmost[root] + 1 for root in one.keyroots)
    cells_2 = sum(root - two.leftmost[root] + 1 for root in two.keyroots)
    content_1 = sum(len(node.content) for node in one.nodes)
    content_2 = sum(len(node.content) for node in two.nodes)
    steps = cells_1 * cells_2 + len(one.nodes) * content_2 + len(two.nodes) * content_1
    if steps > MAX_STEPS:
        raise TableTooLargeError(
            f"tables of {len(one.nodes)} and {len(two.nodes)} elements take {steps} steps to "
            f"compare, more than {MAX_STEPS}"
        )


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

    def __init__(self) -> None:
        super().__init__()
        self.num_too_large = 0
        """Examples whose tables are beyond the limits of size, depth and time."""

    def scores(self, answer: str, references: tuple[str, ...]) -> tuple[float, ...]:
        check_references(references)
        try:
            return (
                _best_similarity(answer, references, structure_only=False),
                _best_similarity(answer, references, structure_only=True),
            )
        except TableTooLargeError as error:
            self.num_too_large += 1
            log.warning(
                "teds: example %d scores 0: %s (%d so far)",
                self.num_examples + 1, error, self.num_too_large,
            )  # fmt: skip
            return 0.0, 0.0


def _best_similarity(answer: str, references: Sequence[str], *, structure_only: bool) -> float:
    return max(teds(answer, reference, structure_only=structure_only) for reference in references)
