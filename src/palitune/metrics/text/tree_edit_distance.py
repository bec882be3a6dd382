"""Edit distance of ordered labeled trees: Zhang and Shasha, SIAM J. Computing 18 (1989).

The distance is the least total cost of deletions, insertions and relabelings that turn one tree
into the other. A deleted node's children take its place.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

Cost = Callable[[str], float]


@dataclass(frozen=True)
class TreeNode:
    """A node with its label and its children, in order."""

    label: str
    children: "list[TreeNode]" = field(default_factory=list)


@dataclass(frozen=True)
class _PostOrder:
    """Nodes of a tree in post-order."""

    labels: list[str]
    leftmost: list[int]
    """Index of the leftmost leaf below each node."""

    @property
    def keyroots(self) -> list[int]:
        """Nodes that are the highest with their leftmost leaf."""
        highest = {leaf: index for index, leaf in enumerate(self.leftmost)}
        return sorted(highest.values())


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
    one, two = _post_order(first), _post_order(second)
    insertions = [insert_cost(label) for label in two.labels]
    deletions = [insert_cost(label) for label in one.labels]
    trees = [[0.0] * len(two.labels) for _ in one.labels]
    for i in one.keyroots:
        for j in two.keyroots:
            start, other = one.leftmost[i], two.leftmost[j]
            # forest[x][y]: distance of the first x and the first y nodes of the two subtrees
            forest = [[0.0] * (j - other + 2) for _ in range(i - start + 2)]
            for y in range(1, j - other + 2):
                forest[0][y] = forest[0][y - 1] + insertions[other + y - 1]
            for x in range(1, i - start + 2):
                a = start + x - 1
                above, row = forest[x - 1], forest[x]
                row[0] = above[0] + deletions[a]
                for y in range(1, j - other + 2):
                    b = other + y - 1
                    edited = min(above[y] + deletions[a], row[y - 1] + insertions[b])
                    if one.leftmost[a] == start and two.leftmost[b] == other:
                        relabeled = above[y - 1] + relabel_cost(one.labels[a], two.labels[b])
                        row[y] = trees[a][b] = min(edited, relabeled)
                    else:
                        before = forest[one.leftmost[a] - start][two.leftmost[b] - other]
                        row[y] = min(edited, before + trees[a][b])
    return trees[-1][-1]


def _post_order(root: TreeNode) -> _PostOrder:
    order = _PostOrder([], [])

    def visit(node: TreeNode) -> int:
        leaves = [visit(child) for child in node.children]
        order.labels.append(node.label)
        order.leftmost.append(leaves[0] if leaves else len(order.labels) - 1)
        return order.leftmost[-1]

    visit(root)
    return order
