"""Edit distance of ordered labeled trees: Zhang and Shasha, SIAM J. Computing 18 (1989).

The distance is the least total cost of deletions, insertions and relabelings that turn one tree
into the other. A deleted node's children take its place.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

Cost = Callable[[str], float]


class _Node(Protocol):
    @property
    def children(self) -> "Sequence[_Node]": ...


NodeT = TypeVar("NodeT", bound=_Node)


@dataclass(frozen=True)
class TreeNode:
    """A node with its label and its children, in order."""

    label: str
    children: "list[TreeNode]" = field(default_factory=list)


@dataclass(frozen=True)
class PostOrder(Generic[NodeT]):
    """Nodes of a tree in post-order."""

    nodes: list[NodeT]
    leftmost: list[int]
    """Index of the leftmost leaf below each node."""
    keyroots: list[int]
    """Nodes that are the highest with their leftmost leaf."""


def post_order(root: NodeT) -> PostOrder[NodeT]:
    """Return the nodes of a tree in post-order."""
    nodes: list[NodeT] = []
    leftmost: list[int] = []
    stack: list[tuple[NodeT, int]] = [(root, -1)]  # a node, and the index of its first leaf
    while stack:
        node, leaf = stack.pop()
        if leaf < 0 and node.children:
            # All leaves below come after the nodes so far.
            stack.append((node, len(nodes)))
            stack += [(child, -1) for child in reversed(node.children)]  # type: ignore[misc]
            continue
        leftmost.append(len(nodes) if leaf < 0 else leaf)
        nodes.append(node)
    keyroots = {leaf: index for index, leaf in enumerate(leftmost)}
    return PostOrder(nodes, leftmost, sorted(keyroots.values()))


def tree_edit_distance(
    first: TreeNode,
    second: TreeNode,
    *,
    insert_cost: Cost,
    relabel_cost: Callable[[str, str], float],
) -> float:
    """Return the edit distance of two trees.

    Args:
        first: One tree.
        second: The other tree.
        insert_cost: Cost of inserting or deleting a node with a label.
        relabel_cost: Cost of turning one label into another; 0 for equal ones.
    """
    one, two = post_order(first), post_order(second)
    return post_order_distance(
        one,
        two,
        deletions=[insert_cost(node.label) for node in one.nodes],
        insertions=[insert_cost(node.label) for node in two.nodes],
        relabelings=[[relabel_cost(a.label, b.label) for b in two.nodes] for a in one.nodes],
    )


def post_order_distance(
    one: PostOrder[NodeT],
    two: PostOrder[NodeT],
    *,
    deletions: Sequence[float],
    insertions: Sequence[float],
    relabelings: Sequence[Sequence[float]],
) -> float:
    """Return the edit distance of two trees, keyroot by keyroot (Zhang and Shasha's names).

    Args:
        one: Nodes of one tree.
        two: Nodes of the other tree.
        deletions: Cost of deleting each node of `one`.
        insertions: Cost of inserting each node of `two`.
        relabelings: Cost of turning each node of `one` into each node of `two`.
    """
    left_1, left_2 = one.leftmost, two.leftmost
    # A leaf is deleted and inserted, or relabeled; other entries are overwritten.
    trees = [
        [min(cost, deletion + insertion) for cost, insertion in zip(row, insertions, strict=True)]
        for row, deletion in zip(relabelings, deletions, strict=True)
    ]
    for i in one.keyroots:
        for j in two.keyroots:
            start, other = left_1[i], left_2[j]
            if start == i and other == j:
                continue
            # forest[x][y]: distance of the first x and the first y nodes of the two subtrees
            width = j - other + 2
            forest = [[0.0] * width]
            for y in range(1, width):
                forest[0][y] = forest[0][y - 1] + insertions[other + y - 1]
            for x in range(1, i - start + 2):
                a = start + x - 1
                above, deletion = forest[x - 1], deletions[a]
                last = above[0] + deletion
                row = [last] * width
                ends_left, first_row = left_1[a] == start, forest[left_1[a] - start]
                tree_row, cost_row = trees[a], relabelings[a]
                for y in range(1, width):
                    b = other + y - 1
                    last = min(above[y] + deletion, last + insertions[b])
                    if ends_left and left_2[b] == other:
                        last = min(last, above[y - 1] + cost_row[b])
                        tree_row[b] = last
                    else:
                        last = min(last, first_row[left_2[b] - other] + tree_row[b])
                    row[y] = last
                forest.append(row)
    return trees[-1][-1]
