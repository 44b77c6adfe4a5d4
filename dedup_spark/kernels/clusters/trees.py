"""Trees of merges: a coarse one made finer inside its groups, the part around one leaf, and what is together where.

A tree is (n - 1, 4), as linkage.py describes it: (left, right, height, leaves), the lowest merge first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.cluster.hierarchy import cophenet

from dedup_spark.kernels.arrays import Float64, Int64, expect


def refine(coarse: Float64, label: Int64, fine: Mapping[int, Float64]) -> Float64:
    """The tree in which each group of leaves merges as its own finer tree says, and the groups as the coarse one says.

    Where a group comes together only above the height at which the coarse tree joins it to another, that merge is
    raised to it: no merge is below those that it is made of. So a cut below all merges between groups is the cut of the
    finer trees.

    Args:
        label: (n,) the smallest leaf of each leaf's group; each group is one branch of the coarse tree.
        fine: By label, the tree over the leaves of a group of two or more, in ascending order of the leaves.
    """
    expect(coarse=(coarse, "merges 4", np.float64), label=(label, "n", np.int64))
    grown = _Growing(len(label))
    root_of = {int(leaf): int(leaf) for leaf in np.unique(label)}
    for group, tree in fine.items():
        root_of[group] = grown.graft(tree, np.flatnonzero(label == group).tolist())
    node = [root_of[int(group)] for group in label]
    for left, right, height, _ in coarse.tolist():
        a, b = node[int(left)], node[int(right)]
        node.append(a if a == b else grown.merge(a, b, height))
    return grown.in_order()


class _Growing:
    """A tree under construction: nodes below n are leaves, later ones merges in the order in which they were made."""

    def __init__(self, n: int) -> None:
        self.n = n
        self.height, self.size = [0.0] * n, [1] * n
        self.ends: list[tuple[int, int]] = []

    def merge(self, a: int, b: int, height: float) -> int:
        self.ends.append((a, b))
        self.height.append(max(height, self.height[a], self.height[b]))
        self.size.append(self.size[a] + self.size[b])
        return len(self.height) - 1

    def graft(self, tree: Float64, leaves: list[int]) -> int:
        """Merge the leaves as a tree over them says; returns its root."""
        node = list(leaves)
        for left, right, height, _ in tree.tolist():
            node.append(self.merge(node[int(left)], node[int(right)], height))
        return node[-1]

    def in_order(self) -> Float64:
        """The merges by height; of equal ones the older first, which those above are made of."""
        n = self.n
        order = np.argsort(np.array(self.height[n:]), kind="stable")
        number = {int(n + old): n + new for new, old in enumerate(order)} | {leaf: leaf for leaf in range(n)}
        rows = [
            (*sorted(number[end] for end in self.ends[i]), self.height[n + i], self.size[n + i]) for i in order.tolist()
        ]
        return np.array(rows, np.float64).reshape(-1, 4)


@dataclass(frozen=True)
class Branch:
    """A part of a tree: its leaves, ascending, its own tree over them, and the height at which it joins the rest.

    `joins_at` is None where the branch is the whole tree.
    """

    leaves: Int64
    tree: Float64
    joins_at: float | None


def branch_around(tree: Float64, leaf: int, max_leaves: int) -> Branch:
    """The largest branch that holds a leaf and no more than `max_leaves`, with every height as in the whole tree."""
    expect(tree=(tree, "merges 4", np.float64))
    n = len(tree) + 1
    parent = np.full(2 * n - 1, -1)
    for i in (0, 1):
        parent[tree[:, i].astype(np.int64)] = np.arange(n, 2 * n - 1)
    node = leaf
    while parent[node] >= 0 and tree[parent[node] - n, 3] <= max_leaves:
        node = int(parent[node])
    joins_at = float(tree[parent[node] - n, 2]) if parent[node] >= 0 else None
    return Branch(*_below(tree, node), joins_at)


def _below(tree: Float64, node: int) -> tuple[Int64, Float64]:
    """The leaves below a node, and the merges below it with leaves and merges numbered anew."""
    n, nodes = len(tree) + 1, [node]
    for inner in nodes:  # grows while it is walked
        if inner >= n:
            nodes += tree[inner - n, :2].astype(int).tolist()
    kept = np.sort(np.array(nodes, np.int64))
    n_leaves = int((kept < n).sum())
    merges = tree[kept[n_leaves:] - n].copy()
    merges[:, :2] = np.searchsorted(kept, merges[:, :2].astype(np.int64))
    return kept[:n_leaves], merges


def joined_at(tree: Float64, a: Int64, b: Int64) -> Float64:
    """(m,) the height at which each pair of leaves a < b comes together. Memory 8 bytes per pair of leaves."""
    n = len(tree) + 1
    if n == 1 or not len(a):
        return np.empty(0)
    condensed = cophenet(tree)
    return np.asarray(condensed[a * (2 * n - a - 1) // 2 + b - a - 1])
